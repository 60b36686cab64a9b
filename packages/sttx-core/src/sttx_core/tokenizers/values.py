"""Tokenizers of values, not of text: whole numbers from 0, and angles in degrees."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sttx_core.errors import UsageError
from sttx_core.tokenizers.protocol import EOT_ID

if TYPE_CHECKING:
    import numpy as np

LARGEST_VALUE = 2**31 - 3
"""The largest `max_value`: every id, and the number of ids, fits in a signed 32-bit integer."""


class IntegerTokenizer:
    """Whole numbers as ids: value v is id v + 1, and 0 is the end-of-text id.

    A value outside 0 to `max_value` is refused, never wrapped or clipped.

    Raises:
        UsageError: `max_value` is not a whole number from 0 to 2,147,483,645.

    >>> digits = IntegerTokenizer(9)
    >>> digits.encode([3, 1, 4])
    [4, 2, 5]
    >>> digits.decode([4, 2, 5, 0]), digits.vocab_size
    ([3, 1, 4], 11)
    """

    eot_id: int = EOT_ID

    def __init__(self, max_value: int):
        largest = _whole(max_value)
        if largest is None or not 0 <= largest <= LARGEST_VALUE:
            raise UsageError(
                f"max_value must be a whole number from 0 to {LARGEST_VALUE}, not {max_value!r}: "
                "give the largest value of the data"
            )
        self._max_value = largest

    @property
    def max_value(self) -> int:
        """The largest value."""
        return self._max_value

    @property
    def spec(self) -> str:
        """The spec that `tokenizer_from_spec` takes for this tokenizer."""
        return f"integer:{self._max_value}"

    @property
    def vocab_size(self) -> int:
        """One more than the largest id: the values from 0 to `max_value`, and the end-of-text id."""
        return self._max_value + 2

    @property
    def sha256(self) -> str:
        """Hash of the vocabulary. Two vocabularies have the same hash only if kind and size agree."""
        return hashlib.sha256(b"values " + self.spec.encode()).hexdigest()

    def encode(self, values: Iterable[int]) -> list[int]:
        """Encode integers of Python or NumPy.

        Raises:
            UsageError: A value is not a whole number or out of range; the message names it and its position.
        """
        ids = []
        for position, value in enumerate(values):
            number = _whole(value)
            if number is None:
                raise UsageError(
                    f"{value!r} at position {position} is of type {type(value).__name__}, "
                    "not a whole number: give integers"
                )
            if not 0 <= number <= self._max_value:
                raise self._range_error(number, position)
            ids.append(number + 1)
        return ids

    def encode_array(self, values: np.ndarray) -> np.ndarray:
        """Encode an array of any shape and any integer dtype at once, into int64 of the same shape.

        Raises:
            UsageError: The dtype is not an integer one (floats and booleans are refused), or a value is out
                of range; the message names the first one and its position.
        """
        import numpy as np

        array = np.asarray(values)
        if array.dtype.kind not in "iu":
            raise UsageError(
                f"an array of {array.dtype} does not hold integers: convert it, for example with "
                "astype(np.int64), if its values are whole numbers"
            )
        if array.size and (int(array.min()) < 0 or int(array.max()) > self._max_value):
            first = np.unravel_index(int(np.argmax((array < 0) | (array > self._max_value))), array.shape)
            position = tuple(map(int, first))
            raise self._range_error(int(array[first]), position[0] if len(position) == 1 else position)
        return array.astype(np.int64) + 1

    def decode(self, ids: Iterable[int]) -> list[int]:
        """Decode to the values, end-of-text ids left out. Raises `UsageError` for an unknown id."""
        values = []
        for given in ids:
            token_id = _whole(given)
            if token_id is None or not 0 <= token_id < self.vocab_size:
                raise UsageError(
                    f"id {given!r} is not in the vocabulary, whose largest id is {self.vocab_size - 1}"
                )
            if token_id != EOT_ID:
                values.append(token_id - 1)
        return values

    def _range_error(self, value: int, position: int | tuple[int, ...]) -> UsageError:
        return UsageError(
            f"value {value} at position {position} is not from 0 to {self._max_value}: "
            "correct the data, or choose a tokenizer with a larger range"
        )


class AngleTokenizer(IntegerTokenizer):
    """Whole degrees from 0 to 359 as ids: a is id a + 1. Angles of 360 and more are refused, not wrapped.

    >>> AngleTokenizer().encode([0, 90, 359])
    [1, 91, 360]
    """

    def __init__(self) -> None:
        super().__init__(359)

    @property
    def spec(self) -> str:
        """The spec that `tokenizer_from_spec` takes for this tokenizer."""
        return "angle"


def _whole(value: object) -> int | None:
    """Return an integer of Python or NumPy as an int; None for anything else, booleans too."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None
