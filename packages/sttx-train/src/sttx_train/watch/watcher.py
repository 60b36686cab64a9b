"""Watches a stream of traces: what each round costs, and whether an agent is in a loop."""

from __future__ import annotations

import os
from dataclasses import dataclass

from sttx_core.traces import SessionEnd, Trace
from sttx_train.formats import LoadedModel
from sttx_train.watch.alarm import AlarmConfig, LoopAlarm, Verdict
from sttx_train.watch.pricing import Pricer
from sttx_train.watch.rounds import Round, RoundMaker, Said


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A round and what the alarm says of it."""

    round: Round
    verdict: Verdict


class Watcher:
    """Prices traces as they come, makes rounds of them, and raises the alarm.

    Args:
        loaded: the frozen model and its vocabulary.
        learned: what was learned of it, a run or a tuned state, as `Predictor` takes it.
        alarm: when the alarm fires.
        most: characters of each trace that are priced, from its start and its end.

    Raises:
        UsageError: what was learned is of another model.
        CheckpointError, ModelError: it cannot be read.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        learned: str | os.PathLike[str] | None = None,
        *,
        alarm: AlarmConfig | None = None,
        most: int = 1024,
    ) -> None:
        self.pricer = Pricer(loaded, learned, most=most)
        self.alarm = LoopAlarm(alarm)
        self.rounds = RoundMaker()
        self.traces = 0

    def add(self, trace: Trace) -> list[Watched]:
        """Price a trace, and return the rounds that it completes, usually one or none."""
        if isinstance(trace, SessionEnd):
            return self._watched(self.rounds.end(trace))
        scored = self.pricer.price(trace)
        if scored is None:
            return []
        self.traces += 1
        return self._watched(self.rounds.add(scored))

    def end(self) -> list[Watched]:
        """Return the rounds of the calls that still wait for results."""
        return self._watched(self.rounds.end())

    def _watched(self, events: list[Round | Said] | list[Round]) -> list[Watched]:
        watched = []
        for event in events:
            if isinstance(event, Said):
                self.alarm.said(event)
            else:
                watched.append(Watched(round=event, verdict=self.alarm.add(event)))
        return watched
