"""Documents of token ids: in memory, in a mapped file, or in several. Knows no model.

A document starts with the end-of-text id, so a reader of several documents in a row knows where each
starts. The readers of files return these; `sampling` cuts them into windows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from sttx_core.errors import DataError, UsageError
from sttx_core.tokenizers.protocol import EOT_ID

_SCANNED_AT_ONCE = 1 << 24
_READ_AT_ONCE = 1 << 20


class Documents(Protocol):
    """Many documents of ids.

    Attributes:
        lengths: int64 ``[documents]``: ids of each document, its leading end-of-text id included; at least 1.
        eot_id: the end-of-text id.
    """

    lengths: np.ndarray
    eot_id: int

    def read(self, document: int, start: int, stop: int) -> np.ndarray:
        """Return the ids from ``start`` to ``stop`` of a document as int64 ``[stop - start]``."""
        ...

    def read_many(self, first: int, stop: int) -> np.ndarray:
        """Return all ids of the documents from ``first`` to before ``stop``, in order, as int64 ``[ids]``."""
        ...


class Packed:
    """One flat array of ids in which every document starts with the end-of-text id.

    >>> documents = Packed(np.array([0, 7, 8, 0, 9]))
    >>> documents.lengths.tolist(), documents.read(0, 1, 3).tolist()
    ([3, 2], [7, 8])

    Raises:
        DataError: it has another shape, does not hold integers, has a negative one, or does not start with
            the end-of-text id.
    """

    def __init__(self, tokens: np.ndarray, eot_id: int = EOT_ID) -> None:
        if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
            raise DataError(
                f"packed ids are one row of integers, not {tokens.dtype} of shape {list(tokens.shape)}"
            )
        if not len(tokens) or tokens[0] != eot_id:
            raise DataError(f"packed ids must start with the end-of-text id {eot_id}, as every document does")
        self._tokens, self.eot_id = tokens, eot_id
        starts = _positions(tokens, eot_id)
        self._bounds = np.append(starts, len(tokens))
        self.lengths = np.diff(self._bounds)

    def read(self, document: int, start: int, stop: int) -> np.ndarray:
        """Return a piece of a document."""
        first = self._bounds[document]
        return self._tokens[first + start : first + stop].astype(np.int64)

    def read_many(self, first: int, stop: int) -> np.ndarray:
        """Return whole documents."""
        return self._tokens[self._bounds[first] : self._bounds[stop]].astype(np.int64)


class Marked:
    """Documents in one array of ids that marks them elsewhere than at their start, or not at all.

    Args:
        ids: all ids.
        starts: int64 ``[documents]``: position of the first id of each document that is not its mark.
        stops: the position after its last one. Only end-of-text ids are between two documents.
        eot_id: the end-of-text id, which is read as the first id of each document.
    """

    def __init__(self, ids: np.ndarray, starts: np.ndarray, stops: np.ndarray, eot_id: int) -> None:
        self._ids, self._starts, self._stops, self.eot_id = ids, starts, stops, eot_id
        self.lengths = stops - starts + 1

    def read(self, document: int, start: int, stop: int) -> np.ndarray:
        """Return a piece of a document."""
        begin = int(self._starts[document])
        ids = self._ids[begin + max(start - 1, 0) : begin + max(stop - 1, 0)].astype(np.int64)
        return np.concatenate([[self.eot_id], ids]) if start == 0 < stop else ids

    def read_many(self, first: int, stop: int) -> np.ndarray:
        """Return whole documents."""
        if stop <= first:
            return np.zeros(0, np.int64)
        stored, lengths = self._ids[self._starts[first] : self._stops[stop - 1]], self.lengths[first:stop]
        ids = np.full(int(lengths.sum()), self.eot_id, np.int64)
        inside = np.ones(len(ids), bool)
        inside[np.cumsum(lengths) - lengths] = False
        ids[inside] = stored[stored != self.eot_id]
        return ids


def cut_at_marks(ids: np.ndarray, eot_id: int, ends: np.ndarray | Sequence[int] = ()) -> Marked:
    """Return the documents between end-of-text ids, which may start or end them; empty ones are left out.

    Args:
        ids: all ids ``[ids]``.
        eot_id: the end-of-text id.
        ends: further positions where a document ends.

    >>> cut_at_marks(np.array([9, 1, 2, 9, 3, 9]), 9).lengths.tolist()
    [3, 2]
    >>> cut_at_marks(np.array([1, 2, 3]), 9, [1]).lengths.tolist()
    [2, 3]
    """
    marks = _positions(ids, eot_id)
    starts = np.unique(np.concatenate([[0], marks + 1, np.asarray(ends, np.int64)]))
    stops = np.unique(np.concatenate([marks, np.asarray(ends, np.int64), [len(ids)]]))
    starts = starts[starts < len(ids)]
    starts = starts[ids[starts] != eot_id]
    return Marked(ids, starts, stops[np.searchsorted(stops, starts, side="right")], eot_id)


class Joined:
    """Several collections of documents, one after the other; all have the same end-of-text id."""

    def __init__(self, parts: Sequence[Documents]) -> None:
        self._parts = list(parts)
        self.eot_id = parts[0].eot_id if parts else EOT_ID
        self.lengths = np.concatenate([part.lengths for part in parts]) if parts else np.zeros(0, np.int64)
        self._ends = np.cumsum([len(part.lengths) for part in parts])

    def read(self, document: int, start: int, stop: int) -> np.ndarray:
        """Return a piece of a document."""
        which = int(np.searchsorted(self._ends, document, side="right"))
        before = int(self._ends[which - 1]) if which else 0
        return self._parts[which].read(document - before, start, stop)

    def read_many(self, first: int, stop: int) -> np.ndarray:
        """Return whole documents."""
        parts, before = [], 0
        for part, end in zip(self._parts, self._ends.tolist(), strict=True):
            if first < end and before < stop:
                parts.append(part.read_many(max(first, before) - before, min(stop, end) - before))
            before = end
        return _concatenated(parts)


class Chosen:
    """A selection of documents, by their numbers."""

    def __init__(self, documents: Documents, numbers: np.ndarray) -> None:
        self._documents, self._numbers, self.eot_id = documents, numbers, documents.eot_id
        self.lengths = documents.lengths[numbers]

    def read(self, document: int, start: int, stop: int) -> np.ndarray:
        """Return a piece of a document."""
        return self._documents.read(int(self._numbers[document]), start, stop)

    def read_many(self, first: int, stop: int) -> np.ndarray:
        """Return whole documents; consecutive ones are read together."""
        numbers = self._numbers[first:stop]
        runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
        return _concatenated(
            [self._documents.read_many(int(run[0]), int(run[-1]) + 1) for run in runs if len(run)]
        )


class Prefixes:
    """The first part of each document, up to a cut."""

    def __init__(self, documents: Documents, cuts: np.ndarray) -> None:
        self._documents, self.eot_id = documents, documents.eot_id
        self.lengths = cuts

    def read(self, document: int, start: int, stop: int) -> np.ndarray:
        """Return a piece of a document."""
        return self._documents.read(document, start, stop)

    def read_many(self, first: int, stop: int) -> np.ndarray:
        """Return whole documents."""
        return _one_by_one(self, first, stop)


class Suffixes:
    """The last part of each document, from a cut on, as a document of its own."""

    def __init__(self, documents: Documents, cuts: np.ndarray) -> None:
        self._documents, self._cuts, self.eot_id = documents, cuts, documents.eot_id
        self.lengths = documents.lengths - cuts + 1  # each gets a leading mark

    def read(self, document: int, start: int, stop: int) -> np.ndarray:
        """Return a piece of a document."""
        skipped = int(self._cuts[document]) - 1
        ids = self._documents.read(document, skipped + max(start, 1), skipped + max(stop, 1))
        return np.concatenate([[self.eot_id], ids]) if start == 0 < stop else ids

    def read_many(self, first: int, stop: int) -> np.ndarray:
        """Return whole documents."""
        return _one_by_one(self, first, stop)


def split(documents: Documents, share: float, seed: int = 0) -> tuple[Documents, Documents]:
    """Split documents into training and validation data.

    Validation gets whole documents, drawn by the seed, with at least the given share of the ids. If those
    would be half of all ids or more, because there are few documents, it gets the last part of every one.

    Args:
        documents: all documents.
        share: validation's share of the ids, from 0 to below 1.
        seed: of the draw.

    Returns:
        The training and the validation documents, both in their original order.

    Raises:
        UsageError: the share is out of range, or leaves nothing to train on.
    """
    if not 0 <= share < 1:
        raise UsageError(f"--validation must be a share from 0 to below 1, not {share!r}")
    order = np.random.default_rng(seed).permutation(len(documents.lengths))
    wanted = share * int(documents.lengths.sum())
    count = int(np.searchsorted(np.cumsum(documents.lengths[order]), wanted)) + 1 if share else 0
    if share < 0.5 and 2 * documents.lengths[order[:count]].sum() >= documents.lengths.sum():
        cuts = np.maximum(documents.lengths - np.ceil(documents.lengths * share).astype(np.int64), 1)
        return Prefixes(documents, cuts), Suffixes(documents, cuts)
    if count >= len(order) > 0:
        rest = "nothing of the only document" if len(order) == 1 else f"none of the {len(order)} documents"
        raise UsageError(
            f"--validation {share!r} leaves {rest} to train on: give more documents, or a smaller share"
        )
    return Chosen(documents, np.sort(order[count:])), Chosen(documents, np.sort(order[:count]))


def pieces_of(documents: Documents) -> Iterator[np.ndarray]:
    """Yield all ids of documents in order as int64, in pieces: a mapped file is never in memory whole.

    A piece is a number of whole documents with at most a million ids, or a part of a longer document.
    """
    ends = np.cumsum(documents.lengths)
    first = 0
    while first < len(ends):
        length = int(documents.lengths[first])
        stop = int(np.searchsorted(ends, int(ends[first]) - length + _READ_AT_ONCE, side="right"))
        if stop > first:
            yield documents.read_many(first, stop)
            first = stop
        else:
            for start in range(0, length, _READ_AT_ONCE):
                yield documents.read(first, start, min(start + _READ_AT_ONCE, length))
            first += 1


def fingerprint(documents: Documents) -> str:
    """Return a hash of all lengths and ids: a run is resumed on the same documents only.

    Ids have 32 bits at most. A hundred million take about a second.
    """
    digest = hashlib.sha256(np.ascontiguousarray(documents.lengths, "<i8").tobytes())
    for ids in pieces_of(documents):
        digest.update(np.ascontiguousarray(ids, "<u4").data)
    return digest.hexdigest()


def _one_by_one(documents: Documents, first: int, stop: int) -> np.ndarray:
    lengths = documents.lengths[first:stop].tolist()
    return _concatenated([documents.read(at, 0, length) for at, length in enumerate(lengths, first)])


def _concatenated(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _positions(tokens: np.ndarray, eot_id: int) -> np.ndarray:
    """Return the positions of the end-of-text ids without copying a mapped file; reject negative ids."""
    positions = []
    for at in range(0, len(tokens), _SCANNED_AT_ONCE):
        piece = tokens[at : at + _SCANNED_AT_ONCE]
        if tokens.dtype.kind == "i" and int(piece.min()) < 0:
            place = int(np.argmax(piece < 0))
            raise DataError(
                f"packed ids hold {int(piece[place])} at position {at + place}: ids are not negative"
            )
        positions.append(np.flatnonzero(piece == eot_id) + at)
    return np.concatenate(positions) if positions else np.zeros(0, np.int64)
