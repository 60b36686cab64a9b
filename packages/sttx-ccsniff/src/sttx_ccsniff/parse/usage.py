"""Counts billed tokens, each message once.

Claude Code writes one message as several lines, each with the usage so far. Early lines have only a few
output tokens; the last line has all. So the largest count of any line is used. Prices are not known here.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen

KINDS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
"""Kinds of tokens, by their names in the messages."""

_OPEN = 8  # messages whose lines may still follow; sub-agents' messages come in between
_MOST = 2**53

Counted = tuple[str, tuple[int, ...]]
"""A message's id, and its tokens by kind, in the order of `KINDS`."""

SpeakerOf = Callable[[Any], tuple[str, str]]
"""Returns the (session, sub-agent) of a record."""


def _nobody(record: Any) -> tuple[str, str]:
    del record
    return "", ""


class UsageCounter:
    """Counts the usage of one file's messages.

    >>> report = SourceReport()
    >>> counter = UsageCounter(report, Seen())
    >>> for tokens in (1, 20, 20):
    ...     counter.count({"id": "msg_1", "model": "m", "usage": {"output_tokens": tokens}})
    >>> report.usage["m"]["output_tokens"]
    20
    """

    def __init__(self, report: SourceReport, seen: Seen) -> None:
        self._report = report
        self._seen = seen
        self._counted: tuple[Counted, ...] = ()  # the last messages, newest first; replaced, never changed

    def count(self, message: dict[str, Any], record: Any = None, speaker_of: SpeakerOf = _nobody) -> None:
        """Count one line of a message. A message that was counted from another file is not counted again.

        Args:
            message: The message, with its `id`, `model` and `usage`.
            record: The record that contains it.
            speaker_of: Called with the record, if its message is counted.
        """
        usage, model, name = message.get("usage"), message.get("model"), message.get("id")
        if not isinstance(usage, dict) or not isinstance(model, str) or model == "<synthetic>":
            return
        tokens = tuple([_tokens(usage.get(kind)) for kind in KINDS])
        if not isinstance(name, str) or not name:
            self._report.used(model, _named(tokens), speaker_of(record))
            return
        for at, (known, before) in enumerate(self._counted):
            if known == name:
                if tokens != before:
                    self._more(model, at, tokens, speaker_of(record))
                return
        if self._seen.first_time(name):
            self._report.used(model, _named(tokens), speaker_of(record))
            self._counted = ((name, tokens), *self._counted[: _OPEN - 1])

    def state_dict(self) -> tuple[Counted, ...]:
        """Return the last messages with their tokens, newest first, JSON-able."""
        return self._counted

    def load_state_dict(self, state: list[Any] | tuple[Any, ...]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: The state is invalid.
        """
        counted: list[Counted] = []
        for message in state:
            match message:
                case [str(name), [*tokens]] if len(tokens) == len(KINDS) and _are_tokens(tokens):
                    counted.append((name, tuple(tokens)))
                case _:
                    raise ValueError("not a state of counted usage")
        self._counted = tuple(counted[:_OPEN])

    def _more(self, model: str, at: int, tokens: tuple[int, ...], speaker: tuple[str, str]) -> None:
        name, before = self._counted[at]
        most = tuple(map(max, tokens, before))
        self._report.used(model, _named([now - was for now, was in zip(most, before, strict=True)]), speaker)
        self._counted = ((name, most), *self._counted[:at], *self._counted[at + 1 :])


def _named(tokens: Sequence[int]) -> dict[str, int]:
    return dict(zip(KINDS, tokens, strict=True))


def _tokens(value: Any) -> int:
    return value if type(value) is int and 0 <= value <= _MOST else 0


def _are_tokens(values: list[Any]) -> bool:
    return all(type(value) is int and 0 <= value <= _MOST for value in values)
