"""Encodes texts into a nameless temporary file of ids and maps it into memory, so any amount of text fits.

Knows tokenizers, but not where texts come from.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np

from sttx_core.errors import DataError, UsageError
from sttx_core.tokenizers import AnyTokenizer, Tokenizer
from sttx_core.tokenizers.protocol import EOT_ID

_IDS_16_BITS = 1 << 16
_IDS_31_BITS = 1 << 31


def ids_dtype(vocab_size: int) -> np.dtype:
    """Return the dtype that ids are stored as: uint16 if it holds every id of the vocabulary, else int32.

    >>> ids_dtype(65536), ids_dtype(65537)
    (dtype('uint16'), dtype('int32'))

    Raises:
        UsageError: the vocabulary is too large for int32.
    """
    if vocab_size > _IDS_31_BITS:
        raise UsageError(f"a vocabulary of {vocab_size} ids does not fit int32: use a smaller one")
    return np.dtype(np.uint16 if vocab_size <= _IDS_16_BITS else np.int32)


def vocabulary_identity(tokenizer: AnyTokenizer) -> str:
    """Return a string that is equal for vocabularies whose ids mean the same, as those of all integers do."""
    return tokenizer.sha256 if isinstance(tokenizer, Tokenizer) else "whole numbers"


class IdFile:
    """Documents of ids, added one by one, then read as one flat array; each starts with the end-of-text id.

    The file has no name, so it disappears with the process, even if that is killed.

    Args:
        vocab_size: every id is below it.
        folder: where the file goes; by default the system's folder for temporary files.
        eot_id: the end-of-text id.

    >>> with IdFile(300) as file:
    ...     file.add([7, 8])
    ...     file.add([9])
    ...     ids = file.finish()
    >>> ids.tolist(), ids.dtype
    ([0, 7, 8, 0, 9], dtype('uint16'))
    """

    def __init__(self, vocab_size: int, folder: Path | None = None, eot_id: int = EOT_ID) -> None:
        self._eot_id = eot_id
        self._vocab_size, self._dtype = vocab_size, ids_dtype(vocab_size)
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed by __exit__
        self._empty = True

    def __enter__(self) -> IdFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, ids: Sequence[int] | np.ndarray) -> None:
        """Write one document, without its leading id.

        Raises:
            DataError: an id is outside the vocabulary.
        """
        self.add_pieces([ids])

    def add_pieces(self, pieces: Iterable[Sequence[int] | np.ndarray]) -> None:
        """Write one document from its pieces, with one in memory at a time; without pieces write nothing."""
        marks = 1  # the first piece gets the end-of-text id
        for ids in pieces:
            written = np.full(marks + len(ids), self._eot_id, np.int64)
            written[marks:] = ids
            self._write(written)
            marks = 0

    def _write(self, ids: np.ndarray) -> None:
        low, high = (int(ids.min()), int(ids.max())) if len(ids) else (0, 0)
        if low < 0 or high >= self._vocab_size:
            wrong = low if low < 0 else high
            raise DataError(
                f"the tokenizer returned the id {wrong}, outside its vocabulary of {self._vocab_size}: "
                "fix the tokenizer"
            )
        self._file.write(ids.astype(self._dtype).tobytes())
        self._empty = False

    def finish(self) -> np.ndarray:
        """Return all ids as a read-only mapped array; nothing can be added afterwards."""
        if self._empty:
            return np.zeros(0, self._dtype)
        self._file.flush()
        return np.memmap(self._file, self._dtype, mode="r")


def encode_documents(
    documents: Iterable[str],
    tokenizer: Tokenizer,
    *,
    folder: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Return all documents as one mapped array of uint16 or int32, each starting with the end-of-text id.

    One text at a time is in memory. Empty texts are skipped.

    Args:
        documents: their texts.
        tokenizer: its ``vocab_size`` decides between 16 and 32 bits.
        folder: where the temporary file goes; by default the system's folder.
        progress: called after each text with its length in characters.
    """
    with IdFile(tokenizer.vocab_size, folder, tokenizer.eot_id) as file:
        for text in documents:
            if text:
                file.add(tokenizer.encode(text))
            if progress is not None:
                progress(len(text))
        return file.finish()
