"""The online learner: predict, pay, learn, one step at a time.

Every window of a document starts from ``carried.detach() + S0``. The gradient of its price reaches S0
exactly, at every step, through the forward pass that also pays. Knows windows of token ids; neither traces,
files nor progress.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sttx_core.errors import CheckpointError, ModelError, SttxWarning, UsageError
from sttx_core.foreign_files import shown
from sttx_core.hypernet import HyperNetwork
from sttx_core.phrases import DynamicTokenizer, PhraseConfig
from sttx_core.replay import Drawn, ReplayBuffer
from sttx_core.saved_state import damaged
from sttx_train.online.carried import Carried, CarriedStates
from sttx_train.online.config import PHRASES, LearnerConfig
from sttx_train.online.gate import PhraseGate
from sttx_train.online.optimizer import load_optimizer_tensors, online_optimizer, optimizer_tensors
from sttx_train.online.phrase_head import Batch, PhraseHead, Row
from sttx_train.online.saved import checked_learner
from sttx_train.online.scope import weights_in_scope
from sttx_train.online.window import Score, StepReport, Window
from sttx_train.rwkv7 import RWKV7, RecurrentState

NATS_TO_BITS = 1 / math.log(2)
_NOT_FINITE = "the loss is not finite: the weights are damaged or the learning rate is too high"
_S0_CANNOT_LEARN = (
    "S0 cannot learn: the attention output matrices of this model are all zero, as before any training, "
    "so no gradient reaches S0; use a trained model, or --scope all"
)


class OnlineLearner:
    """Pays for the windows of a stream and learns from exactly those.

    Args:
        model: an RWKV-7; its weights are frozen unless the scope names them.
        byte_lengths: ``[vocab_size]`` UTF-8 bytes of each base token.
        config: how to learn.
        phrase_config: how phrases are found; :data:`PHRASES` when None.
        eot_id: the end-of-text id, which opens every document.
        hypernet: the model's hypernetwork; a copy of it learns. A new one when None.

    Attributes:
        skipped_steps: steps without an update because the gradient was not finite.

    Warns:
        SttxWarning: S0 is to learn, but no gradient can reach it.
    """

    def __init__(
        self,
        model: RWKV7,
        byte_lengths: np.ndarray,
        config: LearnerConfig | None = None,
        *,
        phrase_config: PhraseConfig | None = None,
        eot_id: int = 0,
        hypernet: HyperNetwork | None = None,
    ) -> None:
        self.config = config = config or LearnerConfig()
        self.model = model.eval().requires_grad_(False)
        sizes = model.config
        self.byte_lengths = np.zeros(sizes.vocab_size, dtype=np.int64)
        self.byte_lengths[: len(byte_lengths)] = byte_lengths
        shape = (sizes.num_layers, sizes.num_heads, sizes.head_size, sizes.head_size)
        dtype = torch.float64 if model.dtype == torch.float64 else torch.float32
        self.s0 = nn.Parameter(torch.zeros(shape, device=model.device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(sizes.vocab_size, device=model.device, dtype=dtype))
        hypernet = copy.deepcopy(hypernet) or HyperNetwork(sizes.hidden_size, seed=config.seed)
        self.hypernet = hypernet.to(model.device, dtype)
        self.table = DynamicTokenizer(sizes.vocab_size, phrase_config or PHRASES)
        self.replay = ReplayBuffer(config.replay_capacity, seed=config.seed)
        self.gate = PhraseGate(config.phrases)
        self.carried = CarriedStates(config.max_documents, eot_id)
        self.weights = weights_in_scope(model, config.scope)
        self.frozen_model = copy.deepcopy(model) if self.weights and config.frozen else model
        for parameter in (self.s0, self.bias, *self.hypernet.parameters()):
            parameter.requires_grad_(False)
        for parameter in self.trainable().values():
            parameter.requires_grad_(True)
        self.optimizer = online_optimizer(self.trainable(), config)
        self.skipped_steps = 0
        self.head = PhraseHead(model, self.hypernet, self.table)
        self.frozen_head = PhraseHead(self.frozen_model, self.hypernet, self.table)
        if self._s0_cannot_learn():
            warnings.warn(_S0_CANNOT_LEARN, SttxWarning, stacklevel=2)

    # -- the two verbs, for one window and for many ----------------------------------------------------------

    def score_one(self, window: Window) -> Score:
        """Return the price of a window now. Pure."""
        return self.score_many([window])[0]

    def score_many(self, windows: Sequence[Window]) -> list[Score]:
        """Return the price of each window now, in one forward pass. Pure.

        Each window starts from its document's carried state, also when two are of the same document. The
        result equals ``[score_one(window) for window in windows]`` up to rounding: 1e-4 bits a token in
        float32, 1e-9 in float64.
        """
        if not windows:
            return []
        phrases_on = self.gate.on
        with torch.no_grad():
            batch, nats, _ = self._pay(windows, phrases=phrases_on)
        frozen = self._pay_frozen(windows)
        frozen_rows = frozen[0].split(1) if frozen else [None] * len(windows)
        return [
            self._score([window], batch.steps[row : row + 1], nats[row], frozen_rows[row], phrases_on)
            for row, window in enumerate(windows)
        ]

    def learn_one(self, window: Window) -> None:
        """Learn from one window; its document continues after it.

        Raises:
            ModelError: the loss is not finite; nothing is learned.
        """
        self.step([window])

    def learn_many(self, windows: Sequence[Window]) -> None:
        """Learn from windows one after the other, as a loop of :meth:`learn_one` does, bit for bit.

        Two windows may be of the same document. To learn from windows of different documents in one optimizer
        step, use :meth:`step`.

        Raises:
            ModelError: the loss is not finite; nothing is learned from that window and those after it.
        """
        for window in windows:
            self.learn_one(window)

    def step(self, windows: Sequence[Window]) -> StepReport:
        """Take one optimizer step over windows, at least one, and report what it cost and what changed.

        One forward pass pays, and one backward pass learns from the mean loss of all paid tokens. Each
        document continues after its window.

        Raises:
            UsageError: two windows are of the same document.
            ModelError: the loss is not finite; nothing is learned.
        """
        if len({window.document for window in windows}) != len(windows):
            raise UsageError(
                "two windows of one step are of the same document: learn them one after the other"
            )
        config, phrases_on = self.config, self.gate.on
        before = [self.carried.get(window.document).context[-1] for window in windows]
        drawn = self.replay.draw(config.replay_rows) if len(self.replay) else []
        replayed = [_replayed_row(item.item) for item in drawn]
        batch, nats, state = self._pay(windows, phrases=phrases_on, replayed=replayed)
        new_nats, replayed_nats = nats[: len(windows)], nats[len(windows) :]
        if not math.isfinite(float(nats.detach().sum())):
            raise ModelError(_NOT_FINITE)
        paid = sum(_paid_tokens(window) for window in windows)
        loss = new_nats.sum() / max(paid, 1)
        if replayed:
            loss = loss + config.replay_weight * replayed_nats.sum() / sum(len(row.ids) for row in replayed)
        frozen = self._pay_frozen(windows)
        # With nothing paid the gradient is zero, but the optimizer would still apply its weight decay.
        norms = self._update(loss if paid or replayed else loss.detach())
        self._carry(windows, batch, state.detach(), frozen)
        self._learn_phrases(windows)
        self._refresh(drawn, replayed_nats.detach().tolist())
        self._remember(windows, before, new_nats.detach().tolist())
        steps = batch.steps[: len(windows)]
        score = self._score(windows, steps, new_nats.detach(), frozen[0] if frozen else None, phrases_on)
        self.gate.observe(score.bits, score.frozen_bits if config.frozen else score.bytes)
        return StepReport(score=score, loss=float(loss.detach()), replayed=len(replayed), **norms)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return every tensor that learns, by name."""
        parameters: dict[str, nn.Parameter] = {}
        if "state" in self.config.scope:
            parameters["s0"] = self.s0
            parameters |= {f"hypernet.{name}": p for name, p in self.hypernet.named_parameters()}
        if "bias" in self.config.scope:
            parameters["bias"] = self.bias
        return parameters | self.weights

    # -- saving --------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what the learner does next.

        Returns:
            ``tensors``, by file and name, and ``documents``, JSON-able, by file. Learned tensors and the
            optimizer's are the learner's own, not copies, as in torch: save or load them before it learns on.
        """
        replay, carried = self.replay.state_dict(), self.carried.state_dict()
        trainable = self.trainable()
        return {
            "tensors": {
                "learned": {name: parameter.detach() for name, parameter in trainable.items()},
                "optimizer": optimizer_tensors(self.optimizer, trainable),
                "sessions": carried["tensors"],
                "replay": {name: torch.from_numpy(array) for name, array in replay["arrays"].items()},
            },
            "documents": {
                "phrases": self.table.state_dict(),
                "learner": {
                    "gate": self.gate.state_dict(),
                    "replay": replay["meta"],
                    "skipped_steps": self.skipped_steps,
                    **carried["meta"],
                },
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly from what :meth:`state_dict` returned, with the same model and config.

        Nothing is shared with ``state`` afterwards.

        Raises:
            CheckpointError: the state is damaged, has other learned tensors than this learner's scope, or was
                saved by an earlier version that learned differently.
        """
        tensors, device = state["tensors"], self.s0.device
        trainable = self.trainable()
        if different := sorted(set(trainable) ^ set(tensors["learned"])):
            raise CheckpointError(
                f"the checkpoint was made with another --scope: tensor {shown(different[0])} differs"
            )
        sizes, phrases = self.model.config, self.table.config
        meta = checked_learner(state, trainable, sizes, self.model.dtype, self.config, phrases)
        self.gate.load_state_dict(meta.gate)
        with torch.no_grad():
            for name, parameter in trainable.items():
                parameter.copy_(tensors["learned"][name])
        load_optimizer_tensors(self.optimizer, trainable, tensors["optimizer"])
        self.table.load_state_dict(state["documents"]["phrases"])
        if self.table.config != phrases:
            raise damaged("phrase table", f"it has {self.table.config}, and this learner {phrases}")
        self.skipped_steps = meta.skipped_steps
        arrays = {name: tensor.numpy() for name, tensor in tensors["replay"].items()}
        self.replay.load_state_dict({"arrays": arrays, "meta": meta.replay})
        states = {name: tensor.to(device) for name, tensor in tensors["sessions"].items()}
        carried = {"evictions": meta.evictions, "sessions": meta.sessions}
        self.carried.load_state_dict({"tensors": states, "meta": carried})

    # -- paying --------------------------------------------------------------------------------------------

    def _pay(
        self, windows: Sequence[Window], *, phrases: bool, replayed: Sequence[Row] = ()
    ) -> tuple[Batch, Tensor, RecurrentState]:
        carried = [self.carried.get(window.document) for window in windows]
        rows = [_row(window, entry.context) for window, entry in zip(windows, carried, strict=True)]
        batch = self.head.prepare([*rows, *replayed], phrases=phrases)
        # Replayed windows start from the carried states of the new ones; but where S0 enters only at a
        # document's start, from S0 alone.
        states = [entry.state for entry in carried]
        for_replay = islice(cycle([None] if self.config.inject == "start" else states), len(replayed))
        starts = [self._start(state) for state in (*states, *for_replay)]
        bias = self.bias if "bias" in self.config.scope else None
        nats, state = self.head.forward(batch, RecurrentState.stack(starts), bias)
        return batch, nats, state

    def _start(self, carried: RecurrentState | None) -> RecurrentState:
        """Return the state that a window starts from: the carried state, plus S0 where it is injected."""
        inject = self.config.inject
        state = carried or RecurrentState.zeros(
            self.model.config, device=self.model.device, dtype=self.model.dtype
        )
        if inject == "none" or (inject == "start" and carried is not None):
            return state
        return state.inject(self.s0)

    def _pay_frozen(self, windows: Sequence[Window]) -> tuple[Tensor, RecurrentState] | None:
        """Return the windows' prices as base tokens under the frozen model, and its states after them."""
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
        self,
        windows: Sequence[Window],
        steps: Sequence[int],
        nats: Tensor,
        frozen: Tensor | None,
        phrases_on: bool,
    ) -> Score:
        return Score(
            bits=float(nats.double().sum()) * NATS_TO_BITS,
            frozen_bits=float(frozen.double().sum()) * NATS_TO_BITS if frozen is not None else math.nan,
            bytes=sum(self._bytes(window.ids, window.paid) for window in windows),
            tokens=sum(len(window.ids) for window in windows),
            model_steps=sum(steps),
            phrases_on=phrases_on,
        )

    # -- learning ------------------------------------------------------------------------------------------

    def _s0_cannot_learn(self) -> bool:
        """S0 reaches the loss only through the attention output matrices, unless those learn themselves."""
        if "state" not in self.config.scope or "all" in self.config.scope or self.config.inject == "none":
            return False
        outputs = (w for name, w in self.model.named_parameters() if name.endswith("att.output.weight"))
        return not any(bool(weight.any()) for weight in outputs)

    def _update(self, loss: Tensor) -> dict[str, float]:
        """Take one optimizer step; return the norms of the gradient, of the gradient of S0, and of S0."""
        parameters = list(self.trainable().values())
        grad_norm, grad_s0 = 0.0, 0.0
        if self.optimizer is not None and loss.requires_grad:
            loss.backward()
            if self.s0.grad is not None:
                grad_s0 = float(self.s0.grad.norm())
            grad_norm = float(nn.utils.clip_grad_norm_(parameters, self.config.clip))
            if math.isfinite(grad_norm):
                self.optimizer.step()
            else:
                self.skipped_steps += 1
            self.optimizer.zero_grad(set_to_none=True)
        return {"grad_norm": grad_norm, "grad_s0": grad_s0, "norm_s0": float(self.s0.detach().norm())}

    def _carry(
        self,
        windows: Sequence[Window],
        batch: Batch,
        state: RecurrentState,
        frozen: tuple[Tensor, RecurrentState] | None,
    ) -> None:
        """Store the state of each document after its window."""
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

    def _learn_phrases(self, windows: Sequence[Window]) -> None:
        """Count the pairs of neighboring phrases in the windows; frequent pairs become phrases."""
        if self.config.phrases != "off":
            for window in windows:
                self.table.cut()
                self.table.observe(self.table.merge(window.ids))

    def _refresh(self, drawn: Sequence[Drawn], nats: Sequence[float]) -> None:
        """Update the surprise of the replayed windows."""
        for item, value in zip(drawn, nats, strict=True):
            surprise = value * NATS_TO_BITS / max(self._bytes(item.item[1:]), 1)
            self.replay.refresh(item.slot, item.generation, surprise)

    def _remember(self, windows: Sequence[Window], before: Sequence[int], nats: Sequence[float]) -> None:
        """Offer the windows to replay if all their tokens are paid for, each after the token before it."""
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
