"""Vocabularies learned from text: sizes, determinism, reading as a stream, and what is refused."""

import os
import tracemalloc
from pathlib import Path

import pytest

from sttx_core.checks import check_tokenizer
from sttx_core.errors import DataError, UsageError
from sttx_core.tokenizers import ByteTokenizer, TrieTokenizer, create_vocab_file
from sttx_train.data.bpe import bytes_per_token, find_texts, learn_tokens, read_pieces

TEXT = "def area(width, height):\n    return width * height  # naïve, 日本語\n\n" * 30
SINGLES = [bytes([byte]) for byte in range(256)]


def test_learned_tokens_make_a_vocabulary_of_that_size(tmp_path):
    tokens = learn_tokens([TEXT], 300)
    assert tokens[:256] == SINGLES
    create_vocab_file(tokens, tmp_path / "v.txt", add_bytes=False)
    tokenizer = TrieTokenizer(tmp_path / "v.txt")
    assert tokenizer.vocab_size == 300
    check_tokenizer(lambda: TrieTokenizer(tmp_path / "v.txt"))
    assert bytes_per_token(tokenizer, [TEXT]) > 3 * bytes_per_token(ByteTokenizer(), [TEXT])


def test_a_larger_vocabulary_takes_fewer_tokens(tmp_path):
    rates = []
    for size in (257, 280, 320):
        create_vocab_file(learn_tokens([TEXT], size), tmp_path / "v.txt")
        rates.append(bytes_per_token(TrieTokenizer(tmp_path / "v.txt"), iter([TEXT, TEXT])))
    assert rates == sorted(set(rates))
    assert rates[0] == 1.0


def test_the_same_text_gives_the_same_tokens():
    first = learn_tokens([TEXT, "other words"], 320)
    assert learn_tokens(iter([TEXT, "other words"]), 320) == first


def test_a_small_text_gives_fewer_tokens():
    assert learn_tokens(["ababab"], 5000) == [*SINGLES, b"ab", b"abab", b"ababab"]


def test_words_are_not_joined_and_tokens_not_too_long():
    tokens = learn_tokens(["one two, one two, 1234567\n" * 20 + "=" * 500], 400, longest=8)
    assert b" two" in tokens
    assert not any(b"e t" in token for token in tokens)
    assert b"1234" not in tokens
    assert max(map(len, tokens)) == 8
    assert max(map(len, learn_tokens(["é" * 200], 400, longest=4))) == 4


def test_a_custom_pattern():
    assert b"one two" in learn_tokens(["one two;" * 9], 300, pattern="[^;]+")


def test_lone_surrogates_do_no_harm():
    assert "\ufffd".encode() in learn_tokens(["\ud800 \ud800 \ud800"], 400)


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_empty_texts_are_refused(texts):
    with pytest.raises(DataError, match="there is no text to learn from: give some"):
        learn_tokens(texts, 300)
    with pytest.raises(DataError, match="no text"):
        bytes_per_token(ByteTokenizer(), texts)


@pytest.mark.parametrize("size", [256, 0, -1])
def test_too_small_sizes_are_refused(size):
    with pytest.raises(UsageError, match=f"a vocabulary of {size} ids is too small: .* need 257"):
        learn_tokens([TEXT], size)


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, data in {
        "b/two.py": TEXT.encode(),
        "a.txt": b"one\r\ntwo\r\n",
        "empty.md": b"",
        "picture.png": b"\x89PNG\0\0",
        "latin.txt": "é".encode("latin-1"),
        "cut.txt": "é".encode()[:1],
        "old.vocab": b"1 'a' 1\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_texts_are_found_and_other_files_are_skipped(folder):
    found = find_texts([folder, folder / "a.txt"], leave_out=folder / "b" / ".." / "old.vocab")
    assert found.files == (folder / "a.txt", folder / "b" / "two.py")
    assert found.size == 10 + len(TEXT.encode())
    assert [path.name for path in found.skipped] == ["cut.txt", "latin.txt", "picture.png"]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("absent", "'.*absent' does not exist: name text files"),
        ("picture.png", "'.*picture.png' is not text: it is not UTF-8, or holds NUL"),
        ("cut.txt", "is not text"),
        ("empty.md", "there is no text in '.*empty.md'$"),
    ],
)
def test_a_named_file_must_be_text(folder, name, complaint):
    error = UsageError if name == "absent" else DataError
    with pytest.raises(error, match=complaint):
        find_texts([folder / name])


def test_a_folder_without_text_says_so(folder):
    for name in ("a.txt", "b/two.py", "old.vocab"):
        (folder / name).unlink()
    with pytest.raises(DataError, match=r"there is no text in '.*' \(3 files are not text\)"):
        find_texts([folder])


@pytest.mark.skipif(not hasattr(os, "mkfifo") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission(folder):
    (folder / "a.txt").chmod(0)
    with pytest.raises(DataError, match=r"cannot read '.*a\.txt'"):
        find_texts([folder])


def test_pieces_are_the_text_with_plain_line_ends(folder):
    (folder / "a.txt").write_bytes(b"one\r\ntwo\rthree" + b"x" * 100_000 + b"\n" + TEXT.encode() * 30)
    counts = []
    pieces = list(read_pieces(find_texts([folder / "a.txt"]), counts.append))
    assert "".join(pieces) == "one\ntwo\nthree" + "x" * 100_000 + "\n" + TEXT * 30
    assert max(map(len, pieces)) <= 2 << 14
    assert all(piece.endswith("\n") for piece in pieces[4:])
    assert counts == [len(piece.encode()) for piece in pieces]


def test_texts_of_json_lines(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "one\\ntwo"}\nbroken\n{"text": "three", "id": 3}\n')
    said, counts = [], []
    found = find_texts([path])
    assert list(read_pieces(found, counts.append, said.append)) == ["one\ntwo", "three"]
    assert sum(counts) == found.size == path.stat().st_size
    assert said == [f"{str(path)!r}: 1 damaged line was left out: 2"]
    assert "".join(read_pieces(find_texts([tmp_path]))) == path.read_text()


def test_numbers_are_not_text(tmp_path):
    (tmp_path / "numbers.jsonl").write_text("[1, 2]\n")
    with pytest.raises(DataError, match="line 1 of '.*' holds numbers: a vocabulary is learned from text"):
        list(read_pieces(find_texts([tmp_path / "numbers.jsonl"])))
    (tmp_path / "array.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match=r"'.*array\.npy' is not text but data in the format 'array'"):
        find_texts([tmp_path / "array.npy"])


def test_texts_are_not_read_into_memory(tmp_path):
    path = tmp_path / "large.txt"
    path.write_text(TEXT * 8000, encoding="utf-8")
    tracemalloc.start()
    try:
        found = find_texts([path])
        tokens = learn_tokens(read_pieces(found), 300)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.size > 16e6
    assert peak < found.size / 2
    assert b" width" in tokens
