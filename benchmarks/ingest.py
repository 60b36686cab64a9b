"""Checks that the counts are exact on every file, and measures speed and memory of reading.

    python benchmarks/ingest.py FOLDER [--repeat N] [--ccsniff] [--gigabyte]

Counts tool calls and results in each file with the standard library alone, and compares them with what
`open_source` delivers. Then measures on one core, best of N: JSON alone, lines parsed to traces, the redactor
alone, and the whole source with its thread, queue and report, without and with redaction; the former also on
all cores. `--ccsniff` measures the pinned ccsniff's own watcher over the same folder in the same run.
`--gigabyte` makes another process read a gigabyte of these sessions (repeated, with new ids each time) from a
pipe, and prints its peak memory after each tenth. Exits with 1 if any file differs.

MB/s depend on the machine: the next column gives them relative to JSON alone.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from sttx_ccsniff import open_source
from sttx_ccsniff.live.install import shim_command
from sttx_ccsniff.read.formats import AutoParser
from sttx_ccsniff.redact import Redactor
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.traces import Trace, trace_type

GIGABYTE = 10**9
IDS = re.compile(rb'("(?:uuid|parentUuid|sessionId|agentId)":"|toolu_|"id":"msg_)')
USES = ("tool_use", "server_tool_use", "mcp_tool_use")


def objects(line: bytes) -> Iterator[dict]:
    """Yield every JSON object on a line, without using our code."""
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
    """Return the number of tool calls, tool results and repeated records of a file, by unique uuid."""
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
    """Return the same three numbers from our source."""
    with open_source(path, redact=False) as source:
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
    """Return the seconds of the fastest of several runs."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def parse_json(lines: list[bytes]) -> None:
    """Parse the JSON, which is the minimum that any reader does."""
    for line in lines:
        try:
            orjson.loads(line)
        except orjson.JSONDecodeError:
            continue


def parse_traces(contents: dict[str, list[bytes]]) -> list[Trace]:
    """Return the traces of these lines, without thread and queue."""
    seen, report = Seen(), SourceReport(say=lambda message: None)
    traces: list[Trace] = []
    for name, lines in contents.items():
        parser = AutoParser(name, report, seen)
        for line in lines:
            traces += parser.feed(line)
        traces += parser.finish(b"")
    return traces


def redact_all(traces: list[Trace]) -> None:
    """Redact all traces with a new redactor."""
    redactor = Redactor()
    for trace in traces:
        redactor.redact(trace)


def read_source(folder: Path, *, redact: bool) -> None:
    """Read a folder completely: finding, reading, parsing, queue, report."""
    with open_source(folder, say=lambda message: None, redact=redact) as source:
        for _ in source:
            pass


def measure(folder: Path, files: list[Path], repeat: int, *, with_ccsniff: bool) -> None:
    """Print the table of speeds."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    contents = {str(path): path.read_bytes().split(b"\n") for path in files}
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    traces = parse_traces(contents)
    json_alone = best(repeat, lambda: [parse_json(lines) for lines in contents.values()])

    def row(name: str, seconds: float) -> None:
        rate, part = megabytes / seconds, json_alone / seconds
        print(f"{name:34} {rate:7.1f} MB/s  {part:5.0%}  ({megabytes:.1f} MB in {seconds:.3f} s)")

    row("JSON alone (orjson)", json_alone)
    row("lines to traces", best(repeat, lambda: parse_traces(contents)))
    row("redactor alone", best(repeat, lambda: redact_all(traces)))
    row("whole source, without redaction", best(repeat, lambda: read_source(folder, redact=False)))
    row("whole source, with redaction", best(repeat, lambda: read_source(folder, redact=True)))
    if with_ccsniff:
        for name, run in ccsniff(folder, repeat).items():
            row(f"ccsniff: {name}", run["seconds"])
    os.sched_setaffinity(0, cores)
    row("without redaction, on all cores", best(repeat, lambda: read_source(folder, redact=False)))


def ccsniff(folder: Path, repeat: int) -> dict[str, dict[str, float]]:
    """Return the seconds of ccsniff's own watcher, for raw lines and for its events."""
    node, _, library, *_ = shim_command(folder, print)
    script = Path(__file__).with_name("ccsniff_raw.mjs")
    command = [node, str(script), str(library), str(folder), str(repeat)]
    done = subprocess.run(command, capture_output=True, check=True)
    return json.loads(done.stdout)


def peak_mb() -> float:
    """Return the peak memory of this process in MB, without that of its parent."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def read_a_pipe(*, redact: bool) -> None:
    """Read standard input to its end; print the peak memory after each tenth of a gigabyte."""
    peaks, traces = [peak_mb()], 0
    with open_source("-", say=lambda message: None, redact=redact) as source:
        for _ in source:
            traces += 1
            if source.report.bytes_read >= len(peaks) * GIGABYTE / 10:
                peaks.append(peak_mb())
    print(json.dumps({"peaks": [*peaks, peak_mb()], "traces": traces, "bytes": source.report.bytes_read}))


def gigabyte(files: list[Path], *, redact: bool) -> None:
    """Write a gigabyte of different sessions into a process that reads them, and print its memory."""
    once = b"".join(path.read_bytes().rstrip(b"\n") + b"\n" for path in files)
    arguments = ["--read-a-pipe", *(["--redact"] if redact else [])]
    command = [sys.executable, __file__, *arguments]
    start = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdin and reader.stdout
        for number in range(-(-GIGABYTE // len(once))):
            reader.stdin.write(IDS.sub(rb"\g<1>%x-" % number, once))
        reader.stdin.close()
        result = json.loads(reader.stdout.read())
    seconds, peaks = time.perf_counter() - start, result["peaks"]
    each = " ".join(f"{peak:.0f}" for peak in peaks)
    print(
        f"a gigabyte {'with' if redact else 'without'} redaction: {result['traces']:,} traces of "
        f"{result['bytes'] / 1e6:.0f} MB in {seconds:.0f} s; peak memory in MB at the start, after each "
        f"tenth and at the end: {each} ({peaks[-1] / peaks[2] - 1:+.1%} since the second tenth)"
    )


def main() -> int:
    """Compare the counts, then measure."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path, nargs="?")
    arguments.add_argument("--repeat", type=int, default=5)
    arguments.add_argument("--ccsniff", action="store_true", help="also measure ccsniff's watcher")
    arguments.add_argument("--gigabyte", action="store_true", help="also measure memory over a gigabyte")
    arguments.add_argument("--redact", action="store_true", help="redact in --gigabyte")
    arguments.add_argument("--read-a-pipe", action="store_true", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.read_a_pipe:
        read_a_pipe(redact=options.redact)
        return 0
    files = sorted(options.folder.rglob("*.jsonl")) if options.folder else []
    if not files:
        print(f"no *.jsonl in {str(options.folder)!r}")
        return 1
    wrong = exact(files)
    measure(options.folder, files, options.repeat, with_ccsniff=options.ccsniff)
    if options.gigabyte:
        gigabyte(files, redact=options.redact)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
