"""The training loop: all weights of a model on documents of ids. Knows neither text nor traces.

Each row of a batch is a stream of documents read in order. Its state is carried from window to window and
starts again with each document, as when the model is used. How the rows are divided among processes and
passes changes only the order in which floats are added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import Tensor, nn

from sttx_core.errors import DataError
from sttx_core.hypernet import HyperNetwork
from sttx_core.saved_state import damaged
from sttx_train.architectures import build_model
from sttx_train.checkpoint.store import Checkpoint
from sttx_train.data.documents import fingerprint
from sttx_train.data.sampling import IGNORED, Sampler, WindowBatch
from sttx_train.pretrain.config import PretrainConfig
from sttx_train.pretrain.evaluation import Validation, evaluation_of, pay
from sttx_train.pretrain.identity import require_same_pretraining
from sttx_train.pretrain.meta import pay_after_step
from sttx_train.pretrain.optimizer import (
    load_optimizer_state,
    make_optimizer,
    optimizer_state,
    set_rate,
    weights,
    whole,
)
from sttx_train.pretrain.parallel import gradients, split_by_fsdp, wrap
from sttx_train.pretrain.phrases import PhraseTraining
from sttx_train.pretrain.spike_guard import PATIENCE, SpikeGuard
from sttx_train.pretrain.start import StartingModel, TrainingData, model_to_train, training_kernel
from sttx_train.run_folder import RunFolder
from sttx_train.rwkv7 import RecurrentState
from sttx_train.rwkv7.stored import check_places
from sttx_train.saved_tensors import check_tensors
from sttx_train.workers import Workers


@dataclass(frozen=True)
class PretrainStep:
    """The result of one step.

    Attributes:
        step: its number, from 1.
        loss: nats per token, before the step.
        lr: learning rate.
        grad_norm: norm of the gradient, before clipping.
        tokens: tokens trained on so far.
        epochs: how often the data was read so far.
        seconds: training time so far.
        skipped: whether the step was skipped: the loss was not finite, or a spike.
        validation: measured after the step; None at most steps.
    """

    step: int
    loss: float
    lr: float
    grad_norm: float
    tokens: int
    epochs: float
    seconds: float
    skipped: bool = False
    validation: Validation | None = None

    def row(self) -> dict[str, Any]:
        """Return the metrics of the step by name, without its number and without what was not measured."""
        row = asdict(self) | (self.validation.row() if self.validation else {})
        return {
            name: value
            for name, value in row.items()
            if name not in ("step", "validation") and value is not None
        }


class Trainer:
    """Trains a model on documents; ``for step in trainer.run(): …`` drives it.

    Args:
        config: how to train; its ``vocab_size`` is that of the documents.
        data: the documents.
        start: the model to continue; a new model when None.
        folder: the run folder; nothing is written when None.
        resume: continue the run in ``folder``.
        workers: the processes of the run, and this one's device; when None, one process on the CPU.
        say: called with a sentence for the user.

    Raises:
        UsageError: the run to resume has other data, sizes or settings.
        CheckpointError: there is no run to resume, or it is damaged.
        DataError: there is nothing to train on.
    """

    def __init__(
        self,
        config: PretrainConfig,
        data: TrainingData,
        *,
        start: StartingModel | None = None,
        folder: RunFolder | None = None,
        resume: bool = False,
        workers: Workers | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        assert folder is not None or not resume, "only a run with a folder can be resumed"
        self.config, self.data, self.start, self.folder = config, data, start, folder
        self.workers = workers or Workers()
        self.device = self.workers.device
        self._say = say or (lambda text: None)
        self.step, self.tokens, self.seconds = 0, 0, 0.0
        self.best: Validation | None = None
        self.diverged = False
        self._own_rows = config.accumulate * config.batch
        self._all_rows = self._own_rows * self.workers.count
        self._sampler = Sampler(data.train, rows=self._all_rows, context=config.ctx, seed=config.seed)
        self._fingerprint = fingerprint(data.train)
        self._evaluation = evaluation_of(config, data, self.workers)
        self._spike_guard = SpikeGuard(config.spike)
        self.model = model_to_train(config, start and start.model).to(self.device)
        self.model.recompute = config.recompute
        plain = self.model.config.plain_recurrence
        self.model.backend = training_kernel(self.device, compile=config.compile, plain=plain).backend
        self._state = self._zeros(self._own_rows)
        self._phrases: PhraseTraining | None = None
        if config.phrase_prob:
            self._phrases = PhraseTraining(
                config, self.model, start and start.hypernet, self.workers, self._own_rows, data.train.eot_id
            )
        saved = folder.load() if folder is not None and resume else None
        if saved is not None:
            require_same_pretraining(saved, self._manifest(), self._documents())
            check_tensors("model.safetensors", saved.tensors["model"], self.model.state_dict())
            self.model.load_state_dict(saved.tensors["model"])
            check_places(self.model, str(saved.path))
        self._wrapped = wrap(self._module, self.workers, config.parallel)
        self._forward = torch.compile(self._wrapped) if config.compile else self._wrapped
        self.optimizer = make_optimizer(self.model, config, self.hypernet)
        if saved is not None:
            self._restore(saved)

    def run(self) -> Iterator[PretrainStep]:
        """Train until the configured end; yield after every step, save on the way and at the end.

        Raises:
            DataError: several steps in a row were skipped; a checkpoint was saved.
            CheckpointError: the metrics or a checkpoint cannot be written.
        """
        config = self.config
        started = monotonic() - self.seconds
        while self.progress() < 1.0:
            result = self._train_step()
            self.seconds = self.workers.same(monotonic() - started)
            last = self.progress() >= 1.0
            if self._evaluation is not None and (last or self.step % config.eval_every == 0):
                result = replace(result, validation=self.measure())
            result = replace(result, seconds=monotonic() - started)
            if self.folder is not None and self.workers.is_first:
                self.folder.append_metrics({"step": result.step, **result.row()})
            if last or self._spike_guard.exhausted or self.step % config.checkpoint_every == 0:
                self.save()
            yield result
            self._stop_if_exhausted(result.loss)
        self.gather()

    def gather(self) -> None:
        """End the run: hold the whole model in this process again. Every process must call this."""
        if split_by_fsdp(self.model) is not None:
            model_weights, moments = weights(self.model), optimizer_state(self.model, self.optimizer)
            self.model = build_model(self.model.config, initialize=False).to(self.device)
            self.model.load_state_dict(model_weights)
            self.optimizer = make_optimizer(self.model, self.config)
            load_optimizer_state(self.model, self.optimizer, moments)
        self._wrapped = self._forward = self._module

    @property
    def _module(self) -> nn.Module:
        """What a step calls and trains: the model, or the model and its hypernetwork."""
        return self.model if self._phrases is None else self._phrases.module

    @property
    def hypernet(self) -> HyperNetwork | None:
        """The hypernetwork; None if ``config.phrase_prob`` is 0."""
        return None if self._phrases is None else self._phrases.module.hypernet

    def progress(self) -> float:
        """Return the share of the run that is done, from 0 to 1."""
        return self.config.share_done(self.step, self.tokens, self.epochs, self.seconds)

    @property
    def epochs(self) -> float:
        """How often the data was read."""
        return self.step / self._sampler.windows_per_epoch

    @property
    def parameters(self) -> int:
        """Number of the model's parameters."""
        return sum(weight.numel() for weight in self.model.parameters())

    @property
    def skipped(self) -> int:
        """Number of skipped steps."""
        return self._spike_guard.skipped

    def measure(self) -> Validation:
        """Measure the validation loss; save the weights in ``best`` if it is the lowest so far."""
        assert self._evaluation is not None
        phrases = None if self._phrases is None else self._phrases.module
        model = self._wrapped if phrases is None else self.model
        result = self._evaluation(model, self.model.config, self.device, phrases)
        if not math.isfinite(result.loss):
            self.diverged = self.best is None
        elif self.best is None or result.loss < self.best.loss:
            self.best, self.diverged = result, False
            self._save_best()
        return result

    def _train_step(self) -> PretrainStep:
        config, workers = self.config, self.workers
        rate = config.learning_rate(self.step, self.progress())
        set_rate(self.optimizer, rate)
        window = self._sampler.window(self.step, workers.rank * self._own_rows, self._own_rows)
        self._check_ids(window)
        if self._sampler.begins_epoch(self.step):
            self._state = self._zeros(self._own_rows)
            if self._phrases is not None:
                self._phrases.streams.reset()
        count = workers.sum(torch.tensor(float((window.targets != IGNORED).sum()), device=self.device))
        # Processes average their gradients, so each scales its sum of nats by their number.
        nats, self._state = self._passes(window, workers.count / count)
        loss = float(workers.sum(nats) / count)
        norm = float(whole(torch.nn.utils.clip_grad_norm_(self._wrapped.parameters(), config.clip)))
        skipped = self._spike_guard.skips(loss, norm)
        if skipped:
            self._say(f"step {self.step + 1} is skipped: its loss is {loss:.4g}, its |grad| {norm:.4g}")
            self._state = self._zeros(self._own_rows)  # they may not be finite
        else:
            self.optimizer.step()
            self.tokens += int(count)
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return PretrainStep(self.step, loss, rate, norm, self.tokens, self.epochs, self.seconds, skipped)

    def _passes(self, window: WindowBatch, scale: Tensor) -> tuple[Tensor, RecurrentState]:
        """Accumulate the gradients of all rows, a batch at a time; return the sum of nats and the states."""
        batch, passes = self.config.batch, self.config.accumulate
        nats, states = torch.zeros((), device=self.device), []
        for number in range(passes):
            rows = slice(number * batch, (number + 1) * batch)
            state = self._state if passes == 1 else self._state.select(range(rows.start, rows.stop))
            with gradients(self._wrapped, shared=number == passes - 1):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=bool(self.config.bf16)):
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
        if self.config.meta:
            rate, weight = self.config.meta_lr, self.config.meta_weight
            eot_id = self.data.train.eot_id
            return pay_after_step(self.model, window, state, eot_id, rate=rate, first_weight=weight)
        return pay(self._forward, window, state, self.device, self.data.train.eot_id)

    def _check_ids(self, window: WindowBatch) -> None:
        least, largest = int(window.inputs.min()), int(max(window.inputs.max(), window.targets.max()))
        rows = self.model.config.vocab_size
        if least < 0 or largest >= rows:
            raise DataError(
                f"the data holds the id {least if least < 0 else largest}, and the model has {rows} rows: "
                "give the vocabulary that the data was made with (--tokenizer)"
            )

    def _stop_if_exhausted(self, loss: float) -> None:
        if self._spike_guard.exhausted:
            where = f"; step {self.step} is saved in {str(self.folder.path)!r}" if self.folder else ""
            raise DataError(
                f"{PATIENCE} steps in a row were skipped, the last with a loss of {loss:.4g}{where}: start "
                "again from an earlier checkpoint with a lower --lr, or check the data at this step"
            )

    def _zeros(self, rows: int) -> RecurrentState:
        """Return the states of rows at the start of a document."""
        return RecurrentState.zeros(self.model.config, rows, device=self.device)

    # -- saving and resuming -------------------------------------------------------------------------------

    def save(self) -> Path | None:
        """Write a checkpoint of everything that decides what comes next. Every process must call this."""
        if self.folder is None:
            return None
        folder = self.folder
        state = {name: value.float() for name, value in self.workers.rows(self._state).tensors().items()}
        tensors = {
            "model": weights(self.model),
            "optimizer": optimizer_state(self.model, self.optimizer),
            "state": state,
        }
        progress = {
            "tokens": self.tokens,
            "epochs": self.epochs,
            "guard": self._spike_guard.state_dict(),
            "best": None if self.best is None else self.best.saved(),
        }
        documents = {**self._documents(), "progress": progress}
        if self._phrases is not None:
            phrases = self._phrases.state_dict()
            tensors |= phrases["tensors"]
            tensors["hypernet_optimizer"] = optimizer_state(self._phrases.module.hypernet, self.optimizer)
            documents |= phrases["documents"]
        manifest = self._manifest() | {"seconds": self.seconds}
        return self.workers.alone(
            lambda: folder.save(self.step, tensors=tensors, documents=documents, manifest=manifest)
        )

    def _save_best(self) -> None:
        if self.folder is None:
            return
        folder, tensors = self.folder, {"model": weights(self.model)}
        if self.hypernet is not None:
            tensors["hypernet"] = weights(self.hypernet)
        documents, manifest = (
            {**self._documents(), "validation": self.best.saved() if self.best else None},
            self._manifest(),
        )
        self.workers.alone(
            lambda: folder.save_best(self.step, tensors=tensors, documents=documents, manifest=manifest)
        )

    def _manifest(self) -> dict[str, Any]:
        """Return what the run depends on besides its options and data.

        The device, the kernel, the processes, the threads and torch may change the last bits of a result.
        """
        return {
            "tokenizer_sha256": self.data.tokenizer_sha256,
            "base_sha256": self.start and self.start.sha256,
            "device": str(self.device),
            "kernel": self.model.backend,
            "processes": self.workers.count,
            "torch_threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }

    def _documents(self) -> dict[str, Any]:
        """Return the options, the model's sizes and the data of the run, by file of a checkpoint."""
        data = {"sha256": self._fingerprint, "ids": self._sampler.total, "rows": self._all_rows}
        return {"config": asdict(self.config), "model": self.model.config.to_dict(), "data": data}

    def _require_phrases(self, saved: Checkpoint) -> None:
        """Refuse a checkpoint that lacks what phrases need, or has it although the run has no phrases."""
        needed = {"hypernet", "hypernet_optimizer", "phrases.json"} if self._phrases is not None else set()
        given = {*saved.tensors, *(f"{name}.json" for name in saved.documents)}
        if given & {"hypernet", "hypernet_optimizer", "phrases.json"} != needed:
            raise damaged("phrases", "some of its files are missing, or too many")

    def _restore(self, saved: Checkpoint) -> None:
        """Continue from a checkpoint, whose weights are loaded already, and cut the metrics back to it."""
        assert self.folder is not None
        load_optimizer_state(self.model, self.optimizer, saved.tensors["optimizer"])
        like = RecurrentState.zeros(self.model.config, self._all_rows, device="meta")
        check_tensors("state.safetensors", saved.tensors["state"], like.tensors())
        tensors = {name: value.to(self.device) for name, value in saved.tensors["state"].items()}
        state = RecurrentState(**tensors)
        self._state = self.workers.own(state) if self.workers.count > 1 else state
        self._require_phrases(saved)
        if self._phrases is not None:
            self._phrases.load_state_dict({"tensors": saved.tensors, "documents": saved.documents})
            moments = saved.tensors["hypernet_optimizer"]
            load_optimizer_state(self._phrases.module.hypernet, self.optimizer, moments)
        progress = saved.documents["progress"]
        self.step, self.seconds = saved.step, float(saved.manifest["seconds"])
        self.tokens = int(progress["tokens"])
        self._spike_guard.load_state_dict(progress["guard"])
        self.best = Validation(**progress["best"]) if progress["best"] else None
        if self.workers.is_first:
            self.folder.resume_from(saved)
