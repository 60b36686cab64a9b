"""Bytes to pieces of text: whole characters only, and nothing that may be the start of a stop.

The pieces do not depend on how the bytes are split into tokens, only on where a piece ends. Knows no tokens.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from sttx_core.errors import UsageError


class Pieces:
    r"""Turns bytes into pieces of text.

    The text ends before the stop that is complete first; of those complete at the same byte, before the
    longest. Bytes that are not UTF-8 become U+FFFD, as `Tokenizer.decode` writes them, but a character that
    is cut off at the end is left out.

    Args:
        stops: texts that end the text and are not part of it.

    Attributes:
        stopped: whether a stop is complete.
        over: bytes that were added after the stop's end.

    Raises:
        UsageError: a stop is empty.

    >>> pieces = Pieces(["END"])
    >>> [pieces.add(data) for data in (b"caf\xc3", b"\xa9 E", b"N", b"T END.")]
    ['caf', 'é ', '', 'ENT ']
    >>> pieces.stopped, pieces.over
    (True, b'.')
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        if "" in stops:
            raise UsageError("--stop must not be empty: every text would end at once")
        self._stops = [stop.encode(errors="replace") for stop in stops]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = b""
        self.stopped, self.over = False, b""

    def add(self, data: bytes) -> str:
        """Add bytes; return the text that is certain now."""
        assert not self.stopped, "the text has ended"
        self._held += data
        found = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            end, start = min(found)
            text = self._decoder.decode(self._held[:start], final=True)
            self.stopped, self.over, self._held = True, self._held[end:], b""
            return text
        keep = max((_start_of(stop, self._held) for stop in self._stops), default=0)
        certain = len(self._held) - keep
        text, self._held = self._decoder.decode(self._held[:certain]), self._held[certain:]
        return text

    def finish(self) -> str:
        """Return what was withheld; no more bytes will be added."""
        rest, self._held = self._held, b""
        return self._decoder.decode(rest)


def _start_of(stop: bytes, data: bytes) -> int:
    """Return the length of the longest end of the data that a stop starts with, without the whole stop."""
    longest = min(len(stop) - 1, len(data))
    return next((size for size in range(longest, 0, -1) if data.endswith(stop[:size])), 0)
