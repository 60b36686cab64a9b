"""Pretraining: all weights of an RWKV-7 on packed tokens. Knows no traces and no online learning.

Rows of a batch are streams read in order, so the state is carried from window to window (detached, and now
and then reset), as it will be in use.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sttx_core.errors import UsageError
from sttx_train.checkpoint import CheckpointStore
from sttx_train.files import replacing_file
from sttx_train.pretrain.data import PackedStreams
from sttx_train.rwkv7 import RWKV7, RecurrentState, RWKV7Config, initialize

_SHAPING = ("vocab_size", "hidden_size", "layers", "head_size", "ctx", "batch")  # fixed over a run's resumes


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """How to pretrain.

    Attributes:
        vocab_size: ids of the vocabulary, which are rows of the embedding and of the head.
        hidden_size: width of the model, a multiple of the head size.
        layers: number of the model's layers.
        head_size: side of each head's square state.
        ctx: tokens of a window.
        batch: streams of text read side by side.
        lr: learning rate at its peak; the decay bias ``w0`` learns at twice this rate, as published.
        final: learning rate at the end, as a share of the peak.
        warmup: steps in which the learning rate rises to its peak; then it falls along a cosine.
        steps: stop after this many steps (0: no such limit).
        minutes: stop after this much time (0: no such limit).
        reset: probability that a stream's state is reset at a window.
        weight_decay: AdamW's weight decay, on matrices only.
        clip: largest norm of the gradient; a longer one is shortened to it.
        bf16: run matrix products in bfloat16 (weights stay float32).
        compile: compile the model with torch.compile (needs a C++ compiler).
        checkpoint_every: steps between checkpoints.
        seed: seed of the initial weights and of the resets.
    """

    vocab_size: int
    hidden_size: int = 256
    layers: int = 8
    head_size: int = 64
    ctx: int = 256
    batch: int = 16
    lr: float = 1.5e-3
    final: float = 0.05
    warmup: int = 100
    steps: int = 0
    minutes: float = 0.0
    reset: float = 0.125
    weight_decay: float = 0.1
    clip: float = 1.0
    bf16: bool = True
    compile: bool = False
    checkpoint_every: int = 250
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps == 0 and self.minutes == 0:
            raise UsageError("pretraining needs an end: give --steps or --minutes")
        for name in ("hidden_size", "layers", "head_size", "ctx", "batch", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{_option(name)} must be at least 1, not {getattr(self, name)!r}")
        for name in ("steps", "minutes", "warmup", "final", "reset", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{_option(name)} must not be negative: {getattr(self, name)!r}")
        for name in ("lr", "clip"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{_option(name)} must be above 0, not {getattr(self, name)!r}")
        for name in ("reset", "final"):
            if getattr(self, name) > 1:
                raise UsageError(f"{_option(name)} must be at most 1, not {getattr(self, name)!r}")

    def model_config(self) -> RWKV7Config:
        """Return the sizes of the model."""
        if self.hidden_size % self.head_size:
            raise UsageError(
                f"--hidden-size {self.hidden_size!r} must be a multiple of --head-size {self.head_size!r}"
            )
        return RWKV7Config(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_layers=self.layers,
            head_size=self.head_size,
        )


@dataclass(frozen=True)
class PretrainStep:
    """What one step did: its loss in nats per token, learning rate, gradient norm and tokens so far."""

    step: int
    loss: float
    lr: float
    grad_norm: float
    tokens: int
    seconds: float


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


class Pretrainer:
    """Trains a model on packed tokens; ``for step in trainer.run(tokens)`` drives it.

    Args:
        config: how.
        directory: where checkpoints go.
        resume: continue from the newest checkpoint in ``directory``.
    """

    def __init__(self, config: PretrainConfig, directory: Path, *, resume: bool = False) -> None:
        self.config = config
        self.store = CheckpointStore(directory, keep=2)
        self.model = initialize(RWKV7(config.model_config(), backend="chunked"), seed=config.seed)
        self.optimizer = make_optimizer(self.model, config)
        self.step, self.seconds = 0, 0.0
        self.state = RecurrentState.zeros(self.model.config, config.batch)
        if resume:
            self._restore()
        self._forward = torch.compile(self.model) if config.compile else self.model

    def run(self, tokens: np.ndarray) -> Iterator[PretrainStep]:
        """Train until the configured end, yielding after every step, saving on the way and at the end."""
        streams = PackedStreams(tokens, batch=self.config.batch, context=self.config.ctx)
        started = time.monotonic() - self.seconds
        while not self._done():
            loss, norm, lr = self._train_step(streams)
            self.step += 1
            self.seconds = time.monotonic() - started
            if self.step % self.config.checkpoint_every == 0:
                self.save()
            tokens_read = self.step * self.config.batch * self.config.ctx
            yield PretrainStep(self.step, loss, lr, norm, tokens_read, self.seconds)
        if self.step % self.config.checkpoint_every:
            self.save()

    def progress(self) -> float:
        """Share of the run that is done, by steps or by time, whichever is further."""
        shares = [0.0]
        if self.config.steps:
            shares.append(self.step / self.config.steps)
        if self.config.minutes:
            shares.append(self.seconds / 60 / self.config.minutes)
        return min(max(shares), 1.0)

    def _done(self) -> bool:
        return self.progress() >= 1.0

    def _learning_rate(self) -> float:
        config = self.config
        warm = min((self.step + 1) / max(config.warmup, 1), 1.0)
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress()))
        return config.lr * warm * (config.final + (1 - config.final) * cosine)

    def _train_step(self, streams: PackedStreams) -> tuple[float, float, float]:
        config = self.config
        window = torch.from_numpy(streams.window(self.step))
        lr = self._learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
            logits, state = self._forward(window[:, :-1], self._starting_state(streams))
            loss = F.cross_entropy(logits.float().flatten(0, 1), window[:, 1:].flatten())
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.state = state.detach()
        return float(loss.detach()), float(norm), lr

    def _starting_state(self, streams: PackedStreams) -> RecurrentState:
        """Return the carried state, zeroed in the rows that start afresh (drawn from seed and step alone)."""
        if streams.starts_epoch(self.step):
            return RecurrentState.zeros(self.model.config, self.config.batch)
        draw = np.random.default_rng([self.config.seed, self.step]).random(self.config.batch)
        keep = torch.from_numpy(draw >= self.config.reset).float()
        return RecurrentState(
            att_shift=self.state.att_shift * keep[None, :, None],
            wkv=self.state.wkv * keep[None, :, None, None, None],
            ffn_shift=self.state.ffn_shift * keep[None, :, None],
        )

    def save(self) -> Path:
        """Write a checkpoint of everything that decides what comes next."""
        optimizer = {
            f"{index}.{name}": value
            for index, entry in self.optimizer.state_dict()["state"].items()
            for name, value in entry.items()
        }
        return self.store.save(
            self.step,
            tensors={
                "model": dict(self.model.state_dict()),
                "optimizer": optimizer,
                "state": {
                    name: getattr(self.state, name).float() for name in ("att_shift", "wkv", "ffn_shift")
                },
            },
            documents={"config": asdict(self.config)},
            manifest={"kind": "pretrain", "seconds": self.seconds},
        )

    def _restore(self) -> None:
        checkpoint = self.store.load()
        checkpoint.require(kind="pretrain")
        saved, config = checkpoint.documents["config"], asdict(self.config)
        for name in _SHAPING:
            if saved[name] != config[name]:
                raise UsageError(
                    f"the run to resume has {_option(name)} {saved[name]!r}, not {config[name]!r}: "
                    "give the same"
                )
        self.model.load_state_dict(checkpoint.tensors["model"])
        groups = self.optimizer.state_dict()["param_groups"]
        entries: dict[int, dict[str, Tensor]] = {}
        for key, value in checkpoint.tensors["optimizer"].items():
            index, name = key.split(".", 1)
            entries.setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict({"state": entries, "param_groups": groups})
        self.state = RecurrentState(**checkpoint.tensors["state"])
        self.step, self.seconds = checkpoint.step, float(checkpoint.manifest["seconds"])


def make_optimizer(model: RWKV7, config: PretrainConfig) -> torch.optim.AdamW:
    """Return AdamW with the published groups: decay on matrices only, ``w0`` at twice the learning rate."""
    matrices, doubled, rest = [], [], []
    for name, parameter in model.named_parameters():
        if name.endswith("att.w0"):
            doubled.append(parameter)
        elif parameter.ndim == 2 and name.endswith(".weight"):
            matrices.append(parameter)
        else:
            rest.append(parameter)
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay, "lr_scale": 1.0},
        {"params": rest, "weight_decay": 0.0, "lr_scale": 1.0},
        {"params": doubled, "weight_decay": 0.0, "lr_scale": 2.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.99), eps=1e-18, fused=True)


def held_out_bits(model: RWKV7, ids: np.ndarray, *, ctx: int = 512) -> float:
    """Return the total bits the model pays for ``ids`` (led by the end-of-text id), state carried."""
    bits, state = 0.0, None
    stream = torch.from_numpy(ids.astype(np.int64))[None]
    with torch.no_grad():
        for start in range(0, stream.shape[1] - 1, ctx):
            piece = stream[:, start : start + ctx + 1]
            logits, state = model(piece[:, :-1], state)
            bits += float(F.cross_entropy(logits[0].float(), piece[0, 1:], reduction="sum")) / math.log(2)
    return bits


def write_metrics(path: Path, step: PretrainStep, **more: object) -> None:
    """Append one step to a JSON-lines file, made with its folder when it is the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**asdict(step), **more}) + "\n")


def drop_metrics_after(path: Path, step: int) -> None:
    """Take out the lines of steps that a run has not done, or will do again: it died after its checkpoint."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except ValueError:  # the last line, cut short
            continue
    with replacing_file(path) as aside:
        aside.write_text("".join(kept), encoding="utf-8")
