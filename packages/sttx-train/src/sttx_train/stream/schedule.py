"""What a policy says of each step of a run. Follows from what was read, so a resumed run continues it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sttx_core.errors import UsageError
from sttx_train.online.policy import Policy, Train
from sttx_train.stream.config import StreamConfig

if TYPE_CHECKING:
    from sttx_train.online import OnlineLearner
    from sttx_train.stream.totals import Totals


class Schedule:
    """When a run learns, and how.

    Args:
        config: with the policy, if there is one.
        learner: who learns.

    Raises:
        UsageError: the policy names a scope that does not learn in this run.
    """

    def __init__(self, config: StreamConfig, learner: OnlineLearner) -> None:
        self._policy = None if config.policy is None else Policy.parse(config.policy)
        self._steps = config.steps
        scopes = self._policy.scopes() if self._policy else ()
        if missing := [scope for scope in scopes if not learner.in_scope((scope,))]:
            raise UsageError(f"--policy learns {missing[0]}, which this run does not: add it to --scope")

    def how(self, totals: Totals) -> Train | None:
        """Return how the next step learns; None if it does not."""
        policy = self._policy
        if policy is None:
            return Train()
        if policy.percent:  # of the steps
            return policy.step_at(totals.steps, totals.steps, self._steps)
        return policy.step_at(totals.bytes, totals.steps)

    @property
    def load_from(self) -> str | None:
        """Where what was learned before is, for a run to start with."""
        return None if self._policy is None else self._policy.load_from


def policy_identity(config: StreamConfig) -> str | None:
    """Return what a resumed run must share of the policy; None without one."""
    if config.policy is None or not Policy.parse(config.policy).percent:
        return config.policy
    return f"{config.policy} of {config.steps} steps"
