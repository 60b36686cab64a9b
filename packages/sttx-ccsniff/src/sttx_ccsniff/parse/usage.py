"""How many tokens models were paid for, each message counted once.

One message is written as several lines, and each repeats its usage. The early ones were written while the
answer still came, with a few tokens of output; the last has them all. So the most that any line says counts.
Knows nothing of prices.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen

KINDS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
"""What is counted, as the messages name it."""

_OPEN = 8  # messages whose lines may still come, those of sub-agents between them
_MOST = 2**53

Counted = tuple[str, tuple[int, ...]]
SpeakerOf = Callable[[Any], tuple[str, str]]


def _nobody(record: Any) -> tuple[str, str]:
    del record
    return "", ""


class UsageCounter:
    """Counts the usage of one file's messages.

    Attributes:
        counted: The last messages with what was counted of each, newest first; replaced, never changed.

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
        self.counted: tuple[Counted, ...] = ()

    def count(self, message: dict[str, Any], record: Any = None, speaker_of: SpeakerOf = _nobody) -> None:
        """Take in what one line of a message says; a message that another file had is not counted again.

        Args:
            message: With its `id`, `model` and `usage`.
            record: What the message stands in.
            speaker_of: Says of the record, where it is counted, which session and sub-agent it is of.
        """
        usage, model, name = message.get("usage"), message.get("model"), message.get("id")
        if not isinstance(usage, dict) or not isinstance(model, str) or model == "<synthetic>":
            return
        tokens = tuple([_tokens(usage.get(kind)) for kind in KINDS])
        if not isinstance(name, str) or not name:
            self._report.used(model, _named(tokens), speaker_of(record))
            return
        for at, (known, before) in enumerate(self.counted):
            if known == name:
                if tokens != before:
                    self._more(model, at, tokens, speaker_of(record))
                return
        if self._seen.first_time(name):
            self._report.used(model, _named(tokens), speaker_of(record))
            self.counted = ((name, tokens), *self.counted[: _OPEN - 1])

    def load_state_dict(self, counted: list[Any] | tuple[Any, ...]) -> None:
        """Go on where `counted` was this.

        Raises:
            ValueError: It was never that.
        """
        taken: list[Counted] = []
        for one in counted:
            match one:
                case [str(name), [*tokens]] if len(tokens) == len(KINDS) and _are_tokens(tokens):
                    taken.append((name, tuple(tokens)))
                case _:
                    raise ValueError("not a state of counted usage")
        self.counted = tuple(taken[:_OPEN])

    def _more(self, model: str, at: int, tokens: tuple[int, ...], speaker: tuple[str, str]) -> None:
        name, before = self.counted[at]
        most = tuple(map(max, tokens, before))
        self._report.used(model, _named([now - was for now, was in zip(most, before, strict=True)]), speaker)
        self.counted = ((name, most), *self.counted[:at], *self.counted[at + 1 :])


def _named(tokens: Sequence[int]) -> dict[str, int]:
    return dict(zip(KINDS, tokens, strict=True))


def _tokens(value: Any) -> int:
    return value if type(value) is int and 0 <= value <= _MOST else 0


def _are_tokens(values: list[Any]) -> bool:
    return all(type(value) is int and 0 <= value <= _MOST for value in values)
