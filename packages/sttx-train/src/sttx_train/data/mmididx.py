r"""Reads and writes pairs of ``.bin`` and ``.idx`` files, the format of Megatron and RWKV's trainers.

```
.idx   b"MMIDIDX\0\0"      9 bytes                 .bin   ids, one sequence after the other
       version            uint64, 1
       dtype of ids       uint8, a code
       sequences          uint64                  A document ends with the end-of-text id of its vocabulary
       document marks     uint64                  (RWKV's: 0). In memory it starts with it: the mark between
       sizes              int32 [sequences]       two documents is read as the start of the second.
       offsets in bytes   int64 [sequences]
       document marks     int64 [marks]           the first sequence of each document, and the end
```

All numbers are little-endian. Pairs written here get a third file, ``.sttx.json``, that other readers ignore.
It names the vocabulary, so that reading the pair with another one is an error.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sttx_core.errors import DataError, UsageError
from sttx_core.foreign_files import open_regular, parse_json, read_at_most
from sttx_core.own_files import refuse_to_replace, replacing_file
from sttx_core.tokenizers.protocol import EOT_ID
from sttx_train.data.documents import Documents, Marked
from sttx_train.data.encoding import ids_dtype
from sttx_train.data.scanning import pieces

MAGIC = b"MMIDIDX\0\0"
BIN, IDX, NOTE = ".bin", ".idx", ".sttx.json"
_NOTED = {"vocabulary": str, "entries": int, "bin_bytes": int}
_HEADER = struct.Struct("<9sQBQQ")
_VERSION = 1
_DTYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
"""By the format's code. 6 and 7 are floating point, with two conflicting conventions."""
_CODES = {2: 8, 4: 4}
"""Codes of the dtypes that are written, by bytes per id."""
_LARGEST_SIZE = 2**31 - 1
_AT_ONCE = 1 << 20


class PairDocuments(Marked):
    """The documents of a pair; their ids stay in the file.

    A document ends with the end-of-text id, or where the index says so. Megatron's documents, of several
    sequences and without that id, can be read too. A sequence with it between several documents is split.

    Args:
        prefix: path of both files without suffix, or with either suffix.
        eot_id: the end-of-text id of the vocabulary.

    Attributes:
        ids: all ids of the ``.bin``, mapped into memory.

    Raises:
        DataError: a file does not exist or is damaged, or the two files do not match.
    """

    def __init__(self, prefix: Path, eot_id: int = EOT_ID) -> None:
        bin_path, idx_path = pair_paths(prefix)
        code, sizes, marks = _read_index(idx_path)
        self.ids = _map_ids(bin_path, idx_path, np.dtype(_DTYPES[code]), int(sizes.sum(dtype=np.int64)))
        ends_of_sequences = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        zeros = [np.flatnonzero(piece == eot_id) + (at + 1) for at, piece in pieces(self.ids)]
        ends = np.unique(np.concatenate([ends_of_sequences[marks], [len(self.ids)], *zeros]))
        ends = ends[ends > 0]
        starts = np.concatenate([[0], ends[:-1]])
        super().__init__(self.ids, starts, ends - (self.ids[ends - 1] == eot_id), eot_id)


def pair_paths(prefix: Path) -> tuple[Path, Path]:
    """Return the paths of ``.bin`` and ``.idx``, given either or their common prefix.

    >>> [path.name for path in pair_paths(Path("data.v3"))], pair_paths(Path("data.idx"))[0].name
    (['data.v3.bin', 'data.v3.idx'], 'data.bin')
    """
    stem = prefix.with_suffix("") if prefix.suffix in (BIN, IDX) else prefix
    return stem.with_name(stem.name + BIN), stem.with_name(stem.name + IDX)


def check_pair_vocabulary(prefix: Path, identity: str) -> None:
    """Check that a pair was encoded with a vocabulary. A pair without ``.sttx.json`` is accepted.

    Args:
        prefix: path of both files without suffix, or with either suffix.
        identity: `vocabulary_identity` of the vocabulary that reads the pair.

    Raises:
        UsageError: the pair was encoded with another vocabulary.
        DataError: its ``.sttx.json`` is damaged.
    """
    note = _note_of(prefix)
    if note is not None and note["vocabulary"] != identity:
        bin_path, path = pair_paths(prefix)[0], _note_path(prefix)
        raise UsageError(
            f"{str(bin_path)!r} was encoded with another vocabulary, as {path.name!r} says (of "
            f"{note['entries']:,} ids, {note['vocabulary'][:20]}): give that one as --tokenizer"
        )


def noted_vocabulary(prefix: Path) -> str | None:
    """Return the identity of the vocabulary that a pair was encoded with; None if it does not say.

    Raises:
        DataError: its ``.sttx.json`` is damaged.
    """
    note = _note_of(prefix)
    return None if note is None else note["vocabulary"]


def check_pair(prefix: Path) -> None:
    """Check that a pair can be written at a path without overwriting a file.

    Raises:
        UsageError: there is a file already. An index or note without a ``.bin``, left by a build that was
            killed, does not count.
    """
    bin_path, idx_path = pair_paths(prefix)
    note = _note_path(prefix)
    for path in (bin_path, idx_path, note):
        refuse_to_replace(path)
    if bin_path.exists():
        raise UsageError(f"{str(bin_path)!r} already exists: give another --out, or remove it first")
    if idx_path.exists() and not (idx_path.is_file() and _starts_with_magic(idx_path)):
        raise UsageError(f"{str(idx_path)!r} already exists: give another --out, or remove it first")
    if note.exists() and not (note.is_file() and _read_note(note)):
        raise UsageError(f"{str(note)!r} already exists: give another --out, or remove it first")


def write_pair(
    documents: Documents,
    prefix: Path,
    *,
    vocab_size: int,
    identity: str | None = None,
    eot_id: int = EOT_ID,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write documents as RWKV's and Megatron's trainers read them, each ending with the end-of-text id.

    The ``.bin`` is renamed into place last, so a kill at any moment leaves a complete pair or none.

    Args:
        documents: at least one.
        prefix: path of both files without suffix.
        vocab_size: decides between 16 and 32 bits, as in `ids_dtype`.
        identity: of the vocabulary, saved in ``.sttx.json`` for `check_pair_vocabulary`; None writes no
            such file.
        eot_id: the end-of-text id.
        progress: called with the number of ids just written.

    Raises:
        UsageError: the ``.bin`` already exists, or the vocabulary does not fit int32.
        DataError: there is nothing to write, a document is too long, or an id is outside the vocabulary.
    """
    check_pair(prefix)
    if not len(documents.lengths):
        raise DataError("there is nothing to write: no document has any content")
    longest = int(documents.lengths.max())
    if longest > _LARGEST_SIZE:
        raise DataError(
            f"a document has {longest:,} ids, but an .idx file allows {_LARGEST_SIZE:,}: split the document"
        )
    code = _CODES[ids_dtype(vocab_size).itemsize]
    bin_path, idx_path = pair_paths(prefix)
    with replacing_file(bin_path) as bin_aside, replacing_file(idx_path) as idx_aside:
        mark = np.full(1, eot_id, np.dtype(_DTYPES[code]))
        _write_ids(documents, bin_aside, mark, vocab_size, progress)
        _write_index(documents.lengths, idx_aside, code)
        _note_path(prefix).unlink(missing_ok=True)
        if identity is not None:
            size = bin_aside.stat().st_size
            note = {"vocabulary": identity, "entries": vocab_size, "bin_bytes": size}
            with replacing_file(_note_path(prefix)) as aside:
                aside.write_text(json.dumps(note, indent=2) + "\n")


def _note_path(prefix: Path) -> Path:
    return pair_paths(prefix)[0].with_suffix(NOTE)


def _note_of(prefix: Path) -> dict[str, Any] | None:
    """Return the content of a pair's ``.sttx.json``; None if it has none of its own."""
    bin_path, path = pair_paths(prefix)[0], _note_path(prefix)
    if not path.is_file() or not bin_path.is_file():
        return None
    note = _read_note(path)
    if note is None:
        raise DataError(f"{str(path)!r} is damaged: build the pair again, or remove this file")
    return note if note["bin_bytes"] == bin_path.stat().st_size else None


_LARGEST_NOTE = 1 << 26  # bytes


def _read_note(path: Path) -> dict[str, Any] | None:
    """Return the content of a pair's ``.sttx.json``; None if it is damaged or another program's."""
    try:
        note = parse_json(read_at_most(path, _LARGEST_NOTE))
    except ValueError:
        return None
    if not isinstance(note, dict):
        return None
    complete = all(isinstance(note.get(name), expected) for name, expected in _NOTED.items())
    return note if complete else None


def _write_ids(
    documents: Documents,
    path: Path,
    mark: np.ndarray,
    vocab_size: int,
    progress: Callable[[int], None] | None,
) -> None:
    """Write the ids of documents in the dtype of the mark, which ends each."""
    with path.open("wb") as file:
        for document, length in enumerate(documents.lengths.tolist()):
            for start in range(1, length, _AT_ONCE):
                ids = documents.read(document, start, min(start + _AT_ONCE, length))
                if int(ids.min()) < 0 or int(ids.max()) >= vocab_size:
                    raise DataError(f"document {document} holds an id outside the vocabulary of {vocab_size}")
                file.write(ids.astype(mark.dtype).tobytes())
                if progress is not None:
                    progress(len(ids))
            file.write(mark.tobytes())
            if progress is not None:
                progress(1)


def _write_index(lengths: np.ndarray, path: Path, code: int) -> None:
    count = len(lengths)
    offsets = (np.cumsum(lengths) - lengths) * np.dtype(_DTYPES[code]).itemsize
    with path.open("wb") as file:
        file.write(_HEADER.pack(MAGIC, _VERSION, code, count, count + 1))
        file.write(lengths.astype("<i4").tobytes())
        file.write(offsets.astype("<i8").tobytes())
        file.write(np.arange(count + 1, dtype="<i8").tobytes())


def _read_index(path: Path) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the code of the ids' dtype, the sizes ``[sequences]`` and the marks, all checked."""
    if not path.is_file():
        raise DataError(f"{str(path)!r} does not exist: a .bin file of this format needs its index")
    name, size = repr(str(path)), path.stat().st_size
    if not _starts_with_magic(path):
        raise DataError(f"{name} is not the index of a .bin file: it does not start with MMIDIDX")
    if size < _HEADER.size:
        raise DataError(f"{name} is cut off: it has {size} bytes, but its header alone takes {_HEADER.size}")
    with open_regular(path) as file:
        _, version, code, count, mark_count = _HEADER.unpack(file.read(_HEADER.size))
    if version != _VERSION:
        raise DataError(f"{name} has version {version}; only version {_VERSION} can be read")
    if code not in _DTYPES:
        raise DataError(f"{name} says that its ids have the dtype code {code}, not one of {sorted(_DTYPES)}")
    wanted = _HEADER.size + 12 * count + 8 * mark_count
    if size != wanted:
        raise DataError(
            f"{name} has {size} bytes, but {count} sequences and {mark_count} document marks take {wanted}: "
            "it is cut off, or has another format"
        )
    if not count or not mark_count:
        raise DataError(f"{name} is empty: it lists {count} sequences and {mark_count} document marks")
    rest = np.memmap(path, np.uint8, mode="r", offset=_HEADER.size)
    sizes = rest[: 4 * count].view("<i4")
    offsets = rest[4 * count : 12 * count].view("<i8")
    marks = rest[12 * count :].view("<i8")
    _check_index(name, sizes, offsets, marks, np.dtype(_DTYPES[code]).itemsize)
    return code, sizes, marks


def _check_index(name: str, sizes: np.ndarray, offsets: np.ndarray, marks: np.ndarray, item: int) -> None:
    if int(sizes.min()) < 0:
        raise DataError(f"{name} is damaged: sequence {int(np.argmin(sizes))} has a size below 0")
    expected = (np.cumsum(sizes, dtype=np.int64) - sizes) * item
    if not np.array_equal(offsets, expected):
        wrong = int(np.argmax(offsets != expected))
        raise DataError(
            f"{name} is damaged: sequence {wrong} starts at byte {int(offsets[wrong])}, but those before it "
            f"end at {int(expected[wrong])}"
        )
    if marks[0] != 0 or int(marks[-1]) > len(sizes) or bool((np.diff(marks) < 0).any()):
        raise DataError(f"{name} is damaged: its document marks do not rise from 0 to at most {len(sizes)}")


def _map_ids(path: Path, idx_path: Path, dtype: np.dtype, count: int) -> np.ndarray:
    if not path.is_file():
        raise DataError(f"{str(path)!r} does not exist: {str(idx_path)!r} alone holds no ids")
    size = path.stat().st_size
    if size != count * dtype.itemsize:
        raise DataError(
            f"{str(path)!r} has {size} bytes, but its index {idx_path.name!r} needs "
            f"{count * dtype.itemsize}: one of the two is damaged, or belongs to another pair"
        )
    if not count:
        raise DataError(f"{str(path)!r} is empty: it holds no ids")
    return np.memmap(path, dtype, mode="r")


def _starts_with_magic(path: Path) -> bool:
    with open_regular(path) as file:
        return file.read(len(MAGIC)) == MAGIC
