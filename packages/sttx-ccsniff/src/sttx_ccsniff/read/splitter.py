"""Bytes in any pieces become whole lines. Knows nothing of what a line means."""

MAX_LINE = 32 * 2**20
"""Longest line held in memory, in bytes; a longer one is skipped and counted.

The longest seen in the wild is 0.74 MB (a picture). A model takes requests of up to 32 MB, so no message is
longer. Reading a line of this length (text, for example a picture in base64) takes 3.1 times its bytes at
the peak, 100 MB. It takes 12 times, 380 MB, where the text holds one character that needs four bytes, and
17 times, 550 MB, where half of a surrogate pair stands beside it.
"""


class LineSplitter:
    r"""Cuts a stream of pieces at each `\n`, holding at most one unfinished line.

    A line over `limit` bytes is thrown away up to its end and counted in `overlong`, so memory is bounded by
    the limit and the largest piece. Where it stood, `dropped` says after each call of `feed`: how many of the
    lines returned come before it, and its length, for each in order.

    >>> splitter = LineSplitter()
    >>> splitter.feed(b'{"a"'), splitter.feed(b':1}\n{"b":2}\n{"c'), splitter.finish()
    ([], [b'{"a":1}', b'{"b":2}'], b'{"c')
    """

    def __init__(self, limit: int = MAX_LINE) -> None:
        self.limit = limit
        self.overlong = 0
        self.dropped: list[tuple[int, int]] = []
        self._held = bytearray()
        self._size = 0
        self._dropping = False

    def feed(self, piece: bytes) -> list[bytes]:
        """Take the next piece; return the lines that it completes, without their line ends."""
        lines = piece.split(b"\n")
        tail = lines.pop()
        self.dropped = []
        if lines:
            self._hold(lines[0])
            length = self._size
            lines[0] = self.finish()
            if self._dropping:
                self._dropping = False
                self.dropped.append((0, length))
                del lines[0]
            if len(piece) > self.limit:
                lines = self._short_enough(lines)
        self._hold(tail)
        return lines

    def finish(self) -> bytes:
        """Return what stands after the last line end, and forget it."""
        line = bytes(self._held)
        self._held = bytearray()
        self._size = 0
        return line

    def _hold(self, piece: bytes) -> None:
        if not piece:
            return
        self._size += len(piece)
        if self._dropping:
            return
        if self._size > self.limit:
            self._held = bytearray()
            self._dropping = True
            self.overlong += 1
        else:
            self._held += piece

    def _short_enough(self, lines: list[bytes]) -> list[bytes]:
        short: list[bytes] = []
        for line in lines:
            if len(line) <= self.limit:
                short.append(line)
            else:
                self.dropped.append((len(short), len(line)))
        self.overlong += len(lines) - len(short)
        return short
