"""What every tokenizer of values must keep: exact round trips, also of arrays; nothing wrapped or clipped."""

import random
import re
from collections.abc import Callable
from typing import Any

from sttx_core.checks.require import require
from sttx_core.checks.vocabulary import check_ids
from sttx_core.errors import UsageError
from sttx_core.tokenizers.protocol import ValueTokenizer

_DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
_BIG = (2**15, 2**16 - 1, 2**16, 2**16 + 1, 2**31, 2**32, 2**63, 2**64)
"""The limits of integer dtypes: a tokenizer that wraps does so at one of these."""


def check_value_tokenizer(tokenizer: ValueTokenizer) -> None:
    """Check the rules of tokenizers of values, which encode the values 0 to `vocab_size - 2`."""
    import numpy as np

    largest = tokenizer.vocab_size - 2
    draw = random.Random(0)
    near = [value for big in _BIG for value in (big - 1, big) if value <= largest]
    some = [draw.randint(0, largest) for _ in range(50)]
    for values in ([], [0], [largest], near, some, list(range(min(largest, 300) + 1))):
        _check_values(tokenizer, values)
    _check_arrays(tokenizer, largest)
    for outside in (-1, largest + 1, *(big + 1 for big in _BIG if big > largest), -(2**63)):
        _check_refused(tokenizer, outside, largest)
    others: tuple[Any, ...] = (1.0, True, "1", None)
    for other in others:
        _must_refuse(lambda other=other: tokenizer.encode([0, other]), f"encode accepted the value {other!r}")
    for dtype in (np.float32, np.float64, np.bool_):
        zeros = np.zeros(3, dtype)
        _must_refuse(
            lambda zeros=zeros: tokenizer.encode_array(zeros), f"encode_array accepted {zeros.dtype}"
        )


def _check_values(tokenizer: ValueTokenizer, values: list[int]) -> None:
    import numpy as np

    ids = tokenizer.encode(values)
    check_ids(tokenizer, ids, values)
    require(ids == tokenizer.encode(iter(values)), f"encoding {values!r} twice gave two results")
    back = tokenizer.decode(ids)
    require(back == values and type(back) is list, f"{values!r} came back as {back!r}")
    require(all(type(value) is int for value in back), f"{values!r} came back as values that are not int")
    decoded = tokenizer.decode([tokenizer.eot_id, *ids, tokenizer.eot_id])
    require(decoded == values, f"end-of-text ids around {values!r} decode to {decoded!r}")
    encoded = tokenizer.encode_array(np.array(values, np.int64))
    require(encoded.tolist() == ids, f"encode_array of {values!r} gives ids that differ from encode")


def _check_arrays(tokenizer: ValueTokenizer, largest: int) -> None:
    """Check every integer dtype and several shapes, up to the largest value of dtype and tokenizer."""
    import numpy as np

    for dtype in _DTYPES:
        top = min(largest, int(np.iinfo(dtype).max))
        for values in (np.array([top, 0], dtype), np.array([[0], [top]], dtype), np.zeros((2, 0, 3), dtype)):
            before = values.copy()
            ids = tokenizer.encode_array(values)
            require(ids.dtype == np.int64, f"encode_array gives {ids.dtype}, not int64")
            require(ids.shape == values.shape, f"shape {values.shape} came back as {ids.shape}")
            require(bool((values == before).all()), f"encode_array changed its argument ({dtype})")
            expected = tokenizer.encode(values.ravel().tolist())
            require(ids.ravel().tolist() == expected, f"encode_array wraps or differs on {dtype}: {ids}")


def _check_refused(tokenizer: ValueTokenizer, value: int, largest: int) -> None:
    import numpy as np

    attempts: list[tuple[str, Callable[[], Any]]] = [("encode", lambda: tokenizer.encode([0, value]))]
    dtype = "int64" if value < 0 else "uint64"
    if np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
        array = np.array([0, value], dtype)
        attempts.append(("encode_array", lambda: tokenizer.encode_array(array)))
    for name, attempt in attempts:
        message = _must_refuse(attempt, f"{name} accepted {value}, which is not from 0 to {largest}")
        numbers = set(map(int, re.findall(r"-?\d+", message)))
        require(
            {value, 1, 0, largest} <= numbers,
            f"{name} refused {value} at position 1 of 0 to {largest} without naming all of them: {message!r}",
        )


def _must_refuse(attempt: Callable[[], Any], complaint: str) -> str:
    """Return the message of the expected error."""
    try:
        result = attempt()
    except UsageError as error:
        return str(error)
    raise AssertionError(f"{complaint} (it returned {result!r}) instead of raising UsageError")
