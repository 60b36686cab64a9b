"""What windows for replay cost: of those that were read again, and of new ones. Knows no network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sttx_core.replay import Drawn, ReplayBuffer
from sttx_train.online.carried import Carried
from sttx_train.online.payment import NATS_TO_BITS, window_bytes
from sttx_train.online.window import Window


def refresh(
    replay: ReplayBuffer, drawn: Sequence[Drawn], nats: Sequence[float], byte_lengths: np.ndarray
) -> None:
    """Update the surprise of windows that were read again.

    Args:
        replay: where they are.
        drawn: the windows, as the buffer returned them.
        nats: what each cost now.
        byte_lengths: UTF-8 bytes of each token.
    """
    for item, value in zip(drawn, nats, strict=True):
        surprise = value * NATS_TO_BITS / max(int(byte_lengths[item.item[1:]].sum()), 1)
        replay.refresh(item.slot, item.generation, surprise)


def remember(
    replay: ReplayBuffer,
    windows: Sequence[Window],
    carried: Sequence[Carried],
    nats: Sequence[float],
    byte_lengths: np.ndarray,
) -> None:
    """Offer windows to replay if all their tokens are paid for, each after the token before it.

    Args:
        replay: takes them, or not.
        windows: the windows.
        carried: what their documents carried before them.
        nats: what each cost.
        byte_lengths: UTF-8 bytes of each token.
    """
    for window, before, value in zip(windows, carried, nats, strict=True):
        if window.paid is None:
            item = np.array([before.context[-1], *window.ids], dtype=np.int32)
            replay.add(item, value * NATS_TO_BITS / max(window_bytes(window, byte_lengths), 1))
