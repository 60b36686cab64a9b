"""The online learner: predict, pay, learn, one step at a time.

Every window of a document starts from ``carried.detach() + S0``. The gradient of the network's price reaches
S0 exactly, at every step, through the forward pass that also pays. With experts, what is paid is the price of
their mixture with both networks. Knows windows of token ids; neither traces, files nor progress.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sttx_core.errors import CheckpointError, ModelError, SttxWarning, UsageError
from sttx_core.foreign_files import shown
from sttx_core.hypernet import HyperNetwork
from sttx_core.phrases import DynamicTokenizer, PhraseConfig
from sttx_core.replay import ReplayBuffer
from sttx_core.saved_state import damaged
from sttx_train.online.average import AVERAGE, RunningAverage, for_reading
from sttx_train.online.carried import Carried, CarriedStates
from sttx_train.online.config import PHRASES, LearnerConfig
from sttx_train.online.gate import PhraseGate
from sttx_train.online.mixture import AlreadyPaid, Mixture
from sttx_train.online.networks import Networks
from sttx_train.online.optimizer import load_optimizer_tensors, online_optimizer, optimizer_tensors
from sttx_train.online.outer import OuterStep
from sttx_train.online.payment import NATS_TO_BITS, pay, window_bytes
from sttx_train.online.phrase_head import Batch, PhraseHead, Priced
from sttx_train.online.policy import Train
from sttx_train.online.replaying import refresh, remember
from sttx_train.online.saved import checked_learned, checked_learner
from sttx_train.online.scope import Scope, frozen_beside, s0_cannot_learn, weights_in_scope
from sttx_train.online.states import LearnerState
from sttx_train.online.update import backward, in_scope, take_step
from sttx_train.online.window import Score, StepReport, Window
from sttx_train.rwkv7 import LanguageModel
from sttx_train.workers import Workers

_NOT_FINITE = "the loss is not finite: the weights are damaged or the learning rate is too high"
_CANNOT_LEARN = (
    "{} cannot learn: the attention output matrices of this model are all zero, as before any training, so "
    "no gradient reaches it; use a trained model, or --scope all"
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
        mixture: the experts that are mixed in; the network alone pays when None.

    Raises:
        UsageError: the mixed loss is asked for without a mixture.

    Attributes:
        skipped_steps: steps without an update because the gradient was not finite.
        how: how the next step learns, within the config; None to pay and read only.
        outer: how each document's offset changes at the end of its windows; None if there are no offsets.
        average: the average of S0 over the steps, if it learns.

    Warns:
        SttxWarning: a state is to learn, but no gradient can reach it.
    """

    def __init__(
        self,
        model: LanguageModel,
        byte_lengths: np.ndarray,
        config: LearnerConfig | None = None,
        *,
        phrase_config: PhraseConfig | None = None,
        eot_id: int = 0,
        hypernet: HyperNetwork | None = None,
        mixture: Mixture | None = None,
    ) -> None:
        self.config = config = config or LearnerConfig()
        if config.loss == "mixed" and mixture is None:
            raise UsageError("--loss mixed needs experts: leave it out, or use --experts on")
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
        self.frozen_model = frozen_beside(model, config.scope) if config.frozen else model
        for parameter in (self.s0, self.bias, *self.hypernet.parameters()):
            parameter.requires_grad_(False)
        for parameter in self.trainable().values():
            parameter.requires_grad_(True)
        self.optimizer = online_optimizer(self.trainable(), config)
        self.how: Train | None = Train()
        self.outer = OuterStep.of(config)
        self.average, self.skipped_steps = RunningAverage(self.s0), 0
        self.head = PhraseHead(model, self.hypernet, self.table)
        self.mixture, self.workers = mixture, Workers()
        self.networks = Networks(
            self.head,
            PhraseHead(self.frozen_model, self.hypernet, self.table) if config.frozen else None,
            s0=self.s0,
            inject=config.inject,
            bias=self.bias if "bias" in config.scope else None,
            every=mixture is not None,
        )
        if s0_cannot_learn(model, config.scope, inject=config.inject != "none", outer=self.outer is not None):
            warnings.warn(_cannot_learn(config), SttxWarning, stacklevel=2)

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
        carried = self.carried.of(windows)
        with torch.no_grad():
            batch, learned, frozen = self.networks.read_both(windows, carried, phrases=self.gate.on)
        payment = pay(windows, batch, learned, frozen, self.mixture, learn=False)
        return [payment.score(self.byte_lengths, slice(row, row + 1)) for row in range(len(windows))]

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

    def step(self, windows: Sequence[Window], *, paid: AlreadyPaid | None = None) -> StepReport:
        """Take one optimizer step over windows, at least one, and report what it cost and what changed.

        One forward pass pays, and one backward pass learns from the mean loss of all paid tokens. Each
        document continues after its window.

        Args:
            windows: each of another document.
            paid: what the windows cost, if the experts have read them already.

        Raises:
            UsageError: two windows are of the same document.
            ModelError: the loss is not finite; nothing is learned.
        """
        if len({window.document for window in windows}) != len(windows):
            raise UsageError(
                "two windows of one step are of the same document: learn them one after the other"
            )
        config, count = self.config, len(windows)
        carried = self.carried.of(windows)
        learns, outer = self.how is not None, self.outer
        drawn = self.replay.draw(config.replay_rows) if learns and len(self.replay) else []
        replayed = [item.item for item in drawn]
        if outer:
            carried = outer.tracked(carried, self.s0)
        with torch.set_grad_enabled(learns or outer is not None):
            batch, learned, frozen = self.networks.read_both(
                windows, carried, phrases=self.gate.on, replayed=replayed
            )
        new_nats, replayed_nats = learned.nats_B[:count], learned.nats_B[count:]
        if not math.isfinite(float(learned.nats_B.detach().sum())):
            raise ModelError(_NOT_FINITE)
        tokens = sum(int(window.paid_T.sum()) for window in windows)
        mixed = config.loss == "mixed"
        payment = pay(windows, batch, learned, frozen, paid or self.mixture, learn=True, loss=mixed)
        loss = (new_nats.sum() if payment.loss is None else payment.loss) / max(tokens, 1)
        if replayed:
            loss = loss + config.replay_weight * replayed_nats.sum() / sum(len(row) - 1 for row in replayed)
        score, prices = payment.score(self.byte_lengths), payment.prices()
        offsets = outer.after(carried, new_nats, windows, retain=learns) if outer else None
        # With nothing paid the gradient is zero, but the optimizer would still apply its weight decay.
        norms = self._update(loss if tokens or replayed else loss.detach())
        nats = new_nats.detach().tolist()
        self._carry(windows, batch, learned, frozen, nats, offsets)
        self._learn_phrases(windows)
        refresh(self.replay, drawn, replayed_nats.detach().tolist(), self.byte_lengths)
        if config.replay_rows:
            remember(self.replay, windows, carried, nats, self.byte_lengths)
        self.gate.observe(score.bits, score.frozen_bits if config.frozen else score.bytes)
        return StepReport(
            score=score, loss=float(loss.detach()), replayed=len(replayed), prices=prices, **norms
        )

    def use(self, mixture: Mixture | None) -> None:
        """Mix in other experts from now on, or none."""
        self.mixture, self.networks.every = mixture, mixture is not None

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return every tensor that learns, by name."""
        parameters: dict[str, nn.Parameter] = {}
        if "state" in self.config.scope:
            parameters["s0"] = self.s0
            parameters |= {f"hypernet.{name}": p for name, p in self.hypernet.named_parameters()}
        if "bias" in self.config.scope:
            parameters["bias"] = self.bias
        return parameters | self.weights

    def in_scope(self, scope: tuple[Scope, ...] | None) -> dict[str, nn.Parameter]:
        """Return those of the tensors that learn which a scope names; all of them for None."""
        return in_scope(self.trainable(), self.model, scope)

    @torch.no_grad()
    def stand_still(self) -> None:
        """Take the S0 that readers take which learn nothing: half of its average."""
        if (s0 := for_reading(self._learned())) is not None:
            self.s0.copy_(s0)

    def _learned(self) -> dict[str, Tensor]:
        """Return every learned tensor, and the average of S0 once it has learned, by name."""
        found = {name: parameter.detach() for name, parameter in self.trainable().items()}
        return found | ({AVERAGE: self.average.value} if "s0" in found and self.average.steps else {})

    # -- saving --------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what the learner does next.

        Returns:
            ``tensors``, by file and name, and ``documents``, JSON-able, by file. Learned tensors and the
            optimizer's are the learner's own, not copies, as in torch: save or load them before it learns on.
        """
        replay, carried = self.replay.state_dict(), self.carried.state_dict()
        trainable = self.trainable()
        mixture = self.mixture.state_dict() if self.mixture else None
        bank = self.carried.bank.state_dict() if self.carried.bank else None
        return {
            "tensors": {
                **({"experts": mixture["tensors"]} if mixture else {}),
                **({"bank": bank["tensors"]} if bank else {}),
                "learned": self._learned(),
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
                    "averaged": self.average.steps,
                    **({"experts": mixture["documents"]} if mixture else {}),
                    **({"bank": bank["meta"]} if bank else {}),
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
        if different := sorted((set(trainable) ^ set(tensors["learned"])) - {AVERAGE}):
            raise CheckpointError(
                f"the checkpoint was made with another --scope: tensor {shown(different[0])} differs"
            )
        sizes, phrases = self.model.config, self.table.config
        parts = (self.mixture is not None, self.carried.bank and self.carried.bank.capacity)
        meta = checked_learner(state, trainable, sizes, self.model.dtype, self.config, phrases, *parts)
        self.gate.load_state_dict(meta.gate)
        self._take(tensors, meta)
        self.table.load_state_dict(state["documents"]["phrases"])
        if self.table.config != phrases:
            raise damaged("phrase table", f"it has {self.table.config}, and this learner {phrases}")
        self.skipped_steps = meta.skipped_steps
        states = {name: tensor.to(device) for name, tensor in tensors["sessions"].items()}
        if self.mixture is not None:
            self.mixture.load_state_dict({"tensors": tensors["experts"], "documents": meta.experts})
        if self.carried.bank is not None:
            kept = {name: tensor.to(device) for name, tensor in tensors["bank"].items()}
            self.carried.bank.load_state_dict({"tensors": kept, "meta": meta.bank})
        carried = {"evictions": meta.evictions, "sessions": meta.sessions, "offsets": meta.offsets}
        self.carried.load_state_dict({"tensors": states, "meta": carried})

    def go_on_from(self, state: Mapping[str, Any]) -> None:
        """Start with what another learner of the same model learned: tensors, optimizer, windows for replay.

        Args:
            state: what its :meth:`state_dict` returned. Documents, phrases and experts are left out.

        Raises:
            UsageError: it learned other tensors than this learner's scope.
            CheckpointError: the state is damaged, or its replay has another capacity.
        """
        tensors, trainable = state["tensors"], self.trainable()
        if different := sorted((set(trainable) ^ set(tensors["learned"])) - {AVERAGE}):
            raise UsageError(
                f"what was learned has another scope than {','.join(self.config.scope)}: tensor "
                f"{shown(different[0])} differs"
            )
        self._take(tensors, checked_learned(state, trainable, self.model.config.vocab_size))

    def _take(self, tensors: Mapping[str, Any], meta: LearnerState) -> None:
        """Take over copies of checked tensors: what was learned, the optimizer's, windows for replay."""
        with torch.no_grad():
            for name, parameter in self.trainable().items():
                parameter.copy_(tensors["learned"][name])
            self.average.load(tensors["learned"].get(AVERAGE, self.s0), meta.averaged)
        load_optimizer_tensors(self.optimizer, self.trainable(), tensors["optimizer"])
        arrays = {name: tensor.numpy() for name, tensor in tensors["replay"].items()}
        self.replay.load_state_dict({"arrays": arrays, "meta": meta.replay})

    # -- learning ------------------------------------------------------------------------------------------

    def _update(self, loss: Tensor) -> dict[str, float]:
        """Take one optimizer step; return the norms of the gradient, of the gradient of S0, and of S0."""
        grad_norm, grad_s0, how, every = 0.0, 0.0, self.how, self.trainable()
        if self.optimizer is not None and how is not None and backward(loss, every.values(), self.workers):
            learning = self.in_scope(how.scope)
            for name, parameter in every.items():
                if name not in learning:
                    parameter.grad = None
            if self.s0.grad is not None:
                grad_s0 = float(self.s0.grad.norm())
            grad_norm = float(nn.utils.clip_grad_norm_(learning.values(), how.clip or self.config.clip))
            if math.isfinite(grad_norm):
                take_step(self.optimizer, how)
                if "s0" in learning or "state" not in self.config.scope:
                    self.average.add(self.s0)
            else:
                self.skipped_steps += 1
            self.optimizer.zero_grad(set_to_none=True)
        return {"grad_norm": grad_norm, "grad_s0": grad_s0, "norm_s0": float(self.s0.detach().norm())}

    def _carry(
        self,
        windows: Sequence[Window],
        batch: Batch,
        learned: Priced,
        frozen: Priced | None,
        nats: Sequence[float],
        offsets: Sequence[Tensor | None] | None,
    ) -> None:
        """Store the state of each document after its window, which cost so many nats."""
        for index, window in enumerate(windows):
            context = self.table.tokens(batch.merged[index][-1])
            beside = frozen.state_of(index) if frozen else None
            offset = offsets[index] if offsets else None
            after = Carried(learned.state_of(index), context, beside, offset)
            size = window_bytes(window, self.byte_lengths)
            self.carried.learn(window, after, nats[index] * NATS_TO_BITS, size)

    def _learn_phrases(self, windows: Sequence[Window]) -> None:
        """Count the pairs of neighboring phrases in the windows; frequent pairs become phrases."""
        if self.config.phrases != "off":
            for window in windows:
                self.table.cut()
                self.table.observe(self.table.merge(window.ids))


def _cannot_learn(config: LearnerConfig) -> str:
    return _CANNOT_LEARN.format("S0" if "state" in config.scope else "an offset")
