"""Ids that any program wrote: flat ``.bin`` files of any width, and ``.npy`` arrays. Knows no text.

A flat file does not say how wide its ids are, so the width comes from its content: in a file of 32-bit ids
the upper half of every id is almost 0. Its documents start, or end, with the end-of-text id.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from sttx_core.errors import DataError
from sttx_core.tokenizers.protocol import EOT_ID
from sttx_train.data.documents import Documents, Packed, cut_at_marks
from sttx_train.data.mmididx import BIN, IDX
from sttx_train.data.scanning import extremes, pieces

_UNKNOWN_SIZE = 1 << 20
"""Ids of a vocabulary that is not known; the largest in use have a quarter of it."""

_ENOUGH, _SMALLER = 64, 4  # ids that show their byte order, and how much smaller those of the other order are


def open_flat(
    path: Path,
    *,
    eot_id: int = EOT_ID,
    vocab_size: int | None = None,
    say: Callable[[str], None] | None = None,
) -> tuple[Documents, np.ndarray]:
    """Map a flat ``.bin`` file into memory: its documents, and all its ids.

    Args:
        path: the file.
        eot_id: the end-of-text id; each document starts with it, or each ends with it.
        vocab_size: size of the vocabulary; None if it is not known.
        say: called if the ids do not have 16 bits, if they look big-endian and the vocabulary is not known,
            or if documents end with the end-of-text id.

    Raises:
        DataError: the file is empty, is not a whole number of ids, is big-endian, or has no end-of-text id
            where documents start or end.
    """
    name, size = repr(str(path)), path.stat().st_size
    note = say or (lambda text: None)
    if not size:
        raise DataError(f"{name} is empty: it holds no ids")
    if size % 2:
        raise DataError(
            f"{name} has {size} bytes, an odd number: it is not a file of 16-bit ids, or is cut off"
        )
    ids = np.memmap(path, _dtype(path, size, eot_id, vocab_size), mode="r")
    _check_byte_order(path, ids, eot_id, vocab_size, note)
    if ids.dtype.itemsize != 2:
        note(f"{name} is read as ids of {8 * ids.dtype.itemsize} bits")
    if ids[0] == eot_id:
        return Packed(ids, eot_id), ids
    if ids[-1] == eot_id:
        note(f"{name} does not start with the id {eot_id}: its documents are taken to end with it")
        return cut_at_marks(ids, eot_id), ids
    raise DataError(
        f"{name} starts with the id {ids[0]}, not with {eot_id}, which starts every document, or ends it: "
        f"give the vocabulary that made it as --tokenizer, or, if it is half of a pair of {BIN} and {IDX}, "
        f"put {path.with_suffix(IDX).name!r} beside it"
    )


def documents_of_rows(rows: np.ndarray, eot_id: int) -> tuple[Documents, np.ndarray]:
    """Return the documents in an array of ids ``[sequences, length]``, and all its ids.

    A document ends where its row ends, and at an end-of-text id inside the row.
    """
    ids = rows.reshape(-1)
    return cut_at_marks(ids, eot_id, np.arange(1, len(rows)) * rows.shape[1]), ids


def _dtype(path: Path, size: int, eot_id: int, vocab_size: int | None) -> str:
    """Return the dtype of the ids in a file: the widest in which the upper half of every id can be an id's.

    The halves of wide ids could be read as narrow ones, but hardly the other way round.
    """
    for width in (8, 4):
        if size % width:
            continue
        halves = np.memmap(path, f"<u{width // 2}", mode="r").reshape(-1, 2)
        upper = max(int(piece[:, 1].max()) for _, piece in pieces(halves))
        ones = (1 << (4 * width)) - 1
        if upper == ones and all(np.isin(piece[:, 1], (0, ones)).all() for _, piece in pieces(halves)):
            raise DataError(f"{str(path)!r} holds negative ids of {8 * width} bits: no vocabulary has them")
        ids = np.memmap(path, f"<u{width}", mode="r")
        most = ((vocab_size or _UNKNOWN_SIZE) - 1) >> (4 * width)
        if not upper or (upper <= most and eot_id in (ids[0], ids[-1])):
            return f"<u{width}"
    return "<u2"


def _check_byte_order(
    path: Path, ids: np.ndarray, eot_id: int, vocab_size: int | None, note: Callable[[str], None]
) -> None:
    """Raise a DataError if the ids fit the vocabulary only with their bytes swapped.

    Without a vocabulary nothing proves that; say so if swapped ids are all far smaller.
    """
    largest = extremes(ids)[1]
    if vocab_size is None:
        limit = largest // _SMALLER if len(ids) >= _ENOUGH else 0
    else:
        limit = vocab_size if largest >= vocab_size else 0
    advice = "write its ids with the lowest byte first"
    for width in (2, 4, 8) if limit else ():
        if not ids.nbytes % width:
            swapped = np.memmap(path, f">u{width}", mode="r")
            if eot_id in (swapped[0], swapped[-1]) and (most := extremes(swapped)[1]) < limit:
                if vocab_size is not None:
                    raise DataError(f"{str(path)!r} is big-endian: {advice}")
                note(f"{str(path)!r} may be big-endian, with ids of at most {most}: if so, {advice}")
                return
