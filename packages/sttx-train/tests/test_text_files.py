"""Text files and folders are read in name order, piece by piece; other files are reported or refused."""

import os

import pytest

from sttx_core.errors import DataError, UsageError
from sttx_train.data.text_files import iter_texts, read_text


def test_files_come_in_name_order(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "z.txt").write_text("two")
    (tmp_path / "a.txt").write_text("one")
    assert list(iter_texts([tmp_path])) == [tmp_path / "a.txt", tmp_path / "b" / "z.txt"]
    assert list(iter_texts([tmp_path / "b", tmp_path / "a.txt"])) == [
        tmp_path / "b" / "z.txt",
        tmp_path / "a.txt",
    ]


def test_other_files_are_skipped_in_a_folder_and_refused_by_name(tmp_path):
    odd = {"cut.txt": "é".encode()[:1], "latin.txt": b"\xff!", "module.pyc": b"\x00a"}
    for name, content in {"good.txt": b"one\r\nline", **odd}.items():
        (tmp_path / name).write_bytes(content)
    skipped = []
    assert list(iter_texts([tmp_path], skipped)) == [tmp_path / "good.txt"]
    assert skipped == [tmp_path / name for name in odd]
    for name in odd:
        with pytest.raises(DataError, match=f"{name}' is not text"):
            list(iter_texts([tmp_path / name]))


def test_a_missing_path_is_refused(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        list(iter_texts([tmp_path / "gone"]))


@pytest.mark.skipif(not hasattr(os, "mkfifo") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "a.txt").chmod(0)
    with pytest.raises(DataError, match=r"cannot read '.*a\.txt'"):
        list(iter_texts([tmp_path]))


@pytest.mark.parametrize("size", [1, 2, 5, 9, 1000])
def test_pieces_are_the_text_and_end_with_lines(tmp_path, size):
    text = "one\r\nsecönd line\rthree\n\n" + "long " * 20 + "\nlast"
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    (tmp_path / "x.txt").write_text(text, encoding="utf-8", newline="")
    pieces = list(read_text(tmp_path / "x.txt", size))
    assert "".join(pieces) == plain and max(map(len, pieces)) <= 2 * size
    assert all(piece.endswith("\n") or len(piece) == 2 * size for piece in pieces[:-1])


def test_an_empty_text_has_no_pieces(tmp_path):
    (tmp_path / "x.txt").write_text("")
    assert list(iter_texts([tmp_path])) == [tmp_path / "x.txt"] and list(read_text(tmp_path / "x.txt")) == []


def test_a_text_that_was_damaged_after_the_check_is_refused(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"one\n\xff")
    with pytest.raises(DataError, match=r"x\.txt' is not text"):
        list(read_text(tmp_path / "x.txt"))
