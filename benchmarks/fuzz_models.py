"""Checks that forged model files end in one sentence: no traceback, no hang, no memory beyond what they hold.

    python benchmarks/fuzz_models.py [--files N] [--seed S] [--first K] [--limit-mb M] [--seconds T]

Makes a tiny model in every format with its vocabulary, forges each copy (bytes, headers, shapes, names, block
numbers, configs, indexes, pickles, archives, vocabularies; pipes, folders and links in place of files) and
reads it: `inspect_model`, `load_model`, its vocabulary, `load_state`, and every twentieth through
`sttx inspect`. Whatever is not an answer must be an `SttxError` of one line. Prints the counts. At the first
failure it prints the options that make the same file again (`--first K --files 1`) and exits with 1. A file
that takes more than T seconds of processor time, or a process that grows by M megabytes, is a failure.
"""

import argparse
import contextlib
import functools
import io
import json
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from forged_models import Models, forge
from fuzz import peak_mb, set_alarm

from sttx_cli.app import run
from sttx_core.errors import SttxError
from sttx_train.formats import load_model, load_state
from sttx_train.inspect import inspect_model

THROUGH_ALL = 20
LONGEST_MESSAGE = 1500


def answer(work: Callable[[], object], counts: Counter[str], what: str) -> None:
    """Ask for something; it works, or is an `SttxError` of one printable line."""
    try:
        work()
        counts[f"{what} read"] += 1
    except SttxError as error:
        text = str(error)
        assert text and "\n" not in text and "\x1b" not in text, f"not one line: {text[:300]!r}"
        assert len(text) < LONGEST_MESSAGE, f"a message of {len(text)} characters: {text[:300]!r}"
        text.encode()
        counts[f"{what} refused"] += 1


def read_all(path: Path, number: int, counts: Counter[str]) -> None:
    """Read a forged model in every way."""
    answer(lambda: json.dumps(inspect_model(path), allow_nan=False), counts, "inspect")
    answer(lambda: load_model(path).vocabulary, counts, "load")
    if path.is_file():
        answer(lambda: load_state(path), counts, "state")
    if number % THROUGH_ALL == 0:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            assert run(["inspect", str(path)]) in (0, 1, 2)
        counts["through sttx"] += 1


def attempt(work: Callable[[], None], seconds: int) -> str:
    """Read one model; return the error, or "" if there is none."""
    began = time.process_time()
    set_alarm(10 * seconds)  # a hang; a busy machine takes longer than its processor
    try:
        work()
    except BaseException:  # noqa: BLE001  any exception is a failure, and a library's panic is none of Python's
        return traceback.format_exc()
    finally:
        signal.alarm(0)
    spent = time.process_time() - began
    return f"it took {spent:.1f} s of the processor" if spent > seconds else ""


def main() -> int:
    """Forge and read models, and print the counts."""
    arguments = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    arguments.add_argument("--files", type=int, default=2000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--first", type=int, default=0, help="number of the first model")
    arguments.add_argument("--limit-mb", type=int, default=1000)
    arguments.add_argument("--seconds", type=int, default=5)
    arguments.add_argument("--all", action="store_true", help="go on after a failure")
    options = arguments.parse_args()
    counts: Counter[str] = Counter()
    failed = 0
    with tempfile.TemporaryDirectory() as place:
        made = Models(Path(place, "good"))
        for name in made.names:
            path = made.copy(name, Path(place, "m"))
            assert inspect_model(path)["problems"] == [], f"the {name} that is not forged has a problem"
        began, base, slowest = time.monotonic(), peak_mb(), (0.0, 0)
        for number in range(options.first, options.first + options.files):
            dice = random.Random(f"{options.seed}/{number}")
            path = made.copy(dice.choice(made.names), Path(place, "m"))
            forge(path, dice)
            start = time.process_time()
            problem = attempt(functools.partial(read_all, path, number, counts), options.seconds)
            slowest = max(slowest, (time.process_time() - start, number))
            if not problem and peak_mb() - base > options.limit_mb:
                problem = f"memory grew by {peak_mb() - base:.0f} MB"
            if problem:
                failed += 1
                print(
                    f"FAILED at model {number}: --seed {options.seed} --first {number} --files 1\n{problem}",
                    flush=True,
                )
                base = max(base, peak_mb() - options.limit_mb)
                if not options.all:
                    return 1
            counts["models"] += 1
    print(", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())))
    print(f"{time.monotonic() - began:.0f} s; slowest {slowest[0]:.2f} s (model {slowest[1]}); ", end="")
    print(f"memory grew by {peak_mb() - base:.0f} MB; {failed or 'no'} failures")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
