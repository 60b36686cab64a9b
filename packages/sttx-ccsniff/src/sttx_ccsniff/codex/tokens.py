"""How many tokens a Codex thread used: its totals only grow, and are told more often than they grow.

`token_count` events repeat the totals at each notice of a rate limit; what they grew by is what was used. A
fork's totals begin with its parent's, so of its first ones only the last request counts.
"""

from typing import Any

_KINDS = ("input_tokens", "cached_input_tokens", "output_tokens")
_MOST = 2**53


class TokenTotals:
    """The totals of one thread.

    >>> totals = TokenTotals()
    >>> totals.grew({"total_token_usage": {"input_tokens": 9, "cached_input_tokens": 4, "output_tokens": 2}})
    {'input_tokens': 5, 'output_tokens': 2, 'cache_creation_input_tokens': 0, 'cache_read_input_tokens': 4}
    >>> totals.grew({"total_token_usage": {"input_tokens": 9, "cached_input_tokens": 4, "output_tokens": 2}})
    {}
    """

    def __init__(self) -> None:
        self.totals: tuple[int, ...] = ()

    def load_state_dict(self, totals: Any) -> None:
        """Go on where `totals` was this.

        Raises:
            ValueError: It never was.
        """
        if not isinstance(totals, (list, tuple)) or len(totals) not in (0, len(_KINDS)):
            raise ValueError("no totals of tokens")
        if not all(type(count) is int and 0 <= count <= _MOST for count in totals):
            raise ValueError("no totals of tokens")
        self.totals = tuple(totals)

    def grew(self, info: Any, *, inherits: bool = False) -> dict[str, int]:
        """Take in what an event tells; return the tokens used since the one before, by kind, or nothing."""
        total = _counts(info, "total_token_usage")
        if not total:
            return {}
        before, self.totals = self.totals, total
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
