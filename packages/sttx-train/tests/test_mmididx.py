"""Pairs of .bin and .idx match independent code for reading and writing; damaged ones are refused."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sttx_core.errors import DataError, UsageError
from sttx_train.data import mmididx
from sttx_train.data.documents import Packed
from sttx_train.data.mmididx import PairDocuments, write_pair
from sttx_train.data.sampling import Sampler

DOCUMENTS = [[5, 6, 7], [8], [9, 10, 11, 12, 300]]
WIDTHS = [(512, 8, "H"), (65536, 8, "H"), (65537, 4, "i"), (70000, 4, "i")]


def packed(documents=DOCUMENTS):
    return Packed(np.array([token for document in documents for token in [0, *document]], np.uint32))


def written_independently(prefix, documents, code, letter):
    """Write a pair from the format's description, with struct alone; each document ends with 0."""
    sizes = [len(document) + 1 for document in documents]
    with open(f"{prefix}.bin", "wb") as file:
        for document in documents:
            file.write(struct.pack(f"<{len(document) + 1}{letter}", *document, 0))
    with open(f"{prefix}.idx", "wb") as file:
        file.write(b"MMIDIDX\x00\x00" + struct.pack("<Q", 1) + struct.pack("<B", code))
        file.write(struct.pack("<QQ", len(documents), len(documents) + 1))
        file.write(struct.pack(f"<{len(sizes)}i", *sizes))
        at = 0
        for size in sizes:
            file.write(struct.pack("<q", at))
            at += size * struct.calcsize(letter)
        file.write(struct.pack(f"<{len(documents) + 1}q", *range(len(documents) + 1)))


def read_independently(prefix):
    """Read a pair with struct alone: the ids of each document, its 0 among them."""
    with open(f"{prefix}.idx", "rb") as file:
        index = file.read()
    with open(f"{prefix}.bin", "rb") as file:
        data = file.read()
    assert index[:9] == b"MMIDIDX\x00\x00" and struct.unpack_from("<Q", index, 9) == (1,)
    code, count, marks = struct.unpack_from("<BQQ", index, 17)
    letter = {8: "H", 4: "i"}[code]
    sizes = struct.unpack_from(f"<{count}i", index, 34)
    offsets = struct.unpack_from(f"<{count}q", index, 34 + 4 * count)
    starts = struct.unpack_from(f"<{marks}q", index, 34 + 12 * count)
    assert len(index) == 34 + 12 * count + 8 * marks and starts == tuple(range(count + 1))
    return [list(struct.unpack_from(f"<{n}{letter}", data, at)) for n, at in zip(sizes, offsets, strict=True)]


def ids_of(documents):
    return [documents.read(at, 0, int(length)).tolist() for at, length in enumerate(documents.lengths)]


@pytest.fixture
def pair(tmp_path):
    written_independently(tmp_path / "x", DOCUMENTS, 8, "H")
    return tmp_path / "x"


@pytest.fixture
def damage(pair):
    """Return a function that changes the bytes of the index and reads the pair."""

    def change(edit):
        path = pair.with_suffix(".idx")
        path.write_bytes(edit(path.read_bytes()))
        return PairDocuments(pair)

    return change


@pytest.mark.parametrize(("vocab_size", "code", "letter"), WIDTHS)
class TestBytes:
    def test_an_independent_reader_reads_what_is_written(self, tmp_path, vocab_size, code, letter):
        sizes = []
        write_pair(packed(), tmp_path / "x", vocab_size=vocab_size, progress=sizes.append)
        assert read_independently(tmp_path / "x") == [[*document, 0] for document in DOCUMENTS]
        assert sum(sizes) == packed().lengths.sum()

    def test_the_bytes_are_those_of_an_independent_writer(self, tmp_path, vocab_size, code, letter):
        write_pair(packed(), tmp_path / "ours", vocab_size=vocab_size)
        written_independently(tmp_path / "theirs", DOCUMENTS, code, letter)
        for ending in (".bin", ".idx"):
            assert (tmp_path / f"ours{ending}").read_bytes() == (tmp_path / f"theirs{ending}").read_bytes()

    def test_a_pair_of_an_independent_writer_is_read(self, tmp_path, vocab_size, code, letter):
        written_independently(tmp_path / "x", DOCUMENTS, code, letter)
        for path in (tmp_path / "x", tmp_path / "x.bin", tmp_path / "x.idx"):
            documents = PairDocuments(path)
            assert ids_of(documents) == ids_of(packed())
            assert documents.lengths.tolist() == [4, 2, 6] and documents.lengths.dtype == np.int64
        assert isinstance(documents.ids, np.memmap)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(1, 69_999), max_size=20), min_size=1, max_size=9), st.booleans())
def test_any_documents_survive_writing_and_reading(tmp_path_factory, documents, wide):
    vocab_size, code, letter = WIDTHS[3] if wide else WIDTHS[1]
    documents = documents if wide else [[token % 65_535 + 1 for token in ids] for ids in documents]
    folder = tmp_path_factory.mktemp("any")
    write_pair(packed(documents), folder / "ours", vocab_size=vocab_size)
    written_independently(folder / "theirs", documents, code, letter)
    for ending in (".bin", ".idx"):
        assert (folder / f"ours{ending}").read_bytes() == (folder / f"theirs{ending}").read_bytes()
    assert ids_of(PairDocuments(folder / "ours")) == [[0, *ids] for ids in documents]
    assert read_independently(folder / "ours") == [[*ids, 0] for ids in documents]


class TestReading:
    def test_any_piece_of_a_document(self, pair):
        documents, expected = PairDocuments(pair), [0, *DOCUMENTS[2]]
        for start in range(7):
            for stop in range(start, 7):
                assert documents.read(2, start, stop).tolist() == expected[start:stop]

    def test_windows_are_those_of_packed_ids(self, pair):
        for step in range(3):
            ours = Sampler(PairDocuments(pair), rows=2, context=8).window(step)
            theirs = Sampler(packed(), rows=2, context=8).window(step)
            assert np.array_equal(ours.inputs, theirs.inputs) and np.array_equal(ours.targets, theirs.targets)

    def test_documents_of_several_sequences_without_0(self, tmp_path):
        """As Megatron writes them: two sequences are one document, and nothing ends it."""
        np.array([5, 6, 7, 8, 9], "<u2").tofile(tmp_path / "x.bin")
        index = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, 3, 3)
        index += struct.pack("<3i3q3q", 2, 1, 2, 0, 4, 6, 0, 2, 3)
        (tmp_path / "x.idx").write_bytes(index)
        documents = PairDocuments(tmp_path / "x")
        assert ids_of(documents) == [[0, 5, 6, 7], [0, 8, 9]]
        assert documents.read(0, 1, 3).tolist() == [5, 6]

    def test_a_sequence_of_many_documents_is_split(self, tmp_path, monkeypatch):
        monkeypatch.setattr("sttx_train.data.scanning.PIECE", 2)
        written_independently(tmp_path / "x", [[5, 6, 0, 7, 0, 0, 8]], 8, "H")
        assert ids_of(PairDocuments(tmp_path / "x")) == [[0, 5, 6], [0, 7], [0], [0, 8]]

    def test_long_documents_are_written_in_pieces(self, tmp_path, monkeypatch):
        monkeypatch.setattr(mmididx, "_AT_ONCE", 3)
        long = [list(range(1, 20)), [1, 2, 3]]
        write_pair(packed(long), tmp_path / "x", vocab_size=30)
        assert read_independently(tmp_path / "x") == [[*document, 0] for document in long]
        assert ids_of(PairDocuments(tmp_path / "x")) == ids_of(packed(long))


class TestDamage:
    @pytest.mark.parametrize(
        ("edit", "said"),
        [
            (lambda index: b"NOTANIDX\0" + index[9:], "does not start with MMIDIDX"),
            (lambda index: b"", "does not start with MMIDIDX"),
            (lambda index: index[:20], "is cut off: it has 20 bytes, but its header alone takes 34"),
            (lambda index: index[:-3], "but 3 sequences and 4 document marks take 102"),
            (lambda index: index + b"\0", "has 103 bytes"),
            (lambda index: index[:9] + struct.pack("<Q", 2) + index[17:], "has version 2"),
            (lambda index: index[:17] + b"\x06" + index[18:], "dtype code 6"),
            (lambda index: index[:18] + struct.pack("<QQ", 2**63, 4) + index[34:], "9223372036854775808 seq"),
            (lambda index: index[:18] + bytes(16), "is empty"),
            (lambda index: index[:34] + struct.pack("<i", -4) + index[38:], "sequence 0 has a size below 0"),
            (
                lambda index: index[:54] + struct.pack("<q", 6) + index[62:],
                "sequence 1 starts at byte 6, but",
            ),
            (lambda index: index[:-8] + struct.pack("<q", 9), "do not rise from 0 to at most 3"),
            (lambda index: index[:-16] + struct.pack("<qq", 3, 2), "do not rise"),
        ],
    )
    def test_a_damaged_index_is_one_sentence(self, damage, edit, said):
        with pytest.raises(DataError, match=f"x.idx' .*{said}"):
            damage(edit)

    def test_bin_and_idx_must_match(self, pair):
        data = pair.with_suffix(".bin").read_bytes()
        for changed in (data[:-1], data[:-4], data + b"\0\0"):
            pair.with_suffix(".bin").write_bytes(changed)
            with pytest.raises(
                DataError, match=rf"x.bin' has {len(changed)} bytes, but its index 'x.idx' needs"
            ):
                PairDocuments(pair)
        pair.with_suffix(".bin").unlink()
        with pytest.raises(DataError, match="x.bin' does not exist"):
            PairDocuments(pair)

    def test_a_missing_index_is_named(self, pair):
        pair.with_suffix(".idx").unlink()
        with pytest.raises(DataError, match="x.idx' does not exist"):
            PairDocuments(pair)

    def test_an_empty_pair_is_refused(self, tmp_path):
        (tmp_path / "x.bin").write_bytes(b"")
        (tmp_path / "x.idx").write_bytes(b"MMIDIDX\0\0" + struct.pack("<QBQQiqqq", 1, 8, 1, 2, 0, 0, 0, 1))
        with pytest.raises(DataError, match="x.bin' is empty"):
            PairDocuments(tmp_path / "x")


class TestWriting:
    def test_nothing_is_overwritten(self, pair):
        before = pair.with_suffix(".bin").read_bytes()
        with pytest.raises(UsageError, match="x.bin' already exists: give another --out"):
            write_pair(packed(), pair, vocab_size=512)
        assert pair.with_suffix(".bin").read_bytes() == before

    def test_an_index_left_by_a_killed_build_is_replaced_but_no_other_file(self, pair):
        pair.with_suffix(".bin").unlink()
        write_pair(packed([[1]]), pair, vocab_size=512)
        assert ids_of(PairDocuments(pair)) == [[0, 1]]
        pair.with_suffix(".bin").unlink()
        pair.with_suffix(".idx").write_text("mine")
        with pytest.raises(UsageError, match="x.idx' already exists"):
            write_pair(packed([[1]]), pair, vocab_size=512)

    @pytest.mark.parametrize("ids", [[5, 300], [5, 65_536 + 7]])
    def test_an_id_outside_the_vocabulary_leaves_no_files(self, tmp_path, ids):
        with pytest.raises(DataError, match="document 1 holds an id outside the vocabulary of 300"):
            write_pair(packed([[1], ids]), tmp_path / "x", vocab_size=300)
        assert not list(tmp_path.iterdir())

    def test_the_bin_file_is_renamed_last(self, tmp_path, monkeypatch):
        """So that a kill between the two leaves an index, which nobody takes for data."""
        renamed = []
        replace = type(tmp_path).replace
        monkeypatch.setattr(
            type(tmp_path), "replace", lambda a, b: (renamed.append(b.name), replace(a, b))[1]
        )
        write_pair(packed(), tmp_path / "x", vocab_size=512)
        assert renamed == ["x.idx", "x.bin"]

    def test_documents_that_do_not_fit_are_refused(self, tmp_path):
        with pytest.raises(DataError, match="nothing to write"):
            write_pair(_Nothing(), tmp_path / "x", vocab_size=512)
        with pytest.raises(UsageError, match="does not fit int32"):
            write_pair(packed(), tmp_path / "x", vocab_size=2**31 + 1)
        with pytest.raises(DataError, match="a document has 2,147,483,648 ids"):
            write_pair(_Long(), tmp_path / "x", vocab_size=512)
        assert not list(tmp_path.iterdir())


class _Nothing:
    lengths = np.zeros(0, np.int64)

    def read(self, document, start, stop):
        raise AssertionError

    def read_many(self, first, stop):
        raise AssertionError


class _Long(_Nothing):
    lengths = np.array([2**31])
