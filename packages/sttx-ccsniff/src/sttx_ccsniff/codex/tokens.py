"""Counts the tokens of a Codex thread from the growth of its totals.

`token_count` events have the thread's totals, and repeat them with each notice of a rate limit. The
difference of two totals is what was used in between. The totals of a fork start with its parent's, so from a
fork's first event only the last request counts.
"""

from typing import Any

_KINDS = ("input_tokens", "cached_input_tokens", "output_tokens")
_MOST = 2**53


class TokenTotals:
    """The token totals of one thread.

    >>> totals = TokenTotals()
    >>> totals.used({"total_token_usage": {"input_tokens": 9, "cached_input_tokens": 4, "output_tokens": 2}})
    {'input_tokens': 5, 'output_tokens': 2, 'cache_creation_input_tokens': 0, 'cache_read_input_tokens': 4}
    >>> totals.used({"total_token_usage": {"input_tokens": 9, "cached_input_tokens": 4, "output_tokens": 2}})
    {}
    """

    def __init__(self) -> None:
        self._totals: tuple[int, ...] = ()  # in the order of _KINDS; empty before the first event

    def state_dict(self) -> tuple[int, ...]:
        """Return the last totals, JSON-able."""
        return self._totals

    def load_state_dict(self, state: Any) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: The state is invalid.
        """
        if not isinstance(state, (list, tuple)) or len(state) not in (0, len(_KINDS)):
            raise ValueError("not a state of token totals")
        if not all(type(count) is int and 0 <= count <= _MOST for count in state):
            raise ValueError("not a state of token totals")
        self._totals = tuple(state)

    def used(self, info: Any, *, inherits: bool = False) -> dict[str, int]:
        """Return the tokens used since the previous event, by kind; empty if none.

        Args:
            info: The `info` of a `token_count` event.
            inherits: Whether the thread's totals start with those of another thread.
        """
        total = _counts(info, "total_token_usage")
        if not total:
            return {}
        before, self._totals = self._totals, total
        if inherits and not before:
            used = _counts(info, "last_token_usage")
        else:
            used = tuple(now - was for now, was in zip(total, before or (0,) * len(_KINDS), strict=True))
        if not any(used) or min(used) < 0:
            return {}
        given, cached, output = used
        cached = min(cached, given)
        return {
            "input_tokens": given - cached,
            "output_tokens": output,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
        }


def _counts(info: Any, key: str) -> tuple[int, ...]:
    usage = info.get(key) if isinstance(info, dict) else None
    if not isinstance(usage, dict):
        return ()
    counts = [usage.get(kind) for kind in _KINDS]
    return tuple(count if type(count) is int and 0 <= count <= _MOST else 0 for count in counts)
