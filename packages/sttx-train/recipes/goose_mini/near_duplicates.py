"""Finds texts that are nearly copies of earlier ones: MinHash over byte shingles, looked up by bands.

The share of shingles that two texts have in common (Jaccard's measure) is the chance that a random order
of all shingles puts the same one first in both; `HASHES` orders estimate it. Texts that agree on all
hashes of a band are compared, so pairs above the threshold are found with a chance of
1 - (1 - J^ROWS)^BANDS: 0.98 at 0.7, 0.9999 at 0.8. Broder (1997); Leskovec, Rajaraman and Ullman, chapter 3.
"""

import re

import numpy as np

HASHES = 64
ROWS = 4
BANDS = HASHES // ROWS
DOUBLINGS = 5
SHINGLE = 2**DOUBLINGS
THRESHOLD = 0.7
_PRIME = 0x9E3779B97F4A7C15
_RANDOM = np.random.default_rng(20250314)
_BYTES = _RANDOM.integers(0, 2**64, 256, dtype=np.uint64)
_ORDERS = _RANDOM.integers(0, 2**63, HASHES, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def signature(text: str) -> np.ndarray:
    """Return the smallest hash of the text's shingles in each order: `HASHES` of uint64.

    Shingles are pieces of 32 bytes of the lower-case text with every run of white space as one blank
    and every run of digits as one 0, so that indentation, line width, versions and dates count for little.
    """
    plain = re.sub(r"\d+", "0", " ".join(text.lower().split())).encode().ljust(SHINGLE)
    hashes = _BYTES[np.frombuffer(plain, dtype=np.uint8)]
    for step in range(DOUBLINGS):
        width = 2**step
        factor = np.uint64(pow(_PRIME, width, 2**64))
        hashes = hashes[:-width] * factor + hashes[width:]
    hashes ^= hashes >> np.uint64(29)
    return np.array([(hashes * order).min() for order in _ORDERS])


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Return the estimated share of shingles that two signatures have in common, from 0 to 1."""
    return float((one == other).mean())


class NearDuplicates:
    """Stores signatures and finds those that a new text nearly copies.

    Each band's value points to the first text that had it, so a look-up takes at most `BANDS` comparisons.
    """

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self._threshold = threshold
        self._signatures: list[np.ndarray] = []
        self._first: dict[tuple[int, bytes], int] = {}

    def knows(self, signed: np.ndarray) -> bool:
        """Return whether a stored text's likeness reaches the threshold."""
        found = {self._first.get(key) for key in _keys(signed)} - {None}
        return any(likeness(signed, self._signatures[i]) >= self._threshold for i in found if i is not None)

    def add(self, signed: np.ndarray) -> None:
        """Store a text's signature."""
        for key in _keys(signed):
            self._first.setdefault(key, len(self._signatures))
        self._signatures.append(signed)

    def is_new(self, text: str) -> bool:
        """Return whether the text is not a near-duplicate; if so store it.

        >>> seen, words = NearDuplicates(), " ".join(f"word{chr(97 + i)}" for i in range(26))
        >>> seen.is_new(words), seen.is_new(words.upper() + "  1"), seen.is_new(words[::-1])
        (True, False, True)
        """
        signed = signature(text)
        if self.knows(signed):
            return False
        self.add(signed)
        return True


def _keys(signed: np.ndarray) -> list[tuple[int, bytes]]:
    return [(i, band.tobytes()) for i, band in enumerate(signed.reshape(BANDS, ROWS))]
