"""Collects what is coded together: text of files, in parts, and the stored bytes that it refers to."""

from __future__ import annotations

from sttx_train.coding.container import BLOCK_BYTES, MOST_BATCH, MOST_STORED

_MOST_PARTS = MOST_BATCH // 2  # each part may be cut once more than it is full


class Batch:
    """Parts of files that are coded together.

    Args:
        most: bytes of text that it holds.

    Attributes:
        parts: number of a file, and up to `BLOCK_BYTES` of its text.
        stored: number of a file, and its stored bytes.
        size: bytes of text.
        represents: bytes of files that were read for it.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.parts: list[tuple[int, bytearray]] = []
        self.stored: dict[int, bytearray] = {}
        self.size = self.represents = 0
        self._size_stored = 0

    @property
    def is_full(self) -> bool:
        """Whether it should be coded now."""
        many = len(self.parts) == _MOST_PARTS
        return self.size >= self._most or many or (self.size > 0 and self._size_stored >= MOST_STORED)

    def store(self, file: int, data: bytes) -> None:
        """Add stored bytes of a file, before the text that refers to them."""
        if data:
            self.stored.setdefault(file, bytearray()).extend(data)
            self._size_stored += len(data)

    def add(self, file: int, text: bytes) -> bytes:
        """Add text of a file; return the rest, for which there is no room."""
        if not self.parts or self.parts[-1][0] != file or len(self.parts[-1][1]) == BLOCK_BYTES:
            self.parts.append((file, bytearray()))
        part = self.parts[-1][1]
        room = min(BLOCK_BYTES - len(part), self._most - self.size)
        part += text[:room]
        self.size += min(room, len(text))
        return text[room:]
