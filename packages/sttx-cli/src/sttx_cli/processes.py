"""The processes of a `torchrun`: the first one reads, reports and writes, the others compute in silence."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sttx_cli.output import SCREEN
from sttx_cli.threads import follows_live
from sttx_core.errors import UsageError
from sttx_train.environment import is_first_process, process_count

if TYPE_CHECKING:
    import torch

    from sttx_train.workers import Workers


def hush_others() -> bool:
    """Return whether this is the first process. Any other one says nothing from now on but why it fails."""
    first = is_first_process()
    SCREEN.silent = not first
    return first


@contextmanager
def together(device: "torch.device") -> "Iterator[Workers]":
    """Join the other processes inside the block, if there are any.

    Where the block fails, `torchrun` soon sends SIGTERM to all; this process ignores it, to say why it ends.
    """
    from sttx_train.workers import joined

    with joined(device) as workers:
        try:
            yield workers
        except BaseException:
            if workers.count > 1:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise


def settle_follow(sources: Sequence[str], follow: bool | None, say: Callable[[str], None]) -> bool | None:
    """Return what `--follow` is with the processes that there are: several of them read history only.

    Raises:
        UsageError: Several processes are asked to follow.
    """
    if process_count() == 1 or not follows_live(sources, follow):
        return follow
    if follow:
        raise UsageError("several processes cannot follow live work: leave out --follow, or start one")
    say("history: it is read to its end and not followed, because several processes share the work")
    return False
