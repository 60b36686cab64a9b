"""Texts become ids in a nameless file: nothing wraps, and one text at a time is in memory."""

import tracemalloc

import numpy as np
import pytest

from sttx_core.errors import DataError, UsageError
from sttx_core.tokenizers import ByteTokenizer
from sttx_train.data.documents import Chosen, Packed
from sttx_train.data.encoding import IdFile, encode_documents, ids_dtype
from sttx_train.data.scanning import bytes_of_ids, extremes, pieces, require_ids, text_bytes


class Shifted(ByteTokenizer):
    """Bytes whose ids lie beyond 16 bits."""

    vocab_size = 70_257

    def encode(self, text):
        return [token + 70_000 for token in super().encode(text)]


class TestEncoding:
    def test_every_document_starts_with_the_end_of_text(self):
        packed = encode_documents(["ab", "", "c"], ByteTokenizer())
        assert packed.tolist() == [0, 98, 99, 0, 100] and packed.dtype == np.uint16
        assert len(encode_documents([], ByteTokenizer())) == 0

    def test_a_vocabulary_beyond_16_bits_does_not_wrap(self):
        packed = encode_documents(["a"], Shifted())
        assert packed.tolist() == [0, 70_098] and packed.dtype == np.int32

    def test_the_width_follows_the_vocabulary(self):
        assert [ids_dtype(size).itemsize for size in (2, 1 << 16, (1 << 16) + 1, 1 << 31)] == [2, 2, 4, 4]
        with pytest.raises(UsageError, match="does not fit int32"):
            ids_dtype((1 << 31) + 1)

    @pytest.mark.parametrize("wrong", [300, 65_536 + 5, -1])
    def test_an_id_outside_the_vocabulary_is_refused(self, wrong):
        with (
            IdFile(300) as file,
            pytest.raises(DataError, match=f"id {wrong}, outside its vocabulary of 300"),
        ):
            file.add([7, wrong])
        with IdFile(300) as file, pytest.raises(DataError, match=f"id {wrong}, outside"):
            file.add_pieces([[7], [wrong]])

    def test_a_document_may_come_in_pieces(self):
        with IdFile(300) as file:
            file.add_pieces(iter([[7, 8], [], [9]]))
            file.add_pieces([])
            file.add([])
            file.add_pieces([[], [5]])
            assert file.finish().tolist() == [0, 7, 8, 9, 0, 0, 5]

    def test_one_text_at_a_time_is_in_memory(self):
        sizes = []
        tracemalloc.start()
        packed = encode_documents(("x" * 10_000 for _ in range(200)), ByteTokenizer(), progress=sizes.append)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(packed) == 200 * 10_001 and sum(sizes) == 2_000_000
        assert peak < 1_000_000, "four megabytes of ids were written"

    def test_nothing_is_left_in_the_folder(self, tmp_path):
        packed = encode_documents(["ab"], ByteTokenizer(), folder=tmp_path)
        assert not list(tmp_path.iterdir()) and len(packed) == 3


class TestScanning:
    def test_pieces_cover_the_array(self, monkeypatch):
        monkeypatch.setattr("sttx_train.data.scanning.PIECE", 7)
        for shape in ((40,), (10, 3), (3, 40), (0,), (1, 50)):
            array = np.random.default_rng(1).integers(-9, 9, shape)
            found = [piece for _, piece in pieces(array)]
            assert np.array_equal(np.concatenate([array[:0], *found]), array)
            if array.size:
                assert extremes(array) == (array.min(), array.max())

    def test_ids_of_another_vocabulary_are_refused(self, monkeypatch):
        monkeypatch.setattr("sttx_train.data.scanning.PIECE", 2)
        require_ids(np.array([0, 3, 9, 2]), "it", 10)
        require_ids(np.zeros(0, int), "it", 10)
        with pytest.raises(DataError, match="it holds the id 9, but the vocabulary has 9"):
            require_ids(np.array([0, 3, 9, 2]), "it", 9)
        with pytest.raises(DataError, match="it holds the id -2"):
            require_ids(np.array([0, 3, 9, -2]), "it", 10)

    def test_text_bytes_of_any_documents(self, monkeypatch):
        texts = ["first", "secönd", "", "third" * 9]
        ids = encode_documents(texts, ByteTokenizer())
        whole = Packed(ids)
        for piece in (1, 4, 1 << 22):
            monkeypatch.setattr("sttx_train.data.scanning.PIECE", piece)
            monkeypatch.setattr("sttx_train.data.documents._READ_AT_ONCE", piece)
            assert text_bytes(whole, ByteTokenizer()) == len("".join(texts).encode())
            assert text_bytes(Chosen(whole, np.array([1])), ByteTokenizer()) == 7
            assert bytes_of_ids(ids, np.array([0] + [1] * 256)) == len("".join(texts).encode())
