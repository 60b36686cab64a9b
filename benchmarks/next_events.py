"""What the predictor says before tool calls of real sessions, next to what came: the events of `next.py`.

Sessions are read in the order of their names by one predictor, whose experts remember all of them. Before
some of the calls, drawn from a seed, the next calls are searched for; nothing of a call is read before that.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kept import code_digest, digest

import sttx_ccsniff
import sttx_core
import sttx_train
from sttx_ccsniff import open_source
from sttx_core.errors import UsageError
from sttx_core.render import render
from sttx_core.traces import ToolUse, Trace
from sttx_train import Predictor, load_model
from sttx_train.suggest import CallHabits, Vocabulary, look_ahead, shell_command

LEAST = 1e-4  # probabilities below it are not kept


def beginning(path: Path, most_bytes: int) -> list[Trace]:
    """Return the first traces of a session whose text has so many bytes, redacted."""
    traces, size = [], 0
    with open_source(path, redact=True, say=lambda message: None) as source:
        for trace in source:
            size += len(render(trace).encode())
            if size > most_bytes:
                break
            traces.append(trace)
    return traces


def calls_of(traces: Iterable[Trace]) -> list[list[str | None]]:
    """Return name, shell command and document of each call."""
    calls = []
    for trace in traces:
        if isinstance(trace, ToolUse):
            command = shell_command(trace)
            calls.append([trace.name, command.text if command else None, trace.document])
    return calls


def events(
    folder: Path, *, model: str | None, most_bytes: int, per_session: int, asked: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield a session's calls, then its events, session by session.

    A session is ``{"session", "calls"}``. An event has the call's number in its session and what the search
    found; or, with the number None, only how probable a call was where none came.
    """
    loaded = load_model(model)
    predictor = Predictor(loaded)
    vocabulary = Vocabulary(predictor)
    habits = CallHabits()
    for path in sorted(folder.rglob("*.jsonl")):
        traces = beginning(path, most_bytes)
        if not calls_of(traces):
            continue
        yield {"session": path.stem, "calls": calls_of(traces)}
        dice = random.Random(f"{seed} {path.stem}")
        places = [at for at, trace in enumerate(traces) if isinstance(trace, ToolUse)]
        others = [at for at, trace in enumerate(traces) if at and at not in places and render(trace)]
        chosen = set(dice.sample(places, min(per_session, len(places))))
        chosen |= set(dice.sample(others, min(per_session // 4, len(others))))
        readers = {}
        for at, trace in enumerate(traces):
            reader = readers.setdefault(trace.document, predictor.read(trace.document))
            if at in chosen:
                is_call = at in places
                places_asked = asked if is_call else 3
                found = look_ahead(reader, habits, asked=places_asked, vocabulary=vocabulary)
                row = {"session": path.stem, "number": places.index(at) if is_call else None}
                yield row | {
                    "call": found.call,
                    "asked": found.asked,
                    "left": found.left,
                    "names": [[name, p] for name, p in found.names.items() if p > LEAST * found.call],
                    "texts": [
                        [length, text, p]
                        for (length, text), p in found.texts.items()
                        if p > LEAST * found.call
                    ],
                }
            habits.add(trace)
            if text := render(trace):
                reader.advance(loaded.tokenizer.encode(text))


def kept_events(cache: Path | None, folder: Path, **options: Any) -> list[dict[str, Any]]:
    """Return the events; with a cache, those that it holds, or else write them there.

    Raises:
        UsageError: the cache holds events of other sessions, code, weights or options.
    """
    made_with = {
        "sessions": digest(*sorted(folder.rglob("*.jsonl"))),
        "code": [code_digest(sttx_core, sttx_ccsniff, sttx_train), digest(Path(__file__))],
        "weights": load_model(options["model"]).sha256,
        **options,
    }
    if cache is not None and cache.exists():
        first, *rows = map(json.loads, cache.read_text().splitlines())
        if (other := first.get("made_with")) != made_with:
            raise UsageError(f"{str(cache)!r} was made with {other}, not {made_with}: name another file")
        return rows
    rows = []
    for row in events(folder, **options):
        rows.append(row)
        print(f"\r{len(rows)} events", end="", file=sys.stderr, flush=True)
    if cache is not None:
        lines = [{"made_with": made_with}, *rows]
        cache.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return rows
