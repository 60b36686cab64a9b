"""Tokenizers of values: conformance, broken ones that the check catches, and the messages of refusals."""

import copy
import hashlib
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttx_core.checks import check_tokenizer
from sttx_core.errors import UsageError
from sttx_core.tokenizers import (
    AngleTokenizer,
    ByteTokenizer,
    IntegerTokenizer,
    Tokenizer,
    ValueTokenizer,
    tokenizer_from_spec,
)


@pytest.mark.parametrize("largest", [0, 1, 9, 96, 254, 255, 256, 65_533, 65_534, 65_535, 65_536, 2**31 - 3])
def test_conformance(largest):
    assert isinstance(IntegerTokenizer(largest), ValueTokenizer)
    check_tokenizer(lambda: IntegerTokenizer(largest))


def test_conformance_of_angles():
    check_tokenizer(AngleTokenizer)
    assert (AngleTokenizer().vocab_size, AngleTokenizer().max_value) == (361, 359)


def test_text_and_value_tokenizers_are_distinguished():
    assert not isinstance(IntegerTokenizer(9), Tokenizer)
    assert not isinstance(ByteTokenizer(), ValueTokenizer)


class Broken(IntegerTokenizer):
    def __init__(self):
        super().__init__(100_000)


class Wraps(Broken):
    def encode_array(self, values):
        return values.astype(np.uint16).astype(np.int64) + 1


class WrapsAtTheDtype(Broken):
    def encode_array(self, values):
        super().encode_array(values)
        return (values + values.dtype.type(1)).astype(np.int64)


class Clips(Broken):
    def encode(self, values):
        return super().encode(min(value, self.max_value) for value in values)


class TakesFloats(Broken):
    def encode_array(self, values):
        return super().encode_array(values.astype(np.int64) if values.dtype.kind == "f" else values)


class TakesTruth(Broken):
    def encode(self, values):
        return super().encode(int(value) if isinstance(value, bool) else value for value in values)


class Narrow(Broken):
    def encode_array(self, values):
        return super().encode_array(values).astype(np.int32)


class Flattens(Broken):
    def encode_array(self, values):
        return super().encode_array(values).ravel()


class InPlace(Broken):
    def encode_array(self, values):
        ids = super().encode_array(values)
        values += 1
        return ids


class GivesTheMark(Broken):
    def encode(self, values):
        return [0, *super().encode(values)]


class KeepsEndOfText(Broken):
    def decode(self, ids):
        return [token_id - 1 for token_id in ids]


class DropsUnknown(Broken):
    def decode(self, ids):
        return super().decode(token_id for token_id in ids if 0 <= token_id < self.vocab_size)


class GivesNumpy(Broken):
    def encode(self, values):
        return list(self.encode_array(np.array(list(values), np.int64)))


class SaysLittle(Broken):
    def encode(self, values):
        try:
            return super().encode(values)
        except UsageError:
            raise UsageError("a value is out of range") from None


class NoPosition(Broken):
    def encode_array(self, values):
        try:
            return super().encode_array(values)
        except UsageError as error:
            raise UsageError(str(error).replace("position 1 ", "some position ")) from None


class Anonymous(Broken):
    @property
    def sha256(self):
        return hashlib.sha256(b"%d" % id(self)).hexdigest()


class OneShort(Broken):
    vocab_size = 100_001


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (Wraps, "encode_array of .* gives ids that differ"),
        (WrapsAtTheDtype, "wraps or differs on u?int8"),
        (Clips, "encode accepted 100001, which is not from 0 to 100000"),
        (TakesFloats, "encode_array accepted float32"),
        (TakesTruth, "encode accepted the value True"),
        (Narrow, "gives int32, not int64"),
        (Flattens, "came back as"),
        (InPlace, "changed its argument"),
        (GivesTheMark, "are not all in 1 to vocab_size - 1"),
        (KeepsEndOfText, "the end-of-text id must decode to nothing"),
        (DropsUnknown, "unknown id -1 gave"),
        (GivesNumpy, "are not a list of int"),
        (SaysLittle, "without naming all of them"),
        (NoPosition, "encode_array refused .* without naming all of them"),
        (Anonymous, "different sha256"),
        (OneShort, "refused -1 at position 1 of 0 to 99999 without naming"),
    ],
)
def test_the_check_catches_a_broken_tokenizer(broken, complaint):
    with pytest.raises(AssertionError, match=complaint):
        check_tokenizer(broken)


def test_ids_above_16_bits_are_exact():
    tokenizer = IntegerTokenizer(1_000_000)
    assert tokenizer.encode([65_534, 65_535, 65_536, 1_000_000]) == [65_535, 65_536, 65_537, 1_000_001]
    assert tokenizer.encode_array(np.array([65_535], np.uint16)).tolist() == [65_536]
    assert tokenizer.decode([65_536]) == [65_535]


def test_identity_is_kind_and_size():
    digests = {
        tokenizer.sha256
        for tokenizer in (IntegerTokenizer(359), IntegerTokenizer(360), AngleTokenizer(), ByteTokenizer())
    }
    assert len(digests) == 4
    assert tokenizer_from_spec("integer:359").sha256 == IntegerTokenizer(359).sha256


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ([0, 359, 360], "value 360 at position 2 is not from 0 to 359: correct the data, or choose"),
        ([-1], "value -1 at position 0 is not from 0 to 359"),
        ([5, 1.5], "1.5 at position 1 is of type float, not a whole number: give integers"),
        ([np.float32(2)], "is of type float32, not a whole number"),
        ([np.True_], "of type bool"),
        (["7"], "'7' at position 0 is of type str"),
    ],
)
def test_a_refusal_names_value_position_and_range(values, complaint):
    with pytest.raises(UsageError, match=complaint):
        AngleTokenizer().encode(values)


@pytest.mark.parametrize(
    ("array", "complaint"),
    [
        (np.array([[0, 1], [2, 360], [400, 3]]), r"value 360 at position \(1, 1\) is not from 0 to 359"),
        (np.array([3, -2], np.int8), "value -2 at position 1 is not"),
        (np.array([2**64 - 1], np.uint64), f"value {2**64 - 1} at position 0 is not"),
        (np.array([0.0, 1.0]), "an array of float64 does not hold integers: convert it"),
        (np.array([True]), "an array of bool does not hold integers"),
        (np.array(["1"]), "does not hold integers"),
        (np.array([2**70], object), "an array of object does not hold integers"),
    ],
)
def test_a_refused_array_names_value_position_and_range(array, complaint):
    with pytest.raises(UsageError, match=complaint):
        AngleTokenizer().encode_array(array)


@pytest.mark.parametrize("largest", [-1, 2**31 - 2, 2**70, 9.0, True, "9", None])
def test_an_invalid_largest_value_is_refused(largest):
    with pytest.raises(UsageError, match=r"max_value must be a whole number from 0 to 2147483645, not"):
        IntegerTokenizer(largest)


def test_unknown_ids_are_named():
    with pytest.raises(UsageError, match="id 11 is not in the vocabulary, whose largest id is 10"):
        IntegerTokenizer(9).decode([1, 11])
    with pytest.raises(UsageError, match="id 1.5 is not"):
        IntegerTokenizer(9).decode([1.5])  # pyright: ignore[reportArgumentType]


@given(st.lists(st.integers(0, 2**31 - 3)))
def test_any_values_round_trip(values):
    tokenizer = IntegerTokenizer(2**31 - 3)
    assert tokenizer.decode(np.array(tokenizer.encode(values), np.int64)) == values
    assert tokenizer.encode_array(np.array(values, np.int64)).tolist() == tokenizer.encode(values)


def test_memory_mapped_arrays_do_not_change(tmp_path):
    np.save(tmp_path / "angles.npy", np.arange(360, dtype=">u2").reshape(4, 90))
    mapped = np.load(tmp_path / "angles.npy", mmap_mode="r")
    ids = AngleTokenizer().encode_array(mapped)
    assert (type(ids), ids.dtype) == (np.ndarray, np.int64)
    assert ids.ravel().tolist() == list(range(1, 361))


@pytest.mark.parametrize("tokenizer", [IntegerTokenizer(7), AngleTokenizer()])
def test_a_tokenizer_can_be_copied_to_another_process(tokenizer):
    for other in (pickle.loads(pickle.dumps(tokenizer)), copy.deepcopy(tokenizer)):
        assert (other.sha256, other.encode([7])) == (tokenizer.sha256, [8])
