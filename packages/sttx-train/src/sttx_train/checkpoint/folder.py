"""The folder of one checkpoint: written so that it is complete on the disk, read only if no byte has changed.

Knows neither the other checkpoints beside it nor what the tensors mean.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta
from safetensors import SafetensorError, safe_open

from sttx_core.errors import CheckpointError
from sttx_core.foreign_files import parse_json, read_at_most, shown
from sttx_core.own_files import PRIVATE_FILE, PRIVATE_FOLDER, sync
from sttx_core.saved_state import Count, Sha256, converted, expectation
from sttx_train.files import sha256_of
from sttx_train.formats.tensorfiles import write_tensors

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
FOLDER_NAME = re.compile(r"step-([0-9]{8,})(?:\.([0-9]+))?")
OWN_FIELDS = frozenset({"format", "step", "created", "files", "sha256"})
_MANIFEST = "manifest.json"
_LARGEST_MANIFEST = 1 << 24  # bytes
_LARGEST_DOCUMENT = 1 << 26  # bytes; parsed, they may take twenty times as much memory
_FileName = Annotated[str, Meta(pattern=r"\A[a-z][a-z0-9_]{0,99}\.(?:json|safetensors)\Z")]


class _FileEntry(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    sha256: Sha256
    bytes: Count


class _Manifest(msgspec.Struct, frozen=True):
    """The fields of every manifest; the caller's are beside them."""

    step: Count
    created: Annotated[str, Meta(max_length=64)]
    files: dict[_FileName, _FileEntry]


class Unfit(CheckpointError):
    """Why a folder is not a checkpoint to resume from, and what to do unless it is to use another one.

    This is half a message: the store knows the other checkpoints and completes it.
    """

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(reason)
        self.reason, self.advice = reason, advice


def as_json(value: object) -> bytes:
    """Return a value as strict JSON, without NaN, which other readers refuse."""
    return json.dumps(value, allow_nan=False).encode()


def parsed(path: Path) -> Any:
    """Return the value in a small JSON file, None if it is large or not JSON."""
    try:
        return parse_json(_content(path, _LARGEST_MANIFEST))
    except ValueError:
        return None


def read_document(path: Path) -> Any:
    """Return the value in a document of a checkpoint."""
    try:
        return parse_json(_content(path, _LARGEST_DOCUMENT))
    except ValueError as error:
        raise Unfit(f"has a damaged {path.name!r} ({error})") from error


def _content(path: Path, limit: int) -> bytes:
    if path.stat().st_size > limit:
        raise ValueError(f"it has more than {limit:,} bytes")
    return read_at_most(path, limit)


def _digest(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest's fields except its own hash, in a form that no parser changes."""
    fields = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def fill(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    documents: Mapping[str, Any],
    fields: Mapping[str, Any],
) -> None:
    """Make a folder with a complete checkpoint and flush it to the disk, file names included.

    It holds text and state of a person, so only its owner may read it, whatever the umask is.
    """
    folder.mkdir(mode=PRIVATE_FOLDER)
    folder.chmod(PRIVATE_FOLDER)
    for stem, group in tensors.items():
        plain = {name: _plain(tensor) for name, tensor in group.items()}
        write_tensors(plain, folder / f"{stem}.safetensors", {})
    for stem, document in documents.items():
        _write_document(folder / f"{stem}.json", document)
    files = {}
    for path in sorted(folder.iterdir()):
        path.chmod(PRIVATE_FILE)
        sync(path)
        files[path.name] = {"sha256": sha256_of([path]), "bytes": path.stat().st_size}
    created = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = {"format": FORMAT, "step": step, "created": created, "files": files, **fields}
    manifest = json.loads(as_json(manifest))
    manifest["sha256"] = _digest(manifest)
    (folder / _MANIFEST).write_bytes(json.dumps(manifest, indent=2).encode())
    (folder / _MANIFEST).chmod(PRIVATE_FILE)
    sync(folder / _MANIFEST)
    sync(folder)


def _write_document(path: Path, document: object) -> None:
    """Write a document of a checkpoint; refuse one that nothing would read again."""
    try:
        data = as_json(document)
    except ValueError as error:
        raise CheckpointError(
            f"cannot save a checkpoint: {path.name!r} would hold a number that is not finite: resume from an "
            "earlier checkpoint, or start again"
        ) from error
    if len(data) > _LARGEST_DOCUMENT:
        raise CheckpointError(
            f"cannot save a checkpoint: {path.name!r} would have {len(data):,} bytes, more than the "
            f"{_LARGEST_DOCUMENT:,} that a document may have: start again with a smaller --phrase-capacity, "
            "--max-documents or --window"
        )
    path.write_bytes(data)


def _plain(tensor: Tensor) -> Tensor:
    """Copy a tensor into a form that safetensors accepts: no view, no strides, no shared memory."""
    import torch

    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Copy the tensors of a file into memory that torch allocates.

    In the file they start at any multiple of 8 bytes. CPU kernels sum in an order that depends on the
    alignment, so a run that resumed on such memory would not continue bit for bit.
    """
    import torch

    with _damage_of(path), safe_open(path, framework="pt", device="cpu") as file:
        return {
            name: file.get_tensor(name).clone(memory_format=torch.contiguous_format)
            for name in file.keys()  # noqa: SIM118
        }


@contextmanager
def _damage_of(path: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:  # an unknown dtype
        raise Unfit(f"has a damaged {path.name!r} ({shown(str(error))})") from error


def verified_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a folder whose files are exactly those that the manifest lists."""
    if not os.path.lexists(folder):
        raise Unfit("is missing")
    if folder.is_symlink() or not folder.is_dir():
        raise Unfit("is a link" if folder.is_symlink() else "is a file, not a folder")
    manifest = read_manifest(folder)
    entries = {entry.name: entry for entry in os.scandir(folder)}
    if foreign := sorted(entries.keys() - manifest["files"].keys() - {_MANIFEST}):
        raise Unfit(
            f"has a file {shown(foreign[0])}, which its manifest does not list", "move that file away"
        )
    for name, expected in manifest["files"].items():
        if name not in entries:
            raise Unfit(f"has no {name!r}")
        if not entries[name].is_file(follow_symlinks=False):
            raise Unfit(f"has {name!r} as a link or a folder, not as a file")
        size = entries[name].stat().st_size
        if size != expected["bytes"]:
            raise Unfit(f"has {size} bytes in {name!r} instead of {expected['bytes']}")
        if sha256_of([folder / name]) != expected["sha256"]:
            raise Unfit(f"has a damaged {name!r}, whose SHA-256 is not the one in the manifest")
    return manifest


def count_parameters(path: Path) -> int:
    """Return how many numbers the tensors of a file hold, without reading them."""
    with _damage_of(path), safe_open(path, framework="numpy") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a folder's manifest if it is undamaged and of a format that this version of sttx reads."""
    path = folder / _MANIFEST
    if path.is_symlink() or not path.is_file():
        raise Unfit(f"has no {_MANIFEST}: it is not a checkpoint of sttx, or was not copied completely")
    manifest = parsed(path)
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if type(version) is int and version > FORMAT:
        raise Unfit(f"has format {shown(version)}, and this sttx reads format {FORMAT}", "update sttx")
    try:
        if type(version) is not int or version != FORMAT or manifest.get("sha256") != _digest(manifest):
            raise Unfit(f"has a damaged {_MANIFEST}")
        converted(_Manifest, manifest)
    except (ValueError, RecursionError) as error:
        raise Unfit(f"has a damaged {_MANIFEST} ({expectation(error)})") from error
    named = FOLDER_NAME.fullmatch(folder.name)
    if named and int(named[1]) != manifest["step"]:
        raise Unfit(f"was saved at step {manifest['step']}", "give the folder its old name")
    return manifest
