"""Flat files of ids of any width: read rightly or refused, never as nonsense."""

import numpy as np
import pytest

from sttx_core.errors import DataError
from sttx_train.data.id_files import open_flat

LEADING = [0, 305, 313, 0, 258, 0, 297, 12, 7]
DOCUMENTS = [[0, 305, 313], [0, 258], [0, 297, 12, 7]]


def read(path, **options):
    said: list[str] = []
    documents, ids = open_flat(path, say=said.append, **options)
    rows = [documents.read(at, 0, length).tolist() for at, length in enumerate(documents.lengths.tolist())]
    return rows, ids.dtype.itemsize, said


@pytest.mark.parametrize("vocab_size", [None, 400, 70_000, 151_936])
@pytest.mark.parametrize("dtype", ["<u2", "<u4", "<i4", "<i8", "<u8"])
@pytest.mark.parametrize("ids", [LEADING, LEADING[:-1], [*LEADING[1:], 0], [*LEADING[1:8], 0]])
def test_the_width_comes_from_the_content(tmp_path, dtype, ids, vocab_size):
    np.array(ids, dtype).tofile(tmp_path / "x.bin")
    rows, width, said = read(tmp_path / "x.bin", vocab_size=vocab_size)
    assert [len(row) for row in rows][:2] == [3, 2] and rows[:2] == DOCUMENTS[:2]
    assert width == np.dtype(dtype).itemsize
    assert len(said) == (width != 2) + (ids[0] != 0)


@pytest.mark.parametrize("end", [70_000, 151_643])
@pytest.mark.parametrize("leading", [True, False])
def test_ids_of_a_large_vocabulary_have_32_bits(tmp_path, end, leading):
    ids = [5, 66_000, 131_072, 17]
    row = [end, *ids, end, 3] if leading else [*ids, end, 3, end]
    np.array(row, "<u4").tofile(tmp_path / "x.bin")
    assert read(tmp_path / "x.bin", eot_id=end, vocab_size=151_936)[:2] == ([[end, *ids], [end, 3]], 4)


@pytest.mark.parametrize("dtype", [">u2", ">u4", ">i8"])
@pytest.mark.parametrize("end", [0, 399])
def test_big_endian_ids_are_refused_by_name(tmp_path, dtype, end):
    np.array([end, 305, 313, end, 258], dtype).tofile(tmp_path / "x.bin")
    with pytest.raises(DataError, match="x.bin' is big-endian: write its ids with the lowest byte first"):
        read(tmp_path / "x.bin", eot_id=end, vocab_size=400)


@pytest.mark.parametrize("dtype", [">u2", ">u4", ">u8"])
def test_big_endian_ids_are_said_without_a_vocabulary(tmp_path, dtype):
    row = np.append(0, np.random.default_rng(4).integers(1, 6000, 99))
    row.astype(dtype).tofile(tmp_path / "x.bin")
    _, _, said = read(tmp_path / "x.bin")
    assert any("may be big-endian, with ids of at most 5" in text for text in said)
    with pytest.raises(DataError, match="is big-endian"):
        read(tmp_path / "x.bin", vocab_size=6000)
    for vocab_size in (40, 6000, 60_000):
        little = np.append(0, np.random.default_rng(5).integers(1, vocab_size, 99)).astype("<u2")
        little.tofile(tmp_path / "y.bin")
        assert read(tmp_path / "y.bin")[2] == []


@pytest.mark.parametrize("dtype", ["<u2", "<u4", "<i8"])
def test_ids_of_another_vocabulary_are_refused(tmp_path, dtype):
    np.array([399, 305, 313, 399, 258, 399], dtype).tofile(tmp_path / "x.bin")
    with pytest.raises(DataError, match="starts with the id 399, not with 0, .* put 'x.idx' beside it"):
        read(tmp_path / "x.bin", vocab_size=400)


@pytest.mark.parametrize("dtype", ["<i4", "<i8"])
def test_negative_ids_are_refused(tmp_path, dtype):
    path = tmp_path / "flat.bin"
    np.array([0, 5, -1, 7, 0, 9], dtype).tofile(path)
    with pytest.raises(DataError, match="negative ids"):
        read(path, vocab_size=400)
