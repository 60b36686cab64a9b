"""Text files and folders of them as documents: in name order, what is no text told or refused."""

import pytest

from sttx_core.errors import DataError
from sttx_train.pretrain.text_files import iter_documents


def test_documents_come_in_name_order_folders_walked(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "z.txt").write_text("two")
    (tmp_path / "a.txt").write_text("one")
    assert list(iter_documents([tmp_path])) == ["one", "two"]
    assert list(iter_documents([tmp_path / "b", tmp_path / "a.txt"])) == ["two", "one"]


def test_what_is_no_text_is_passed_over_in_a_folder_and_refused_by_name(tmp_path):
    odd = {"latin.txt": b"\xff!", "module.pyc": b"\x00a"}
    for name, content in {"good.txt": b"one\r\nline", **odd}.items():
        (tmp_path / name).write_bytes(content)
    skipped = []
    assert list(iter_documents([tmp_path], skipped)) == ["one\nline"]
    assert skipped == [tmp_path / name for name in odd]
    for name in odd:
        with pytest.raises(DataError, match=f"{name}' is no text"):
            list(iter_documents([tmp_path / name]))


def test_what_is_absent_or_too_large_is_refused(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="does not exist"):
        list(iter_documents([tmp_path / "gone"]))
    monkeypatch.setattr("sttx_train.pretrain.text_files.TEXT_LIMIT", 3)
    (tmp_path / "long.txt").write_text("four")
    with pytest.raises(DataError, match="split it into documents"):
        list(iter_documents([tmp_path]))
