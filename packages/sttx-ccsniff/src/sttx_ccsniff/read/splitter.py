"""Splits pieces of bytes into whole lines. Does not know what a line means."""

MAX_LINE = 32 * 2**20
"""Longest line kept in memory, in bytes. A longer line is skipped and counted.

The longest real line seen has 0.74 MB (a picture). Models accept requests of up to 32 MB, so no message is
longer. Reading a line of this length takes 3.1 times its bytes at the peak, 100 MB, if it is plain text such
as a picture in base64. It takes 12 times, 380 MB, if the text has a character of four bytes, and 17 times,
550 MB, if it also has a lone surrogate.
"""


class LineSplitter:
    r"""Splits a stream of pieces at each `\n`, keeping at most one unfinished line.

    A line of more than `limit` bytes is dropped up to its end and counted in `overlong`, so memory is bounded
    by the limit and the largest piece. After each `feed`, `dropped` lists the lines that it dropped, in
    order: how many of the returned lines precede it, and its length.

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
        """Read the next piece; return the lines that it completes, without their line ends."""
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
        """Return what follows the last line end, and reset."""
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
