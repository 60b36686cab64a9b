"""Windows of sessions: tokens that are written, and the tokens after them that are scored. Knows no model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sttx_core.errors import DataError

Ids = NDArray[np.int64]


class _Encoder(Protocol):
    def encode_with_ends(self, text: str) -> tuple[list[int], list[int]]: ...


@dataclass(frozen=True, kw_only=True)
class SessionTokens:
    """A session as tokens.

    Attributes:
        sha256: of its text.
        ids: its tokens ``[T]``.
        ends: bytes of the text that end with each token ``[T]``.
    """

    sha256: str
    ids: Ids
    ends: Ids

    @classmethod
    def of(cls, text: str, vocabulary: _Encoder) -> SessionTokens:
        """Return the tokens of a text."""
        ids, ends = vocabulary.encode_with_ends(text)
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        return cls(sha256=digest, ids=np.array(ids, np.int64), ends=np.array(ends, np.int64))

    def bytes_between(self, start: int, stop: int) -> int:
        """Return how many bytes the tokens from ``start`` up to ``stop`` have; ``start`` is above 0."""
        return int(self.ends[stop - 1] - self.ends[start - 1])


class Window(NamedTuple):
    """Consecutive tokens of a session.

    Attributes:
        session: its place among the sessions.
        start: its first token, which is written.
    """

    session: int
    start: int


def long_enough(sessions: Iterable[SessionTokens], length: int) -> list[SessionTokens]:
    """Return the sessions with at least this many tokens.

    Raises:
        DataError: there is none.
    """
    kept = [session for session in sessions if len(session.ids) >= length]
    if not kept:
        raise DataError(
            f"no session has {length} tokens, so many are written and scored: shorten the windows"
        )
    return kept


def split_sessions(
    sessions: Sequence[SessionTokens], validation: float, seed: int
) -> tuple[list[SessionTokens], list[SessionTokens]]:
    """Split sessions into those to train on and those to evaluate on, drawn by the seed.

    Args:
        sessions: at least two.
        validation: the share to evaluate on, above 0 and below 1; at least one session.
        seed: of the draw; the order of the sessions does not matter.

    Raises:
        DataError: there is only one session.
    """
    if len(sessions) < 2:
        raise DataError("one session cannot be split into training and evaluation: give more")
    ordered = sorted(sessions, key=lambda session: session.sha256)
    count = min(max(round(validation * len(ordered)), 1), len(ordered) - 1)
    drawn = set(np.random.default_rng(seed).permutation(len(ordered))[:count].tolist())
    return (
        [session for at, session in enumerate(ordered) if at not in drawn],
        [session for at, session in enumerate(ordered) if at in drawn],
    )


def drawn(sessions: Sequence[SessionTokens], length: int, count: int, seed: Sequence[int]) -> list[Window]:
    """Return random windows; every place of every session is equally likely.

    Args:
        sessions: each with at least ``length`` tokens.
        length: tokens of a window.
        count: how many.
        seed: of the draw.
    """
    ends = np.cumsum([len(session.ids) - length + 1 for session in sessions])
    places = np.random.default_rng(seed).integers(0, ends[-1], size=count)
    found = np.searchsorted(ends, places, side="right")
    return [
        Window(int(at), int(place - (ends[at - 1] if at else 0)))
        for at, place in zip(found, places, strict=True)
    ]


def spread(sessions: Sequence[SessionTokens], length: int, most: int) -> list[Window]:
    """Return at most so many windows of each session, evenly spread; they overlap only in short sessions."""
    windows = []
    for at, session in enumerate(sessions):
        room = len(session.ids) - length
        count = min(most, room // length + 1)
        starts = np.linspace(0, room, count + 2)[1:-1] if count > 1 else np.array([room / 2])
        windows += [Window(at, int(start)) for start in starts]
    return windows


def tokens_of(sessions: Sequence[SessionTokens], windows: Sequence[Window], length: int) -> Ids:
    """Return the tokens of windows ``[B, length]``."""
    return np.stack([sessions[at].ids[start : start + length] for at, start in windows])
