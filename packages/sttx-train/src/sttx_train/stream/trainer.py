"""The loop, over any iterable of traces: predict, pay, learn; and what a run leaves behind.

Reads top to bottom: `StreamTrainer.run` is the whole of it. Knows no source and no screen: it takes traces,
and tells each step to whoever listens.
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from sttx_core.errors import CheckpointError, UsageError
from sttx_core.eventlog import EventLog
from sttx_core.pairs import PairMaker
from sttx_core.phrases import PhraseConfig
from sttx_core.traces import Trace
from sttx_train.checkpoint.store import CheckpointStore, require_equal
from sttx_train.figures import METRICS
from sttx_train.formats import LoadedModel
from sttx_train.online.learner import LearnerConfig, OnlineLearner, StepReport, Window
from sttx_train.online.persistence import learner_documents, learner_tensors, restore_learner
from sttx_train.stream.config import StreamConfig
from sttx_train.stream.phrase_list import phrase_list
from sttx_train.stream.totals import Totals, finite, ratio
from sttx_train.stream.windows import TraceWindows

_SHAPING = ("window", "batch", "api_pairs")  # of a stream's config: what a later run cannot change
TIME_FIELDS = ("seconds", "tokens_per_second", "bytes_per_second", "memory_mb")  # differ from run to run


@dataclass
class Progress:
    """One step as a listener sees it."""

    totals: Totals
    report: StepReport
    metrics: dict[str, Any] = field(default_factory=dict)


class StreamTrainer:
    """Streams traces through a model that learns from them.

    Args:
        loaded: the model and its vocabulary.
        learning: how the learner learns.
        config: how the stream is cut and saved.
        directory: checkpoints and ``metrics.jsonl`` go here; nothing is written when None.
        phrase_config: how phrases are found.
        resume: continue the run whose checkpoints are in ``directory``.

    Attributes:
        taken: traces taken in so far, by origin.
        cursor: where their source stood then, as it said itself; None when it says nothing.
        totals: what was paid so far.
        log: event log of the run's start, checkpoints and end; off unless ``STTX_LOG_DIR`` names a folder.
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
    ) -> None:
        self.loaded = loaded
        self.learning = learning or LearnerConfig()
        self.config = config or StreamConfig()
        tokenizer = loaded.tokenizer
        self.windows = TraceWindows(
            tokenizer,
            size=self.config.window,
            batch=self.config.batch,
            documents=self.learning.max_documents,
        )
        self.learner = OnlineLearner(
            loaded.model,
            self.windows.byte_lengths,
            self.learning,
            phrase_config=phrase_config,
            start_id=tokenizer.eot_id,
            hypernet=loaded.hypernet,
        )
        self.store = CheckpointStore(directory, keep=self.config.keep) if directory else None
        self.pairs = PairMaker() if self.config.api_pairs else None
        self.taken: dict[str, int] = {}
        self.cursor: Any = None
        self._where: Callable[[], Any] | None = None
        self.totals = Totals()
        self.checkpoint: Path | None = None
        self.log = EventLog("train")
        self._stopping = False
        if resume:
            self._resume()
        elif self.store is not None:
            self.store.expect(run=False)

    def run(
        self,
        traces: Iterable[Trace],
        on_step: Callable[[Progress], None] | None = None,
        *,
        cursor: Callable[[], Any] | None = None,
    ) -> Totals:
        """Follow the stream until it ends, the steps are done, or :meth:`stop` was called; then save.

        Args:
            traces: the stream; a later run is to be given what comes after those that this one took.
            on_step: told of every step.
            cursor: says, JSON-able, where the stream stands after the last trace taken; saved with each
                checkpoint.

        Raises:
            ModelError: a window's price is no number; what was saved before stays.
        """
        self._where = cursor
        self._make_folder()
        self.log.write("started", step=self.totals.steps, **self._identity())
        for windows in self._batches(traces):
            started = time.monotonic()
            report = self.learner.step(windows)
            self._account(windows, report)
            metrics = self._metrics(report, time.monotonic() - started)
            self._log(metrics)
            if on_step is not None:
                on_step(Progress(self.totals, report, metrics))
            every = self.config.checkpoint_every
            if self._done():
                break
            if every and self.totals.steps % every == 0:
                self.save()
        self.save()
        self.log.write("ended", **self.report())
        return self.totals

    def stop(self) -> None:
        """Ask a running :meth:`run` to end after the step at hand (from a signal handler, say)."""
        self._stopping = True

    def _batches(self, traces: Iterable[Trace]) -> Iterable[list[Window]]:
        """Yield batches of windows; what is left over is yielded when the stream ends of itself."""
        if self._done():
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

    def _done(self) -> bool:
        return self._stopping or bool(self.config.steps and self.totals.steps >= self.config.steps)

    def _account(self, windows: list[Window], report: StepReport) -> None:
        totals, score = self.totals, report.score
        totals.steps += 1
        totals.windows += len(windows)
        totals.bits += score.bits
        totals.frozen_bits += score.frozen_bits if self.learning.frozen else 0.0
        totals.bytes += score.bytes
        totals.tokens += score.tokens
        totals.model_steps += score.model_steps

    def _metrics(self, report: StepReport, seconds: float) -> dict[str, Any]:
        score, totals = report.score, self.totals
        return {
            "step": totals.steps,
            "bpb": {
                "now": ratio(score.bits, score.bytes),
                "now_frozen": ratio(score.frozen_bits, score.bytes),
                "paid": finite(totals.bpb_paid),
                "frozen": self._frozen(),
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
            "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }

    def _log(self, metrics: dict[str, Any]) -> None:
        if self.store is not None:
            with (self.store.directory / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(metrics, allow_nan=False) + "\n")

    # -- saving and resuming -------------------------------------------------------------------------------

    def save(self) -> Path | None:
        """Write a checkpoint of everything that decides what comes next; None when nothing is kept."""
        if self.store is None or (self.checkpoint and self.checkpoint.name == self._folder_name()):
            return self.checkpoint
        self._make_folder()
        metrics = self.store.directory / METRICS
        with metrics.open("rb") as file:
            os.fsync(file.fileno())
        if self._where is not None:
            self.cursor = self._where()
        self.checkpoint = self.store.save(
            self.totals.steps,
            tensors=learner_tensors(self.learner),
            documents={
                **learner_documents(self.learner),
                "stream": {
                    "taken": self.taken,
                    "windows": self.windows.state_dict(),
                    "pairs": self.pairs.state_dict() if self.pairs else None,
                    "totals": asdict(self.totals),
                    "metrics_bytes": metrics.stat().st_size,
                },
                "source": {"cursor": self.cursor},
                "report": self.report(),
                "phrase_list": phrase_list(self.learner.table, self.loaded.tokenizer),
            },
            manifest=self._identity(),
        )
        self.log.write("saved", step=self.totals.steps, checkpoint=str(self.checkpoint))
        return self.checkpoint

    def _make_folder(self) -> None:
        """Make the folder and metrics; lines of a run that died before its first checkpoint are not ours."""
        if self.store is None:
            return
        self.store.directory.mkdir(parents=True, exist_ok=True)
        if self.checkpoint is None and not self.totals.steps:
            (self.store.directory / METRICS).write_bytes(b"")

    def _folder_name(self) -> str:
        return f"step-{self.totals.steps:08d}"

    def _identity(self) -> dict[str, Any]:
        """Return what a later run must share with this one to continue it."""
        stream = {name: value for name, value in asdict(self.config).items() if name in _SHAPING}
        return {
            "kind": "stream",
            "base_model": self.loaded.id,
            "base_sha256": self.loaded.sha256,
            "tokenizer_sha256": self.loaded.tokenizer.sha256,
            "learning": asdict(self.learning),
            "phrase_config": asdict(self.learner.table.config),
            "stream_config": stream,
            "kernel": self.loaded.kernel.backend,
            "device": str(self.loaded.model.device),
            "dtype": str(self.loaded.model.dtype).removeprefix("torch."),
            "torch_threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }

    def _resume(self) -> None:
        if self.store is None:
            raise UsageError("--resume needs the --checkpoint-dir of the run to continue")
        saved = self.store.load()
        saved.require(kind="stream")
        made_with, options = _as_options(saved.manifest), _as_options(self._identity())
        require_equal(saved.path, made_with, dict.fromkeys(made_with) | options)
        restore_learner(self.learner, saved.tensors, saved.documents)
        stream = saved.documents["stream"]
        self.windows.load_state_dict(stream["windows"])
        if self.pairs is not None:
            self.pairs.load_state_dict(stream["pairs"])
        self.totals = Totals(**stream["totals"])
        self.taken = dict(stream["taken"])
        self.cursor = saved.documents["source"]["cursor"]
        self.checkpoint = saved.path
        metrics = self.store.directory / METRICS
        if not metrics.exists() or metrics.stat().st_size < stream["metrics_bytes"]:
            raise CheckpointError(
                f"{str(metrics)!r} is shorter than its checkpoint says; restore it, or start anew elsewhere"
            )
        os.truncate(metrics, stream["metrics_bytes"])  # steps after the checkpoint are run again

    def _frozen(self) -> float | None:
        return finite(self.totals.bpb_frozen) if self.learning.frozen else None

    # -- telling -------------------------------------------------------------------------------------------

    def report(self) -> dict[str, Any]:
        """Return the run as one JSON-able object: what it cost, what was gained, what was learned."""
        learner, sizes, totals = self.learner, self.loaded.model.config, self.totals
        stats = learner.table.stats
        return {
            "steps": totals.steps,
            "windows": totals.windows,
            "bytes": totals.bytes,
            "tokens": totals.tokens,
            "model_steps": totals.model_steps,
            "bpb": {"paid": finite(totals.bpb_paid), "frozen": self._frozen()},
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
            "skipped_steps": learner.skipped_steps,
            "scope": list(self.learning.scope),
            "norm_s0": float(learner.s0.detach().norm()),
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


def _as_options(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return what runs must share, by the options that a person gives.

    The threads and version of torch are recorded only: another may move the last bits.
    """
    found = {
        "a --model of SHA-256": identity["base_sha256"],
        "a vocabulary of SHA-256": identity["tokenizer_sha256"],
        "--kernel": identity["kernel"],
        "--device": identity["device"],
        "--dtype": identity["dtype"],
    }
    for group, prefix in (("stream_config", "--"), ("learning", "--"), ("phrase_config", "--phrase-")):
        found |= {prefix + name.replace("_", "-"): value for name, value in identity[group].items()}
    return found
