"""`describe`: describes the data at a path as a JSON-able report: how much, how long, which vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sttx_core.errors import DataError, UsageError
from sttx_core.tokenizers import AnyTokenizer, Tokenizer
from sttx_core.tokenizers.protocol import EOT_ID
from sttx_train.byte_lengths import token_byte_lengths
from sttx_train.data.arrays import map_array, require_rows, require_values
from sttx_train.data.detect import detect_format
from sttx_train.data.documents import Documents, pieces_of
from sttx_train.data.encoding import ids_dtype
from sttx_train.data.id_files import documents_of_rows, open_flat
from sttx_train.data.mmididx import PairDocuments
from sttx_train.data.reader import check_pair_tokenizer, open_data, reads_ids
from sttx_train.data.scanning import bytes_of_ids, extremes, require_not_negative

FIRST = 32
"""How many ids of the first document are shown."""


def describe(
    path: Path, tokenizer: AnyTokenizer | None = None, say: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Describe the data of a file or folder.

    Args:
        path: data in any format that `open_data` reads.
        tokenizer: decodes the first ids, and must have room for the largest. Texts and JSON lines need one;
            stored numbers can be described without.
        say: called with a sentence about what was left out.

    Returns:
        ``kind`` (the data format), ``documents``, ``ids`` (end-of-text ids included), ``dtype`` (as stored,
        or as it would be stored), ``shortest``, ``median`` and ``longest`` document in ids, ``vocabulary``
        (``needed`` by the largest id, ``size`` of the tokenizer's, whether it ``fits``), ``first`` (``ids``
        and what they ``decoded`` to), ``text_bytes`` and ``bytes_per_token`` (None if it is not text).

    Raises:
        UsageError: the path does not exist, or the data needs a tokenizer or another one.
        DataError: the data is damaged or empty, or holds a number below 0.
    """
    kind, name = detect_format(path), repr(str(path))
    eot_id, size = (EOT_ID, None) if tokenizer is None else (tokenizer.eot_id, tokenizer.vocab_size)
    if kind == "array":
        rows = require_rows(map_array(path), name)
        require_not_negative(rows, name, "number")
        if tokenizer is None or not reads_ids(tokenizer):
            return {"kind": kind, **_of_values(rows, tokenizer, name)}
        return {"kind": kind, **_of_ids(*documents_of_rows(rows, eot_id), tokenizer, name)}
    if kind == "pair":
        if tokenizer is not None:
            check_pair_tokenizer(path, tokenizer)
        pair = PairDocuments(path, eot_id)
        return {"kind": kind, **_of_ids(pair, pair.ids, tokenizer, name)}
    if kind == "flat":
        return {
            "kind": kind,
            **_of_ids(*open_flat(path, eot_id=eot_id, vocab_size=size, say=say), tokenizer, name),
        }
    if tokenizer is None:
        raise UsageError(f"{str(path)!r} holds no ids yet ({kind}): name the tokenizer that encodes it")
    data = open_data([path], tokenizer, say=say)
    largest = max(int(piece.max()) for piece in pieces_of(data.documents))
    counted = _lengths(data.documents.lengths, ids_dtype(tokenizer.vocab_size))
    first = data.documents.read(0, 0, min(int(data.documents.lengths[0]), FIRST))
    return {"kind": kind, **counted, **_fit(largest, tokenizer, first), **_bytes(data.text_bytes, counted)}


def _of_ids(
    documents: Documents, ids: np.ndarray, tokenizer: AnyTokenizer | None, name: str
) -> dict[str, Any]:
    require_not_negative(ids, name)
    if int(documents.lengths.max(initial=0)) <= 1:
        raise DataError(f"there is nothing to read in {name}: it holds end-of-text ids only")
    counted = _lengths(documents.lengths, ids.dtype)
    first = documents.read(0, 0, min(int(documents.lengths[0]), FIRST))
    fit = _fit(extremes(ids)[1], tokenizer, first)
    text_bytes = None
    if isinstance(tokenizer, Tokenizer) and fit["vocabulary"]["fits"]:
        text_bytes = bytes_of_ids(ids, token_byte_lengths(tokenizer))
    return {**counted, **fit, **_bytes(text_bytes, counted)}


def _of_values(rows: np.ndarray, tokenizer: AnyTokenizer | None, name: str) -> dict[str, Any]:
    """Describe values as ids: the id of a value is one more, and a row starts with the mark 0."""
    if tokenizer is not None:
        require_values(tokenizer, name)
    lengths = np.full(len(rows), rows.shape[1] + 1, np.int64)
    values = [int(value) for value in rows[0, : FIRST - 1]]
    fit = _fit(extremes(rows)[1] + 1, tokenizer, np.array([EOT_ID, *(value + 1 for value in values)], object))
    fit["first"]["decoded"] = values
    return {**_lengths(lengths, rows.dtype), **fit, **_bytes(None, {})}


def _lengths(lengths: np.ndarray, dtype: np.dtype) -> dict[str, Any]:
    return {
        "documents": len(lengths),
        "ids": int(lengths.sum()),
        "dtype": dtype.name,
        "shortest": int(lengths.min()),
        "median": float(np.median(lengths)),
        "longest": int(lengths.max()),
    }


def _fit(high: int, tokenizer: AnyTokenizer | None, first: np.ndarray) -> dict[str, Any]:
    """Compare the range of the ids with a vocabulary; decode the first ids if all fit."""
    fits = None if tokenizer is None else high < tokenizer.vocab_size
    ids = [int(token) for token in first]
    return {
        "vocabulary": {
            "needed": high + 1,
            "size": None if tokenizer is None else tokenizer.vocab_size,
            "fits": fits,
        },
        "first": {"ids": ids, "decoded": tokenizer.decode(ids) if fits and tokenizer is not None else None},
    }


def _bytes(text_bytes: int | None, counted: dict[str, Any]) -> dict[str, Any]:
    rate = None if text_bytes is None else text_bytes / counted["ids"]
    return {"text_bytes": text_bytes, "bytes_per_token": rate}
