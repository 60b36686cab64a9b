"""A checkpoint that was forged, its hashes written again, is refused in one sentence and never waited for."""

import json
import os
from pathlib import Path

import pytest
import torch

from sttx_core.errors import CheckpointError, SttxError
from sttx_train.checkpoint.folder import _digest
from sttx_train.checkpoint.store import CheckpointStore
from sttx_train.files import sha256_of


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "ckpt")


def save(store: CheckpointStore, step: int) -> Path:
    tensors = {"learned": {"s0": torch.full((3, 5), float(step))}}
    return store.save(step, tensors=tensors, documents={"progress": {"step": step}}, manifest={})


def forged(folder: Path, **fields: object) -> None:
    """Change the manifest of a checkpoint, and write all hashes again."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text()) | fields
    for file in folder.iterdir():
        if file != path and file.is_file() and file.name in manifest["files"]:
            manifest["files"][file.name] = {"sha256": sha256_of([file]), "bytes": file.stat().st_size}
    manifest["sha256"] = _digest(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("progress.json", b"{", r"has a damaged 'progress.json' \(Expecting"),
        ("progress.json", b"\xff\xfe", "has a damaged 'progress.json'"),
        ("progress.json", b"[" * 200_000, "has a damaged 'progress.json' .it is nested too deep"),
        ("learned.safetensors", b"", "has a damaged 'learned.safetensors'"),
        ("learned.safetensors", b"\xff" * 64, "has a damaged 'learned.safetensors'"),
        ("learned.safetensors", b"\x02" + b"\0" * 7 + b"{}junk", "has a damaged 'learned.safetensors'"),
    ],
    ids=str,
)
def test_a_damaged_file_with_the_right_hash_is_refused(store, name, content, reason):
    folder = save(store, 1)
    (folder / name).write_bytes(content)
    forged(folder)
    with pytest.raises(
        CheckpointError, match=f"^checkpoint '.*step-00000001' {reason}.*: no other checkpoint"
    ):
        store.load()


def test_a_document_that_is_too_large_is_neither_read_nor_written(store, monkeypatch):
    folder = save(store, 1)
    monkeypatch.setattr("sttx_train.checkpoint.folder._LARGEST_DOCUMENT", 100)
    (folder / "progress.json").write_bytes(b"[" + b"0," * 50 + b"0]")
    forged(folder)
    with pytest.raises(CheckpointError, match="damaged 'progress.json' .it has more than 100 bytes"):
        store.load()
    with pytest.raises(CheckpointError, match="'progress.json' would have 1.. bytes, more than the 100 that"):
        store.save(2, tensors={}, documents={"progress": "x" * 99}, manifest={})
    assert [path.name for path in store.folders()] == ["step-00000001"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"step": -1}, "expected `int` >= 0"),
        ({"step": 1.0}, "expected `int`, got `float`"),
        ({"step": None}, "expected `int`, got `null`"),
        ({"created": 7}, "expected `str`, got `int`"),
        ({"created": "x" * 100}, "length <= 64"),
        ({"files": []}, "expected `object`, got `array`"),
        ({"files": {"../x.json": {"sha256": "0" * 64, "bytes": 1}}}, "matching regex"),
        ({"files": {"x.json": {"sha256": "0" * 64, "bytes": -1}}}, "expected `int` >= 0"),
        ({"files": {"x.json": {"sha256": "no", "bytes": 1}}}, "matching regex"),
        ({"files": {"x.json": "0"}}, "expected `object`, got `str`"),
        ({"format": True}, "has a damaged manifest.json"),
        ({"format": 10**30}, "update sttx"),
    ],
    ids=str,
)
def test_a_forged_manifest_is_refused(store, fields, reason):
    forged_files = "files" in fields
    folder = save(store, 1)
    path = folder / "manifest.json"
    if forged_files:
        manifest = json.loads(path.read_text()) | fields
        manifest["sha256"] = _digest(manifest)
        path.write_text(json.dumps(manifest))
    else:
        forged(folder, **fields)
    for read in (store.load, store.manifest, store.latest):
        with pytest.raises(CheckpointError, match=reason):
            read()


@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "link to a device"])
@pytest.mark.parametrize(
    "name", [".lock", "latest", "step-00000001/manifest.json", "step-00000001/progress.json"]
)
def test_what_is_no_file_neither_hangs_nor_is_read(store, tmp_path, name, kind):
    save(store, 1)
    path = store.directory / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        (tmp_path / "elsewhere").write_text("{}")
        path.symlink_to(tmp_path / "elsewhere" if kind == "link" else "/dev/zero")
    with pytest.raises(SttxError, match=path.name):
        store.load()
    with pytest.raises(SttxError):
        save(store, 1) if name == ".lock" else store.load()
