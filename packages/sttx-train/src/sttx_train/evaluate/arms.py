"""The arms that `sttx eval` compares: what predicts in each, and what learns. Runs none of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sttx_core.errors import UsageError
from sttx_train.online.scope import SCOPES


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to predict a stream.

    Attributes:
        what: what it is, for people.
        experts: whether experts are mixed in.
        learns: whether the network learns, or has learned.
        settings: fields of `LearnerConfig` that differ from the defaults. An arm with any learns from the
            start of the stream.
    """

    what: str
    experts: bool = True
    learns: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)


ARMS: dict[str, Arm] = {
    "frozen": Arm(what="the frozen network alone", experts=False, learns=False),
    "network": Arm(what="the learned network alone", experts=False),
    "experts": Arm(what="the frozen network and experts", learns=False),
    "paid": Arm(what="everything: the learned network, the frozen one and experts"),
    **{
        f"scope:{scope}": Arm(what=f"everything, where only {scope} learns", settings={"scope": (scope,)})
        for scope in SCOPES
    },
    "phrases": Arm(what="everything, always read in phrases", settings={"phrases": "on"}),
    "no-replay": Arm(what="everything, without replay", settings={"replay_rows": 0}),
}
"""Every arm, by its name."""

DEFAULT_ARMS = ("frozen", "network", "experts", "paid")


def parse_arms(text: str) -> tuple[str, ...]:
    """Read a comma-separated list of arms.

    Raises:
        UsageError: the list is empty or has an unknown arm.

    >>> parse_arms("paid, frozen,paid")
    ('paid', 'frozen')
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in ARMS]
    if unknown or not names:
        raise UsageError(f"unknown arm {(unknown or [text])[0]!r}; choose among {', '.join(ARMS)}")
    return names


def check_arms(names: tuple[str, ...], *, learned: str | None) -> None:
    """Refuse arms that learn in a way of their own where a learned network is scored unchanged.

    Args:
        names: the arms.
        learned: the option that names what was learned; None without.

    Raises:
        UsageError: there is one.
    """
    different = [name for name in names if ARMS[name].settings]
    if learned and different:
        raise UsageError(
            f"the arm {different[0]!r} learns from the start of the stream, and {learned} is scored as it "
            "was saved: leave one of the two out"
        )
