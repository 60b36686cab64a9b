"""Pretraining: all weights of an RWKV-7 on documents of ids. Knows no text, no traces and no online learning.

Rows of a batch are streams of documents read in order, so the state is carried from window to window and
begins anew with each document, as it will be in use. How the rows are dealt out to processes and passes
changes nothing but the order in which floats are added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from sttx_core.errors import DataError, UsageError
from sttx_core.hypernet import HyperNetwork
from sttx_train.checkpoint.store import Checkpoint, CheckpointStore
from sttx_train.data.documents import Documents, fingerprint
from sttx_train.data.sampling import IGNORED, Sampler, WindowBatch
from sttx_train.pretrain.config import PretrainConfig, option
from sttx_train.pretrain.evaluation import Evaluation, HeldOut, pay
from sttx_train.pretrain.guard import PATIENCE, Guard
from sttx_train.pretrain.initial_model import begin
from sttx_train.pretrain.optimizer import (
    load_optimizer_state,
    make_optimizer,
    optimizer_state,
    set_rate,
    weights,
    whole,
)
from sttx_train.pretrain.parallel import Workers, gradients
from sttx_train.pretrain.phrases import PhraseTraining
from sttx_train.rwkv7 import RWKV7, RecurrentState
from sttx_train.wkv import choose_backend

BEST = "best"
"""Subfolder of a run's folder with the weights that did best on what is held out."""

_MAY_CHANGE = {
    *("epochs", "steps", "tokens", "minutes", "eval_every", "checkpoint_every"),  # when to stop and to save
    *("batch", "accumulate", "parallel", "recompute", "compile", "spike"),  # how the work is done
}


@dataclass(frozen=True)
class PretrainStep:
    """What one step did.

    Attributes:
        step: its number, from 1.
        loss: nats per token, before the step.
        lr: learning rate.
        grad_norm: norm of the gradient, before it was clipped.
        tokens: trained on so far.
        epochs: how often the data was read so far.
        seconds: so far.
        skipped: whether it was left out: a loss that is no number, or a spike.
        held_out: measured after it; None at most steps.
    """

    step: int
    loss: float
    lr: float
    grad_norm: float
    tokens: int
    epochs: float
    seconds: float
    skipped: bool = False
    held_out: HeldOut | None = None

    def row(self) -> dict[str, Any]:
        """Return its numbers by name, what is held out beside the others."""
        told = {name: value for name, value in asdict(self).items() if name not in ("step", "held_out")}
        if self.held_out is not None:
            told |= self.held_out.row()
        return told


class Trainer:
    """Trains a model on documents; ``for step in trainer.run(): …`` drives it.

    Args:
        config: how; its ``vocab_size`` is that of the documents.
        train: what is trained on.
        held: what is only measured; None or no documents for none.
        text_bytes: UTF-8 bytes that the held-out documents stand for; None if they are no text.
        directory: where checkpoints go; None for none.
        resume: continue from the newest checkpoint in ``directory``.
        start: a model to go on from, on the CPU in float32; a freshly initialised one when None.
        hypernet: that of the model to go on from, for a config with phrases; a fresh one when None.
        device: where to train.
        workers: the processes of the run; this one alone by default.
        identity: what else a run that is resumed must share, by name: the hashes of the vocabulary and of the
            model to go on from.
        say: told in a sentence what a person should know.

    Raises:
        UsageError: a run of other data, sizes or settings is resumed.
        CheckpointError: there is no run to resume, or it is damaged.
        DataError: there is nothing to train on.
    """

    def __init__(
        self,
        config: PretrainConfig,
        train: Documents,
        held: Documents | None = None,
        *,
        text_bytes: int | None = None,
        directory: Path | None = None,
        resume: bool = False,
        start: RWKV7 | None = None,
        hypernet: HyperNetwork | None = None,
        device: torch.device | None = None,
        workers: Workers | None = None,
        identity: Mapping[str, str | None] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.config, self.device = config, device or torch.device("cpu")
        self.store = None if directory is None else CheckpointStore(directory, keep=2)
        self.step, self.tokens, self.seconds = 0, 0, 0.0
        self.best: HeldOut | None = None
        self.diverged = False
        self._say = say or (lambda said: None)
        self._identity = dict(identity or {})
        self.workers = workers or Workers()
        self._own_rows = config.accumulate * config.batch
        rows = self._own_rows * self.workers.count
        self._sampler = Sampler(train, rows=rows, context=config.ctx, seed=config.seed)
        self._data = fingerprint(train)
        self._evaluation = _evaluation(config, held, self.workers, text_bytes)
        self._guard = Guard(config.spike)
        self.model = begin(config, start).to(self.device)
        self.model.recompute = config.recompute
        self._state = self._zeros(self._own_rows)
        self._phrases: PhraseTraining | None = None
        if config.phrases:
            self._phrases = PhraseTraining(config, self.model, hypernet, self.workers, self._own_rows)
        saved = self.store.load() if resume and self.store is not None else None
        if saved is not None:
            self._check(saved)
            self.model.load_state_dict(saved.tensors["model"])
        module = self.model if self._phrases is None else self._phrases.module
        self._wrapped = self.workers.wrap(module, config.parallel)
        self._forward = torch.compile(self._wrapped) if config.compile else self._wrapped
        self.optimizer = make_optimizer(self.model, config, self.hypernet)
        if saved is not None:
            self._restore(saved)

    def run(self) -> Iterator[PretrainStep]:
        """Train until the configured end, yielding after every step, saving on the way and at the end.

        Raises:
            DataError: the loss was no number, or a spike, several steps in a row; a checkpoint was saved.
        """
        config = self.config
        started = monotonic() - self.seconds
        while self.progress() < 1.0:
            told = self._train_step()
            self.seconds = self.workers.same(monotonic() - started)
            last = self.progress() >= 1.0
            if self._evaluation is not None and (last or self.step % config.eval_every == 0):
                told = replace(told, held_out=self.measure())
            told = replace(told, seconds=monotonic() - started)
            if last or self._guard.exhausted or self.step % config.checkpoint_every == 0:
                self.save()
            yield told
            self._refuse_to_go_on(told.loss)
        self.gather()

    def gather(self) -> None:
        """Hold the whole model here again, and let the other processes go: the run is over. All have to."""
        if isinstance(self.model, FSDPModule):
            held, moments = weights(self.model), optimizer_state(self.model, self.optimizer)
            self.model = RWKV7(self.model.config).to(self.device)
            self.model.load_state_dict(held)
            self.optimizer = make_optimizer(self.model, self.config)
            load_optimizer_state(self.model, self.optimizer, moments)
        self._wrapped = self._forward = self.model

    @property
    def hypernet(self) -> HyperNetwork | None:
        """What makes the phrases' rows; None where ``config.phrases`` is 0."""
        return None if self._phrases is None else self._phrases.module.hypernet

    def progress(self) -> float:
        """Share of the run that is done, from 0 to 1."""
        return self.config.share_done(self.step, self.tokens, self.epochs, self.seconds)

    @property
    def epochs(self) -> float:
        """How often the data was read."""
        return self.step / self._sampler.windows

    @property
    def parameters(self) -> int:
        """Numbers that the model has."""
        return sum(weight.numel() for weight in self.model.parameters())

    @property
    def skipped(self) -> int:
        """Steps that were left out."""
        return self._guard.skipped

    def measure(self) -> HeldOut:
        """Pay for what is held out; keep the weights aside if they did best."""
        assert self._evaluation is not None
        phrases = None if self._phrases is None else self._phrases.module
        model = self._wrapped if phrases is None else self.model
        told = self._evaluation(model, self.model.config, self.device, phrases)
        if not math.isfinite(told.loss):
            self.diverged = self.best is None
        elif self.best is None or told.loss < self.best.loss:
            self.best, self.diverged = told, False
            if self.store is not None:
                self._save_best(CheckpointStore(self.store.directory / BEST, keep=1))
        return told

    def _train_step(self) -> PretrainStep:
        config, workers = self.config, self.workers
        rate = config.learning_rate(self.step, self.progress())
        set_rate(self.optimizer, rate)
        first = workers.rank * self._own_rows
        window = self._sampler.window(self.step, first, self._own_rows)
        self._check_ids(window)
        if self._sampler.begins_epoch(self.step):
            self._state = self._zeros(self._own_rows)
            if self._phrases is not None:
                self._phrases.streams.begin()
        count = workers.sum(torch.tensor(float((window.targets != IGNORED).sum()), device=self.device))
        nats, self._state = self._passes(window, workers.count / count)
        loss = float(workers.sum(nats) / count)
        norm = float(whole(torch.nn.utils.clip_grad_norm_(self._wrapped.parameters(), config.clip)))
        skipped = self._guard.refuses(loss, norm)
        if skipped:
            self._say(f"step {self.step + 1} is left out: its loss is {loss:.4g}, |grad| {norm:.4g}")
            self._state = self._zeros(self._own_rows)
        else:
            self.optimizer.step()
            self.tokens += int(count)
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return PretrainStep(self.step, loss, rate, norm, self.tokens, self.epochs, self.seconds, skipped)

    def _passes(self, window: WindowBatch, scale: Tensor) -> tuple[Tensor, RecurrentState]:
        """Add up the gradients of all rows, a batch at a time; return the sum of nats and the states."""
        batch, passes = self.config.batch, self.config.accumulate
        nats, states = torch.zeros((), device=self.device), []
        for at in range(passes):
            rows = slice(at * batch, (at + 1) * batch)
            state = self._state if passes == 1 else self._state.select(range(rows.start, rows.stop))
            with gradients(self._wrapped, shared=at == passes - 1):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16):
                    summed, after = self._pay(WindowBatch(*(ids[rows] for ids in window)), rows.start, state)
                (summed * scale).backward()
            nats += summed.detach()
            states.append(after.detach())
        return nats, states[0] if passes == 1 else RecurrentState.stack(states)

    def _pay(self, window: WindowBatch, first: int, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """Return the sum of nats of some rows, and the states after them."""
        if self._phrases is not None:
            merged = self._phrases.merged(self.step)[first:]
            nats, after, _ = self._forward(self._phrases.streams, first, window, merged, state)
            return nats, after
        return pay(self._forward, window, state, self.device)

    def _check_ids(self, window: WindowBatch) -> None:
        least, largest = int(window.inputs.min()), int(max(window.inputs.max(), window.targets.max()))
        rows = self.model.config.vocab_size
        if least < 0 or largest >= rows:
            raise DataError(
                f"the data holds the id {least if least < 0 else largest}, and the model has {rows} rows: "
                "give the vocabulary that the data was made with (--tokenizer)"
            )

    def _refuse_to_go_on(self, loss: float) -> None:
        if self._guard.exhausted:
            where = f"; step {self.step} is saved in {str(self.store.directory)!r}" if self.store else ""
            raise DataError(
                f"{PATIENCE} steps in a row had to be left out, the last with a loss of {loss:.4g}{where}: "
                "start again from an earlier checkpoint with a lower --lr, or look at the data there"
            )

    def _zeros(self, rows: int) -> RecurrentState:
        return RecurrentState.zeros(self.model.config, rows, device=self.device)

    # Saving and going on

    def save(self) -> Path | None:
        """Write a checkpoint of everything that decides what comes next; every process has to."""
        if self.store is None:
            return None
        store = self.store
        state = {name: value.float() for name, value in vars(self.workers.rows(self._state)).items()}
        tensors = {
            "model": weights(self.model),
            "optimizer": optimizer_state(self.model, self.optimizer),
            "state": state,
        }
        progress = {
            "tokens": self.tokens,
            "epochs": self.epochs,
            "guard": self._guard.state_dict(),
            "best": None if self.best is None else asdict(self.best),
        }
        documents = {**self._documents(), "progress": progress}
        if self._phrases is not None:
            tensors |= self._phrases.tensors(self.optimizer)
            documents |= self._phrases.documents()
        manifest = self._manifest("pretrain") | {"seconds": self.seconds}
        return self.workers.alone(
            lambda: store.save(self.step, tensors=tensors, documents=documents, manifest=manifest)
        )

    def _save_best(self, store: CheckpointStore) -> None:
        tensors = {"model": weights(self.model)}
        if self.hypernet is not None:
            tensors["hypernet"] = weights(self.hypernet)
        documents = {**self._documents(), "held_out": asdict(self.best) if self.best else None}
        self.workers.alone(
            lambda: store.save(
                self.step, tensors=tensors, documents=documents, manifest=self._manifest("pretrain-best")
            )
        )

    def _manifest(self, kind: str) -> dict[str, Any]:
        """Say what a checkpoint is, of what, and made on what: another may move the last bits."""
        return {
            "kind": kind,
            **self._identity,
            "device": str(self.device),
            "kernel": choose_backend(self.device, self.model.backend).backend,
            "processes": self.workers.count,
            "torch": torch.__version__,
        }

    def _documents(self) -> dict[str, Any]:
        rows = self._own_rows * self.workers.count
        data = {"sha256": self._data, "ids": self._sampler.total, "rows": rows}
        return {"config": asdict(self.config), "model": self.model.config.to_dict(), "data": data}

    def _check(self, saved: Checkpoint) -> None:
        """Refuse a run that this one would not go on with, but begin another."""
        saved.require(kind="pretrain")
        for name, value in self._identity.items():
            if saved.manifest.get(name, value) != value:
                raise UsageError(
                    f"the run to resume has another {name}: give the same --from and --tokenizer"
                )
        was, rows = saved.documents, self._own_rows * self.workers.count
        before, now = asdict(PretrainConfig()) | was["config"], asdict(self.config)
        for name in now.keys() - _MAY_CHANGE:
            if before.get(name) != now[name]:
                raise UsageError(
                    f"the run to resume has {option(name)} {before.get(name)!r}, not {now[name]!r}: "
                    "give the same"
                )
        if was["data"]["sha256"] != self._data:
            raise UsageError(
                f"the run to resume read other data, of {was['data']['ids']:,} ids, not these of "
                f"{self._sampler.total:,}: give the same data and --tokenizer"
            )
        if was["data"]["rows"] != rows:
            raise UsageError(
                f"the run to resume had {was['data']['rows']} rows a step, not {rows}: --batch times "
                "--accumulate times the processes must stay the same"
            )
        if was["model"] != self.model.config.to_dict():
            raise UsageError("the run to resume has a model of other sizes: give the same --from")

    def _restore(self, saved: Checkpoint) -> None:
        load_optimizer_state(self.model, self.optimizer, saved.tensors["optimizer"])
        state = RecurrentState(
            **{name: value.to(self.device) for name, value in saved.tensors["state"].items()}
        )
        self._state = self.workers.own(state) if self.workers.count > 1 else state
        if self._phrases is not None:
            self._phrases.load_state_dict(self.optimizer, saved.tensors, saved.documents)
        progress = saved.documents["progress"]
        self.step, self.seconds = saved.step, float(saved.manifest["seconds"])
        self.tokens = int(progress["tokens"])
        self._guard.load_state_dict(progress["guard"])
        self.best = HeldOut(**progress["best"]) if progress["best"] else None


def _evaluation(
    config: PretrainConfig, held: Documents | None, workers: Workers, text_bytes: int | None
) -> Evaluation | None:
    if held is None or not len(held.lengths):
        return None
    return Evaluation(held, rows=config.batch, context=config.ctx, workers=workers, text_bytes=text_bytes)
