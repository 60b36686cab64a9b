"""Measures what redaction misses, what it redacts wrongly, and what it costs.

    python benchmarks/redaction.py FOLDER [--show] [--seed N] [--repeat N]

Recall: one made-up secret of every kind is added to each session of a folder, in five places: a user's
    message, a
tool's input, a tool's result as JSON within JSON, the record's `toolUseResult`, and a record of an unknown
type. None of them may be in any trace. Precision: the hits in the unchanged sessions, by rule; `--show`
prints each hit, shortened, for inspection. Cost: the speed of parsing alone, and with redaction.

Exits with 1 if a secret remains.
"""

import argparse
import dataclasses
import json
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sttx_ccsniff import open_source
from sttx_ccsniff.redact import Redactor
from sttx_ccsniff.redact.samples import KINDS, Sample, sample
from sttx_core.traces import Trace

PLACES = ("user text", "tool input", "tool result", "toolUseResult", "unknown record")
_PIECE = 12  # consecutive characters of a secret that must not remain


def plant(path: Path, target: Path, dice: random.Random) -> dict[str, Sample]:
    """Copy a session and add records with secrets of every kind; return them by kind and place."""
    lines = path.read_bytes().split(b"\n")
    planted: dict[str, Sample] = {}
    for kind in KINDS:
        for place in PLACES:
            name = f"{kind} in {place}"
            planted[name] = sample(kind, dice)
            records = record_with(place, planted[name].text, f"planted-{len(planted)}", path.stem)
            at = dice.randrange(len(lines) + 1)
            lines[at:at] = [json.dumps(record).encode() for record in records]
    target.write_bytes(b"\n".join(lines))
    return planted


def record_with(place: str, text: str, uid: str, session: str) -> list[dict[str, Any]]:
    """Return the record, or the call and its result, that holds a secret in a given place."""
    common = {"sessionId": session, "uuid": uid, "timestamp": "2026-02-02T09:00:00Z", "cwd": "/srv/app"}
    sentence = f"see this: {text} and go on"
    if place == "user text":
        return [{**common, "type": "user", "message": {"role": "user", "content": sentence}}]
    if place == "unknown record":
        return [{**common, "type": "not-invented-yet", "data": {"deep": [{text: sentence}]}}]
    command = f"run\n{text}\n" if place == "tool input" else "run"
    call = {"type": "tool_use", "id": uid, "name": "Bash", "input": {"command": command, "list": [command]}}
    shown = json.dumps({"stdout": json.dumps({"config": text})}) if place == "tool result" else "done"
    result = {"type": "tool_result", "tool_use_id": uid, "content": shown}
    structured = (
        {"stdout": text, "stderr": "", "file": {"content": sentence}} if place == "toolUseResult" else {}
    )
    return [
        {**common, "type": "assistant", "message": {"role": "assistant", "content": [call]}},
        {
            **common,
            "uuid": f"{uid}-r",
            "type": "user",
            "message": {"role": "user", "content": [result]},
            "toolUseResult": structured,
        },
    ]


def pieces(secret: str) -> set[str]:
    """Return pieces of a secret that must not remain, without the first, which is the public prefix."""
    parts: set[str] = set()
    for line in secret.split("\n"):
        if "-----" not in line:
            parts |= {line[end - _PIECE : end] for end in range(len(line), _PIECE, -_PIECE)} or {line}
    return parts


def strings(value: Any) -> Iterator[str]:
    """Yield every string of a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from strings(key)
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def texts_of(trace: Trace) -> Iterator[str]:
    """Yield every string of a trace, except those that say where it came from."""
    for field in dataclasses.fields(trace):
        if field.name not in ("meta", "id"):
            yield from strings(getattr(trace, field.name))
    yield trace.meta.project


def left_over(folder: Path, planted: dict[str, Sample], *, redact: Redactor | bool) -> set[str]:
    """Return the names of the secrets of which a piece remains in a trace of a folder."""
    with open_source(folder, redact=redact) as source:
        everything = "\0".join(text for trace in source for text in texts_of(trace))
    unescaped = re.sub(r"\\+(?:u002d|/)", lambda escape: "-" if escape[0].endswith("d") else "/", everything)
    return {
        name
        for name, made in planted.items()
        if any(piece in everything or piece in unescaped for piece in pieces(made.secret))
    }


def recall(paths: list[Path], seed: int) -> int:
    """Add secrets, read the sessions and search the traces; return how many secrets remain."""
    dice = random.Random(seed)
    counts: Counter[str] = Counter()
    total = left = visible = 0
    for path in paths:
        with tempfile.TemporaryDirectory() as folder:
            planted = plant(path, Path(folder) / path.name, dice)
            redactor = Redactor()
            remaining = left_over(Path(folder), planted, redact=redactor)
            visible += len(left_over(Path(folder), planted, redact=False))
        for name in sorted(remaining):
            print(f"  LEFT in {path.name}: {name}")
        total, left = total + len(planted), left + len(remaining)
        counts += redactor.counts
    print(
        f"recall: {total - left} of {total} added secrets of {len(KINDS)} kinds are redacted, {left} remain;"
    )
    print(f"        without redaction {visible} of them are in the traces (no trace has toolUseResult)")
    return left


def precision(paths: list[Path], *, show: bool) -> None:
    """Count the hits in the unchanged sessions."""
    redactor, text_bytes, raw_bytes = Redactor(), 0, sum(path.stat().st_size for path in paths)
    for path in paths:
        with open_source(path, redact=False) as source:
            for trace in source:
                for text in texts_of(trace):
                    text_bytes += len(text.encode())
                    if show:
                        show_hits(redactor, text, trace.meta.session)
                redactor.redact(trace)
    print(f"hits in {raw_bytes / 1e6:.1f} MB of sessions, {text_bytes / 1e6:.1f} MB of them text:")
    for rule, count in redactor.counts.most_common():
        print(f"  {rule:28} {count:6}  {count / raw_bytes * 1e6:8.2f} per MB")


def show_hits(redactor: Redactor, text: str, session: str) -> None:
    """Print the context of each hit, and enough of it to recognize what it is."""
    for hit in redactor.find(text, session):
        before = text[max(0, hit.start - 40) : hit.start]
        shown = hit.secret if len(hit.secret) < 24 else f"{hit.secret[:12]}…{hit.secret[-4:]}"
        print(f"  {hit.rule.name:20} {before!r} [{shown!r}] {text[hit.end : hit.end + 16]!r}")


def speed(paths: list[Path], repeat: int) -> None:
    """Print how fast the files are read, with and without redaction, best of several runs."""
    megabytes = sum(path.stat().st_size for path in paths) / 1e6
    for name, redact in (("parse", False), ("parse and redact", True)):
        best = min(timed(paths, redact) for _ in range(repeat))
        print(f"{name:20} {megabytes / best:8.1f} MB/s of raw bytes  ({megabytes:.1f} MB in {best:.3f} s)")


def timed(paths: list[Path], redact: bool) -> float:
    """Return the seconds of CPU time that reading takes."""
    started = time.process_time()
    with open_source([str(path) for path in paths], redact=redact) as source:
        for _ in source:
            pass
    return time.process_time() - started


def main() -> int:
    """Measure recall, precision and speed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--show", action="store_true", help="print every hit, shortened")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    paths = sorted(options.folder.rglob("*.jsonl"))
    with tempfile.TemporaryDirectory() as cache:
        os.environ["STTX_CACHE_DIR"] = cache
        left = recall(paths, options.seed)
        precision(paths, show=options.show)
        speed(paths, options.repeat)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
