"""A corpus: texts and packed files in, whole documents held out, and damaged files refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttx_core.errors import DataError, UsageError
from sttx_core.tokenizers import ByteTokenizer
from sttx_train.pretrain import load_corpus
from sttx_train.pretrain.corpus import split_point

BASE = ByteTokenizer()


@pytest.fixture
def texts(tmp_path):
    for name, text in {"a": "first", "b": "secönd", "c": "third"}.items():
        (tmp_path / f"{name}.txt").write_text(text)
    return tmp_path


def packed(path, ids):
    np.array(ids, dtype="<u2").tofile(path)
    return path


def test_all_is_trained_on_where_nothing_is_held_out(texts):
    corpus = load_corpus([texts], BASE, held_out=0.0)
    assert BASE.decode(corpus.train) == "firstsecöndthird" and len(corpus.held) == 0
    assert (corpus.train_bytes, corpus.held_bytes) == (len("firstsecöndthird".encode()), 0)
    assert np.flatnonzero(corpus.train == 0).tolist() == [0, 6, 14]


def test_the_last_documents_are_held_out_whole(texts):
    corpus = load_corpus([texts], BASE, held_out=0.1)
    assert (BASE.decode(corpus.train), BASE.decode(corpus.held)) == ("firstsecönd", "third")
    assert corpus.held[0] == 0 and corpus.held_bytes == 5
    half = load_corpus([texts], BASE, held_out=0.5)
    assert (BASE.decode(half.train), BASE.decode(half.held)) == ("first", "secöndthird")


def test_files_that_are_no_text_are_named(texts):
    (texts / "b.pyc").write_bytes(b"\0\1")
    corpus = load_corpus([texts], BASE, held_out=0)
    assert corpus.skipped == (texts / "b.pyc",)
    assert corpus.train_bytes == len("firstsecöndthird".encode())


def test_paths_are_read_in_the_order_given(texts):
    paths = [texts / "c.txt", texts / "a.txt"]
    assert BASE.decode(load_corpus(paths, BASE, held_out=0.0).train) == "thirdfirst"


def test_a_packed_file_is_what_was_packed(tmp_path, texts):
    whole = load_corpus([texts], BASE, held_out=0.0).train
    again = load_corpus([packed(tmp_path / "x.bin", whole)], BASE, held_out=0.0)
    assert np.array_equal(again.train, whole) and again.train_bytes == len("firstsecöndthird".encode())


def test_packed_files_and_texts_go_together(tmp_path, texts):
    ids = [0, *BASE.encode("packed")]
    corpus = load_corpus([packed(tmp_path / "x.bin", ids), texts / "a.txt"], BASE, held_out=0.0)
    assert BASE.decode(corpus.train) == "packedfirst"


@pytest.mark.parametrize("content", [b"", b"abc"])
def test_what_holds_no_16_bit_ids_is_refused(tmp_path, content):
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.bin' is no packed file"):
        load_corpus([tmp_path / "x.bin"], BASE)


def test_a_larger_vocabulary_is_refused(tmp_path):
    assert len(load_corpus([packed(tmp_path / "x.bin", [0, 256])], BASE, held_out=0.0).train) == 2
    with pytest.raises(DataError, match=r"holds the id 257, but the vocabulary has 257.*--vocab"):
        load_corpus([packed(tmp_path / "x.bin", [0, 257])], BASE)


def test_no_text_is_refused(tmp_path):
    (tmp_path / "empty.txt").touch()
    with pytest.raises(DataError, match="no text in"):
        load_corpus([tmp_path], BASE)
    with pytest.raises(DataError, match="does not exist"):
        load_corpus([tmp_path / "gone.bin"], BASE)


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_what_is_no_share_is_refused(texts, share):
    with pytest.raises(UsageError, match="--held-out must be a share"):
        load_corpus([texts], BASE, held_out=share)


def test_a_share_that_leaves_nothing_is_refused(texts):
    with pytest.raises(UsageError, match="leaves nothing to train on"):
        load_corpus([texts / "a.txt"], BASE, held_out=0.5)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.floats(0.01, 0.99))
def test_the_split_is_a_documents_start_and_holds_out_at_least_the_share(lengths, share):
    tokens = np.concatenate([np.array([0] + [5] * length) for length in lengths])
    at = split_point(tokens, share)
    assert tokens[at] == 0 and len(tokens) - at >= share * len(tokens) - 1e-9
    later = [start for start in np.flatnonzero(tokens == 0) if start > at]
    assert all(len(tokens) - start < share * len(tokens) + 1e-9 for start in later), "no more than needed"
