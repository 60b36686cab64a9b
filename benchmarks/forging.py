"""What scripts that forge files share: their options, the loop over numbered forgeries, and its failures."""

import argparse
import random
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable

from fuzz import peak_mb, set_alarm

from sttx_core.errors import SttxError

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


def attempt(work: Callable[[], None], seconds: int) -> str:
    """Read one forgery; return the error, or "" if there is none."""
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


def parser_of(description: str, *, files: int, limit_mb: int, seconds: int) -> argparse.ArgumentParser:
    """Return a parser of the options that `check_all` takes, with these defaults."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--files", type=int, default=files)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first forgery")
    parser.add_argument("--limit-mb", type=int, default=limit_mb)
    parser.add_argument("--seconds", type=int, default=seconds)
    parser.add_argument("--all", action="store_true", help="go on after a failure")
    return parser


def check_all(
    options: argparse.Namespace,
    what: str,
    made: Callable[[int, random.Random], Callable[[], None]],
    counts: Counter[str],
    *,
    also: str = "",
) -> int:
    """Make and read forgeries, print failures and counts, and return the exit code.

    Args:
        options: as `parser_of` parses them. A process that grows by more than ``limit_mb`` is a failure.
        what: the name of a forgery, for messages.
        made: makes a forgery of a number and dice, and returns what reads it.
        counts: printed at the end.
        also: further options that make the same forgeries again.
    """
    failed, began, base, slowest = 0, time.monotonic(), peak_mb(), (0.0, 0)
    for number in range(options.first, options.first + options.files):
        work = made(number, random.Random(f"{options.seed}/{number}"))
        start = time.process_time()
        problem = attempt(work, options.seconds)
        slowest = max(slowest, (time.process_time() - start, number))
        if not problem and peak_mb() - base > options.limit_mb:
            problem = f"memory grew by {peak_mb() - base:.0f} MB"
            base = peak_mb()
        if problem:
            failed += 1
            again = f"--seed {options.seed} --first {number} --files 1{also}"
            print(f"FAILED at {what} {number}: {again}\n{printable(problem)}", flush=True)
            if not options.all:
                return 1
        counts[f"{what}s"] += 1
    print(", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())))
    print(f"{time.monotonic() - began:.0f} s; slowest {slowest[0]:.2f} s ({what} {slowest[1]}); ", end="")
    print(f"memory grew by {peak_mb() - base:.0f} MB; {failed or 'no'} failures")
    return int(failed > 0)


def printable(problem: str) -> str:
    """Return the end of a traceback, whatever its messages hold."""
    return problem.encode("ascii", "backslashreplace").decode()[-3000:]
