"""What every block policy must keep: ordered blocks within the capacity, purity, no dependence on units."""

from collections.abc import Iterator

import numpy as np

from sttx_core.checks.require import require
from sttx_core.errors import UsageError
from sttx_core.memory import BlockPolicy, Contributions

_CAPACITIES = (1, 2, 3, 7, 64)
_SCALE = 1024.0


def check_block_policy(policy: BlockPolicy) -> None:
    """Raise an `AssertionError` that says what a block policy breaks.

    The streams are of themes, of noise, of one token and of equal tokens.
    """
    for name, vectors in _streams():
        tokens = Contributions.of_vectors(vectors)
        for capacity in _CAPACITIES:
            where = f"{name}, capacity {capacity}"
            starts = policy(tokens, capacity)
            _check_blocks(starts, len(vectors), capacity, where)
            _check_purity(policy, tokens, capacity, starts, where)
            scaled = policy(Contributions.of_vectors(_SCALE * vectors), capacity)
            require(
                name == "equal tokens" or np.array_equal(scaled, starts),
                f"{where}: a stream {_SCALE:g} times as large is cut at {scaled}, not at {starts}",
            )
        _check_refusal(policy, tokens, name)


def _streams() -> Iterator[tuple[str, np.ndarray]]:
    draws = np.random.default_rng(0)
    themes = np.repeat(draws.standard_normal((6, 16)), [5, 1, 9, 3, 1, 12], axis=0)
    yield "themes", themes + 0.05 * draws.standard_normal(themes.shape)
    yield "noise", draws.standard_normal((23, 8))
    yield "one token", draws.standard_normal((1, 8))
    yield "two tokens", draws.standard_normal((2, 8))
    yield "equal tokens", np.ones((12, 8))


def _check_blocks(starts: object, length: int, capacity: int, where: str) -> None:
    integers = isinstance(starts, np.ndarray) and starts.ndim == 1 and starts.dtype.kind == "i"
    require(integers, f"{where}: starts must be one array of integers, not {starts!r}")
    assert isinstance(starts, np.ndarray)
    require(len(starts) > 0 and starts[0] == 0, f"{where}: the first block must start at 0: {starts}")
    require(bool((np.diff(starts) > 0).all()), f"{where}: starts must increase: {starts}")
    require(starts[-1] < length, f"{where}: a block starts behind the last of {length} tokens: {starts}")
    require(len(starts) <= capacity, f"{where}: there are {len(starts)} blocks: {starts}")


def _check_purity(
    policy: BlockPolicy, tokens: Contributions, capacity: int, starts: np.ndarray, where: str
) -> None:
    before, first = tokens.products.copy(), starts.copy()
    again = policy(tokens, capacity)
    require(np.array_equal(again, first), f"{where}: the second call cut at {again}, the first at {first}")
    require(np.array_equal(tokens.products, before), f"{where}: the policy changed what it was given")
    again[:] = -1
    third = policy(tokens, capacity)
    require(np.array_equal(third, first), f"{where}: writing into a result changed the next one")


def _check_refusal(policy: BlockPolicy, tokens: Contributions, name: str) -> None:
    for capacity in (0, -1):
        try:
            policy(tokens, capacity)
        except UsageError:
            continue
        require(False, f"{name}: a capacity of {capacity} must be a UsageError")
