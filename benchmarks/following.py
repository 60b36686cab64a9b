"""How soon does what is written arrive, and what does waiting cost?

    python benchmarks/following.py [--files N] [--lines N] [--idle-files N] [--seconds S]

Both ways to follow sessions, in one run: `claude`, our own tailer, and `live`, the pinned ccsniff (installed
into the cache folder on first use; needs Node). A writer appends a line to one of N files every 50 ms, and
the time is taken from the end of the write to the trace in the consumer's hand. Then a folder of many files
is waited for, and the CPU seconds of this process and of Node beside it are counted: while nothing is
written, and while two lines a second are. Prints JSON.

The machine decides: what runs beside is counted in the delays, not in the CPU seconds.
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
    """Measure both ways and print what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=200, help="files that are written to")
    parser.add_argument("--lines", type=int, default=400, help="lines that are written")
    parser.add_argument("--idle-files", type=int, default=2000, help="files that are waited for")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long they are waited for")
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
    """A user's message of a median length."""
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
    """Open a way of following, and the feed whose child is to be counted too."""
    if way == "live":
        feed = LiveFeed(folder)
        return Source([feed]), feed
    return Source([FolderFeed([folder], "native", follow=True)]), None


def delays(way: str, count: int, lines: int) -> dict[str, float]:
    """Milliseconds from a write to its trace."""
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
    found = sorted(1000 * (arrived[uid] - when) for uid, when in written.items())
    return {
        "median": round(statistics.median(found), 1),
        "p95": round(found[int(0.95 * (len(found) - 1))], 1),
        "max": round(found[-1], 1),
    }


def take(source: Iterator[object], count: int) -> None:
    """Take as many traces as that."""
    for _ in range(count):
        next(source)


def write_lines(files: list[Path], lines: int, written: dict[str, float]) -> None:
    """Append to one file or another, and note when each line was written."""
    chosen = random.Random(0)
    for number in range(lines):
        data = line(number)
        with chosen.choice(files).open("ab", buffering=0) as file:
            file.write(data)
        written[f"uuid-{number}"] = time.perf_counter()
        time.sleep(BETWEEN_SECONDS)


def cost(way: str, count: int, seconds: float, *, write: bool) -> dict[str, float]:
    """Percent of a core, of this process and of Node; its memory and open files."""
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
            found = {"python_cpu_percent": round(100 * (time.process_time() - own) / took, 2)}
            if node:
                found["node_cpu_percent"] = round(100 * (cpu_seconds(node) - before) / took, 2)
                found["node_open_files"] = len(os.listdir(f"/proc/{node}/fd"))
    return found


def write_one(path: Path, number: int) -> None:
    """Append one line."""
    with path.open("ab", buffering=0) as file:
        file.write(line(number))


def cpu_seconds(process_id: int) -> float:
    """CPU seconds of a process as /proc tells them; 0 for none."""
    if not process_id:
        return 0.0
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
