"""Checks that a run which a fault of the machine strikes loses nothing and learns nothing twice.

    python benchmarks/faults.py [--faults 200] [--seed 0] [--work FOLDER]

Strikes `sttx train`, which follows a growing file and redacts, and `sttx pretrain` in turn: N times with
SIGKILL, at a random moment or in the middle of a write, a flush, a rename, a creation or a removal; then half
as often with the other faults of `KINDS`: of the run's folder, the source, and the event log. A struck run is
continued and struck again until it ends. After each fault it must have ended with one sentence, and its
checkpoint and metrics must be those of the undisturbed run; at its end so must every tensor, document and
line. At last a signal goes to the whole process group of runs under `uv run` and `timeout`. Prints the faults
tried, survived and lost, and exits with 1 if any was lost. Needs Linux and a C compiler.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__mp_main__":  # it imports PyTorch, which only the processes that fork runs need
    import faulty_runs
if TYPE_CHECKING:
    import faulty_runs
    from faulty_runs import Run

SHIM = Path(__file__).with_name("faulty_disk.c")
WRITE, SYNC, RENAME, CREATE, REMOVE, READ = 1, 2, 4, 8, 16, 32  # as in the shim
ALL = WRITE | SYNC | RENAME | CREATE | REMOVE
KILL, CLOCK = -1, -2
PER_PROCESS = 40  # faults; the next process has other hashes of strings
MOST_SECONDS = 300.0
QUIET_SECONDS = 0.5  # after which a run that follows a complete file is asked to stop
PAUSE = 0.004
PARENT_DEATH_SIGNAL = 1
GROWTHS = 60  # of the file, in the time of an undisturbed run


@dataclass(frozen=True)
class Kind:
    """What a fault does to operations on a folder from a random one on; None for a signal.

    The folder is that of the run, or what else an attribute of the run names; then a run takes about
    `operations` on it.
    """

    effect: int | None = None
    kinds: int = ALL
    repeats: bool = False
    words: str = ""
    where: str = "directory"
    operations: int = 0
    runs: tuple[str, ...] = ("train", "pretrain")


KINDS = {
    "killed at a random moment": Kind(),
    "killed in an operation": Kind(KILL),
    "asked to stop": Kind(),
    "one operation fails": Kind(errno.EIO, words="the disk reports an error"),
    "every n-th operation fails": Kind(errno.EIO, repeats=True, words="the disk reports an error"),
    "the disk is full": Kind(errno.ENOSPC, WRITE | CREATE, repeats=True, words="the disk is full"),
    "the folder is read-only": Kind(errno.EROFS, repeats=True, words="the disk is read-only"),
    "the clock is set back an hour": Kind(CLOCK, words="-"),
    "reading the source fails once": Kind(
        errno.EIO, READ, words="the disk reports an error", where="source", operations=80, runs=("train",)
    ),
    "reading the source fails again and again": Kind(
        errno.EIO, READ, True, "the disk reports an error", "source", 80, ("train",)
    ),
    "the event log's disk is full": Kind(
        errno.ENOSPC, WRITE | CREATE, True, "the disk is full", "logs", 20, ("train",)
    ),
}
KILLS, OTHERS = list(KINDS)[:2], list(KINDS)[2:]
SUPERVISORS = {"uv run": ("uv", "run", "--no-sync"), "timeout": ("timeout", "600")}
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
RUNS = ("train", "pretrain")
GROUPS = [(who, what, number) for who in SUPERVISORS for what in RUNS for number in SIGNALS]


@dataclass(frozen=True)
class Fault:
    """One fault: which run it strikes, with what, when (a share, early moments more often), how often again.

    A struck run is continued, so that early moments fall anywhere in it.
    """

    run: str
    kind: str
    moment: float
    every: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What became of a fault: whether it struck, and what is wrong after it."""

    fault: Fault
    struck: bool
    ended: bool
    problem: str


def drawn(count: int, seed: int) -> list[Fault]:
    """Return the faults, each run's in turn: `count` kills, and half as many others."""
    dice = random.Random(seed)
    plan = [(RUNS[number % 2], KILLS[number // 2 % 2]) for number in range(count)]
    for number in range(count // 2):
        run = RUNS[number % 2]
        kinds = [kind for kind in OTHERS if run in KINDS[kind].runs]
        plan.append((run, kinds[number // 2 % len(kinds)]))
    dice.shuffle(plan)
    return [
        Fault(run, kind, dice.random(), dice.choice((1, 2, 3, 5, 8, 13)), dice.randrange(2**32))
        for run, kind in plan
    ]


class Disk:
    """The shim below one folder: each forked process prepares a fault, and its parent reads the counter."""

    def __init__(self, run: Run) -> None:
        self._shim = ctypes.CDLL(None)
        self._shim.faulty_disk_count.restype = ctypes.c_long
        self._run = run

    def first(self, fault: Fault) -> int:
        """Return the number of the first operation that fails."""
        return 1 + int(fault.moment**3 * (KINDS[fault.kind].operations or self._run.operations))

    def count_only(self) -> None:
        """Count the operations, of forked processes too, and let none fail."""
        self._set(self._run.directory, 0, 0, 0, 0)

    def prepare(self, fault: Fault) -> None:
        """In a forked process: make the operations fail as a fault says; die with the parent."""
        self._shim.prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
        kind = KINDS[fault.kind]
        every = fault.every if kind.effect == errno.EIO else 1
        first = self.first(fault) if kind.effect else 0
        self._set(getattr(self._run, kind.where), kind.kinds, first, every * kind.repeats, kind.effect or 0)

    def _set(self, path: Path, kinds: int, first: int, every: int, effect: int) -> None:
        self._shim.faulty_disk_set(
            os.fsencode(path), kinds or ALL, ctypes.c_long(first), ctypes.c_long(every), effect
        )

    def count(self) -> int:
        """Return the number of operations since the last call of a method above."""
        return self._shim.faulty_disk_count()


def strike(run: Run, fault: Fault, disk: Disk) -> Outcome:
    """Start or continue a run, let a fault strike it, and check what it leaves."""
    dice = random.Random(fault.seed)
    by_itself, signaled, struck = run.is_complete, None, False
    disk.count_only()
    child = faulty_runs.fork(run.line(), run.log, lambda: disk.prepare(fault))
    started = grows = grown = time.monotonic()
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        now = time.monotonic()
        if pid:
            break
        if now >= grows and not run.is_complete:
            run.grow(dice)
            grown, grows = now, now + dice.expovariate(GROWTHS / run.seconds)
        wanted = wanted_signal(run, fault, now - started, now - grown, by_itself)
        if wanted is not None and wanted != signaled:
            signaled, struck = wanted, is_due(run, fault, now - started)
            os.kill(child, wanted)
        time.sleep(PAUSE)
    if KINDS[fault.kind].effect is not None:
        struck = disk.count() >= disk.first(fault)
    ended = by_itself and signaled is None and status == 0
    problem = said(run, fault, status, signaled) or run.damage() or (run.difference() if ended else "")
    return Outcome(fault, struck, ended, problem)


def is_due(run: Run, fault: Fault, age: float) -> bool:
    """Return whether a fault is a signal, and its moment has come."""
    return KINDS[fault.kind].effect is None and age > fault.moment**2 * run.seconds


def wanted_signal(run: Run, fault: Fault, age: float, quiet: float, by_itself: bool) -> int | None:
    """Return the signal that a running process should have got by now."""
    if age > MOST_SECONDS:
        return signal.SIGKILL
    if is_due(run, fault, age):
        return signal.SIGTERM if fault.kind == "asked to stop" else signal.SIGKILL
    if not by_itself and run.is_complete and quiet > QUIET_SECONDS:
        return signal.SIGTERM
    return None


def said(run: Run, fault: Fault, status: int, signaled: int | None) -> str:
    """Return what is wrong with how a process ended: "" for a kill, success, or one sentence."""
    log = run.log.read_text(errors="replace")
    lines = log.splitlines() or [""]
    if os.WIFSIGNALED(status):
        if signaled == signal.SIGKILL and fault.kind != KILLS[0]:
            return f"it hung: {lines[-1]}"
        expected = {signaled, signal.SIGKILL if KINDS[fault.kind].effect == KILL else signaled}
        return "" if os.WTERMSIG(status) in expected else f"it ended with signal {os.WTERMSIG(status)}: {log}"
    code = os.WEXITSTATUS(status)
    if "Traceback" in log or code not in (0, 1, 2):
        return f"it ended with {code}: {log}"
    if code == 0:
        return ""
    if not lines[-1].startswith("sttx: ") or (KINDS[fault.kind].words not in lines[-1]):
        return f"the message does not name the fault: {lines[-1]}"
    saved = run.store.last_step()
    if "with --resume" in lines[-1] and f"continue from step {saved} " not in lines[-1]:
        return f"step {saved} is saved: {lines[-1]}"
    return ""


def strike_all(name: str, work: Path, faults: Sequence[Fault]) -> list[Outcome]:
    """Let faults strike a run, one after the other, in a process of its own."""
    run = expected_run(name, work)
    outcomes, disk = [], Disk(run)
    for drawn_fault in faults:
        fault = drawn_fault
        while True:
            outcome = strike(run, fault, disk)
            if outcome.ended or outcome.problem:
                run.start_again()
            if outcome.struck or outcome.problem:
                break
            fault = replace(fault, moment=fault.moment / 2)  # the run had ended before
        lost = f"\nLOST: {fault}\n{outcome.problem}\n" if outcome.problem else "."
        print(lost, end="", file=sys.stderr, flush=True)
        outcomes.append(outcome)
    return outcomes


def expected_run(name: str, work: Path) -> Run:
    """Return a run whose undisturbed result is known; the first time, run it."""
    run = faulty_runs.RUNS[name](work / name)
    disk = Disk(run)
    disk.count_only()
    run.expect(disk.count)
    return run


def signal_group(run: Run, supervisor: str, number: int) -> str:
    """Signal the process group of a supervised run; return what is wrong afterwards, "" if nothing is.

    `sttx train` follows a file that is half complete then.
    """
    run.start_again()
    while run.share_written < 0.5:
        run.grow(random.Random(0))
    line = [*SUPERVISORS[supervisor], sys.executable, "-m", "sttx_cli", *run.line()]
    with run.log.open("wb") as log:
        process = subprocess.Popen(line, stdout=log, stderr=log, start_new_session=True)
    started = time.monotonic()
    while run.steps() < 3 and process.poll() is None and time.monotonic() - started < MOST_SECONDS:
        time.sleep(PAUSE)
    os.killpg(process.pid, number)
    try:
        code = process.wait(MOST_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return "it hung"
    said = run.log.read_text(errors="replace")
    if code or "Interrupted." not in said:
        return f"it ended with {code}: {said}"
    while not run.is_complete:
        run.grow(random.Random(0))
    os.waitpid(faulty_runs.fork(run.line(), run.log), 0)
    return run.difference()


def signal_groups(work: Path) -> list[str]:
    """Signal supervised runs; return what is wrong after each."""
    runs = {name: expected_run(name, work) for name in faulty_runs.RUNS}
    problems = []
    for supervisor, what, number in GROUPS:
        problems.append(signal_group(runs[what], supervisor, number))
        print(problems[-1] or ".", end="", file=sys.stderr, flush=True)
    return problems


def outcomes_of(faults: Sequence[Fault], work: Path, *, supervised: bool) -> Iterator[Outcome]:
    """Yield the outcome of each fault; every few faults a new process continues a run."""
    os.environ |= {
        "LD_PRELOAD": str(built(work)),
        "OMP_NUM_THREADS": "1",
        "STTX_CACHE_DIR": str(work / "cache"),
        "STTX_LOG_DIR": str(work / "logs"),
    }
    context = multiprocessing.get_context("spawn")
    waiting = {name: [fault for fault in faults if fault.run == name] for name in RUNS}
    with ProcessPoolExecutor(len(RUNS), mp_context=context, max_tasks_per_child=1) as pool:

        def next_part(name: str) -> Future[list[Outcome]]:
            part, waiting[name] = waiting[name][:PER_PROCESS], waiting[name][PER_PROCESS:]
            return pool.submit(strike_all, name, work, part)

        parts = {next_part(name): name for name in RUNS if waiting[name]}
        while parts:
            for done in wait(parts, return_when=FIRST_COMPLETED).done:
                name = parts.pop(done)
                if waiting[name]:
                    parts[next_part(name)] = name
                yield from done.result()
        problems = pool.submit(signal_groups, work).result() if supervised else ()
        for (supervisor, what, number), problem in zip(GROUPS, problems, strict=False):
            kind = f"{signal.Signals(number).name} to its group under {supervisor}"
            yield Outcome(Fault(what, kind, 0.0, 0, 0), True, True, problem)


def built(work: Path) -> Path:
    """Compile the shim and return its path."""
    library = work / "faulty_disk.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, SHIM, "-ldl"], check=True)
    return library


def main() -> int:
    """Strike, print and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--work", type=Path, help="an empty folder, kept afterwards; by default a temporary one"
    )
    parser.add_argument("--unsupervised", action="store_true", help="leave out the signals to process groups")
    options = parser.parse_args()
    tried, lost, began = Counter[str](), Counter[str](), time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        for outcome in outcomes_of(
            drawn(options.faults, options.seed), work, supervised=not options.unsupervised
        ):
            fault = outcome.fault
            name = f"{fault.run}: {fault.kind}"
            tried[name] += 1
            if outcome.problem:
                lost[name] += 1
    for name, count in tried.items():
        print(f"{name}: {count} tried, {count - lost[name]} survived, {lost[name]} lost")
    total, missing = tried.total(), lost.total()
    print(
        f"faults: {total} tried, {total - missing} survived, {missing} lost; {time.monotonic() - began:.0f} s"
    )
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
