"""Scans ids and values piece by piece, so that a mapped file is never in memory whole. Knows no format."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sttx_core.errors import DataError
from sttx_core.tokenizers import Tokenizer
from sttx_train.byte_lengths import token_byte_lengths
from sttx_train.data.documents import Documents, pieces_of

PIECE = 1 << 22
"""Numbers in a piece."""


def pieces(array: np.ndarray, size: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each piece of about ``size`` numbers, at least one row, with the index of its first row.

    >>> [(at, piece.tolist()) for at, piece in pieces(np.arange(5), 2)]
    [(0, [0, 1]), (2, [2, 3]), (4, [4])]
    """
    of_row = max(array.size // max(len(array), 1), 1)
    rows = max((size or PIECE) // of_row, 1)
    for at in range(0, len(array), rows):
        yield at, array[at : at + rows]


def extremes(array: np.ndarray) -> tuple[int, int]:
    """Return the smallest and the largest number of an array that is not empty.

    >>> extremes(np.array([[3, 1], [4, 1]], np.uint8))
    (1, 4)
    """
    ranges = [(int(piece.min()), int(piece.max())) for _, piece in pieces(array)]
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def require_ids(tokens: np.ndarray, name: str, vocab_size: int) -> None:
    """Check that ids are inside a vocabulary.

    Args:
        tokens: integers; may be empty.
        name: where they come from, for the error message.
        vocab_size: one more than the largest id.

    Raises:
        DataError: an id is negative or too large.
    """
    high = extremes(tokens)[1] if tokens.size else 0
    require_not_negative(tokens, name)
    if high >= vocab_size:
        raise DataError(
            f"{name} holds the id {high}, but the vocabulary has {vocab_size} (position "
            f"{_position(tokens, high)}): give the tokenizer that it was built with"
        )


def require_not_negative(numbers: np.ndarray, name: str, what: str = "id") -> None:
    """Raise a DataError that names the smallest number and its position if it is negative."""
    low = extremes(numbers)[0] if numbers.size else 0
    if low < 0:
        raise DataError(
            f"{name} holds the {what} {low} (position {_position(numbers, low)}): {what}s are not negative; "
            "the file is damaged or is other data"
        )


def _position(array: np.ndarray, number: int) -> str:
    """Return where an array first holds a number: one index, or one for each dimension."""
    for at, piece in pieces(array):
        found = np.unravel_index(int(np.argmax(piece == number)), piece.shape)
        if piece[found] == number:
            return ", ".join(str(int(index)) for index in (found[0] + at, *found[1:]))
    raise AssertionError(f"{number} is not in the array")


def bytes_of_ids(tokens: np.ndarray, byte_lengths: np.ndarray) -> int:
    """Add up the bytes that ids ``[ids]`` stand for, by ``byte_lengths`` ``[vocab_size]``.

    >>> bytes_of_ids(np.array([0, 2, 2, 1]), np.array([0, 1, 4]))
    9
    """
    return sum(int(byte_lengths[piece].sum()) for _, piece in pieces(tokens))


def text_bytes(documents: Documents, tokenizer: Tokenizer) -> int:
    """Return the UTF-8 bytes of the documents' text: the divisor of bits per byte. Reads piece by piece.

    >>> from sttx_core.tokenizers import ByteTokenizer
    >>> from sttx_train.data.documents import Packed
    >>> text_bytes(Packed(np.array([0, 105, 106, 0, 34])), ByteTokenizer())
    3
    """
    byte_lengths = token_byte_lengths(tokenizer)
    return sum(int(byte_lengths[ids].sum()) for ids in pieces_of(documents))
