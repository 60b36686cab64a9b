"""`sttx vocab`: a vocabulary out of text files, and what it will not do."""

import pytest

from sttx_core.tokenizers import TrieTokenizer
from sttx_train import load_tokenizer

TEXT = "def area(width, height):\n    return width * height\n\n" * 30


@pytest.fixture
def texts(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "area.py").write_text(TEXT)
    (folder / "notes.md").write_text("The width and the height.\n" * 20)
    (folder / "picture.png").write_bytes(b"\x89PNG\0")
    return folder


def test_one_object_says_what_was_learned(sttx, texts, tmp_path):
    result = sttx("vocab", texts, "--out", tmp_path / "new" / "v.txt", "--size", 290, "--json")
    assert result.code == 0, result.err
    told = result.json
    tokenizer = load_tokenizer(f"trie:{tmp_path / 'new' / 'v.txt'}")
    assert (told["size"], told["sha256"]) == (290, tokenizer.sha256)
    assert (told["files"], told["skipped"], told["bytes"]) == (2, 1, len(TEXT) + 520)
    tokens = len(tokenizer.encode(TEXT)) + len(tokenizer.encode("The width and the height.\n" * 20))
    assert told["bytes_per_token"] == pytest.approx(told["bytes"] / tokens)
    assert told["out"] == str(tmp_path / "new" / "v.txt")
    assert "2 text files, " in result.err
    assert "1 files are no text" in result.err


def test_a_person_is_told_size_and_rate(sttx, texts, tmp_path):
    result = sttx("vocab", texts / "area.py", "--out", tmp_path / "v.txt", "--size", 270)
    assert result.code == 0, result.err
    assert "v.txt: 270 ids, " in result.out
    assert "bytes per token on 1,560 bytes read" in result.out
    assert "no text" not in result.err


def test_a_text_too_small_for_the_size_says_so(sttx, texts, tmp_path):
    result = sttx("vocab", texts, "--out", tmp_path / "v.txt", "--size", 5000, "--json")
    assert result.code == 0
    assert 257 < result.json["size"] < 400
    assert f"note: the text gives {result.json['size']} ids, not 5,000" in result.err


def test_progress_is_told_on_standard_error(sttx, texts, tmp_path, monkeypatch):
    monkeypatch.setattr("sttx_cli.commands.vocab._EVERY", 0.0)
    result = sttx("vocab", texts, "--out", tmp_path / "v.txt", "--size", 270, "--json")
    assert "read 1,560 of 2,080 bytes (75%)" in result.err
    assert "encoded 2,080 of 2,080 bytes (100%)" in result.err
    assert result.json["size"] == 270


def test_an_older_vocabulary_is_replaced_and_not_learned_from(sttx, texts):
    out = texts / "v.txt"
    digests = set()
    for _ in range(2):
        assert sttx("vocab", texts, "--out", out, "--size", 280).code == 0
        digests.add(TrieTokenizer(out).sha256)
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("size", "complaint"),
    [(256, "--size 256 is too small: the 256 bytes and the document mark need 257"), (-5, "too small")],
)
def test_sizes_that_cannot_be(sttx, texts, tmp_path, size, complaint):
    result = sttx("vocab", texts, "--out", tmp_path / "v.txt", "--size", size)
    assert (result.code, result.out) == (2, "")
    assert complaint in result.err
    assert not (tmp_path / "v.txt").exists()


@pytest.mark.parametrize("place", ["file", "folder"])
def test_nothing_but_a_vocabulary_is_written_over(sttx, texts, place):
    out = texts / "notes.md" if place == "file" else texts
    before = (texts / "notes.md").read_bytes()
    result = sttx("vocab", texts, "--out", out, "--size", 270)
    assert result.code == 2
    assert f"{str(out)!r} is there and is no vocabulary" in result.err
    assert (texts / "notes.md").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("empty.txt", b"", "there is no text in"),
        ("x.bin", b"\0\1", "is no text"),
        ("absent", None, "not exist"),
    ],
)
def test_no_text_is_one_sentence(sttx, tmp_path, name, content, complaint):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = sttx("vocab", tmp_path / name, "--out", tmp_path / "v.txt", "--size", 300)
    assert (result.code, result.out) == (1, "")
    assert complaint in result.err.strip().splitlines()[-1]
    assert not (tmp_path / "v.txt").exists()


def test_size_and_place_must_be_said(sttx, texts, tmp_path):
    assert sttx("vocab", texts, "--size", 300).code == 2
    assert sttx("vocab", texts, "--out", tmp_path / "v.txt").code == 2
    assert sttx("vocab", "--out", tmp_path / "v.txt", "--size", 300).code == 2
