"""States that a tuned state must beat: none, another person's, its own with its layers in another order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sttx_train.online.average import for_reading
from sttx_train.predict.learned import Learned

CONTROLS = {
    "zero": "no state: S0 is zero",
    "donor": "another person's state",
    "shuffled": "the state with its layers in another order",
}
"""Every control, by its name."""

_SEED = 0


def state_of(learned: Learned) -> np.ndarray | None:
    """Return the tuned state ``[L, H, N, N]`` of what was learned; None if its scope had none."""
    s0 = learned.s0
    if s0 is None and learned.state is not None:
        s0 = for_reading(learned.state["tensors"]["learned"])
    return None if s0 is None or not bool(s0.any()) else s0.detach().cpu().float().numpy().copy()


def shuffled(s0: np.ndarray) -> np.ndarray:
    """Return a state in which no layer has its own matrices, if there are two layers or more.

    >>> shuffled(np.arange(4.0).reshape(4, 1, 1, 1)).ravel().tolist()
    [2.0, 0.0, 3.0, 1.0]
    """
    order = np.random.default_rng(_SEED).permutation(len(s0))
    after = np.empty_like(s0)  # the layers of a random circle each move to the next place of it
    after[order] = s0[np.roll(order, 1)]
    return after


def beats(controls: Mapping[str, Mapping[str, Any]], how: str) -> list[str]:
    """Return the controls that the state beats, with the whole 95% interval on its side.

    Args:
        controls: of a report.
        how: "network" for the network alone, "paid" for beside experts.
    """
    leads = {name: control[how]["interval"] for name, control in controls.items()}
    return [name for name, lead in leads.items() if lead is not None and lead[0] > 0]
