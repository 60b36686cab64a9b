"""The loop over any iterable of traces: predict, pay, learn.

`StreamTrainer.run` is the whole loop; below it is what a run saves, resumes and reports. It knows neither
sources nor the screen: it takes traces and calls a listener after each step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import torch

from sttx_core.errors import UsageError
from sttx_core.eventlog import EventLog
from sttx_core.pairs import PairMaker
from sttx_core.phrases import PhraseConfig
from sttx_core.traces import Trace
from sttx_train.files import sha256_of
from sttx_train.formats import LoadedModel, load_state
from sttx_train.online import LearnerConfig, StepReport, Window
from sttx_train.online.sharing import require_same, share_steps
from sttx_train.predict import Predictor
from sttx_train.predict.learned import check_origin, find_learned
from sttx_train.run_folder import RunFolder, require_same_run
from sttx_train.stream.bank import bank_of
from sttx_train.stream.batching import READ_AHEAD, settle_batch
from sttx_train.stream.config import StreamConfig
from sttx_train.stream.identity import (
    as_options,
    identity_of,
    require_consistent,
    require_same_options,
    saved_batch,
)
from sttx_train.stream.phrase_list import phrase_list
from sttx_train.stream.schedule import Schedule
from sttx_train.stream.totals import Progress, Totals, finite, ratio
from sttx_train.stream.windows import TraceWindows
from sttx_train.workers import Workers

_SAVE = "save"
TIME_FIELDS = ("seconds", "tokens_per_second", "bytes_per_second", "memory_mb")
"""Metrics that differ between two runs that are otherwise equal."""


class StreamTrainer:
    """Streams traces through a model that learns from them.

    Args:
        loaded: the model and its vocabulary.
        learning: how the learner learns.
        config: how the stream is cut and saved.
        directory: the run folder; nothing is written when None.
        phrase_config: how phrases are found.
        resume: continue the run in ``directory``.
        state: the file of a tuned state to start from.
        history: whether the stream ends by itself; then it is read ahead for steps of several windows.
        workers: the processes that share each step. Every one makes a trainer and runs it; the first reads
            the stream, reports and saves.

    Attributes:
        config: how the stream is cut and saved, with the number of windows of a step.
        batch_reason: why it is that number.
        predictor: who pays and learns.
        learner: the part of it that learns.
        folder: the run folder; None without a directory.
        taken: number of traces taken so far, by origin.
        cursor: how far the source was read at the last checkpoint; None if the source does not say.
        totals: what was paid so far.
        log: event log of the run's start, checkpoints and end; off unless ``STTX_LOG_DIR`` names a folder.

    Raises:
        UsageError: the folder holds another run, or the run to resume was made with other options.
        CheckpointError: there is no run to resume, or it is damaged.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        learning: LearnerConfig | None = None,
        config: StreamConfig | None = None,
        *,
        directory: Path | None = None,
        phrase_config: PhraseConfig | None = None,
        resume: bool = False,
        state: Path | None = None,
        history: bool = False,
        workers: Workers | None = None,
    ) -> None:
        self.loaded, self.workers = loaded, workers or Workers()
        self.learning, config = learning or LearnerConfig(), config or StreamConfig()
        folder = RunFolder(directory, kind="stream", keep=config.keep) if directory else None
        saved = saved_batch(folder) if folder and resume else None
        count = self.workers.count
        self.config, self.batch_reason = settle_batch(config, history=history, processes=count, saved=saved)
        self.windows = TraceWindows(
            loaded.tokenizer,
            size=self.config.window,
            batch=int(self.config.batch),
            documents=self.learning.max_documents,
            ahead=READ_AHEAD if history else 0,
        )
        self.predictor = self._predictor(phrase_config)
        self.learner = self.predictor.learner
        self._schedule = Schedule(self.config, self.learner)
        self._state_sha256 = None if state is None else self._start_from(state)
        if self._schedule.load_from is not None and not resume:
            self._go_on_from(self._schedule.load_from, state)
        self.folder = folder if self.workers.is_first else None
        self.pairs = PairMaker() if self.config.api_pairs else None
        self.taken: dict[str, int] = {}
        self.cursor: Any = None
        self._read_cursor: Callable[[], Any] | None = None
        self.totals = Totals()
        self.log = EventLog("train")
        self._stopping = False
        self._saved_step: int | None = None
        if resume:
            self._resume(folder)
        elif self.folder is not None:
            self.folder.expect(resume=False)
        require_same_options(self.workers, self._identity())

    def _predictor(self, phrase_config: PhraseConfig | None) -> Predictor:
        """Make who pays and learns, with a bank of states and other processes if the run has them."""
        predictor = Predictor(
            self.loaded,
            experts=self.config.experts == "on",
            learning=self.learning,
            phrase_config=phrase_config,
            window=self.config.window,
        )
        predictor.learner.carried.bank = bank_of(self.config, self.learning)
        if self.workers.count > 1:
            share_steps(predictor.learner, self.workers)
        return predictor

    @property
    def checkpoint(self) -> Path | None:
        """The newest checkpoint of this run; None before the first."""
        return self.folder.checkpoint if self.folder else None

    # -- the loop ------------------------------------------------------------------------------------------

    def run(
        self,
        traces: Iterable[Trace],
        on_step: Callable[[Progress], None] | None = None,
        *,
        cursor: Callable[[], Any] | None = None,
        save_empty: bool = True,
    ) -> Totals:
        """Run until the stream ends, the steps are done or :meth:`stop` is called; then save.

        ``predictor.step`` predicts the windows, pays for them and learns from them, in this order.

        Args:
            traces: the stream; a resumed run gets the traces after those that it took before.
            on_step: called after every step.
            cursor: returns, JSON-able, how far the source was read; saved with each checkpoint.
            save_empty: save also a run whose stream ended before any text came.

        Raises:
            ModelError: the loss is not finite; earlier checkpoints stay.
            CheckpointError: the metrics or a checkpoint cannot be written.
        """
        if not self.workers.is_first:
            return self._follow()
        self._read_cursor = cursor
        self.log.write("started", step=self.totals.steps, **self._identity())
        for windows in self._batches(traces):
            started = time.monotonic()
            report = self._learn(self.workers.tell(windows))
            metrics = self._metrics(report, time.monotonic() - started)
            if self.folder is not None:
                self.folder.append_metrics(metrics)
            if on_step is not None:
                on_step(Progress(self.totals, report, metrics))
            if self._is_done():
                break
            every = self.config.checkpoint_every
            if every and self.totals.steps % every == 0:
                self.save()
        if save_empty or self.totals.steps or self._stopping:
            self.save()
        self.workers.tell(None)
        self.log.write("ended", **self.report())
        return self.totals

    def _learn(self, windows: list[Window]) -> StepReport:
        self.learner.how = self._schedule.how(self.totals)
        report = self.predictor.step(windows)
        self.totals.add(report.score, len(windows))
        return report

    def _follow(self) -> Totals:
        """Share the steps and checkpoints of the first process until it ends the run."""
        while (order := self.workers.tell()) is not None:
            if order == _SAVE:
                require_same(self.learner)
                self.learner.carried.state_dict()
            else:
                self._learn(order)
        return self.totals

    def stop(self) -> None:
        """Make :meth:`run` end after the current step; safe to call from a signal handler."""
        self._stopping = True

    def _batches(self, traces: Iterable[Trace]) -> Iterator[list[Window]]:
        """Yield batches of windows: first those that a resumed run had cut already, at the end the rest.

        The rest is yielded only if the stream ends by itself, not if :meth:`stop` ends the run.
        """
        if self._is_done():
            return
        while (windows := self.windows.take()) is not None:
            yield windows
        for trace in traces:
            self.taken[trace.meta.origin] = self.taken.get(trace.meta.origin, 0) + 1
            self.windows.add(self.pairs.pair(trace) if self.pairs else trace)
            if self._stopping:
                return
            while (windows := self.windows.take()) is not None:
                yield windows
        while not self._stopping and (windows := self.windows.flush()) is not None:
            yield windows

    def _is_done(self) -> bool:
        return self._stopping or bool(self.config.steps and self.totals.steps >= self.config.steps)

    def _metrics(self, report: StepReport, seconds: float) -> dict[str, Any]:
        """Return the metrics of a step; ``memory_mb`` is the resident memory now, in 10^6 bytes."""
        score, totals = report.score, self.totals
        return {
            "step": totals.steps,
            "bpb": {
                "now": ratio(score.bits, score.bytes),
                "now_network": ratio(score.network_bits, score.bytes),
                "now_frozen": ratio(score.frozen_bits, score.bytes),
                **totals.bpb(frozen=self.learning.frozen),
            },
            "bytes": totals.bytes,
            "tokens": totals.tokens,
            "model_steps": totals.model_steps,
            "loss": finite(report.loss),
            "grad_norm": finite(report.grad_norm),
            "grad_s0": finite(report.grad_s0),
            "norm_s0": finite(report.norm_s0),
            "phrases_on": score.phrases_on,
            "phrases": len(self.learner.table),
            "replay": len(self.learner.replay),
            "replayed": report.replayed,
            "skipped_steps": self.learner.skipped_steps,
            "seconds": seconds,
            "tokens_per_second": score.tokens / seconds,
            "bytes_per_second": score.bytes / seconds,
            "memory_mb": psutil.Process().memory_info().rss / 1e6,
        }

    # -- saving and resuming -------------------------------------------------------------------------------

    def save(self) -> Path | None:
        """Write a checkpoint of everything that decides what comes next; return None without a folder."""
        steps = self.totals.steps
        if self.folder is None or self._saved_step == steps:
            return self.checkpoint
        if self._read_cursor is not None:
            self.cursor = self._read_cursor()
        self.workers.tell(_SAVE)
        require_same(self.learner)
        learner = self.learner.state_dict()
        self.folder.save(
            steps,
            tensors=learner["tensors"],
            documents={
                **learner["documents"],
                "stream": {
                    "taken": self.taken,
                    "windows": self.windows.state_dict(),
                    "pairs": self.pairs.state_dict() if self.pairs else None,
                    "totals": asdict(self.totals),
                },
                "source": {"cursor": self.cursor},
                "report": self.report(),
                "phrase_list": phrase_list(self.learner.table, self.loaded.tokenizer),
            },
            manifest=self._identity(),
        )
        self._saved_step = steps
        self.log.write("saved", step=steps, checkpoint=str(self.checkpoint))
        return self.checkpoint

    def _resume(self, folder: RunFolder | None) -> None:
        if folder is None:
            raise UsageError("--resume needs the --checkpoint-dir of the run to continue")
        saved = folder.load()
        require_same_run(saved.path, as_options(saved.manifest), as_options(self._identity()))
        stream = saved.documents["stream"]
        require_consistent(saved, pairs=self.pairs is not None, window=self.config.window)
        self.learner.load_state_dict({"tensors": saved.tensors, "documents": saved.documents})
        self.windows.load_state_dict(stream["windows"])
        if self.pairs is not None:
            self.pairs.load_state_dict(stream["pairs"])
        totals = stream["totals"]
        self.totals = Totals(**{"network_bits": totals["bits"], **totals})  # older runs had no experts
        self.taken = dict(stream["taken"])
        self.cursor = saved.documents["source"]["cursor"]
        if self.folder is not None:
            self.folder.resume_from(saved)
        self._saved_step = saved.step

    def _start_from(self, state: Path) -> str:
        """Start from the tuned state in a file; return the file's hash.

        Raises:
            UsageError: this run does not learn a state, or the file's is of another vocabulary.
            ModelError: the file is not a tuned state, or one of another shape.
        """
        if "state" not in self.learning.scope or self.learning.inject == "none":
            raise UsageError("--state would have no effect: this run learns no state; leave it out")
        tuned = load_state(state, config=self.loaded.model.config)
        check_origin(state, tuned, self.loaded, used=self.learning.inject)
        with torch.no_grad():
            self.learner.s0.copy_(tuned.s0)
        return sha256_of([state])

    def _go_on_from(self, path: str, state: Path | None) -> None:
        """Start with what another run learned, and its optimizer, as the policy says.

        Raises:
            UsageError: it was learned with another model or scope, is a tuned state, or there is a state too.
            CheckpointError: there is nothing, or it is damaged.
        """
        if state is not None:
            raise UsageError("--state and the policy's load_from both say what to start from: leave out one")
        found = find_learned(path, self.loaded)
        if found.state is None:
            raise UsageError(f"{path!r} is a tuned state, without an optimizer: give it as --state")
        self.learner.go_on_from(found.state)

    def _identity(self) -> dict[str, Any]:
        """Return what a checkpoint records about this run."""
        return {
            **identity_of(self.loaded, self.learning, self.config),
            "phrase_config": asdict(self.learner.table.config),
            **({} if self._state_sha256 is None else {"state_sha256": self._state_sha256}),
            "processes": self.workers.count,
        }

    # -- reporting -----------------------------------------------------------------------------------------

    def report(self) -> dict[str, Any]:
        """Return the run as one JSON-able object: what it cost, what was gained, what was learned."""
        learner, sizes, totals = self.learner, self.loaded.model.config, self.totals
        stats, bank = learner.table.stats, learner.carried.bank
        return {
            "steps": totals.steps,
            "windows": totals.windows,
            "bytes": totals.bytes,
            "tokens": totals.tokens,
            "model_steps": totals.model_steps,
            "bpb": totals.bpb(frozen=self.learning.frozen),
            "phrases": {
                "mode": self.learning.phrases,
                "on": learner.gate.kept,
                "decided": learner.gate.decided,
                "live": len(learner.table),
                "merges": stats.merges,
                "promotions": stats.promotions,
                "evictions": stats.evictions,
                "steps_saved": totals.tokens - totals.model_steps,
            },
            "replay": {"size": len(learner.replay), "draws": learner.replay.draws},
            "sessions": {"carried": len(learner.carried), "evictions": learner.carried.evictions},
            **({"bank": bank.report()} if bank else {}),
            "skipped_steps": learner.skipped_steps,
            "scope": list(self.learning.scope),
            "norm_s0": finite(float(learner.s0.detach().norm())),
            "trainable_parameters": sum(p.numel() for p in learner.trainable().values()),
            "model": {
                "id": self.loaded.id,
                "sha256": self.loaded.sha256,
                "hidden_size": sizes.hidden_size,
                "num_layers": sizes.num_layers,
                "vocab_size": sizes.vocab_size,
            },
            "device": str(self.loaded.model.device),
            "dtype": str(self.loaded.model.dtype).removeprefix("torch."),
            "kernel": self.loaded.kernel.backend,
            "kernel_reason": self.loaded.kernel.reason,
            "checkpoint": str(self.checkpoint) if self.checkpoint else None,
        }
