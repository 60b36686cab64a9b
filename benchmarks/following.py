"""Measures how soon new lines arrive and what waiting for them costs.

    python benchmarks/following.py [--files N] [--lines N] [--idle-files N] [--seconds S]

Compares both ways to follow sessions in one run: `claude`, which follows files natively, and `live`, the
pinned ccsniff (installed into the cache folder on first use; needs Node). A writer appends a line to one of N
files every 50 ms; the delay is the time from the end of the write to the trace in the consumer. Then a folder
of many files is followed, and the CPU time of this process and of Node is measured: while nothing is written,
and while two lines a second are written. Prints JSON.

Results depend on the machine: other load increases the delays, but not the CPU time.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from sttx_ccsniff import Source
from sttx_ccsniff.follow.feed import FolderFeed
from sttx_ccsniff.live.feed import LiveFeed

BETWEEN_SECONDS = 0.05
SETTLE_SECONDS = 3.0


def main() -> None:
    """Measure both ways and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=200, help="files to write to")
    parser.add_argument("--lines", type=int, default=400, help="lines to write")
    parser.add_argument("--idle-files", type=int, default=2000, help="files to follow for the cost")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to follow them")
    options = parser.parse_args()
    measured = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1), **vars(options)}
    for way in ("claude", "live"):
        measured[way] = {
            "delay_ms": delays(way, options.files, options.lines),
            "idle": cost(way, options.idle_files, options.seconds, write=False),
            "written to": cost(way, options.idle_files, options.seconds, write=True),
        }
    print(json.dumps(measured, indent=2))


def line(number: int) -> bytes:
    """Return a user's message of median length."""
    record = {
        "type": "user",
        "uuid": f"uuid-{number}",
        "sessionId": "s",
        "timestamp": "2026-02-02T09:00:00.500Z",
        "message": {"role": "user", "content": "word " * 150},
    }
    return json.dumps(record).encode() + b"\n"


def make_files(folder: Path, count: int) -> list[Path]:
    """Write session files of one line, forty to a project."""
    files = [folder / f"project-{number // 40}" / f"{number}.jsonl" for number in range(count)]
    for number, path in enumerate(files):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(line(-1 - number))
    return files


def opened(way: str, folder: Path) -> tuple[Source, LiveFeed | None]:
    """Open a source; also return the feed whose child process counts too."""
    if way == "live":
        feed = LiveFeed(folder)
        return Source([feed]), feed
    return Source([FolderFeed([folder], "native", follow=True)]), None


def delays(way: str, count: int, lines: int) -> dict[str, float]:
    """Return the milliseconds from a write to its trace: median, 95th percentile and maximum."""
    with tempfile.TemporaryDirectory() as name:
        files = make_files(Path(name), count)
        source, _ = opened(way, Path(name))
        written: dict[str, float] = {}
        arrived: dict[str, float] = {}
        with source:
            take(source, count)
            time.sleep(SETTLE_SECONDS)
            writer = threading.Thread(target=write_lines, args=(files, lines, written))
            writer.start()
            for _ in range(lines):
                uid = next(source).meta.uid
                arrived[uid] = time.perf_counter()
            writer.join()
    milliseconds = sorted(1000 * (arrived[uid] - when) for uid, when in written.items())
    return {
        "median": round(statistics.median(milliseconds), 1),
        "p95": round(milliseconds[int(0.95 * (len(milliseconds) - 1))], 1),
        "max": round(milliseconds[-1], 1),
    }


def take(source: Iterator[object], count: int) -> None:
    """Take a number of traces from a source."""
    for _ in range(count):
        next(source)


def write_lines(files: list[Path], lines: int, written: dict[str, float]) -> None:
    """Append lines to random files, and record the time of each write."""
    chosen = random.Random(0)
    for number in range(lines):
        data = line(number)
        with chosen.choice(files).open("ab", buffering=0) as file:
            file.write(data)
        written[f"uuid-{number}"] = time.perf_counter()
        time.sleep(BETWEEN_SECONDS)


def cost(way: str, count: int, seconds: float, *, write: bool) -> dict[str, float]:
    """Return the CPU use of this process and of Node, in percent of a core, and Node's open files."""
    with tempfile.TemporaryDirectory() as name:
        files = make_files(Path(name), count)
        source, feed = opened(way, Path(name))
        with source:
            take(source, count)
            time.sleep(SETTLE_SECONDS)
            node = feed._child.process.pid if feed and feed._child else 0
            before, own, started = cpu_seconds(node), time.process_time(), time.perf_counter()
            lines = 0
            while time.perf_counter() - started < seconds:
                time.sleep(0.5)
                if write:
                    write_one(files[0], count + lines)
                    lines += 1
                    next(source)
            took = time.perf_counter() - started
            result = {"python_cpu_percent": round(100 * (time.process_time() - own) / took, 2)}
            if node:
                result["node_cpu_percent"] = round(100 * (cpu_seconds(node) - before) / took, 2)
                result["node_open_files"] = len(os.listdir(f"/proc/{node}/fd"))
    return result


def write_one(path: Path, number: int) -> None:
    """Append one line."""
    with path.open("ab", buffering=0) as file:
        file.write(line(number))


def cpu_seconds(process_id: int) -> float:
    """Return the CPU seconds of a process from /proc; 0 for process id 0."""
    if not process_id:
        return 0.0
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
