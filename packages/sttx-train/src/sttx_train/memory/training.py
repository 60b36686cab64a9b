"""Trains an adapter on windows of sessions; the base is frozen.

A step writes the first tokens of each window into an empty memory and prices those that follow. They see
nothing else of the first ones: the memory is the only way from one to the other. Gradients reach the adapter
through what was read and through what was written; the hidden states that were written count as constants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sttx_core.errors import ModelError, UsageError
from sttx_train.adamw import AdamW
from sttx_train.checkpoint import Checkpoint, CheckpointStore
from sttx_train.memory.attached import AttachedMemory, decoder_of
from sttx_train.memory.lora import LowRank
from sttx_train.memory.train_config import MemoryTrainConfig
from sttx_train.memory.windows import SessionTokens, drawn, tokens_of
from sttx_train.run_folder import require_same_run
from sttx_train.saved_tensors import check_moments, check_tensors

BETAS = (0.9, 0.99)
_KEEP = 2


@dataclass(frozen=True, kw_only=True)
class TrainStep:
    """One step: its number from 1, the bits per byte it paid, its learning rate and gradient norm."""

    step: int
    bpb: float
    lr: float
    grad_norm: float


def write_windows(memory: AttachedMemory, ids_BT: Tensor, start: Sequence[int] = ()) -> None:
    """Write tokens into an empty memory, and keep what was written in `memory.records`."""
    memory.reset()
    memory.records = {}
    with torch.no_grad(), memory.writing():
        decoder_of(memory.model)(input_ids=_with_start(ids_BT, start), use_cache=False)


def nats_of(
    model: nn.Module, before_BT: Tensor | None, ids_BT: Tensor, lead: int, start: Sequence[int]
) -> Tensor:
    """Return the price of each token after the first ``lead`` of some, in nats, ``[B, T - lead]``.

    Args:
        model: with or without a memory.
        before_BT: tokens that are read before these; None for none.
        ids_BT: the tokens.
        lead: how many are only read, at least 1 if nothing is before them.
        start: ids before everything.
    """
    whole = ids_BT if before_BT is None else torch.cat([before_BT, ids_BT], dim=1)
    count = ids_BT.shape[1] - lead
    logits = model(input_ids=_with_start(whole, start), use_cache=False, logits_to_keep=count + 1).logits
    prices = nn.functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), ids_BT[:, lead:].flatten(), reduction="none"
    )
    return prices.view(len(ids_BT), count)


def _with_start(ids_BT: Tensor, start: Sequence[int]) -> Tensor:
    first = torch.tensor(list(start), dtype=torch.int64).to(ids_BT.device)
    return torch.cat([first.expand(len(ids_BT), -1), ids_BT], dim=1) if len(start) else ids_BT


class MemoryTrainer:
    """Trains the adapter of a memory, or a `LowRank` control, and saves checkpoints.

    Args:
        memory: attached to the base.
        sessions: to train on, each with a window's tokens at least.
        config: how.
        start: ids that the base wants before a text.
        directory: folder of the checkpoints; None to save nothing.
        resume: continue the run in the folder.
        control: if given, this is trained on the same windows, and nothing is written.
        identity: further fields of the checkpoints' manifest, which a resumed run must share.

    Raises:
        UsageError: the folder holds a run and ``resume`` is not set, or the reverse.
        CheckpointError: the run to resume is damaged, or was made with other options.
    """

    def __init__(
        self,
        memory: AttachedMemory,
        sessions: Sequence[SessionTokens],
        config: MemoryTrainConfig,
        *,
        start: Sequence[int] = (),
        directory: Path | None = None,
        resume: bool = False,
        control: LowRank | None = None,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        if directory is None and resume:
            raise UsageError("a run without a folder cannot be resumed: give one")
        self.memory, self.sessions, self.config, self.start = memory, sessions, config, start
        self.learns: nn.Module = memory if control is None else control
        if control is not None:
            control.attach()
        self.parameters = dict(self.learns.named_parameters())
        self.optimizer = AdamW(
            list(self.parameters.values()), lr=config.lr, betas=BETAS, weight_decay=config.weight_decay
        )
        self.store = None if directory is None else CheckpointStore(directory, keep=_KEEP)
        self.step, self._saved = 0, -1
        self._identity = {
            "kind": "memory" if control is None else "low-rank",
            "memory_config": memory.config.as_dict(),
            "train_config": asdict(config),
            "base_sha256": memory.base_digest(),
            "sessions_sha256": [session.sha256 for session in sessions],
            "start": list(start),
            **(identity or {}),
        }
        if self.store is not None:
            self.store.expect(run=resume)
            if resume:
                self._resume(self.store.load())

    def run(
        self, on_step: Callable[[TrainStep], None] | None = None, stop: Callable[[], bool] | None = None
    ) -> None:
        """Train to the configured end, or until ``stop`` returns true after a step; then save.

        Raises:
            ModelError: the loss is not finite; earlier checkpoints stay.
        """
        while self.step < self.config.steps:
            step = self.train_one()
            if on_step is not None:
                on_step(step)
            if self.step % self.config.checkpoint_every == 0:
                self.save()
            if stop is not None and stop():
                break
        self.save()

    def train_one(self) -> TrainStep:
        """Take one step."""
        config = self.config
        rate = config.learning_rate(self.step)
        self.optimizer.param_groups[0]["lr"] = rate
        seed = [config.train_seed, self.step]
        windows = drawn(self.sessions, config.length, config.batch, seed)
        ids = torch.from_numpy(tokens_of(self.sessions, windows, config.length))
        ids = ids.to(next(self.learns.parameters()).device)
        if self.learns is self.memory:
            write_windows(self.memory, ids[:, : config.write], self.start)
            assert self.memory.records is not None
            self.memory.rewrite(self.memory.records)
        nats_BT = nats_of(self.memory.model, None, ids[:, config.write :], config.lead, self.start)
        nats_BT.mean().backward()
        norm = float(nn.utils.clip_grad_norm_(list(self.parameters.values()), config.clip))
        nats = float(nats_BT.detach().double().sum())
        if not math.isfinite(nats) or not math.isfinite(norm):
            raise ModelError(f"the loss is not finite at step {self.step}: use a smaller --lr")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.memory.reset()
        self.memory.records = None
        self.step += 1
        first = config.write + config.lead
        size = sum(
            self.sessions[at].bytes_between(place + first, place + config.length) for at, place in windows
        )
        return TrainStep(step=self.step, bpb=nats / math.log(2) / max(size, 1), lr=rate, grad_norm=norm)

    def save(self) -> Path | None:
        """Write a checkpoint; return None without a folder, or if this step is saved already."""
        if self.store is None or self._saved == self.step:
            return None
        self._saved = self.step
        moments = {
            f"{name}/{key}": tensor
            for name, parameter in self.parameters.items()
            for key, tensor in self.optimizer.state.get(parameter, {}).items()
        }
        return self.store.save(
            self.step,
            tensors={"adapter": self.learns.state_dict(), "optimizer": moments},
            documents={},
            manifest=self._identity,
        )

    def _resume(self, saved: Checkpoint) -> None:
        options = {name: saved.manifest.get(name) for name in self._identity}
        require_same_run(saved.path, _flat(options), _flat(self._identity))
        check_tensors("adapter.safetensors", saved.tensors["adapter"], self.learns.state_dict())
        check_moments("optimizer.safetensors", saved.tensors["optimizer"], self.parameters)
        self.learns.load_state_dict(saved.tensors["adapter"])
        for path, tensor in saved.tensors["optimizer"].items():
            name, key = path.rsplit("/", 1)
            parameter = self.parameters[name]
            self.optimizer.state[parameter][key] = tensor if key == "step" else tensor.to(parameter.device)
        self.step = self._saved = saved.step


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, dict):
            flat |= {f"--{key.replace('_', '-')}": one for key, one in value.items()}
        else:
            flat[name] = value
    return flat
