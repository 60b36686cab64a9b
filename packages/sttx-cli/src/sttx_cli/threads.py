"""How many threads a command computes with, and at which priority: sttx runs beside other programs.

Two things go wrong on a busy machine. Threads that spin while they wait take the core from the thread that
they wait for, and from other programs; so they sleep instead (`sttx_cli.environment`). And with more threads
than free cores, all wait for the slowest; so a command takes one thread for each core that is free when it
starts. docs/log.md has the measurements, and `benchmarks/neighbor.py` repeats them.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from sttx_cli.environment import threads_are_set, wait_policy
from sttx_cli.output import count

NICE = 10  # of a run that follows live work; 0 is normal and 19 the lowest priority
SMALL_STEP = 128 * 256  # tokens of a step times the model's width; up to here two threads are enough
_MOST_THREADS = 1024
_FOLLOWED = ("claude", "codex", "opencode", "live")  # sources that are followed by default


class ThreadChoice(NamedTuple):
    """A number of threads and why it was chosen."""

    threads: int
    reason: str


class Threads(click.ParamType):
    """A number of threads; 0 or "auto" leaves the choice to sttx."""

    name = "threads"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number, 0 for auto."""
        if value == "auto":
            return 0
        try:
            number = int(value)
        except ValueError:
            number = -1
        if not 0 <= number <= _MOST_THREADS:
            self.fail(f"{value!r} is not auto or a whole number up to {_MOST_THREADS}", param, ctx)
        return number


threads_option = click.option(
    "--threads",
    type=Threads(),
    default="auto",
    show_default=True,
    metavar="N",
    help="Threads to compute with on a CPU; auto takes the free cores, at most two for small steps, and one "
    "if such a run follows live work.",
)


def choose_threads(requested: int = 0, *, before: int | None = None, most: int | None = None) -> ThreadChoice:
    """Choose how many threads to compute with, and say why.

    Args:
        requested: What `--threads` asks for; 0 to choose.
        before: Threads of the run that is resumed; only the same number continues it bit for bit.
        most: How many threads are useful; None if there is no limit.

    >>> choose_threads(3)
    ThreadChoice(threads=3, reason='asked for')
    """
    if requested:
        return ThreadChoice(requested, "asked for")
    if threads_are_set():
        import torch

        return ThreadChoice(torch.get_num_threads(), "OMP_NUM_THREADS is set")
    if before:
        return ThreadChoice(before, "as before, so that the run continues exactly")
    free = free_cores(cores(), load())
    if most is not None and free.threads > most:
        return ThreadChoice(most, "more would gain little in steps this small")
    return free


def useful_threads(step: int, *, follows: bool) -> int | None:
    """Return how many threads are useful for a step; None if there is no limit.

    Args:
        step: Size of a step, its tokens times the model's width.
        follows: Whether the run follows live work, to which the other cores are left.
    """
    if step > SMALL_STEP:
        return None
    return 1 if follows else 2


def free_cores(cores: int, load: float | None) -> ThreadChoice:
    """Return a thread for each free core, at least one.

    Args:
        cores: Cores that this process may use.
        load: Mean number of running processes; None if it is unknown, then all cores count as free.

    >>> free_cores(8, 2.6)
    ThreadChoice(threads=5, reason='8 cores, 3 of them busy')
    >>> free_cores(2, 11.0)
    ThreadChoice(threads=1, reason='2 cores, all of them busy')
    """
    if load is None:
        return ThreadChoice(cores, f"{cores} cores")
    busy = min(round(load), cores)
    which = {0: "none", cores: "all"}.get(busy, str(busy))
    return ThreadChoice(max(cores - busy, 1), f"{cores} cores, {which} of them busy")


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load() -> float | None:
    """Return the mean number of running processes in the last minute; None if the system does not tell."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows does not
        return None


def use_threads(choice: ThreadChoice, say: Callable[[str], None], *, before: int | None = None) -> None:
    """Compute with this many threads from now on, and say so; also if the resumed run used another number."""
    import torch

    if choice.threads != torch.get_num_threads():
        torch.set_num_threads(choice.threads)
    waiting = f"; idle ones {wait_mode()}" if choice.threads > 1 else ""
    say(f"threads: {choice.threads} ({choice.reason}{waiting})")
    if before is not None and before != choice.threads:
        say(f"the saved run used {count(before, 'thread')}; with {choice.threads} the last bits may differ")


def wait_mode() -> str:
    """Return what a thread does while it waits for another."""
    policy = wait_policy()
    return {"passive": "sleep", "active": "spin", "": "spin for a while"}.get(policy, f"wait by {policy!r}")


def threads_before(directory: Path) -> int | None:
    """Return how many threads the run in a folder computed with; None if it did not record that.

    Raises:
        CheckpointError: There is no checkpoint, or it is damaged.
    """
    from sttx_train import CheckpointStore

    threads = CheckpointStore(directory).manifest().get("torch_threads")
    return threads if isinstance(threads, int) and 0 < threads <= _MOST_THREADS else None


def follows_live(sources: Sequence[str], follow: bool | None) -> bool:
    """Whether a run waits for new traces; by default it does if it reads an agent's own sessions."""
    return any(name in _FOLLOWED for name in sources) if follow is None else follow


def lower_priority() -> str | None:
    """Lower the priority of this process, so that a person's own work comes first.

    On Linux a thread inherits its priority from the thread that starts it: call this before others start.

    Returns:
        The new priority in words; None if it was as low already, or the system refuses.
    """
    if sys.platform == "win32":
        import psutil

        try:
            psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        except psutil.Error:
            return None
        return "below normal"
    now = os.nice(0)
    return f"nice {os.nice(NICE - now)}" if now < NICE else None
