"""Measures how soon the loop alarm notices planted loops, and how often it is wrong, next to hashing rounds.

    uv run python benchmarks/loops.py FOLDER [--cache FOLDER] [--bytes N] [--points N] [--rounds N] [--json]

Each *.jsonl file under FOLDER is redacted and priced as `sttx watch` does. After `--points` rounds of each,
drawn from a seed, every kind of loop and of benign polling of `planted_loops.py` is planted and priced from
there. The rest is arithmetic on prices: the alarm at its default threshold, next to what is cheaper, counting
equal hashes of calls, or of calls and results, in a window, exact or without paths and words with digits.
Hashing leaves out calls that wait, and counts equal calls side by side once. False alarms are alarms on the
sessions as they were. `--cache` keeps the prices, which take nearly all of the time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import planted_loops
import torch
from kept import code_digest, digest, kept
from planted_loops import Pair, episodes

import sttx_ccsniff
import sttx_core
from sttx_ccsniff import open_source
from sttx_core.render import render
from sttx_core.traces import ToolResult, ToolUse, Trace
from sttx_train import LoadedModel, evaluate, load_model, online, predict, rwkv7
from sttx_train.watch import (
    AlarmConfig,
    LoopAlarm,
    Pricer,
    Round,
    RoundMaker,
    Said,
    clipped,
    clipping,
    gist,
    pricing,
    rounds,
    waiting,
    waits,
)
from sttx_train.watch.gist import without_particulars

CHARACTERS = 1024  # of each trace that are priced, as in `sttx watch`
WINDOW = 10  # rounds in which equal hashes are counted
PRICING = (
    sttx_core,
    sttx_ccsniff,
    evaluate,
    online,
    predict,
    rwkv7,
    clipping,
    gist,
    pricing,
    rounds,
    waiting,
)
"""The code that prices follow from, besides this benchmark's own; what the alarm makes of them is not."""

HASHES = ("call", "call and result", "call, normalized", "call and result, normalized")

Row = dict[str, Any]
Detector = Callable[[Sequence[Row]], list[int]]


# Prices


class _Rows:
    """Makes rows of priced traces: what detectors need to know of each round."""

    def __init__(self, first_turn: int = 0) -> None:
        self._maker, self._calls = RoundMaker(), dict[str, ToolUse]()
        self._first_turn = first_turn

    def add(self, pricer: Pricer, trace: Trace) -> list[Row]:
        scored = pricer.price(trace)
        if scored is None:
            return []
        if isinstance(trace, ToolUse):
            self._calls[trace.id] = trace
        return [self._row(event, trace) for event in self._maker.add(scored)]

    def _row(self, event: Round | Said, trace: Trace) -> Row:
        row: Row = {
            "agent": event.name,
            "bytes": event.bytes,
            "bits": event.bits,
            "network": event.network_bits,
        }
        if isinstance(event, Said):
            return row
        call = self._calls.get(trace.id) if isinstance(trace, ToolResult) else trace
        first = render(call) if call else ""
        both = first + (render(trace) if isinstance(trace, ToolResult) else "")
        texts = (first, both, without_particulars(first), without_particulars(both))
        row |= {"tool": event.tool, "waits": event.waits, "gist": event.gist}
        row["turn"] = self._first_turn + event.turn
        return {**row, "hashes": [_hash(text) for text in texts]}


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def traces_of(path: Path, most_bytes: int) -> list[Trace]:
    """Return a session's traces, redacted, until their clipped texts have a number of bytes."""
    traces, size = [], 0
    with open_source(path, redact=True, say=lambda message: None) as source:
        for trace in source:
            size += len(render(clipped(trace, CHARACTERS)).encode())
            if size > most_bytes:
                break
            traces.append(trace)
    return traces


def places(traces: Sequence[Trace]) -> Iterator[tuple[int, Pair, Pair]]:
    """Yield where loops may be planted: after a round that does not wait, the ninth of its document or later.

    Yields:
        Index of the result in the stream, its round, and the round before it.
    """
    calls = {trace.id: trace for trace in traces if isinstance(trace, ToolUse)}
    before: dict[str, list[Pair]] = defaultdict(list)
    for index, trace in enumerate(traces):
        if isinstance(trace, ToolResult) and (call := calls.get(trace.id)) and not waits(call):
            rounds = before[trace.document]
            if len(rounds) >= 8:
                yield index, (call, trace), rounds[-1]
            rounds.append((call, trace))


def priced(path: Path, loaded: LoadedModel, options: argparse.Namespace) -> Row:
    """Price a session, and everything that is planted into it."""
    traces = traces_of(path, options.bytes)
    every = list(places(traces))
    chosen = random.Random(path.stem).sample(every, min(options.points, len(every)))
    planting = {index: (last, before) for index, last, before in chosen}
    pricer, rows = Pricer(loaded, most=CHARACTERS), _Rows()
    real: list[Row] = []
    planted: list[Row] = []
    for index, trace in enumerate(traces):
        real += rows.add(pricer, trace)
        if index not in planting:
            continue
        reader = pricer.reader(trace.document)
        assert reader is not None and reader.mixture is not None
        state, memory = reader.state_dict(), reader.mixture.experts.state_dict()
        for episode in episodes(*planting[index], f"{path.stem} {index}", options.rounds):
            own = _Rows(first_turn=len(traces))
            episode_rows = [row for each in episode.traces for row in own.add(pricer, each)]
            planted.append(
                {"kind": episode.kind, "loop": episode.is_loop, "at": len(real), "rows": episode_rows}
            )
            reader.load_state_dict(state)
            reader.mixture.experts.load_state_dict(memory)
    return {"file": path.stem, "real": real, "planted": planted}


def prices(options: argparse.Namespace) -> list[Row]:
    """Return the prices of every session, from the cache where they are there."""
    loaded, sessions = load_model(), []
    code = code_digest(*PRICING), digest(Path(__file__), Path(planted_loops.__file__))
    chosen = options.bytes, options.points, options.rounds
    for path in sorted(options.folder.rglob("*.jsonl")):
        made_of = (digest(path), code, loaded.sha256, chosen)
        session = kept(options.cache, lambda path=path: priced(path, loaded, options), *made_of)
        if any("tool" in row for row in session["real"]):
            sessions.append(session)
    return sessions


# Detectors


def level_detector(config: AlarmConfig) -> Detector:
    """Return what `sttx watch` does: indices of the rows at which the alarm fires."""

    def alarms(rows: Sequence[Row]) -> list[int]:
        return [index for index, (_, fires) in enumerate(levels(config, rows)) if fires]

    return alarms


def levels(config: AlarmConfig, rows: Sequence[Row]) -> Iterator[tuple[float, bool]]:
    """Yield the level after each row, and whether the alarm fires there."""
    alarm = LoopAlarm(config)
    for row in rows:
        same = {"bytes": row["bytes"], "bits": row["bits"], "network_bits": row["network"]}
        if "tool" not in row:
            alarm.said(Said(name=row["agent"], **same))
            yield 0.0, False
            continue
        one = Round(
            session=row["agent"],
            agent="",
            project="",
            number=0,
            tool=row["tool"],
            uid="",
            time=0.0,
            frozen_bits=row["network"],
            gist=row["gist"],
            waits=row["waits"],
            turn=row["turn"],
            **same,
        )
        verdict = alarm.add(one)
        yield verdict.level, verdict.fires


def hash_detector(which: int, times: int) -> Detector:
    """Return the cheap way: a hash occurs a number of times in the last rounds. Fires once for each loop."""

    def alarms(rows: Sequence[Row]) -> list[int]:
        windows: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=WINDOW))
        counted: set[tuple[str, int, str]] = set()
        looping: Counter[str] = Counter()
        fired = []
        for index, row in enumerate(rows):
            agent, window = row["agent"], windows[row["agent"]]
            if "tool" not in row or row["waits"]:
                continue
            beside = agent, row["turn"], row["hashes"][which]
            if beside in counted:
                continue
            counted.add(beside)
            window.append(row["hashes"][which])
            reached = window.count(row["hashes"][which]) >= times
            if reached and not looping[agent]:
                fired.append(index)
            looping[agent] = int(reached or (looping[agent] and max(Counter(window).values()) >= times))
        return fired

    return alarms


# Results


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Return the 95% interval of a share (Wilson 1927)."""
    if not trials:
        return 0.0, 1.0
    z, share = 1.96, hits / trials
    middle = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max((middle - spread) / scale, 0.0), min((middle + spread) / scale, 1.0)


def measure(sessions: Sequence[Row], detector: Detector) -> Row:
    """Return what a detector finds: false alarms on sessions as they were, and alarms by kind of episode."""
    wrong = [len(detector(session["real"])) for session in sessions]
    found: dict[str, list[int | None]] = defaultdict(list)
    for session in sessions:
        for episode in session["planted"]:
            before = session["real"][: episode["at"]]
            fired = [index - len(before) for index in detector([*before, *episode["rows"]])]
            found[episode["kind"]].append(next((index + 1 for index in fired if index >= 0), None))
    by_kind = {}
    for kind, delays in found.items():
        hits = [delay for delay in delays if delay is not None]
        by_kind[kind] = {
            "episodes": len(delays),
            "alarms": len(hits),
            "interval": wilson(len(hits), len(delays)),
            "rounds": float(np.median(hits)) if hits else None,
            "rounds_90": float(np.quantile(hits, 0.9)) if hits else None,
        }
    alarmed = sum(count > 0 for count in wrong)
    return {
        "sessions": len(sessions),
        "sessions_with_alarms": alarmed,
        "alarms": sum(wrong),
        "interval": wilson(alarmed, len(sessions)),
        "kinds": by_kind,
    }


def tail_threshold(sessions: Sequence[Row], config: AlarmConfig, share: float = 0.01) -> float:
    """Return the level that one session in a hundred would reach, if the highest levels fall exponentially.

    The highest level of each session is its peak; what the upper half of the peaks exceeds their median by is
    taken as exponential. With few sessions this is an extrapolation, and no more.
    """
    endless = AlarmConfig(**{**vars(config), "threshold": 1e9})
    peaks = np.array([max(level for level, _ in levels(endless, session["real"])) for session in sessions])
    middle = float(np.median(peaks))
    above = peaks[peaks > middle] - middle
    return middle + float(above.mean()) * math.log(len(above) / len(peaks) / share)


def detectors() -> dict[str, Detector]:
    """Return all detectors by name; hashes with every number of repeats that is worth trying."""
    result = {"sttx watch": level_detector(AlarmConfig())}
    for which, name in enumerate(HASHES):
        result |= {f"{name} x{times}": hash_detector(which, times) for times in (2, 3, 4)}
    return result


def main() -> None:
    """Price, measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--cache", type=Path, default=None, help="where prices are kept")
    arguments.add_argument("--bytes", type=int, default=14_000, help="clipped text of each session")
    arguments.add_argument(
        "--points", type=int, default=1, help="where each kind is planted, in each session"
    )
    arguments.add_argument("--rounds", type=int, default=6, help="of each loop")
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    sessions = prices(options)
    results = {name: measure(sessions, detector) for name, detector in detectors().items()}
    tail = tail_threshold(sessions, AlarmConfig())
    if options.json:
        print(json.dumps({"tail_threshold": tail, "detectors": results}))
        return
    rounds = sum("tool" in row for session in sessions for row in session["real"])
    print(f"{len(sessions)} sessions, {rounds:,} rounds; one session in 100 would reach level {tail:.1f}")
    for name, result in results.items():
        low, high = result["interval"]
        print(
            f"{name}: {result['sessions_with_alarms']} sessions with false alarms ({low:.0%} to {high:.0%})"
        )
        for kind, one in result["kinds"].items():
            low, high = one["interval"]
            after = "" if one["rounds"] is None else f", median {one['rounds']:g}, 90% {one['rounds_90']:g}"
            print(f"    {kind:12} {one['alarms']:3}/{one['episodes']} ({low:.0%} to {high:.0%}){after}")


if __name__ == "__main__":
    main()
