"""Arrays as documents: mapped, encoded a piece at a time, and refused if they do not fit."""

import numpy as np
import pytest

from sttx_core.errors import DataError, UsageError
from sttx_core.tokenizers import AngleTokenizer, ByteTokenizer, IntegerTokenizer
from sttx_train.data.arrays import ArrayDocuments, map_array, open_array
from sttx_train.data.sampling import Sampler

TEN = IntegerTokenizer(9)


def saved(path, array, **options):
    np.save(path, array, **options)
    return path


def ids_of(documents):
    return [documents.read(at, 0, int(length)).tolist() for at, length in enumerate(documents.lengths)]


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i4", "<i8", "u8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_each_row_is_a_document_that_starts_with_0(tmp_path, dtype, order):
    array = np.array([[3, 1, 4], [1, 5, 9]], dtype, order=order)
    mapped = open_array(saved(tmp_path / "x.npy", array), TEN)
    for documents in (ArrayDocuments(array, TEN), mapped):
        assert documents.lengths.dtype == np.int64
        assert ids_of(documents) == [[0, 4, 2, 5], [0, 2, 6, 10]]
        assert documents.read(1, 0, 1).tolist() == [0] and documents.read(1, 0, 1).dtype == np.int64
        assert documents.read(1, 2, 4).tolist() == [6, 10] and documents.read(1, 2, 2).tolist() == []
        assert documents.read(0, 0, 0).tolist() == []


def test_lists_are_read_like_an_array():
    rows = [[3, 1, 4], [1, 5, 9]]
    assert ids_of(ArrayDocuments(rows, TEN)) == ids_of(ArrayDocuments(np.array(rows), TEN))
    assert ids_of(ArrayDocuments([1, 2], TEN)) == [[0, 2, 3]]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[1, 2], [3]], "the array has rows of different lengths: give rows of one length"),
        ([[1, 2], 3], "the array has rows of different lengths"),
        ([[1, 2], [3, 0.5]], "the array holds float64, not integers"),
        ([[1, 2], [3, None]], "the array holds object, not integers"),
        ([], "the array is empty"),
        ([[], []], r"the array is empty: its shape is \[2, 0\]"),
    ],
    ids=str,
)
def test_ragged_or_empty_lists_are_refused(rows, said):
    with pytest.raises(DataError, match=said):
        ArrayDocuments(rows, TEN)


def test_the_file_is_mapped(tmp_path):
    assert isinstance(map_array(saved(tmp_path / "x.npy", np.zeros((5, 5), int))), np.memmap)


def test_one_row_is_one_document_with_a_note(tmp_path):
    messages = []
    documents = open_array(saved(tmp_path / "x.npy", np.array([1, 2])), TEN, messages.append)
    assert ids_of(documents) == [[0, 2, 3]]
    assert len(messages) == 1 and "one row of 2 values: it is read as one document" in messages[0]
    open_array(saved(tmp_path / "y.npy", np.array([[1, 2]])), TEN, messages.append)
    assert len(messages) == 1


def test_windows_contain_the_array_values(tmp_path):
    array = np.arange(40).reshape(4, 10) % 7
    documents = open_array(saved(tmp_path / "x.npy", array), TEN)
    order = np.random.default_rng([0, 0]).permutation(4)
    row = np.concatenate([np.concatenate([[0], array[at] + 1]) for at in order])
    window = Sampler(documents, rows=2, context=8).window(0)
    assert np.array_equal(window.inputs, [row[:8], row[22:30]])
    assert np.array_equal(window.targets, [row[1:9], row[23:31]])


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((2, 2)), "holds float64, not integers: save it with an integer dtype"),
        (np.zeros((2, 2), bool), "holds bool, not integers"),
        (np.zeros((2, 2, 2), int), r"has the shape \[2, 2, 2\]: give \[sequences, length\]"),
        (np.array(7), r"has the shape \[\]"),
        (np.zeros((0, 5), int), r"is empty: its shape is \[0, 5\]"),
        (np.zeros((5, 0), int), "is empty"),
        (np.zeros(0, int), "is empty"),
    ],
    ids=str,
)
def test_an_array_of_other_values_or_shape_is_refused(tmp_path, array, said):
    with pytest.raises(DataError, match=f"x.npy' {said}"):
        open_array(saved(tmp_path / "x.npy", array), TEN)
    with pytest.raises(DataError, match=f"the array {said}"):
        ArrayDocuments(array, TEN)


def test_nothing_is_unpickled(tmp_path):
    objects = np.array([None, 1], dtype=object)
    with pytest.raises(DataError, match=r"x.npy' holds Python objects, which are not unpickled"):
        map_array(saved(tmp_path / "x.npy", objects, allow_pickle=True))
    with pytest.raises(DataError, match="holds object, not integers"):
        ArrayDocuments(objects, TEN)


@pytest.mark.parametrize("size", [0, 3, 7, 9, 60, 128, 200])
def test_a_damaged_file_is_refused(tmp_path, size):
    path = saved(tmp_path / "x.npy", np.arange(100))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=r"x.npy' (is damaged|holds Python objects)"):
        map_array(path)


@pytest.mark.parametrize("value", [-1, 10, 255, 2**40])
def test_a_value_outside_the_vocabulary_is_found_before_reading(tmp_path, monkeypatch, value):
    monkeypatch.setattr("sttx_train.data.scanning.PIECE", 8)
    array = np.zeros((9, 4), np.int64)
    array[7, 2] = value
    with pytest.raises(
        UsageError, match=f"row 7 of '.*x.npy': value {value} at position 2 is not from 0 to 9"
    ):
        open_array(saved(tmp_path / "x.npy", array), TEN)
    with pytest.raises(UsageError, match=f"row 7 of the array: value {value} at position 2"):
        ArrayDocuments(array.tolist(), TEN)


def test_an_angle_of_360_is_refused():
    assert ids_of(ArrayDocuments(np.array([[0, 359]]), AngleTokenizer())) == [[0, 1, 360]]
    with pytest.raises(UsageError, match="value 360"):
        ArrayDocuments(np.array([[0, 360]]), AngleTokenizer())


def test_a_tokenizer_of_text_is_refused():
    with pytest.raises(UsageError, match="the array holds numbers, but the tokenizer is one of text"):
        ArrayDocuments(np.array([[0, 359]]), ByteTokenizer())
