"""The online learner: predict, pay, learn, one window at a time.

Every window of a document starts from ``carried.detach() + S0``: the gradient of the price reaches S0
exactly, at every step, by the same forward that pays. Knows windows of ids; neither traces, files nor
progress.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
import torch
from torch import Tensor, nn

from sttx_core.errors import ModelError
from sttx_core.hypernet import HyperNetwork
from sttx_core.phrases import DynamicTokenizer, PhraseConfig
from sttx_core.replay import Drawn, ReplayBuffer
from sttx_train.online.config import PHRASES, LearnerConfig
from sttx_train.online.gate import PhraseGate
from sttx_train.online.phrase_head import Batch, PhraseHead, Row
from sttx_train.online.scope import weights_in_scope
from sttx_train.online.carried import Carried, CarriedStates
from sttx_train.rwkv7 import RWKV7, RecurrentState

NATS_TO_BITS = 1 / math.log(2)
BETAS = (0.9, 0.95)  # AdamW's; a stream moves on, so its second moment forgets faster than the usual 0.999
BETAS_STATE = (0.0, 0.95)  # of S0 and the hypernetwork, which momentum carries too far
_NO_PRICE = "the price of a text is no number: weights are damaged, or learned at too high a rate"


@dataclass(frozen=True, kw_only=True)
class Window:
    """A stretch of one document, in base tokens.

    Attributes:
        document: which text stream it belongs to.
        ids: its base tokens, at least one.
        paid: which tokens count; all when None.
    """

    document: str
    ids: tuple[int, ...]
    paid: tuple[bool, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Score:
    """What windows cost: bits under the learner and the frozen model (NaN when not asked for)."""

    bits: float
    frozen_bits: float
    bytes: int
    tokens: int
    model_steps: int
    phrases_on: bool


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """One learning step: its score and what moved."""

    score: Score
    loss: float
    grad_norm: float
    grad_s0: float
    norm_s0: float
    replayed: int


class OnlineLearner:
    """Prices windows of a stream and learns from exactly that.

    Args:
        model: an RWKV-7; its weights are frozen unless the scope names them.
        byte_lengths: ``[vocab_size]`` UTF-8 bytes of each base token: prices are told per byte.
        config: how to learn.
        phrase_config: how phrases are found; :data:`PHRASES` when None.
        start_id: the end-of-text id that leads every document.
        hypernet: the model's own, which stays as it is: a copy of it learns. A fresh one when None.
    """

    def __init__(
        self,
        model: RWKV7,
        byte_lengths: np.ndarray,
        config: LearnerConfig | None = None,
        *,
        phrase_config: PhraseConfig | None = None,
        start_id: int = 0,
        hypernet: HyperNetwork | None = None,
    ) -> None:
        self.config = config = config or LearnerConfig()
        self.model = model.eval().requires_grad_(False)
        sizes = model.config
        self.byte_lengths = np.zeros(sizes.vocab_size, dtype=np.int64)
        self.byte_lengths[: len(byte_lengths)] = byte_lengths
        shape = (sizes.num_layers, sizes.num_heads, sizes.head_size, sizes.head_size)
        kind = torch.float64 if model.dtype == torch.float64 else torch.float32
        self.s0 = nn.Parameter(torch.zeros(shape, device=model.device, dtype=kind))
        self.bias = nn.Parameter(torch.zeros(sizes.vocab_size, device=model.device, dtype=kind))
        begun = copy.deepcopy(hypernet) or HyperNetwork(sizes.hidden_size, seed=config.seed)
        self.hypernet = begun.to(model.device, kind)
        self.table = DynamicTokenizer(sizes.vocab_size, phrase_config or PHRASES)
        self.replay = ReplayBuffer(config.replay_capacity, seed=config.seed)
        self.gate = PhraseGate(config.phrases)
        self.carried = CarriedStates(config.max_documents, start_id)
        self.weights = weights_in_scope(model, config.scope)
        self.frozen_model = copy.deepcopy(model) if self.weights and config.frozen else model
        self.optimizer = self._make_optimizer()
        self.skipped_steps = 0  # steps whose gradient was not finite: nothing was changed by them
        self.head = PhraseHead(model, self.hypernet, self.table)
        self.frozen_head = PhraseHead(self.frozen_model, self.hypernet, self.table)

    # -- the two verbs -------------------------------------------------------------------------------------

    def score_one(self, window: Window) -> Score:
        """Return what a window costs now. Changes nothing."""
        with torch.no_grad():
            batch, nats, _ = self._pay([window], phrases=self.gate.on)
            frozen = self._pay_frozen([window])
        return self._score([window], batch, nats, frozen[0] if frozen else None, self.gate.on)

    def learn_one(self, window: Window) -> None:
        """Learn from one window; its document moves on past it."""
        self.step([window])

    def step(self, windows: Sequence[Window]) -> StepReport:
        """Score windows of different documents and learn from them, in one forward and one backward.

        Raises:
            ModelError: a window's price is no number; nothing is learned.
        """
        assert len({window.document for window in windows}) == len(windows), "one window a document"
        config, phrases_on = self.config, self.gate.on
        before = [self.carried.get(window.document).context[-1] for window in windows]
        drawn = self.replay.draw(config.replay_rows) if len(self.replay) else []
        replayed = [_replayed_row(item.item) for item in drawn]
        batch, nats, state = self._pay(windows, phrases=phrases_on, replayed=replayed)
        fresh, again = nats[: len(windows)], nats[len(windows) :]
        if not math.isfinite(float(nats.detach().sum())):
            raise ModelError(_NO_PRICE)
        paid = sum(_paid_tokens(window) for window in windows)
        loss = fresh.sum() / max(paid, 1)
        if replayed:
            loss = loss + config.replay_weight * again.sum() / sum(len(row.ids) for row in replayed)
        frozen = self._pay_frozen(windows)
        taught = paid > 0 or bool(replayed)  # a zero gradient would still be followed by decay
        norms = self._update(loss if taught else loss.detach())
        self._carry(windows, batch, state.detach(), frozen)
        self._refresh(drawn, again.detach().tolist())
        self._remember(windows, before, fresh.detach().tolist())
        score = self._score(windows, batch, fresh.detach(), frozen[0] if frozen else None, phrases_on)
        self.gate.observe(score.bits, score.frozen_bits if self.config.frozen else score.bytes)
        return StepReport(score=score, loss=float(loss.detach()), replayed=len(replayed), **norms)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return every tensor that learns, by name."""
        found: dict[str, nn.Parameter] = {}
        if "state" in self.config.scope:
            found["s0"] = self.s0
            found |= {f"hypernet.{name}": p for name, p in self.hypernet.named_parameters()}
        if "bias" in self.config.scope:
            found["bias"] = self.bias
        return found | self.weights

    # -- paying --------------------------------------------------------------------------------------------

    def _pay(
        self, windows: Sequence[Window], *, phrases: bool, replayed: Sequence[Row] = ()
    ) -> tuple[Batch, Tensor, RecurrentState]:
        carried = [self.carried.get(window.document) for window in windows]
        rows = [_row(window, entry.context) for window, entry in zip(windows, carried, strict=True)]
        batch = self.head.prepare([*rows, *replayed], phrases=phrases)
        # What is replayed starts where the new windows do, unless S0 is where to begin, not what to add.
        states = [entry.state for entry in carried]
        beside = islice(cycle([None] if self.config.inject == "start" else states), len(replayed))
        starts = [self._start(state) for state in (*states, *beside)]
        bias = self.bias if "bias" in self.config.scope else None
        nats, state = self.head.forward(batch, RecurrentState.stack(starts), bias)
        return batch, nats, state

    def _start(self, carried: RecurrentState | None) -> RecurrentState:
        """Return where a window starts from: what was carried, plus S0 where it is injected."""
        inject = self.config.inject
        state = carried or RecurrentState.zeros(
            self.model.config, device=self.model.device, dtype=self.model.dtype
        )
        if inject == "none" or (inject == "start" and carried is not None):
            return state
        return state.inject(self.s0)

    def _pay_frozen(self, windows: Sequence[Window]) -> tuple[Tensor, RecurrentState] | None:
        """Price the windows as base tokens with the untouched model and its own carried states."""
        if not self.config.frozen:
            return None
        carried = [self.carried.get(window.document) for window in windows]
        rows = [_row(window, entry.context[-1:]) for window, entry in zip(windows, carried, strict=True)]
        sizes, like = self.model.config, self.model
        starts = [
            entry.frozen or RecurrentState.zeros(sizes, device=like.device, dtype=like.dtype)
            for entry in carried
        ]
        with torch.no_grad():
            batch = self.frozen_head.prepare(rows, phrases=False)
            return self.frozen_head.forward(batch, RecurrentState.stack(starts))

    def _score(
        self, windows: Sequence[Window], batch: Batch, nats: Tensor, frozen: Tensor | None, phrases_on: bool
    ) -> Score:
        return Score(
            bits=float(nats.double().sum()) * NATS_TO_BITS,
            frozen_bits=float(frozen.double().sum()) * NATS_TO_BITS if frozen is not None else math.nan,
            bytes=sum(self._bytes(window.ids, window.paid) for window in windows),
            tokens=sum(len(window.ids) for window in windows),
            model_steps=sum(batch.steps[: len(windows)]),
            phrases_on=phrases_on,
        )

    # -- learning ------------------------------------------------------------------------------------------

    def _make_optimizer(self) -> torch.optim.AdamW | None:
        config = self.config
        rates = {"s0": config.lr_state, "bias": config.lr_bias}
        groups = []
        for name, parameter in self.trainable().items():
            vector = parameter.ndim == 1 or name.endswith("r_k")
            default = config.lr_vectors if vector else config.lr_weights
            rate = config.lr_hypernet if name.startswith("hypernet.") else rates.get(name, default)
            decay = config.weight_decay if name == "s0" else 0.0
            group = {"params": [parameter.requires_grad_(True)], "lr": rate, "weight_decay": decay}
            betas = BETAS_STATE if name.startswith(("s0", "hypernet.")) else BETAS
            groups.append({**group, "name": name, "betas": betas})
        for parameter in (self.s0, self.bias, *self.hypernet.parameters()):
            parameter.requires_grad_(any(parameter is group["params"][0] for group in groups))
        return torch.optim.AdamW(groups) if groups else None

    def _update(self, loss: Tensor) -> dict[str, float]:
        """Take one optimizer step; return the norms of the gradient, of S0's, and of S0."""
        parameters = list(self.trainable().values())
        total, on_s0 = 0.0, 0.0
        if self.optimizer is not None and loss.requires_grad:
            loss.backward()
            if self.s0.grad is not None:
                on_s0 = float(self.s0.grad.norm())
            total = float(nn.utils.clip_grad_norm_(parameters, self.config.clip))
            if math.isfinite(total):
                self.optimizer.step()
            else:
                self.skipped_steps += 1
            self.optimizer.zero_grad(set_to_none=True)
        return {"grad_norm": total, "grad_s0": on_s0, "norm_s0": float(self.s0.detach().norm())}

    def _carry(
        self,
        windows: Sequence[Window],
        batch: Batch,
        state: RecurrentState,
        frozen: tuple[Tensor, RecurrentState] | None,
    ) -> None:
        """Move each document past its window, and the table past the batch."""
        for index, window in enumerate(windows):
            last = batch.merged[index][-1]
            self.carried.put(
                window.document,
                Carried(
                    state=state.select([index]),
                    context=self.table.tokens(last),
                    frozen=frozen[1].select([index]) if frozen else None,
                ),
            )
        if self.config.phrases != "off":
            for window in windows:
                self.table.cut()
                self.table.observe(self.table.merge(window.ids))

    def _refresh(self, drawn: Sequence[Drawn], nats: Sequence[float]) -> None:
        """Give replayed windows the surprise that they still hold."""
        for item, value in zip(drawn, nats, strict=True):
            surprise = value * NATS_TO_BITS / max(self._bytes(item.item[1:]), 1)
            self.replay.refresh(item.slot, item.generation, surprise)

    def _remember(self, windows: Sequence[Window], before: Sequence[int], nats: Sequence[float]) -> None:
        """Offer wholly paid windows to replay, each led by the token before it."""
        if not self.config.replay_rows:
            return
        for window, context, value in zip(windows, before, nats, strict=True):
            if window.paid is None:
                item = np.array([context, *window.ids], dtype=np.int32)
                self.replay.add(item, value * NATS_TO_BITS / max(self._bytes(window.ids), 1))

    def _bytes(self, ids: Sequence[int] | np.ndarray, paid: Sequence[bool] | None = None) -> int:
        lengths = self.byte_lengths[np.asarray(ids)]
        return int(lengths.sum() if paid is None else lengths[np.asarray(paid)].sum())


def _row(window: Window, context: tuple[int, ...]) -> Row:
    return Row(context=context, ids=window.ids, paid=window.paid)


def _replayed_row(tokens: np.ndarray) -> Row:
    ids = tuple(int(token) for token in tokens)
    return Row(context=ids[:1], ids=ids[1:])


def _paid_tokens(window: Window) -> int:
    return len(window.ids) if window.paid is None else sum(window.paid)
