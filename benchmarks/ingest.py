"""Are the counts exact on every file, and how fast is it?

    python benchmarks/ingest.py FOLDER [--repeat N]

Counts tool calls and results in each file with the standard library alone, and compares with what
`open_source` delivers. Then measures, on one core and best of N: JSON alone, lines parsed to traces, and the
whole source with its thread, queue and report. Exits with 1 if any file differs.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from sttx_ccsniff import open_source
from sttx_ccsniff.formats import AutoParser
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.traces import trace_type

USES = ("tool_use", "server_tool_use", "mcp_tool_use")


def objects(line: bytes) -> Iterator[dict]:
    """Every JSON object on a line, read without our code."""
    decoder = json.JSONDecoder(strict=False)
    text = line.decode("utf-8", "replace").strip("\0 \r\t")
    while text:
        try:
            value, end = decoder.raw_decode(text)
        except ValueError:
            return
        if isinstance(value, dict):
            yield value
        text = text[end:].strip()


def on_disk(path: Path) -> tuple[int, int, int]:
    """Tool calls, tool results and repeated records of a file, each uuid counted once."""
    seen: set[str] = set()
    blocks: Counter[str] = Counter()
    repeated = 0
    for line in path.read_bytes().split(b"\n"):
        for record in objects(line):
            uuid = record.get("uuid")
            if uuid in seen:
                repeated += 1
                continue
            if uuid:
                seen.add(uuid)
            message = record.get("message")
            content = message.get("content") if isinstance(message, dict) else None
            blocks.update(block.get("type") for block in (content if isinstance(content, list) else ()))
    results = sum(number for name, number in blocks.items() if name.endswith("tool_result"))
    return sum(blocks[name] for name in USES), results, repeated


def delivered(path: Path) -> tuple[int, int, int]:
    """The same three numbers as our source gives them."""
    with open_source(path) as source:
        types = Counter(trace_type(trace) for trace in source)
    return types["tool_use"], types["tool_result"], source.report.skipped["duplicate uuid"]


def exact(files: list[Path]) -> int:
    """Compare every file; return how many differ."""
    wrong = 0
    total: Counter[str] = Counter()
    for path in files:
        theirs, ours = on_disk(path), delivered(path)
        total.update(dict(zip(("uses", "results", "repeated"), theirs, strict=True)))
        if theirs != ours:
            wrong += 1
            print(f"DIFFERS {path}: on disk {theirs}, delivered {ours}")
    print(
        f"{len(files) - wrong} of {len(files)} files exact: {total['uses']} tool calls, "
        f"{total['results']} results, {total['repeated']} repeated records"
    )
    return wrong


def best(repeat: int, work: Callable[[], object]) -> float:
    """Seconds of the fastest of several runs."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def parse_json(lines: list[bytes]) -> None:
    """The least that any reader must do."""
    for line in lines:
        try:
            orjson.loads(line)
        except orjson.JSONDecodeError:
            continue


def parse_traces(contents: dict[str, list[bytes]]) -> None:
    """Lines to typed traces, without thread and queue."""
    seen, report = Seen(), SourceReport(say=lambda said: None)
    for name, lines in contents.items():
        parser = AutoParser(name, report, seen)
        for line in lines:
            parser.feed(line)
        parser.finish(b"")


def read_source(folder: Path) -> None:
    """All of it: finding, reading, parsing, queue, report."""
    with open_source(folder, say=lambda said: None) as source:
        for _ in source:
            pass


def main() -> int:
    """Compare and measure."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--repeat", type=int, default=5)
    options = arguments.parse_args()
    files = sorted(options.folder.rglob("*.jsonl"))
    if not files:
        print(f"no *.jsonl in {str(options.folder)!r}")
        return 1
    wrong = exact(files)
    contents = {str(path): path.read_bytes().split(b"\n") for path in files}
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    for name, work in (
        ("JSON alone (orjson)", lambda: [parse_json(lines) for lines in contents.values()]),
        ("lines to traces", lambda: parse_traces(contents)),
        ("whole source", lambda: read_source(options.folder)),
    ):
        seconds = best(options.repeat, work)
        print(f"{name:20} {megabytes / seconds:7.1f} MB/s  ({megabytes:.1f} MB in {seconds:.3f} s)")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
