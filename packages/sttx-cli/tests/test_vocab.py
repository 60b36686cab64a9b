"""`sttx vocab`: a vocabulary out of text files, and what it refuses."""

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


def test_the_json_describes_the_vocabulary(sttx, texts, tmp_path):
    result = sttx("vocab", texts, "--out", tmp_path / "new" / "v.txt", "--size", 290, "--json")
    assert result.code == 0, result.err
    report = result.json
    tokenizer = load_tokenizer(f"trie:{tmp_path / 'new' / 'v.txt'}")
    assert (report["size"], report["sha256"]) == (290, tokenizer.sha256)
    assert (report["files"], report["skipped"], report["bytes"]) == (2, 1, len(TEXT) + 520)
    tokens = len(tokenizer.encode(TEXT)) + len(tokenizer.encode("The width and the height.\n" * 20))
    assert report["bytes_per_token"] == pytest.approx(report["bytes"] / tokens)
    assert report["out"] == str(tmp_path / "new" / "v.txt")
    assert "2 text files, " in result.err
    assert "skipped (not text): 1 file, such as " in result.err


def test_the_summary_has_size_and_rate(sttx, texts, tmp_path):
    result = sttx("vocab", texts / "area.py", "--out", tmp_path / "v.txt", "--size", 270)
    assert result.code == 0, result.err
    assert "v.txt: 270 ids, " in result.out
    assert "bytes per token on 1,560 bytes read" in result.out
    assert "skipped" not in result.err


def test_a_text_too_small_for_the_size_gives_a_note(sttx, texts, tmp_path):
    result = sttx("vocab", texts, "--out", tmp_path / "v.txt", "--size", 5000, "--json")
    assert result.code == 0
    assert 257 < result.json["size"] < 400
    assert f"note: the text gives {result.json['size']} ids, not 5,000" in result.err


def test_an_older_vocabulary_is_replaced_and_not_learned_from(sttx, texts):
    out = texts / "v.txt"
    digests = set()
    for _ in range(2):
        assert sttx("vocab", texts, "--out", out, "--size", 280).code == 0
        digests.add(TrieTokenizer(out).sha256)
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("size", "message"),
    [(256, "--size 256 is too small: the 256 bytes and the end-of-text id need 257"), (-5, "too small")],
)
def test_an_impossible_size(sttx, texts, tmp_path, size, message):
    result = sttx("vocab", texts, "--out", tmp_path / "v.txt", "--size", size)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert not (tmp_path / "v.txt").exists()


@pytest.mark.parametrize("place", ["file", "folder"])
def test_only_a_vocabulary_is_overwritten(sttx, texts, place):
    out = texts / "notes.md" if place == "file" else texts
    before = (texts / "notes.md").read_bytes()
    result = sttx("vocab", texts, "--out", out, "--size", 270)
    assert result.code == 2
    reason = "exists and is not a vocabulary" if place == "file" else "is a folder, not a file"
    assert f"{str(out)!r} {reason}" in result.err
    assert (texts / "notes.md").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content", "code", "message"),
    [
        ("empty.txt", b"", 1, "there is no text in"),
        ("x.bin", b"\0\1", 1, "is not text"),
        ("absent", None, 2, "does not exist"),
    ],
)
def test_without_text_it_fails_with_one_sentence(sttx, tmp_path, name, content, code, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = sttx("vocab", tmp_path / name, "--out", tmp_path / "v.txt", "--size", 300)
    assert (result.code, result.out) == (code, "")
    assert message in result.err.strip().splitlines()[-1]
    assert not (tmp_path / "v.txt").exists()


def test_size_and_out_are_required(sttx, texts, tmp_path):
    assert sttx("vocab", texts, "--size", 300).code == 2
    assert sttx("vocab", texts, "--out", tmp_path / "v.txt").code == 2
    assert sttx("vocab", "--out", tmp_path / "v.txt", "--size", 300).code == 2
