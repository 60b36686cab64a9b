"""`Tuner`: examples in, a state that other programs start from out. Knows neither files of data nor screens.

The state is the `S0` of an `OnlineLearner` that adds it at a document's start and learns nothing else. Every
example is a document: it is read whole from S0, and its gradient reaches S0 through all of it.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sttx_core.errors import ModelError, UsageError
from sttx_core.saved_state import damaged
from sttx_train.byte_lengths import token_byte_lengths
from sttx_train.devices import choose_products
from sttx_train.formats import LoadedModel, TunedState
from sttx_train.formats.state import OPENING, origin
from sttx_train.online import LearnerConfig, OnlineLearner
from sttx_train.online.optimizer import load_optimizer_tensors, optimizer_tensors
from sttx_train.run_folder import ExtraWriter, RunFolder, Writer, open_writers, require_installed
from sttx_train.saved_tensors import check_moments, check_tensors
from sttx_train.tune.config import TuneConfig
from sttx_train.tune.examples import Example, fingerprint
from sttx_train.tune.order import epoch_order, steps_of_epoch
from sttx_train.tune.pricing import bits_per_byte, nats_of
from sttx_train.tune.report import TuneReport, TuneStep
from sttx_train.tune.same_run import require_same

_KEEP = 2  # checkpoints
_DIVERGED = (
    "the loss is not finite: the weights are damaged or --lr is too high; start again with a lower one"
)


class Tuner:
    """Tunes a state on examples.

    Args:
        loaded: the model, which stays as it is.
        config: how to tune.
        train: the examples to learn.
        validation: the examples to measure; the state with the fewest bits is kept. May be empty.
        directory: the run folder; nothing is written when None.
        start: the state to start from; zero when None.
        resume: continue the run in ``directory``.
        log: where the metrics go beside ``metrics.jsonl``.
        say: called with a sentence for the user.

    Raises:
        UsageError: the folder holds another run or none to resume, the run to resume was made with other
            options or examples, or a package that ``log`` needs is not installed.
        CheckpointError: the run to resume is damaged.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        config: TuneConfig,
        train: Sequence[Example],
        validation: Sequence[Example] = (),
        *,
        directory: Path | None = None,
        start: TunedState | None = None,
        resume: bool = False,
        log: Sequence[ExtraWriter] = (),
        say: Callable[[str], None] | None = None,
    ) -> None:
        if directory is None and (resume or log):
            raise UsageError("a run without a folder cannot be resumed or logged: give a directory")
        require_installed(log)
        self.loaded, self.config, self.train, self.validation = loaded, config, train, validation
        self.folder = None if directory is None else RunFolder(directory, kind="tune", keep=_KEEP)
        if self.folder is not None:
            self.folder.expect(resume=resume)
        self.learner = _learner(loaded, config)
        products = choose_products(self.learner.s0.device, config.bf16)
        self.bf16 = products.bf16 and loaded.model.dtype == torch.float32
        (say or (lambda text: None))(
            f"products: {'bfloat16' if self.bf16 else 'as the weights'} ({products.reason})"
        )
        if start is not None:
            with torch.no_grad():
                self.learner.s0.copy_(start.s0)
        self._log = tuple(log)
        self._rows = config.batch * config.accumulate
        self._per_epoch = steps_of_epoch(len(train), self._rows)
        self._order: tuple[int, list[list[int]]] = (-1, [])
        self.step, self.tokens, self.seconds = 0, 0, 0.0
        self.before: float | None = None
        self.best, self.best_bpb, self.best_step = self.learner.s0.detach().clone(), math.nan, 0
        self._unimproved, self._saved_step = 0, -1
        self._identity = self._options(start)
        if resume:
            self._resume()

    @property
    def steps(self) -> int:
        """How many steps the run has if nothing stops it earlier."""
        most = self.config.epochs * self._per_epoch
        return min(most, self.config.steps) if self.config.steps else most

    @property
    def epochs(self) -> float:
        """How often the examples were read."""
        return self.step / self._per_epoch

    @property
    def exhausted(self) -> bool:
        """Whether too many measurements in a row did not beat the best one."""
        return bool(self.config.patience) and self._unimproved >= self.config.patience

    def tuned(self) -> TunedState:
        """Return the best state so far, the last one without validation examples, and its identity."""
        measured, loaded = bool(self.validation), self.loaded
        metadata = origin(
            model=loaded.id,
            model_sha256=loaded.sha256,
            vocabulary_sha256=loaded.tokenizer.sha256,
            inject="start",
            learned_by="sttx tune",
            steps=self.best_step if measured else self.step,
        )
        return TunedState(
            s0=self._tensors()["best"].clone(),
            metadata=metadata | {OPENING: "eot" if self.config.eot else "text"},
        )

    def run(
        self,
        on_step: Callable[[TuneStep], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> TuneReport:
        """Tune until the configured end, or until ``stop`` returns true after a step; then save.

        Raises:
            ModelError: the loss is not finite; earlier checkpoints stay.
            CheckpointError: the metrics or a checkpoint cannot be written.
        """
        ended = "done"
        with ExitStack() as stack:
            writers: list[Writer] = []
            if self.folder is not None:
                self.folder.start()
                opened = open_writers(
                    self._log,
                    self.folder.path,
                    step=self.step,
                    config=asdict(self.config),
                    project="sttx-tune",
                )
                writers = stack.enter_context(opened)
            for step in self._steps():
                for writer in writers:
                    writer.write(step.step, step.row())
                if on_step is not None:
                    on_step(step)
                if stop is not None and stop():
                    ended = "interrupted"
                    break
        if ended == "done" and self.exhausted and self.step < self.steps:
            ended = "patience"
        self.save()
        return self._report(ended)

    def measure(self) -> float:
        """Return the bits per byte of the validation examples; keep the state if they are the fewest.

        Raises:
            ModelError: they are not finite.
        """
        rows = 4 * self.config.batch
        bpb = bits_per_byte(self.learner, self.validation, rows=rows, bf16=self.bf16)
        if not math.isfinite(bpb) and any(example.bytes for example in self.validation):
            raise ModelError(_DIVERGED)
        if not bpb >= self.best_bpb:
            self.best, self.best_bpb, self.best_step = self.learner.s0.detach().clone(), bpb, self.step
            self._unimproved = 0
        else:
            self._unimproved += 1
        return bpb

    def _steps(self) -> Iterator[TuneStep]:
        started = time.monotonic() - self.seconds
        if self.validation and self.before is None:
            self.before = self.measure()
        every = self.config.eval_every or self._per_epoch
        while self.step < self.steps and not self.exhausted:
            facts = self._step()
            measured = None
            if self.validation and (self.step % every == 0 or self.step == self.steps):
                measured = self.measure()
            self.seconds = time.monotonic() - started
            step = TuneStep(**facts, seconds=self.seconds, validation_bpb=measured)
            if self.folder is not None:
                self.folder.append_metrics(step.row())
            if self.step % self.config.checkpoint_every == 0 or self.best_step == self.step:
                self.save()
            yield step

    def _step(self) -> dict[str, Any]:
        """Take one optimizer step; return what is known of it."""
        config, optimizer, learner = self.config, self.learner.optimizer, self.learner
        assert optimizer is not None
        rate = config.learning_rate(self.step, self.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        examples = [self.train[index] for index in self._examples_of(self.step)]
        paid = sum(sum(example.paid) for example in examples)
        nats = 0.0
        for start in range(0, len(examples), config.batch):
            summed = nats_of(learner, examples[start : start + config.batch], bf16=self.bf16).sum()
            (summed / paid).backward()
            nats += float(summed.detach())
        norm = float(nn.utils.clip_grad_norm_([learner.s0], config.clip))
        if not math.isfinite(nats) or not math.isfinite(norm):
            raise ModelError(_DIVERGED)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.tokens += sum(1 + len(example.ids) for example in examples)
        s0, size = learner.s0.detach(), sum(example.bytes for example in examples)
        return {
            "step": self.step,
            "epochs": self.epochs,
            "loss": nats / paid,
            "bpb": nats / math.log(2) / size if size else math.nan,
            "lr": rate,
            "grad_norm": norm,
            "norm_s0": float(s0.norm()),
            "std_s0": float(s0.std()),
            "tokens": self.tokens,
        }

    def _examples_of(self, step: int) -> list[int]:
        epoch, at = divmod(step, self._per_epoch)
        if self._order[0] != epoch:
            lengths = [len(example.ids) for example in self.train]
            self._order = (epoch, epoch_order(lengths, self._rows, seed=self.config.seed, epoch=epoch))
        return self._order[1][at]

    def _report(self, ended: str) -> TuneReport:
        return TuneReport(
            epochs=self.epochs,
            steps=self.step,
            ended=ended,
            examples=(len(self.train), len(self.validation)),
            before=self.before,
            after=self.best_bpb if self.validation else None,
            best_step=self.best_step if self.validation else self.step,
            seconds=self.seconds,
        )

    # -- saving and resuming -------------------------------------------------------------------------------

    def save(self) -> Path | None:
        """Write a checkpoint of everything that decides what comes next; return None without a folder."""
        if self.folder is None or self._saved_step == self.step:
            return None if self.folder is None else self.folder.checkpoint
        progress = {
            "tokens": self.tokens,
            "seconds": self.seconds,
            "before": _or_none(self.before),
            "best_bpb": _or_none(self.best_bpb),
            "best_step": self.best_step if self.validation else self.step,
            "unimproved": self._unimproved,
        }
        moments = optimizer_tensors(self.learner.optimizer, {"s0": self.learner.s0})
        self._saved_step = self.step
        return self.folder.save(
            self.step,
            tensors={"tuned": self._tensors(), "optimizer": moments},
            documents={"progress": progress},
            manifest=self._identity,
        )

    def _tensors(self) -> dict[str, Tensor]:
        return {
            "s0": self.learner.s0.detach(),
            "best": self.best if self.validation else self.learner.s0.detach(),
        }

    def _options(self, start: TunedState | None) -> dict[str, Any]:
        """Return what a checkpoint records about this run."""
        model = self.loaded.model
        return {
            "base_model": self.loaded.id,
            "base_sha256": self.loaded.sha256,
            "tokenizer_sha256": self.loaded.tokenizer.sha256,
            "tune_config": asdict(self.config),
            "data_sha256": fingerprint(self.train),
            "validation_sha256": fingerprint(self.validation),
            "start_sha256": _hash_of(self.learner.s0),  # nothing is learned yet
            "kernel": self.loaded.kernel.backend,
            "device": str(model.device),
            "dtype": str(model.dtype).removeprefix("torch."),
            "torch_threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }

    def _resume(self) -> None:
        assert self.folder is not None
        saved = self.folder.load()
        require_same(saved, self._identity)
        learner, parameters = self.learner, {"s0": self.learner.s0}
        check_tensors("tuned.safetensors", saved.tensors["tuned"], self._tensors())
        check_moments("optimizer.safetensors", saved.tensors["optimizer"], parameters)
        with torch.no_grad():
            learner.s0.copy_(saved.tensors["tuned"]["s0"])
        self.best = saved.tensors["tuned"]["best"].to(learner.s0.device)
        load_optimizer_tensors(learner.optimizer, parameters, saved.tensors["optimizer"])
        progress = saved.documents["progress"]
        if not progress["best_step"] <= saved.step <= self.config.epochs * self._per_epoch:
            raise damaged("progress", f"step {saved.step} is none of this run")
        self.step, self.tokens, self.seconds = saved.step, progress["tokens"], progress["seconds"]
        self.before, self.best_step = progress["before"], progress["best_step"]
        self.best_bpb = math.nan if progress["best_bpb"] is None else progress["best_bpb"]
        self._unimproved, self._saved_step = progress["unimproved"], saved.step
        self.folder.resume_from(saved)


def _learner(loaded: LoadedModel, config: TuneConfig) -> OnlineLearner:
    """Return a learner whose state is added at a document's start, and which learns nothing else."""
    learning = LearnerConfig(
        scope=("state",),
        inject="start",
        phrases="off",
        lr_state=config.lr,
        weight_decay=config.weight_decay,
        clip=config.clip,
        replay_rows=0,
        frozen=False,
    )
    lengths = token_byte_lengths(loaded.tokenizer)
    learner = OnlineLearner(loaded.model, lengths, learning, eot_id=loaded.tokenizer.eot_id)
    learner.model.recompute = config.recompute
    return learner


def _hash_of(s0: Tensor) -> str:
    """Return the SHA-256 of a state's numbers, as little-endian float32."""
    return hashlib.sha256(s0.detach().to("cpu", torch.float32).numpy().astype("<f4").tobytes()).hexdigest()


def _or_none(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
