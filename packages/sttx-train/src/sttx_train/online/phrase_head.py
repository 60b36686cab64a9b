"""Phrases in the model: their input rows, and the exact price of a window that is read in phrases.

A window of base tokens is merged with the live phrases. A phrase is one step of the model. Its probability
is that of its first token (base softmax) times one stop-or-continue choice at each trie node on its path.
After a phrase, greedy merging excludes the tokens that would have made it longer, so they are masked in the
softmax. The probabilities of all possible next phrases sum to one.

Knows the model, the table and the hypernetwork; neither documents nor optimizers.
Legend: B rows, T steps, M priced steps, C choices, K options of a choice, P live phrases, D width,
V base vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sttx_core.hypernet import HyperNetwork
from sttx_core.phrases import STOP, DynamicTokenizer
from sttx_train.online.cross_entropy import cross_entropy
from sttx_train.rwkv7 import LanguageModel, RecurrentState


@dataclass(frozen=True, kw_only=True)
class Row:
    """Base tokens to price, and the context before them, which the state has not read yet.

    Attributes:
        context: the base tokens just before ``ids``: the last phrase of the previous window, or the
            end-of-text id.
        ids: the base tokens to price, at least one.
        paid: which of them are paid for (all when None); the others are only read.
    """

    context: tuple[int, ...]
    ids: tuple[int, ...]
    paid: tuple[bool, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows as padded tensors, ready for a forward pass; made by :meth:`PhraseHead.prepare`.

    Attributes:
        inputs_BT: phrase and base ids that the model reads.
        lengths_B: steps of each row.
        row_M: row of each priced step.
        step_M: index of each priced step in its row.
        target_M: first base token of each priced phrase.
        paid_M: which priced steps are paid for; None if all are.
        impossible: priced steps and the base tokens that are masked there.
        choice_at_C: priced step of each choice.
        options_CK: options of each choice: 0 for stop, otherwise the phrase's slot plus 1.
        prior_CK: log prior of each option.
        taken_C: index of the option that was taken.
        merged: ids of each row after merging.
        steps: steps of each row.
        phrases: whether the rows were merged.
    """

    inputs_BT: Tensor
    lengths_B: Tensor
    row_M: Tensor
    step_M: Tensor
    target_M: Tensor
    paid_M: Tensor | None
    impossible: tuple[Tensor, Tensor]
    choice_at_C: Tensor
    options_CK: Tensor
    prior_CK: Tensor
    taken_C: Tensor
    merged: tuple[tuple[int, ...], ...]
    steps: tuple[int, ...]
    phrases: bool


@dataclass(frozen=True, kw_only=True)
class Priced:
    """The result of a forward pass over a batch.

    Attributes:
        nats_B: price of each row, differentiable.
        log_p_MV: log-probabilities of all base tokens at each priced step, differentiable.
        state: the state at the end of each row.
    """

    nats_B: Tensor
    log_p_MV: Tensor
    state: RecurrentState

    def of_windows(self, sizes: Sequence[int]) -> Sequence[Tensor | None]:
        """Return the log-probabilities ``[T, V]`` of each of the first rows, which have so many priced steps.

        None stands for what is not known in this process.
        """
        return self.log_p_MV[: sum(sizes)].split(list(sizes))

    def state_of(self, row: int) -> RecurrentState | None:
        """Return the state at the end of a row, without gradients; None if it is not known here."""
        return self.state.detach().select([row])


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """What follows one token of each row.

    Attributes:
        log_p_BV: log-probabilities of all base tokens as the next one.
        state: the state after the token.
    """

    log_p_BV: Tensor
    state: RecurrentState


class PhraseHead:
    """Merges windows into phrases and computes their prices under a model.

    Args:
        model: an RWKV-7.
        hypernet: computes the rows of the phrases.
        table: the live phrases.
    """

    def __init__(self, model: LanguageModel, hypernet: HyperNetwork, table: DynamicTokenizer) -> None:
        self.model, self.hypernet, self.table = model, hypernet, table

    # -- layout: integers only ---------------------------------------------------------------------------

    def prepare(self, rows: Sequence[Row], *, phrases: bool, every: bool = False) -> Batch:
        """Return the rows as one padded batch.

        Args:
            rows: what to price.
            phrases: merge the rows into phrases.
            every: compute probabilities also at steps that are not paid for.
        """
        layouts = [_Layout(self.table, row, phrases, every) for row in rows]
        width = max(len(layout.inputs) for layout in layouts)
        inputs = [layout.inputs + [0] * (width - len(layout.inputs)) for layout in layouts]
        row_M, step_M, target_M, paid_M = [], [], [], []
        masked: list[tuple[int, int]] = []
        choices = []
        for index, layout in enumerate(layouts):
            priced = {step: len(row_M) + i for i, (step, *_) in enumerate(layout.targets)}
            for step, target, impossible, paid in layout.targets:
                masked += [(len(row_M), token) for token in impossible]
                row_M.append(index)
                step_M.append(step)
                target_M.append(target)
                paid_M.append(paid)
            choices += [(priced[step], choice) for step, choice in layout.choices]
        widest = max((len(choice.options) for _, choice in choices), default=1)
        slots = [
            [0 if o == STOP else o - self.table.base_vocab + 1 for o in choice.options]
            + [0] * (widest - len(choice.options))
            for _, choice in choices
        ]
        priors = [
            list(choice.log_prior) + [float("-inf")] * (widest - len(choice.options)) for _, choice in choices
        ]
        to = self.model.device
        return Batch(
            inputs_BT=torch.tensor(inputs, device=to),
            lengths_B=torch.tensor([len(layout.inputs) for layout in layouts], device=to),
            row_M=torch.tensor(row_M, dtype=torch.long, device=to),
            step_M=torch.tensor(step_M, dtype=torch.long, device=to),
            target_M=torch.tensor(target_M, dtype=torch.long, device=to),
            paid_M=None if all(paid_M) else torch.tensor(paid_M, device=to),
            impossible=(
                torch.tensor([m for m, _ in masked], dtype=torch.long, device=to),
                torch.tensor([t for _, t in masked], dtype=torch.long, device=to),
            ),
            choice_at_C=torch.tensor([at for at, _ in choices], dtype=torch.long, device=to),
            options_CK=torch.tensor(slots, dtype=torch.long, device=to).view(len(choices), widest),
            prior_CK=torch.tensor(priors, dtype=torch.float64, device=to).view(len(choices), widest),
            taken_C=torch.tensor([choice.taken for _, choice in choices], dtype=torch.long, device=to),
            merged=tuple(tuple(layout.merged) for layout in layouts),
            steps=tuple(len(layout.inputs) for layout in layouts),
            phrases=phrases,
        )

    # -- pricing: tensors ----------------------------------------------------------------------------------

    def forward(self, batch: Batch, state: RecurrentState | None, bias_V: Tensor | None = None) -> Priced:
        """Return the price of each row, the probabilities that it comes from, and the state at its end."""
        rows_in, rows_out = self.rows() if batch.phrases else (None, None)
        padded = None if len(set(batch.steps)) == 1 else batch.lengths_B
        hidden, state = self.model.hidden(self.embed(batch.inputs_BT, rows_in), state, padded)
        nats_B, log_p_MV = self.price(hidden, batch, rows_out, bias_V)
        return Priced(nats_B=nats_B, log_p_MV=log_p_MV, state=state)

    def forward_beside(
        self,
        batch: Batch,
        state: RecurrentState,
        bias_V: Tensor | None,
        other: Batch,
        other_state: RecurrentState,
    ) -> tuple[Priced, Priced]:
        """Return `forward` of a batch, and of another one without phrases, bias or gradients: in one pass."""
        rows_in, rows_out = self.rows() if batch.phrases else (None, None)
        count, steps = len(batch.steps), max(*batch.steps, *other.steps)
        embedded = self.embed(batch.inputs_BT, rows_in), self.model.emb(other.inputs_BT)
        x = torch.cat([F.pad(x, (0, 0, 0, steps - x.shape[1])) for x in embedded])
        lengths = torch.cat([batch.lengths_B, other.lengths_B])
        padded = None if len({*batch.steps, *other.steps}) == 1 else lengths
        started = RecurrentState.stack([state, other_state])
        hidden, after = self.model.hidden(x, started, padded, learning=count)
        nats_B, log_p_MV = self.price(hidden[:count], batch, rows_out, bias_V)
        learned = Priced(nats_B=nats_B, log_p_MV=log_p_MV, state=after.span(0, count))
        with torch.no_grad():
            nats_B, log_p_MV = self.price(hidden[count:], other, None)
        return learned, Priced(nats_B=nats_B, log_p_MV=log_p_MV, state=after.span(count, len(x)).detach())

    @torch.no_grad()
    def step(self, ids_B: Tensor, state: RecurrentState, bias_V: Tensor | None = None) -> Stepped:
        """Read one base token of each row, as :meth:`forward` does; no gradients."""
        logits_BV, state = self.model.step(ids_B, state)
        logits_BV = _wide(logits_BV)
        if bias_V is not None:
            logits_BV = logits_BV + bias_V
        return Stepped(log_p_BV=F.log_softmax(logits_BV, dim=-1), state=state)

    def price(
        self, hidden_BTD: Tensor, batch: Batch, rows_out: Tensor | None, bias_V: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the price of each row in nats ``[B]``, and ``log_p_MV``.

        Args:
            hidden_BTD: the model's last hidden state at each step of the batch.
            batch: the rows.
            rows_out: the phrases' output rows, from :meth:`rows`.
            bias_V: a learned output bias.
        """
        hidden_MD = hidden_BTD[batch.row_M, batch.step_M]
        nats_M, log_p = cross_entropy(self._logits(hidden_MD, bias_V, batch.impossible), batch.target_M)
        if batch.paid_M is not None:
            nats_M = torch.where(batch.paid_M, nats_M, 0.0)
        nats_B = nats_M.new_zeros(len(batch.steps)).index_add(0, batch.row_M, nats_M)
        if len(batch.choice_at_C) and rows_out is not None:
            logits_CK = self._choice_logits(hidden_MD, rows_out, batch)
            nats_C = -logits_CK.gather(-1, batch.taken_C.unsqueeze(-1)).squeeze(-1)
            nats_B = nats_B.index_add(0, batch.row_M[batch.choice_at_C], nats_C)
        return nats_B, log_p

    def rows(self) -> tuple[Tensor | None, Tensor | None]:
        """Return input and output rows ``[slots, D]`` of the live phrases; two None if no phrase is live.

        A phrase's parent may be a phrase, so rows are computed length by length. Gradients flow through all.
        """
        live = self.table.live()
        if not live:
            return None, None
        base, device = self.table.base_vocab, self.model.device
        order = {base + phrase.slot: index for index, phrase in enumerate(live)}
        parents = [phrase.parent for phrase in live]
        tokens = torch.tensor([phrase.token for phrase in live], device=device)
        lengths = [len(phrase.tokens) for phrase in live]
        embed, dtype = self.model.emb, next(self.hypernet.parameters()).dtype
        token_rows = embed(tokens).to(dtype)
        rows: Tensor | None = None
        all_parents: list[Tensor] = []
        start = 0
        while start < len(live):
            stop = start + lengths[start:].count(lengths[start])
            if rows is None:
                parent_rows = embed(torch.tensor(parents[start:stop], device=device)).to(dtype)
            else:
                parent_rows = rows[torch.tensor([order[p] for p in parents[start:stop]], device=device)]
            new_rows = self.hypernet.input_rows(parent_rows, token_rows[start:stop])
            rows = new_rows if rows is None else torch.cat([rows, new_rows])
            all_parents.append(parent_rows)
            start = stop
        assert rows is not None
        by_slot = torch.zeros(self.table.config.capacity, dtype=torch.long, device=device)
        by_slot[torch.tensor([phrase.slot for phrase in live], device=device)] = torch.arange(
            len(live), device=device
        )
        outputs = self.hypernet.output_rows(torch.cat(all_parents), token_rows)
        return rows[by_slot], outputs[by_slot]

    def embed(self, ids_BT: Tensor, rows_in: Tensor | None) -> Tensor:
        """Return the input rows ``[B, T, D]`` of base tokens and phrases."""
        base = self.table.base_vocab
        if rows_in is None:
            return self.model.emb(ids_BT)
        phrase = ids_BT >= base
        x = self.model.emb(torch.where(phrase, 0, ids_BT))
        return torch.where(phrase.unsqueeze(-1), rows_in[(ids_BT - base).clamp_min(0)].to(x.dtype), x)

    def _logits(self, hidden_MD: Tensor, bias_V: Tensor | None, impossible: tuple[Tensor, Tensor]) -> Tensor:
        logits = _wide(self.model.logits(hidden_MD))
        if bias_V is not None:
            logits = logits + bias_V
        if len(impossible[0]):
            logits = logits.index_put(impossible, logits.new_tensor(float("-inf")))
        return logits

    def _choice_logits(self, hidden_MD: Tensor, rows_out: Tensor, batch: Batch) -> Tensor:
        """Return log probabilities ``[C, K]`` of every choice's options."""
        hidden_CD = hidden_MD[batch.choice_at_C].to(rows_out.dtype)
        scores_CP = F.pad(hidden_CD @ rows_out.T, (1, 0))  # column 0 is STOP, whose logit is 0
        scores_CK = _wide(scores_CP.gather(-1, batch.options_CK))
        return F.log_softmax(scores_CK + batch.prior_CK.to(scores_CK.dtype), dim=-1)

    @torch.no_grad()
    def next_log_probs(
        self, hidden_D: Tensor, *, after: int | None = None, bias_V: Tensor | None = None
    ) -> dict[int, float]:
        """Return the log probability of every possible next phrase; they sum to one.

        Args:
            hidden_D: the model's hidden state after the last step.
            after: the phrase just read, if the next one is in the same window; its followers are impossible.
            bias_V: a learned output bias.
        """
        followers = self.table.followers(after) if after is not None else ()
        if len(followers) == self.table.base_vocab:
            followers = ()
        tokens = torch.tensor(followers, dtype=torch.long, device=hidden_D.device)
        logits = self._logits(hidden_D[None], bias_V, (torch.zeros_like(tokens), tokens))
        reach = dict(enumerate(F.log_softmax(logits[0], dim=-1).tolist()))
        _, rows_out = self.rows()
        log_probs: dict[int, float] = {}
        nodes = [*range(self.table.base_vocab), *(self.table.base_vocab + p.slot for p in self.table.live())]
        for node in nodes:
            options, prior = self.table.options(node)
            scores = torch.tensor(prior, dtype=torch.float64)
            if rows_out is not None and len(options) > 1:
                slots = [option - self.table.base_vocab for option in options[1:]]
                scores[1:] += (rows_out[slots] @ hidden_D.to(rows_out.dtype)).double().cpu()
            for option, value in zip(options, F.log_softmax(scores, dim=-1).tolist(), strict=True):
                if option == STOP:
                    log_probs[node] = reach[node] + value
                else:
                    reach[option] = reach[node] + value
        return log_probs


class _Layout:
    """One row: its inputs, and the targets and choices with the steps that price them."""

    def __init__(self, table: DynamicTokenizer, row: Row, phrases: bool, every: bool) -> None:
        assert row.ids, "a row has at least one token to price"
        merge = table.merge if phrases else list
        prefix = list(merge(row.context))
        runs = [(paid, list(merge(ids))) for paid, ids in _runs(row)]
        self.merged = [phrase for _, run in runs for phrase in run]
        self.inputs = (prefix + self.merged)[:-1]
        self.targets: list[tuple[int, int, tuple[int, ...], bool]] = []
        step = len(prefix) - 1
        priced = set()
        for paid, run in runs:
            previous: int | None = None
            for phrase in run:
                followers = table.followers(previous) if phrases and previous is not None else ()
                if len(followers) == table.base_vocab:
                    followers = ()  # every token would be masked, so none is
                if paid or every:
                    self.targets.append((step, table.tokens(phrase)[0], followers, paid))
                if paid:
                    priced.add(step)
                previous = phrase
                step += 1
        first = len(prefix) - 1
        choices = table.price(self.merged) if phrases else []
        self.choices = [
            (choice.position + first, choice) for choice in choices if choice.position + first in priced
        ]


def _wide(tensor: Tensor) -> Tensor:
    """Return the tensor in float32 or wider: in bfloat16 a log prior is off by hundredths of a nat."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _runs(row: Row) -> list[tuple[bool, tuple[int, ...]]]:
    """Split a row into runs of tokens that are all paid for or all not."""
    if row.paid is None or all(row.paid):
        return [(True, row.ids)]
    runs, start = [], 0
    for index in range(1, len(row.ids) + 1):
        if index == len(row.ids) or row.paid[index] != row.paid[start]:
            runs.append((row.paid[start], row.ids[start:index]))
            start = index
    return runs
