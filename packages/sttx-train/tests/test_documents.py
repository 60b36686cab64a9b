"""Reading many documents at once equals reading one by one, in every storage; fingerprints."""

import struct
import tracemalloc

import numpy as np
import pytest

from sttx_core.errors import DataError
from sttx_core.tokenizers import IntegerTokenizer
from sttx_train.data.arrays import ArrayDocuments
from sttx_train.data.documents import Chosen, Joined, Packed, Prefixes, Suffixes, fingerprint, pieces_of
from sttx_train.data.mmididx import PairDocuments, write_pair

SIZES = (3, 1, 6, 2, 1, 9)
NINE = IntegerTokenizer(9)


def packed(dtype=np.uint16):
    """Documents of so many ids, the mark among them, none of them 0."""
    ids = np.arange(1, sum(SIZES) + 1)
    ids[np.cumsum(SIZES) - SIZES] = 0
    return Packed(ids.astype(dtype))


def megatron(folder):
    """Two documents of three sequences, and nothing at their ends."""
    np.array([5, 6, 7, 8, 9], "<u2").tofile(folder / "m.bin")
    index = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, 3, 3)
    (folder / "m.idx").write_bytes(index + struct.pack("<3i3q3q", 2, 1, 2, 0, 4, 6, 0, 2, 3))
    return PairDocuments(folder / "m")


def pair(folder):
    write_pair(packed(), folder / "x", vocab_size=100)
    return PairDocuments(folder / "x")


def array(_=None):
    return ArrayDocuments(np.arange(21).reshape(7, 3) % 10, NINE)


KINDS = {
    "packed": lambda folder: packed(),
    "array": array,
    "pair": pair,
    "megatron": megatron,
    "joined": lambda folder: Joined([packed(), pair(folder), Packed(np.array([0])), array()]),
    "chosen": lambda folder: Chosen(packed(), np.array([0, 2, 3, 4, 1])),
    "none": lambda folder: Chosen(packed(), np.array([], int)),
    "prefixes": lambda folder: Prefixes(packed(), np.array([2, 1, 6, 1, 1, 4])),
    "suffixes": lambda folder: Suffixes(packed(), np.array([2, 1, 6, 1, 1, 4])),
}


@pytest.fixture(params=KINDS)
def documents(request, tmp_path):
    return KINDS[request.param](tmp_path)


def one_by_one(documents, first=0, stop=None):
    lengths = documents.lengths[first:stop].tolist()
    return [token for at, length in enumerate(lengths, first) for token in documents.read(at, 0, length)]


def test_read_many_equals_read(documents):
    count = len(documents.lengths)
    for first in range(count):
        for stop in range(first, count + 1):
            ids = documents.read_many(first, stop)
            assert ids.dtype == np.int64 and ids.tolist() == one_by_one(documents, first, stop)


@pytest.mark.parametrize("at_once", [1, 2, 4, 7, 1000])
def test_pieces_cover_all_documents(documents, monkeypatch, at_once):
    monkeypatch.setattr("sttx_train.data.documents._READ_AT_ONCE", at_once)
    pieces = list(pieces_of(documents))
    assert [token for piece in pieces for token in piece] == one_by_one(documents)
    assert all(0 < len(piece) <= at_once for piece in pieces)


def test_short_documents_are_read_together(monkeypatch):
    monkeypatch.setattr("sttx_train.data.documents._READ_AT_ONCE", 8)
    monkeypatch.setattr(ArrayDocuments, "read", None)
    assert [len(piece) for piece in pieces_of(array())] == [8, 8, 8, 4]


class TestFingerprint:
    def test_the_storage_does_not_matter(self, tmp_path, monkeypatch):
        expected = fingerprint(packed())
        assert expected == fingerprint(packed(np.int64)) == fingerprint(pair(tmp_path))
        parts = [Chosen(packed(), np.array([0, 1])), Chosen(packed(), np.arange(2, 6))]
        assert expected == fingerprint(Joined(parts))
        monkeypatch.setattr("sttx_train.data.documents._READ_AT_ONCE", 4)
        assert expected == fingerprint(packed())

    @pytest.mark.parametrize("row", range(7))
    def test_one_changed_value_changes_it(self, row):
        rows = np.arange(21).reshape(7, 3) % 10
        rows[row, 1] = (rows[row, 1] + 1) % 10
        assert fingerprint(ArrayDocuments(rows, NINE)) != fingerprint(array())

    def test_moved_document_starts_change_it(self):
        whole, cut = packed(), packed()
        assert cut.read_many(0, 1).tolist() == [0, 2, 3]
        cut.lengths = np.array([2, 2, 6, 2, 1, 9])
        assert fingerprint(cut) != fingerprint(whole)

    def test_they_are_not_in_memory_whole(self, tmp_path):
        ids = np.ones(20_000_000, np.uint16)
        ids[0] = 0
        ids.tofile(tmp_path / "x.bin")
        documents = Packed(np.memmap(tmp_path / "x.bin", np.uint16, mode="r"))
        tracemalloc.start()
        fingerprint(documents)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20_000_000, "the file has 40 megabytes"


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64])
def test_a_negative_id_is_refused(dtype, monkeypatch):
    monkeypatch.setattr("sttx_train.data.documents._SCANNED_AT_ONCE", 2)
    with pytest.raises(DataError, match="packed ids hold -3 at position 4: ids are not negative"):
        Packed(np.array([0, 7, 0, 8, -3, 9], dtype))
