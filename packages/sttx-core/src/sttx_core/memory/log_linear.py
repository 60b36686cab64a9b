"""Log-linear attention: a state for each of log2(T) spans of the past, the longer the further away.

Before token t the past is cut by the binary digits of t: its lowest 1 gives the nearest span, the next 1 the
span before, each a power of 2 long. Level 0 is the token itself, level i + 1 the span of length 2**i.

Shapes: T tokens, H heads, D values of a key, V of a value, L levels.
"""

import numpy as np

from sttx_core.memory.blocks import Array


def levels(length: int) -> int:
    """Return how many levels `length` tokens need, the token's own among them.

    >>> levels(1), levels(2), levels(32), levels(33)
    (1, 2, 6, 7)
    """
    return (length - 1).bit_length() + 1


def attend(queries: Array, keys: Array, values: Array, decays: Array, weights: Array) -> Array:
    """Return what every token reads, with all weights made: O(T**2).

    Args:
        queries: shape (T, H, D).
        keys: shape (T, H, D).
        values: shape (T, H, V).
        decays: what each token leaves of the states before it, from 0 to 1, shape (T, H).
        weights: of each level in the read of each token, shape (T, H, L) with at least `levels(T)`.

    Returns:
        Shape (T, H, V).
    """
    size = len(queries)
    now, then = np.arange(size)[:, None], np.arange(size)[None, :]
    level = np.where(now == then, 0, np.frexp(np.bitwise_xor(now, then).astype(np.float64))[1])
    result = np.empty_like(values)
    for head in range(queries.shape[1]):
        decayed = np.array(
            [
                [decays[s + 1 : t + 1, head].prod() if s <= t else 0.0 for s in range(size)]
                for t in range(size)
            ]
        )
        chosen = np.take_along_axis(weights[:, head], np.where(then <= now, level, 0), axis=1)
        products = queries[:, head] @ keys[:, head].T
        result[:, head] = (products * decayed * chosen) @ values[:, head]
    return result


class LogLinearState:
    """The same, token by token, in O(log T) states.

    Args:
        heads: H.
        key_width: D.
        value_width: V.
        levels: L; enough for `2 ** (L - 1)` tokens.
    """

    def __init__(self, heads: int, key_width: int, value_width: int, levels: int) -> None:
        self._states = np.zeros((levels, heads, key_width, value_width))
        self._seen = 0

    def step(self, query: Array, key: Array, value: Array, decay: Array, weights: Array) -> Array:
        """Take one token in and return what it reads, shape (H, V).

        Args:
            query: shape (H, D).
            key: shape (H, D).
            value: shape (H, V).
            decay: shape (H,).
            weights: shape (H, L).
        """
        states = self._states
        if self._seen:
            carried = (self._seen & -self._seen).bit_length()  # the span that now ends, and its level
            states[carried] = states[:carried].sum(axis=0)
            states[:carried] = 0
        states *= decay[None, :, None, None]
        states[0] = key[:, :, None] * value[:, None, :]
        self._seen += 1
        return np.einsum("hl,hd,lhdv->hv", weights, query, states)
