"""How many windows a step has where nobody has said, and how far a stream is read ahead for them."""

from __future__ import annotations

from dataclasses import replace

from sttx_core.errors import UsageError
from sttx_train.stream.config import StreamConfig

HISTORY = 1
"""Windows of a step where history is read by one process."""
READ_AHEAD = 2**17
"""Tokens of history that may wait, so that several documents have a window for each step."""


def settle_batch(
    config: StreamConfig, *, history: bool, processes: int = 1, saved: object = None
) -> tuple[StreamConfig, str]:
    """Return a config whose ``batch`` is a number, and why it is that number.

    Args:
        config: the config of a run.
        history: whether the stream ends by itself, so that it can be read ahead.
        processes: how many processes share each step.
        saved: the number of the run to resume; None for a new run.

    Raises:
        UsageError: the processes cannot share the windows evenly.

    >>> config, why = settle_batch(StreamConfig(batch="auto"), history=True, processes=4)
    >>> config.batch, why
    (4, 'a window for each process')
    """
    if config.batch != "auto":
        batch, why = config.batch, "as asked"
    elif isinstance(saved, int):
        batch, why = saved, "as in the saved run"
    elif processes > 1:
        batch, why = processes, "a window for each process"
    elif history:
        batch, why = HISTORY, "more windows a step would learn less of the same text"
    else:
        batch, why = 1, "live work is learned as it comes"
    if batch % processes:
        raise UsageError(
            f"--batch {batch} is not a multiple of the {processes} processes that share each step: change one"
        )
    return replace(config, batch=batch), why
