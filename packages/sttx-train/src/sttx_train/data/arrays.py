"""Values in ``.npy`` arrays of integers, each row a document. Knows no text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sttx_core.errors import DataError, UsageError
from sttx_core.tokenizers import AnyTokenizer, Tokenizer, ValueTokenizer
from sttx_train.data.scanning import extremes, pieces

_TYPES = "save it with an integer dtype, such as int64, if its values are whole numbers"


class ArrayDocuments:
    """The rows of an array as documents, read and encoded a piece at a time.

    The constructor checks every value once, so that a bad one cannot stop a run halfway.

    Args:
        array: integers ``[sequences, length]``, or lists of them; a single row may be ``[length]``.
        tokenizer: a tokenizer of values.
        name: the array's name in error messages.

    Raises:
        DataError: the array is empty, does not hold integers, or has another shape.
        UsageError: the tokenizer is one of text, or its vocabulary lacks a value.

    >>> from sttx_core.tokenizers import IntegerTokenizer
    >>> documents = ArrayDocuments(np.array([[3, 1], [4, 1]]), IntegerTokenizer(9))
    >>> documents.lengths.tolist(), documents.read(1, 0, 3).tolist()
    ([3, 3], [0, 5, 2])
    """

    def __init__(
        self,
        array: np.ndarray | Sequence[int] | Sequence[Sequence[int]],
        tokenizer: AnyTokenizer,
        name: str = "the array",
    ) -> None:
        self._rows = require_rows(array, name)
        self._tokenizer = require_values(tokenizer, name)
        _require_range(self._rows, self._tokenizer, name)
        self.lengths = np.full(len(self._rows), self._rows.shape[1] + 1, np.int64)
        self.eot_id = tokenizer.eot_id

    def read(self, document: int, start: int, stop: int) -> np.ndarray:
        """Return a piece of a document."""
        ids = self._tokenizer.encode_array(self._rows[document, max(start - 1, 0) : max(stop - 1, 0)])
        return np.concatenate([[self.eot_id], ids]) if start == 0 < stop else ids

    def read_many(self, first: int, stop: int) -> np.ndarray:
        """Return whole documents."""
        ids = np.full((stop - first, self._rows.shape[1] + 1), self.eot_id, np.int64)
        ids[:, 1:] = self._tokenizer.encode_array(self._rows[first:stop])
        return ids.ravel()


def map_array(path: Path) -> np.ndarray:
    """Map a ``.npy`` file into memory. Nothing is unpickled.

    Raises:
        DataError: the file is damaged, or holds Python objects.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        if "object" in str(error):
            raise DataError(
                f"{str(path)!r} holds Python objects, which are not unpickled: {_TYPES}"
            ) from error
        raise DataError(f"{str(path)!r} is damaged or not a .npy file ({error}): write it again") from error


def open_array(
    path: Path, tokenizer: AnyTokenizer, say: Callable[[str], None] | None = None
) -> ArrayDocuments:
    """Map a ``.npy`` file as documents; ``say`` is called if its one row is read as one document."""
    array = map_array(path)
    documents = ArrayDocuments(array, tokenizer, repr(str(path)))
    if array.ndim == 1 and say is not None:
        say(f"{str(path)!r} is one row of {len(array):,} values: it is read as one document")
    return documents


def require_rows(rows: np.ndarray | Sequence[int] | Sequence[Sequence[int]], name: str) -> np.ndarray:
    """Return an array or lists as ``[sequences, length]``.

    Raises:
        DataError: they are empty, not integers, or of another shape.
    """
    try:
        array = np.asanyarray(rows)
    except ValueError:
        raise DataError(
            f"{name} has rows of different lengths: give rows of one length, or write them as JSON lines"
        ) from None
    if not array.size:
        raise DataError(f"{name} is empty: its shape is {list(array.shape)}")
    if array.dtype.kind not in "iu":
        raise DataError(f"{name} holds {array.dtype}, not integers: {_TYPES}")
    if array.ndim not in (1, 2):
        raise DataError(
            f"{name} has the shape {list(array.shape)}: give [sequences, length], or one row of values"
        )
    return array[None] if array.ndim == 1 else array


def require_values(tokenizer: AnyTokenizer, name: str) -> ValueTokenizer:
    """Return the tokenizer if it is one of values; raise a UsageError if it is one of text."""
    if isinstance(tokenizer, Tokenizer):
        raise UsageError(f"{name} holds numbers, but the tokenizer is one of text: give integer:MAX or angle")
    return tokenizer


def _require_range(rows: np.ndarray, tokenizer: ValueTokenizer, name: str) -> None:
    """Raise a UsageError for a value outside the vocabulary, naming its row.

    Only the smallest and largest value of each piece are tried, and its rows only if one of them fails.
    """
    for at, piece in pieces(rows):
        try:
            tokenizer.encode_array(np.array(extremes(piece)))
        except UsageError:
            for row, values in enumerate(piece, at):
                try:
                    tokenizer.encode_array(values)
                except UsageError as error:
                    raise UsageError(f"row {row} of {name}: {error}") from None
            raise
