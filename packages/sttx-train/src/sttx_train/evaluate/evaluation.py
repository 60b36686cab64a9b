"""An evaluation: which jobs it needs, and their results as one report. Knows no command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sttx_core.errors import DataError, UsageError
from sttx_core.traces import Trace
from sttx_train.evaluate.arms import ARMS, DEFAULT_ARMS, check_arms
from sttx_train.evaluate.controls import shuffled, state_of
from sttx_train.evaluate.general import general_text
from sttx_train.evaluate.jobs import Job, Outcome, general_prices, run_job
from sttx_train.evaluate.report import Found, make_report
from sttx_train.evaluate.stream_text import cut_stream
from sttx_train.evaluate.workers import run_all
from sttx_train.formats import LoadedModel
from sttx_train.online import LearnerConfig
from sttx_train.predict import Predictor
from sttx_train.predict.learned import Learned, find_learned
from sttx_train.stream import StreamConfig
from sttx_train.workers import Workers

_SAMPLE = "a state tuned in this run on the sample sessions that come with sttx"
_FEWEST = 4  # sessions for transfer
_EARLY = 3 / 4  # share of the sessions from which a state is tuned for transfer


def help_evaluate(processes: Workers, *, workers: int = 1) -> None:
    """Run, in a process that is not the first, its share of the runs of an evaluation.

    Args:
        processes: those of the `torchrun`.
        workers: processes that run at once here; one is this process.
    """
    _run_share(processes.tell(), processes, workers, lambda more: None)


def _run_share(
    jobs: Sequence[Job], processes: Workers, workers: int, advance: Callable[[int], None]
) -> list[Outcome]:
    """Run every job whose turn is this process's; return the outcomes of all, in the first process."""
    own = range(processes.rank, len(jobs), processes.count)
    done = run_all(run_job, [jobs[index] for index in own], workers=workers, advance=advance)
    every = processes.collect_first(list(zip(own, done, strict=True)))
    return [outcome for _, outcome in sorted(every, key=lambda entry: entry[0])]


class Evaluation:
    """What each part of the predictor is worth on a stream.

    Without ``learned`` the arms learn over the stream, as `sttx train` does. With it they start from what was
    learned and learn nothing more, except that experts remember: so that all numbers are those of one state.

    Args:
        loaded: the model.
        traces: the stream, read to its end.
        model: what loaded it; workers load it again.
        arms: names of :data:`ARMS`.
        learned: the folder of a run or checkpoint, or the file of a tuned state.
        donor: the same of another person, for that control.
        sample: traces from which a donor's state is tuned if none is given.
        threads: threads of each worker.

    Attributes:
        jobs: what runs, by name.
        tokens: how many tokens all jobs read.

    Raises:
        UsageError: what was learned is of another model, the donor has no tuned state or the same one, or an
            arm does not fit.
        DataError: no token of the stream is paid for.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        traces: Iterable[Trace],
        *,
        model: str | None = None,
        arms: tuple[str, ...] = DEFAULT_ARMS,
        learned: str | Path | None = None,
        donor: str | Path | None = None,
        sample: Iterable[Trace] = (),
        threads: int = 1,
    ) -> None:
        check_arms(arms, learned=None if learned is None else repr(str(learned)))
        self.loaded, self.arms, self._donor = loaded, arms, donor
        self._learned: Learned | None = None if learned is None else find_learned(learned, loaded)
        self._config = self._learned.config if self._learned else LearnerConfig()
        self._cut = partial(
            cut_stream,
            tokenizer=loaded.tokenizer,
            window=self._learned.window if self._learned else StreamConfig().window,
            documents=self._config.max_documents,
        )
        self.text = self._cut(traces)
        if not self.text.bytes_T.sum():
            raise DataError("nothing in the stream is paid for: it has no text")
        self._job = partial(
            Job,
            model=model,
            windows=self.text.windows,
            window=self._learned.window if self._learned else StreamConfig().window,
            threads=threads,
            tuning=self._config,
        )
        self.jobs = {name: self._arm(name) for name in arms}
        self._donor_what: str | None = None
        state = None if self._learned is None else state_of(self._learned)
        if state is not None:
            self.jobs |= self._controls(state, sample)
        elif donor is not None:
            raise UsageError("--donor would have no effect: there is no tuned state to compare with it")
        self._early = self._add_transfer()
        self.tokens = sum(len(window.ids) for job in self.jobs.values() for window in job.windows)

    def run(
        self,
        *,
        workers: int = 1,
        advance: Callable[[int], None] = lambda more: None,
        processes: Workers | None = None,
    ) -> dict[str, Any]:
        """Run everything; return the report, JSON-able. It does not depend on the number of workers.

        Args:
            workers: processes that run at once; one is this process.
            advance: called with how many more tokens were read in this process and its workers.
            processes: those of a `torchrun`, which share the runs; the others call :func:`help_evaluate`.
        """
        jobs, processes = list(self.jobs.values()), processes or Workers()
        outcomes = _run_share(processes.tell(jobs), processes, workers, advance)
        frozen, _ = general_prices(Predictor(self.loaded, experts=False))
        return make_report(
            Found(
                text=self.text,
                arms=self.arms,
                outcomes=dict[str, Outcome](zip(self.jobs, outcomes, strict=True)),
                donor=self._donor_what,
                early=self._early,
                general_frozen=frozen / len(general_text().encode()),
                seen=self._seen(),
                model=self.loaded,
                learned=self._learned,
            )
        )

    def _arm(self, name: str) -> Job:
        arm = ARMS[name]
        job = self._job(name=name, experts=arm.experts, general=arm.learns or arm.experts)
        if self._learned is None:
            if not arm.learns:
                return job
            learning = LearnerConfig(**arm.settings)
            alone = learning if arm.experts else replace(learning, loss="network")
            return replace(job, learning=alone)
        if arm.learns:
            return replace(job, learned=self._learned.path)
        if arm.experts and self._learned.state is not None:
            return replace(job, learned=self._learned.path, experts_only=True)
        return job

    def _controls(self, state: np.ndarray, sample: Iterable[Trace]) -> dict[str, Job]:
        """Return the jobs of the controls, and that of the state itself."""
        assert self._learned is not None
        jobs = {"paid": self._arm("paid")}
        paid = replace(jobs["paid"], general=False)
        jobs |= {
            "zero": replace(paid, name="zero", state=np.zeros_like(state)),
            "shuffled": replace(paid, name="shuffled", state=shuffled(state)),
        }
        if self._donor is None:
            text = self._cut(sample)
            jobs["donor"] = replace(paid, name="donor", tune=text.windows)
            same = set(text.sessions) & set(self.text.sessions)
            self._donor_what = _SAMPLE + (", some of which are evaluated here" if same else "")
            return jobs
        other = state_of(find_learned(self._donor, self.loaded))
        if other is None:
            raise UsageError(f"{str(self._donor)!r} has no tuned state: give another --donor")
        if np.array_equal(other, state):
            raise UsageError(f"the --donor {str(self._donor)!r} has the state that it is compared with")
        jobs["donor"] = replace(paid, name="donor", state=other)
        self._donor_what = f"the state in {str(self._donor)!r}"
        return jobs

    def _add_transfer(self) -> int | None:
        """Add the job of transfer; return how many sessions it tunes from, None for too few sessions."""
        count = len(self.text.sessions)
        if count < _FEWEST:
            return None
        early = int(_EARLY * count)
        self.jobs["transfer"] = self._job(
            name="transfer",
            windows=self.text.of_sessions(early, count),
            tune=self.text.of_sessions(0, early),
        )
        return early

    def _seen(self) -> int:
        """Return how many of the sessions the checkpoint has read last: it still carries their state."""
        if self._learned is None or self._learned.state is None:
            return 0
        carried = {document for document, *_ in self._learned.state["documents"]["learner"]["sessions"]}
        return len(self.text.sessions_of(carried))
