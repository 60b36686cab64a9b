"""Makes the bank of states that the options of a run ask for. Knows no stream."""

from __future__ import annotations

from sttx_core.errors import UsageError
from sttx_train.online import LearnerConfig
from sttx_train.online.bank import StateBank
from sttx_train.stream.config import StreamConfig


def bank_of(config: StreamConfig, learning: LearnerConfig) -> StateBank | None:
    """Return an empty bank of states, or None if the run has none.

    Raises:
        UsageError: the bank would keep S0 from entering anywhere.
    """
    if config.memory == "none":
        return None
    if learning.inject == "start":
        raise UsageError(
            "--memory bank does not go with --inject start: S0 would enter only documents that start from "
            "nothing; leave one of them out"
        )
    return StateBank(config.bank_states)
