"""One checkpoint's folder: filled so that it is whole on the disk, read only if every byte is as it was.

Knows nothing of other checkpoints beside it, nor of what the tensors mean.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from sttx_core.errors import CheckpointError
from sttx_train.files import sha256_of, sync

FORMAT = 1
FOLDER_NAME = re.compile(r"step-(\d{8,})(?:\.(\d+))?")
OWN_FIELDS = frozenset({"format", "step", "created", "files", "sha256"})
_MANIFEST = "manifest.json"


class Unfit(CheckpointError):
    """Why a folder is no checkpoint to resume from, and what to do if that is not to take another one.

    Half a message: the store knows which other checkpoints there are, and completes it.
    """

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(reason)
        self.reason, self.advice = reason, advice


def as_json(value: object) -> bytes:
    """Return a value as strict JSON: no NaN, which other readers would refuse."""
    return json.dumps(value, allow_nan=False).encode()


def parsed(path: Path) -> Any:
    """Return what a JSON file holds, None if it is none."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None


def _digest(manifest: Mapping[str, Any]) -> str:
    """Hash a manifest's fields, its own hash apart, in a form that no parser changes."""
    fields = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def fill(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    documents: Mapping[str, Any],
    fields: Mapping[str, Any],
) -> None:
    """Make a folder that holds a whole checkpoint and is on the disk, names and all."""
    folder.mkdir()
    mode = folder.stat().st_mode & 0o666  # safetensors makes files for the user alone, whatever the umask
    for stem, group in tensors.items():
        save_file({name: _plain(tensor) for name, tensor in group.items()}, folder / f"{stem}.safetensors")
    for stem, document in documents.items():
        (folder / f"{stem}.json").write_bytes(as_json(document))
    files = {}
    for path in sorted(folder.iterdir()):
        path.chmod(mode)
        sync(path)
        files[path.name] = {"sha256": sha256_of([path]), "bytes": path.stat().st_size}
    created = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = {"format": FORMAT, "step": step, "created": created, "files": files, **fields}
    manifest = json.loads(as_json(manifest))
    manifest["sha256"] = _digest(manifest)
    (folder / _MANIFEST).write_bytes(json.dumps(manifest, indent=2).encode())
    sync(folder / _MANIFEST)
    sync(folder)


def _plain(tensor: Tensor) -> Tensor:
    """Copy a tensor to where safetensors takes it from: it refuses views, strides and shared memory."""
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Copy tensors out of a file into memory of torch's own.

    In the file they lie at any multiple of 8 bytes. CPU kernels sum in an order that depends on the
    alignment, so a run resumed on such memory would not continue bit for bit.
    """
    with safe_open(path, framework="pt", device="cpu") as file:
        return {
            name: file.get_tensor(name).clone(memory_format=torch.contiguous_format)
            for name in file.keys()  # noqa: SIM118
        }


def verified_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a folder in which every file is exactly as it says."""
    if not os.path.lexists(folder):
        raise Unfit("is not there")
    if folder.is_symlink() or not folder.is_dir():
        raise Unfit("is a link" if folder.is_symlink() else "is a file, where a folder was saved")
    manifest = _manifest(folder)
    entries = {entry.name: entry for entry in os.scandir(folder)}
    if foreign := sorted(entries.keys() - manifest["files"].keys() - {_MANIFEST}):
        raise Unfit(f"holds {foreign[0]!r}, which its manifest does not name", "move that file away")
    for name, expected in manifest["files"].items():
        if name not in entries:
            raise Unfit(f"lacks {name!r}")
        if not entries[name].is_file(follow_symlinks=False):
            raise Unfit(f"holds {name!r} as a link or folder, not a file")
        size = entries[name].stat().st_size
        if size != expected["bytes"]:
            raise Unfit(f"holds {size} bytes of {name!r}, which had {expected['bytes']}")
        if sha256_of([folder / name]) != expected["sha256"]:
            raise Unfit(f"holds a damaged {name!r}: its SHA-256 is not the one in the manifest")
    return manifest


def _manifest(folder: Path) -> dict[str, Any]:
    """Return a folder's manifest if this version of sttx wrote one like it and nothing changed it since."""
    path = folder / _MANIFEST
    if path.is_symlink() or not path.is_file():
        raise Unfit(f"has no {_MANIFEST}, so it is none of sttx or was not copied whole")
    manifest = parsed(path)
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if type(version) is int and version > FORMAT:
        raise Unfit(f"has format {version} and this sttx reads {FORMAT}", "update sttx")
    if version != FORMAT or manifest.get("sha256") != _digest(manifest):
        raise Unfit(f"has a damaged {_MANIFEST}")
    named = FOLDER_NAME.fullmatch(folder.name)
    if named and int(named[1]) != manifest["step"]:
        raise Unfit(f"was saved at step {manifest['step']}", "give the folder its name back")
    return manifest
