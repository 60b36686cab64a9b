"""Checks that damaged files do not crash, hang or bloat readers: sessions, archives, models, checkpoints.

    python benchmarks/fuzz.py FOLDER... [--files N] [--seed S] [--first K] [--limit-mb M] [--seconds T]

Takes slices of the real session files under each FOLDER, damages each one (bytes changed, removed, joined,
repeated, mixed with junk; fields with values of other types; as one array or over several lines; in UTF-16;
compressed and damaged again) and reads it: most through the parser in random pieces, every twentieth through
the whole `open_source` with redaction. Every trace must be encodable, renderable and not too deep, and every
record must become a trace or a count. Prints the counts. At the first failure it prints the options that make
the same file again (`--first K --files 1`) and exits with 1. A file that takes more than T seconds, or a
process that grows by more than M megabytes, is a failure. Then it runs `fuzz_archives.py`,
`fuzz_checkpoints.py` and `fuzz_models.py`, which forge theirs; `--first` leaves them out.
"""

import argparse
import copy
import dataclasses
import faulthandler
import functools
import gzip
import json
import math
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from sttx_ccsniff import open_source
from sttx_ccsniff.read.formats import AutoParser
from sttx_ccsniff.read.splitter import LineSplitter
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.errors import SourceError
from sttx_core.render import render
from sttx_core.traces import Trace

SLICE = 48 * 2**10
DEEPEST = 70
THROUGH_ALL = 20
SESSION_FILES = {".jsonl", ".ndjson", ".json"}
OTHERS = ("fuzz_archives.py", "fuzz_checkpoints.py", "fuzz_models.py")
JUNK = (
    b"\n", b"\r\n", b"\n\n", b"\0" * 16, b"\xff\xfe", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"{", b"}", b'"',
    b"\\", b"\\ud800", b"\\udc00\\ud800", b"\xed\xa0\x80", b"\xf0\x9f", b"[" * 3000, b'{"a":' * 3000,
    b"9" * 6000, b"1e999", b"NaN", b"-0", b"# tailing...\n", b"\x1b[31m", b"<command-args>",
    b"<system-reminder>", b"[", b'"type":["text"],',
)  # fmt: skip
ODD = (
    None, True, False, 0, -1, 2**63, 10**30, 1e308, "", "x", " ", "\0", "\u2028", "a" * 5000,
    "\U0001f600", [], {}, [[]], [None], [{}], [{"type": "text"}], [{"type": ["text"]}], {"type": {}},
    {"": None}, [1, "a", {"b": []}], "2026-99-99T00:00:00Z", "0001-01-01T00:00:00+23:00",
    "9999-12-31T23:59:59-23:00", "text", "tool_use", "tool_result", "../../x",
)  # fmt: skip


def slice_of(content: bytes, dice: random.Random) -> bytes:
    """Return consecutive lines of a file, half of the time its first; the last is cut at a random length."""
    if dice.random() < 0.5:
        return content[: dice.randrange(200, SLICE)]
    start = content.rfind(b"\n", 0, dice.randrange(len(content)) + 1) + 1
    return content[start : start + dice.randrange(200, SLICE)]


def damaged_bytes(data: bytes, dice: random.Random) -> bytes:
    """Damage random bytes, without knowledge of the format."""
    for _ in range(dice.choice((1, 1, 2, 4, 16))):
        at = dice.randrange(len(data) + 1)
        end = min(len(data), at + int(2 ** dice.uniform(0, 12)))
        match dice.randrange(7):
            case 0:
                data = data[:at] + bytes((dice.randrange(256),)) + data[at + 1 :]
            case 1:
                data = data[:at] + data[end:]
            case 2:
                data = data[:at] + dice.choice(JUNK) + data[at:]
            case 3:
                data = data[:end] + data[at:end] + data[end:]
            case 4:
                data = data[:at] + dice.randbytes(end - at) + data[end:]
            case 5:
                data = data[:at] + data[at:].replace(b"\n", dice.choice((b"", b"\r\n", b"\0", b" ")), 2)
            case _:
                data = data[: max(at, 1)]
    return data


def places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value inside a JSON value."""
    yield here
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*here, key)
        if isinstance(inner, (dict, list)) and len(here) < 40:
            yield from places(inner, (*here, key))


def damaged_records(data: bytes, dice: random.Random) -> bytes:
    """Give random fields values of other types, and repeat a line now and then."""
    lines = data.split(b"\n")
    for _ in range(dice.choice((1, 2, 5, 20))):
        number = dice.randrange(len(lines))
        try:
            record = orjson.loads(lines[number])
        except orjson.JSONDecodeError:
            continue
        if isinstance(record, dict) and record:
            *path, key = dice.choice(list(places(record))[1:])
            inner = record
            for step in path:
                inner = inner[step]
            inner[key] = nested(dice) if dice.random() < 0.1 else copy.deepcopy(dice.choice(ODD))
            lines[number] = json.dumps(record, ensure_ascii=dice.random() < 0.5).encode(
                "utf-8", "surrogatepass"
            )
    if dice.random() < 0.3:
        lines.insert(dice.randrange(len(lines)), dice.choice(lines))
    return b"\n".join(lines)


def nested(dice: random.Random) -> Any:
    """Return a value nested deep enough to be dangerous, but not too deep to be written here."""
    value: Any = "core"
    for _ in range(dice.choice((70, 200, 260, 900))):
        value = [value] if dice.random() < 0.5 else {"a": value}
    return value


def as_document(data: bytes, dice: random.Random) -> bytes:
    """Make one array of the records, or write them over several lines."""
    values = []
    for line in data.split(b"\n"):
        try:
            values.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    indent = dice.choice((None, 0, 2))
    parts = [values] if dice.random() < 0.5 else values
    try:
        text = "\n".join(json.dumps(part, indent=indent) for part in parts)
    except RecursionError:
        return data
    return text.encode("utf-8", "surrogatepass")


def made(contents: list[bytes], dice: random.Random) -> bytes:
    """Return the content of one damaged file."""
    data = slice_of(dice.choice(contents), dice)
    kind = dice.randrange(4)
    if kind != 0:
        data = damaged_records(data, dice)
    if dice.random() < 0.05:
        data = as_document(data, dice)
    if dice.random() < 0.02:
        data = data.decode("utf-8", "replace").encode(dice.choice(("utf-16", "utf-16-le", "utf-16-be")))
    if kind != 1:
        data = damaged_bytes(data, dice)
    return data


def check_trace(trace: Trace) -> None:
    """Check what every consumer relies on: encodable, finite, not too deep, renderable."""
    waiting: list[tuple[Any, int]] = [(trace, 0)]
    while waiting:
        value, depth = waiting.pop()
        assert depth <= DEEPEST, "nested too deep"
        match value:
            case str():
                value.encode()
            case float():
                assert math.isfinite(value), "a number that JSON cannot represent"
            case dict():
                waiting += [(inner, depth + 1) for pair in value.items() for inner in pair]
            case list():
                waiting += [(inner, depth + 1) for inner in value]
            case _ if dataclasses.is_dataclass(value):
                waiting += [(getattr(value, each.name), depth + 1) for each in dataclasses.fields(value)]
    render(trace).encode()


def read_in_pieces(data: bytes, dice: random.Random) -> SourceReport:
    """Read with the parser alone, in random pieces."""
    report = SourceReport(say=lambda message: None)
    parser = AutoParser("/projects/orchard/s.jsonl", report, Seen())
    splitter, traces, at = LineSplitter(), [], 0
    while at < len(data):
        size = dice.choice((1, 7, 1000, 65536, len(data)))
        for line in splitter.feed(data[at : at + size]):
            traces += parser.feed(line)
        at += size
    traces += parser.finish(splitter.finish())
    for trace in traces:
        check_trace(trace)
    results = len(traces) + report.skipped.total() + report.malformed.total()
    if "opencode-export" in report.formats:
        results *= 2  # a message is a record beside its parts
    assert report.records <= results, "a record became neither a trace nor a count"
    report.traces["all"] = len(traces)
    return report


def read_through_all(data: bytes, dice: random.Random, folder: Path) -> SourceReport:
    """Read through the whole source, from a file that may be compressed and damaged again."""
    if dice.random() < 0.5:
        data = gzip.compress(data)
        if dice.random() < 0.5:
            data = damaged_bytes(data, dice)
    (folder / "s.jsonl").write_bytes(data)
    with open_source(folder / "s.jsonl", say=lambda message: None) as source:
        try:
            for trace in source:
                check_trace(trace)
        except SourceError:
            source.report.damaged("unreadable file")
    json.dumps(source.cursor)
    return source.report


def peak_mb() -> float:
    """Return the peak memory of this process, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


class TooSlow(Exception):
    """Reading one file took longer than allowed."""


def set_alarm(seconds: int) -> None:
    """Turn a hang into an exception; if that cannot be raised, print the stack and exit."""

    def ring(_signal: int, _frame: object) -> None:
        raise TooSlow

    signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    faulthandler.dump_traceback_later(3 * seconds, exit=True)


def attempt(work: Callable[[], SourceReport], seconds: int, total: Counter[str]) -> str:
    """Read one file; return the error, or "" if there is none."""
    set_alarm(seconds)
    try:
        report = work()
    except Exception:  # noqa: BLE001  any exception is a failure
        return traceback.format_exc()
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
    total.update(records=report.records, traces=report.traces.total(), damages=report.malformed.total())
    total.update(skipped=report.skipped.total(), repaired=report.noted.total())
    return ""


def sessions(options: argparse.Namespace) -> int:
    """Damage and read session files, and print the counts; return the exit code."""
    paths = [path for folder in options.folders for path in sorted(folder.rglob("*"))]
    contents = [content for path in paths if path.suffix in SESSION_FILES and (content := path.read_bytes())]
    if not contents:
        print(f"no session files in {', '.join(map(str, options.folders))}")
        return 1
    total: Counter[str] = Counter()
    first = options.first or 0
    slowest, began, base = (0.0, 0), time.monotonic(), peak_mb()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, first + options.files):
            dice = random.Random(f"{options.seed}/{number}")
            data = made(contents, dice)
            start = time.monotonic()
            if number % THROUGH_ALL:
                work = functools.partial(read_in_pieces, data, dice)
            else:
                work = functools.partial(read_through_all, data, dice, Path(folder))
            problem = attempt(work, options.seconds, total)
            slowest = max(slowest, (time.monotonic() - start, number))
            if not problem and peak_mb() - base > options.limit_mb:
                problem = f"memory grew by {peak_mb() - base:.0f} MB"
            if problem:
                print(f"FAILED at file {number}: --seed {options.seed} --first {number} --files 1\n{problem}")
                return 1
            total.update(files=1, bytes=len(data))
    print(", ".join(f"{name} {count:,}" for name, count in total.items()))
    print(f"{time.monotonic() - began:.0f} s; slowest {slowest[0]:.2f} s (file {slowest[1]}); ", end="")
    print(f"memory grew by {peak_mb() - base:.0f} MB; no failure", flush=True)
    return 0


def main() -> int:
    """Damage session files, then let the other scripts forge checkpoints and models; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, help="number of the first session file; only sessions then")
    parser.add_argument("--limit-mb", type=int, default=300)
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    code = sessions(options)
    for name in OTHERS if options.first is None else ():
        print(f"{name}:", flush=True)
        script = Path(__file__).with_name(name)
        code |= subprocess.run([sys.executable, script, "--seed", str(options.seed)], check=False).returncode
    return code


if __name__ == "__main__":
    sys.exit(main())
