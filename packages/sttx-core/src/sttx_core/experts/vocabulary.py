"""The tokens of a vocabulary, sorted by their bytes, as the compiled functions take them."""

from collections.abc import Sequence

import numpy as np

from sttx_core.experts.memory import BEYOND, DIGIT, HEX, LETTER, UPPER
from sttx_core.experts.reading import Vocabulary

_KINDS = {
    DIGIT: b"0123456789",
    HEX: b"abcdef",
    LETTER: b"ghijklmnopqrstuvwxyz_",
    UPPER: b"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    BEYOND: range(128, 256),
}


def vocabulary_of(tokens: Sequence[bytes]) -> Vocabulary:
    """Return a vocabulary; ``tokens`` has the bytes of each id."""
    order = np.array(sorted(range(len(tokens)), key=lambda token: (tokens[token], token)))
    return Vocabulary(
        order=order.astype(np.uint32),
        rank=np.argsort(order),
        data=np.frombuffer(b"".join(tokens) or b"\0", np.uint8),
        start=np.cumsum([0, *map(len, tokens)]),
        kinds=_kinds(),
    )


def _kinds() -> np.ndarray:
    kinds = np.zeros(256, np.uint8)
    for kind, values in _KINDS.items():
        kinds[list(values)] = kind
    return kinds
