"""`open_data`: opens paths of any data format as documents of ids, in the order of the paths.

Numbers are values for a tokenizer of values, and ids for the vocabulary of a file, which others use too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import numpy as np

from sttx_core.errors import DataError, UsageError
from sttx_core.tokenizers import AnyTokenizer, Tokenizer
from sttx_core.tokenizers.table import TokenTable
from sttx_train.byte_lengths import token_byte_lengths
from sttx_train.data.arrays import map_array, open_array, require_rows, require_values
from sttx_train.data.detect import DataFormat, detect_format, is_json_as_text, open_entries
from sttx_train.data.documents import Documents, Joined, Packed, cut_at_marks
from sttx_train.data.encoding import IdFile, vocabulary_identity
from sttx_train.data.id_files import documents_of_rows, open_flat
from sttx_train.data.json_lines import JsonEntries
from sttx_train.data.mmididx import PairDocuments, check_pair_vocabulary, noted_vocabulary
from sttx_train.data.scanning import bytes_of_ids, require_ids
from sttx_train.data.text_files import iter_texts, read_text
from sttx_train.formats.tokenizer_json import HuggingFaceTokenizer

Say = Callable[[str], None]

_NUMBER = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True, kw_only=True)
class Data:
    """Documents, and facts about where they came from.

    Attributes:
        documents: all of them, in the order of the paths.
        text_bytes: UTF-8 bytes of their text; None if the ids stand for numbers.
        skipped: files in folders that are not text.
        damaged: number of JSON lines left out.
        kinds: the data format of each path.
    """

    documents: Documents
    text_bytes: int | None
    skipped: tuple[Path, ...]
    damaged: int
    kinds: dict[Path, DataFormat]


def open_data(
    paths: Sequence[Path],
    tokenizer: AnyTokenizer,
    *,
    texts: Iterable[str] | None = None,
    say: Say | None = None,
    progress: Callable[[int], None] | None = None,
    folder: Path | None = None,
) -> Data:
    """Open text files, folders, JSON, ``.npy`` arrays, pairs of ``.bin`` and ``.idx``, flat ``.bin``.

    Files of ids and arrays are mapped into memory and scanned once. Everything else is encoded into a
    temporary file: a text file in pieces of a million characters that end at a line end, a JSON line at once.
    No token crosses the end of a piece. Empty documents are skipped.

    Args:
        paths: files and folders; a pair may be named by the common prefix of its files.
        tokenizer: encodes texts or values; ids must be inside its vocabulary. If it is the vocabulary of a
            file, numbers are its ids.
        texts: more documents, added after those of the paths.
        say: called with a sentence about what was left out, or was ambiguous.
        progress: called with the number of bytes just read for encoding, approximately.
        folder: where the temporary file of encoded ids goes; by default the system's folder.

    Raises:
        UsageError: a path does not exist, or a file needs another tokenizer or holds a value outside this
            one's vocabulary.
        DataError: a file is damaged, or needs a larger vocabulary; or all are empty.
    """
    with _Opening(tokenizer, say or _silent, progress or _unheard, folder) as opening:
        for path in paths:
            opening.add(path)
        if texts is not None:
            opening.encode("the given texts", texts)
        return opening.data(", ".join(repr(str(path)) for path in paths) or "the given texts")


class _Opening:
    """Collects the parts of the data; consecutive texts and JSON lines share one file of ids."""

    def __init__(
        self, tokenizer: AnyTokenizer, say: Say, progress: Callable[[int], None], folder: Path | None
    ) -> None:
        self._tokenizer, self._say, self._progress, self._folder = tokenizer, say, progress, folder
        self._lengths = token_byte_lengths(tokenizer) if isinstance(tokenizer, Tokenizer) else None
        self._parts: list[Documents] = []
        self._file: IdFile | None = None
        self._bytes = self._damaged = 0
        self._skipped: list[Path] = []
        self._kinds: dict[Path, DataFormat] = {}
        self._of_ids: set[Path] = set()

    def __enter__(self) -> _Opening:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.__exit__(None, None, None)

    def add(self, path: Path) -> None:
        """Open one path of any data format."""
        data_format = self._kinds[path] = detect_format(path)
        match data_format:
            case "text":
                self._encode_files(path)
            case "json" | "json lines":
                self._encode_entries(open_entries(path, self._progress), path)
            case "array":
                if reads_ids(self._tokenizer):
                    self._add_rows(path)
                else:
                    self._close_file()
                    self._parts.append(open_array(path, self._tokenizer, self._say))
            case "pair":
                check_pair_tokenizer(path, self._tokenizer)
                pair = PairDocuments(path, self._tokenizer.eot_id)
                self._add_ids(pair, pair.ids, path)
            case "flat":
                size, eot_id = self._tokenizer.vocab_size, self._tokenizer.eot_id
                self._add_ids(*open_flat(path, eot_id=eot_id, vocab_size=size, say=self._say), path)
            case _:
                assert_never(data_format)

    def encode(self, name: str, texts: Iterable[str]) -> None:
        """Encode texts into the file of ids."""
        tokenizer = self._of_text(name)
        for text in texts:
            if text:
                self._write(tokenizer.encode(text))

    def data(self, name: str) -> Data:
        """Join all parts."""
        self._close_file()
        if not any(
            int(part.lengths.max(initial=0)) > 1 for part in self._parts
        ):  # a mark alone has no content
            note = f" ({len(self._skipped)} files are not text)" if self._skipped else ""
            raise DataError(f"there is nothing to read in {name}{note}")
        return Data(
            documents=self._parts[0] if len(self._parts) == 1 else Joined(self._parts),
            text_bytes=None if self._lengths is None else self._bytes,
            skipped=tuple(self._skipped),
            damaged=self._damaged,
            kinds=self._kinds,
        )

    def _encode_files(self, path: Path) -> None:
        tokenizer = self._of_text(repr(str(path)))
        if path.is_file() and is_json_as_text(path):
            self._say(
                f"{str(path)!r} is read as one plain text: it is JSON, but holds no list of texts or of ids "
                "that is known"
            )
        for file in iter_texts([path], self._skipped):
            self._write_pieces(tokenizer.encode(piece) for piece in self._pieces(file))

    def _pieces(self, file: Path) -> Iterator[str]:
        for piece in read_text(file):
            self._progress(len(piece.encode()))
            yield piece

    def _encode_entries(self, entries: JsonEntries, path: Path) -> None:
        for number, entry in entries:
            where = f"{entries.unit} {number} of {str(path)!r}"
            if not entry:
                continue
            if isinstance(entry, str) and not isinstance(self._tokenizer, Tokenizer):
                entry = numbers_in(entry) or entry
            if isinstance(entry, str):
                self._write(self._of_text(where).encode(entry))
            elif reads_ids(self._tokenizer):
                self._say_ids(path)
                self._write_ids(entry, where)
            else:
                self._write_values(entry, where)
        self._damaged += entries.damaged
        if complaint := entries.complaint():
            self._say(complaint)

    def _write_values(self, values: list[int], where: str) -> None:
        tokenizer = require_values(self._tokenizer, where)
        try:
            ids = tokenizer.encode(values)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None
        self._write(ids)

    def _write_ids(self, entry: list[int], where: str) -> None:
        """Write the documents in one list of ids; end-of-text ids are between them."""
        try:
            ids = np.array(entry, np.int64)
        except OverflowError:
            wrong = max(entry, key=abs)
            raise DataError(f"{where} holds the id {wrong}, which no vocabulary has") from None
        require_ids(ids, where, self._tokenizer.vocab_size)
        documents = cut_at_marks(ids, self._tokenizer.eot_id)
        for document, length in enumerate(documents.lengths.tolist()):
            self._write(documents.read(document, 1, length))

    def _add_rows(self, path: Path) -> None:
        """Add an array of ids."""
        rows = require_rows(map_array(path), repr(str(path)))
        self._say_ids(path)
        self._add_ids(*documents_of_rows(rows, self._tokenizer.eot_id), path)

    def _say_ids(self, path: Path) -> None:
        if path not in self._of_ids:
            self._of_ids.add(path)
            self._say(
                f"{str(path)!r} holds numbers: they are read as ids of the vocabulary; for values, give "
                "--tokenizer integer:MAX"
            )

    def _add_ids(self, documents: Documents, ids: np.ndarray, path: Path) -> None:
        require_ids(ids, repr(str(path)), self._tokenizer.vocab_size)
        if not len(documents.lengths):
            return
        self._close_file()
        self._parts.append(documents)
        if self._lengths is not None:
            self._bytes += bytes_of_ids(ids, self._lengths)

    def _of_text(self, name: str) -> Tokenizer:
        if isinstance(self._tokenizer, Tokenizer):
            return self._tokenizer
        raise UsageError(
            f"{name} holds text, but the tokenizer is one of numbers: give bytes, trie:FILE or hf:FILE"
        )

    def _write(self, ids: Sequence[int] | np.ndarray) -> None:
        self._write_pieces([ids])

    def _write_pieces(self, pieces: Iterable[Sequence[int] | np.ndarray]) -> None:
        """Write one document; without pieces there is none."""
        if self._file is None:
            self._file = IdFile(self._tokenizer.vocab_size, self._folder, self._tokenizer.eot_id)
        self._file.add_pieces(pieces)

    def _close_file(self) -> None:
        """Turn the ids encoded so far into a part."""
        if self._file is None:
            return
        with self._file as file:
            ids = file.finish()
        self._file = None
        if not len(ids):
            return
        self._parts.append(Packed(ids, self._tokenizer.eot_id))
        if self._lengths is not None:
            self._bytes += bytes_of_ids(ids, self._lengths)


def numbers_in(text: str) -> list[int] | None:
    """Return the numbers between the spaces of a text, as rwkv_trainer writes them; None for other words.

    >>> numbers_in("3 141 59"), numbers_in("3 apples")
    ([3, 141, 59], None)
    """
    words = text.split()
    return [int(word) for word in words] if words and all(map(_NUMBER.fullmatch, words)) else None


def check_pair_tokenizer(path: Path, tokenizer: AnyTokenizer) -> None:
    """Check that a pair was encoded with a tokenizer, as `check_pair_vocabulary` does.

    Raises:
        UsageError: it was not; says so if only the ids are numbered differently.
    """
    noted, earlier = noted_vocabulary(path), None
    if isinstance(tokenizer, HuggingFaceTokenizer) and noted not in (None, tokenizer.sha256):
        earlier = tokenizer.shifted().sha256
    if noted is not None and noted == earlier:
        raise UsageError(
            f"{str(path)!r} was built by an earlier version, which added 1 to the ids of a tokenizer.json: "
            "build it again, or give --tokenizer hf+1:FILE"
        )
    check_pair_vocabulary(path, vocabulary_identity(tokenizer))


def reads_ids(tokenizer: AnyTokenizer) -> bool:
    """Return whether numbers are ids of a tokenizer: of a vocabulary file, which other programs use too.

    The ids of other tokenizers are known to sttx alone.
    """
    return isinstance(tokenizer, TokenTable)


def _silent(_: str) -> None:
    """Say nothing."""


def _unheard(_: int) -> None:
    """Count nothing."""
