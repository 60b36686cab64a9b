"""The description of data in every format, with and without a tokenizer."""

import json

import numpy as np
import pytest

from sttx_core.errors import DataError, UsageError
from sttx_core.tokenizers import ByteTokenizer, IntegerTokenizer
from sttx_train.data.description import describe
from sttx_train.data.documents import Packed
from sttx_train.data.encoding import encode_documents
from sttx_train.data.mmididx import write_pair

TEXT, TEN = ByteTokenizer(), IntegerTokenizer(9)
WORDS = ["first", "seconds", "ab"]
COUNTED = {"documents": 3, "ids": 17, "dtype": "uint16", "shortest": 3, "median": 6.0, "longest": 8}
BYTES = {"text_bytes": 14, "bytes_per_token": 14 / 17}
NO_BYTES = {"text_bytes": None, "bytes_per_token": None}
FIRST = [0, *(byte + 1 for byte in b"first")]


@pytest.fixture
def texts(tmp_path):
    """The same texts as files of four kinds."""
    ids = encode_documents(WORDS, TEXT)
    np.array(ids, "<u2").tofile(tmp_path / "flat.bin")
    write_pair(Packed(ids), tmp_path / "pair", vocab_size=70_000)
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"text": word}) + "\n" for word in WORDS))
    (tmp_path / "tree").mkdir()
    for number, word in enumerate(WORDS):
        (tmp_path / "tree" / str(number)).write_text(word)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "kind", "dtype"),
    [("flat.bin", "flat", "uint16"), ("pair", "pair", "int32"), ("x.jsonl", "json lines", "uint16")]
    + [("tree", "text", "uint16")],
)
def test_texts_in_every_format(texts, name, kind, dtype):
    assert describe(texts / name, TEXT) == {
        "kind": kind,
        **COUNTED,
        "dtype": dtype,
        "vocabulary": {"needed": ord("t") + 2, "size": 257, "fits": True},
        "first": {"ids": FIRST, "decoded": "first"},
        **BYTES,
    }


@pytest.mark.parametrize("name", ["flat.bin", "pair.idx"])
@pytest.mark.parametrize(("tokenizer", "size", "fits"), [(None, None, None), (TEN, 11, False)])
def test_ids_without_their_tokenizer(texts, name, tokenizer, size, fits):
    report = describe(texts / name, tokenizer)
    assert report["vocabulary"] == {"needed": ord("t") + 2, "size": size, "fits": fits}
    assert report["first"] == {"ids": FIRST, "decoded": None} and report["text_bytes"] is None


@pytest.mark.parametrize("name", ["tree", "x.jsonl"])
def test_texts_need_a_tokenizer(texts, name):
    with pytest.raises(UsageError, match="name the tokenizer that encodes it"):
        describe(texts / name)


@pytest.mark.parametrize(
    ("tokenizer", "size", "fits"), [(None, None, None), (TEN, 11, True), (IntegerTokenizer(8), 10, False)]
)
def test_an_array(tmp_path, tokenizer, size, fits):
    np.save(tmp_path / "x.npy", np.array([[3, 1, 4], [1, 5, 9]], np.uint8))
    assert describe(tmp_path / "x.npy", tokenizer) == {
        "kind": "array",
        "documents": 2,
        "ids": 8,
        "dtype": "uint8",
        "shortest": 4,
        "median": 4.0,
        "longest": 4,
        "vocabulary": {"needed": 11, "size": size, "fits": fits},
        "first": {"ids": [0, 4, 2, 5], "decoded": [3, 1, 4]},
        **NO_BYTES,
    }


@pytest.mark.parametrize("tokenizer", [None, TEN, TEXT])
def test_numbers_below_0_are_refused(tmp_path, tokenizer):
    np.save(tmp_path / "x.npy", np.array([[3, 1], [0, -1]]))
    with pytest.raises(DataError, match=r"x.npy' holds the number -1 \(position 1, 1\)"):
        describe(tmp_path / "x.npy", tokenizer)
    write_pair(Packed(np.array([0, 5, 0, 7])), tmp_path / "pair", vocab_size=70_000)
    stored = np.memmap(tmp_path / "pair.bin", "<i4", mode="r+")
    stored[2] = -7
    with pytest.raises(DataError, match=r"pair' holds the id -7 \(position 2\)"):
        describe(tmp_path / "pair", tokenizer)


def test_an_array_is_not_text_in_bytes(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[3, 1]]))
    with pytest.raises(UsageError, match="is one of text"):
        describe(tmp_path / "x.npy", TEXT)


def test_a_long_document_is_shown_by_its_first_ids(tmp_path):
    (tmp_path / "x.txt").write_text("a" * 100)
    report = describe(tmp_path / "x.txt", TEXT)
    assert (
        len(report["first"]["ids"]) == 32
        and report["first"]["decoded"] == "a" * 31
        and report["longest"] == 101
    )


def test_a_missing_path_is_refused(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        describe(tmp_path / "gone")
