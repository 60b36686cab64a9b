"""Checkpoints that survive a kill at any moment. Knows nothing of models, learners or streams.

```
DIR/
├── step-00000120/          one checkpoint: whole from the moment it has this name, and never changed again
│   ├── NAME.safetensors    tensors
│   ├── NAME.json           documents
│   └── manifest.json       format, step, time, SHA-256 and size of every file, and whatever the caller adds
├── latest                  JSON, names the folder to resume from; replaced atomically
├── .lock                   held while a checkpoint is written (alone) or read (together with other readers)
└── .writing-…              being written or being removed; what a killed run left is swept by the next save
```

A step that is saved again while `latest` names it goes to `step-00000120.1`, so that `latest` never names a
folder that is not there. What cannot be resumed from exactly is refused, never replaced by something older.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from sttx_core.errors import CheckpointError, UsageError
from sttx_train.checkpoint.folder import (
    FOLDER_NAME,
    OWN_FIELDS,
    Unfit,
    as_json,
    fill,
    parsed,
    read_tensors,
    verified_manifest,
)
from sttx_train.files import sync

__all__ = ["Checkpoint", "CheckpointStore"]

_STEM = re.compile(r"[a-z][a-z0-9_]*")
_LATEST = "latest"
_LOCK = ".lock"
_WRITING = ".writing-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What one `save` was given, read back and verified.

    Attributes:
        step: the step that it was saved at.
        path: its folder.
        tensors: by file stem, then by name; on the CPU, contiguous, in memory of their own.
        documents: by file stem, as JSON reads them back (tuples have become lists, keys strings).
        manifest: all of the manifest, the caller's own fields among it.
    """

    step: int
    path: Path
    tensors: dict[str, dict[str, Tensor]]
    documents: dict[str, Any]
    manifest: dict[str, Any]

    def require(self, **expected: object) -> None:
        """Refuse to go on unless the manifest's fields have these values.

        Raises:
            CheckpointError: a field is absent or differs; names it and both values.
        """
        require_equal(self.path, self.manifest, expected)


def require_equal(checkpoint: Path, found: Mapping[str, Any], expected: Mapping[str, object]) -> None:
    """Refuse a checkpoint of which something, by name, is not as this run needs it.

    Raises:
        CheckpointError: names the first that is absent or differs, and both values.
    """
    for name, wanted in expected.items():
        wanted = json.loads(json.dumps(wanted))
        if name in found and found[name] == wanted:
            continue
        has = f"has {name} {found[name]!r}" if name in found else f"has no {name}"
        raise CheckpointError(
            f"checkpoint {str(checkpoint)!r} {has} and this run has {wanted!r}: "
            "resume with what it was made with, or start anew in another folder"
        )


class CheckpointStore:
    """A folder of checkpoints: `save` makes one, `load` gives the latest or a given one back.

    >>> import torch
    >>> from tempfile import mkdtemp
    >>> store = CheckpointStore(Path(mkdtemp()))
    >>> store.save(7, tensors={"weights": {"w": torch.ones(2)}}, documents={}, manifest={"seed": 1}).name
    'step-00000007'
    >>> store.load().tensors["weights"]["w"]
    tensor([1., 1.])
    """

    def __init__(self, directory: Path, *, keep: int = 3) -> None:
        """Use a folder, which need not be there yet, and keep the last few checkpoints in it."""
        if keep < 1:
            raise UsageError(f"{keep!r} checkpoints cannot be kept: keep 1 or more")
        self.directory = Path(directory)
        self.keep = keep

    def save(
        self,
        step: int,
        *,
        tensors: Mapping[str, Mapping[str, Tensor]],
        documents: Mapping[str, Any],
        manifest: Mapping[str, Any],
    ) -> Path:
        """Write a checkpoint, make it the latest, remove those beyond `keep`; return its folder.

        Folders of later steps, left by a run that was resumed from further back, are not touched.

        Args:
            step: its number.
            tensors: each entry becomes `<name>.safetensors`; of any device and dtype, views or shared.
            documents: each entry becomes `<name>.json`.
            manifest: further fields, for `Checkpoint.require`.

        Raises:
            CheckpointError: the folder cannot be written; `latest` still names what it named.
        """
        assert step >= 0, step
        assert all(map(_STEM.fullmatch, [*tensors, *documents])) and "manifest" not in documents
        assert not OWN_FIELDS & manifest.keys(), OWN_FIELDS & manifest.keys()
        with _refusing_os_errors(f"cannot write a checkpoint to {str(self.directory)!r}"):
            self._refuse_a_file()
            self.directory.mkdir(parents=True, exist_ok=True)
            with self._locked():
                self._sweep()
                aside = self.directory / (_WRITING + self._make_room(step))
                try:
                    fill(aside, step, tensors, documents, manifest)
                except BaseException:
                    shutil.rmtree(aside, ignore_errors=True)
                    raise
                folder = aside.rename(self.directory / aside.name.removeprefix(_WRITING))
                sync(self.directory)
                self._point_to(folder)
                self._prune(step, folder)
        return folder

    def expect(self, *, run: bool) -> None:
        """Refuse a folder that holds a run where none is expected, or none where one is.

        Goes by names alone, so that it can be asked before anything is loaded.

        Raises:
            UsageError: there is a run already.
            CheckpointError: there is none to continue.
        """
        with _refusing_os_errors(f"cannot read checkpoints in {str(self.directory)!r}"):
            self._refuse_a_file()
            there = os.path.lexists(self.directory / _LATEST) or bool(self.folders())
        if there and not run:
            raise UsageError(
                f"{str(self.directory)!r} already holds a run; continue it with --resume, or name another "
                "folder"
            )
        if run and not there:
            raise self._nothing()

    def latest(self) -> Path | None:
        """Return the folder to resume from, every byte of it verified; None if nothing was saved yet.

        Raises:
            CheckpointError: it is damaged or gone; says what to do. Nothing older is taken in its place.
        """
        with self._reading():
            folder = self._current()
            if folder is not None:
                self._verify(folder)
            return folder

    def load(self, path: Path | None = None) -> Checkpoint:
        """Read and verify a checkpoint: the latest, or the one in a given folder.

        Raises:
            CheckpointError: there is none, or it is damaged, foreign, or of a newer format; says what to do.
        """
        with self._reading():
            folder = self._current() if path is None else Path(path)
            if folder is None:
                raise self._nothing()
            folder = folder.resolve() if path is not None else folder
            manifest = self._verify(folder)
            files = [folder / name for name in manifest["files"]]
            return Checkpoint(
                step=manifest["step"],
                path=folder,
                tensors={file.stem: read_tensors(file) for file in files if file.suffix == ".safetensors"},
                documents={
                    file.stem: json.loads(file.read_bytes()) for file in files if file.suffix == ".json"
                },
                manifest=manifest,
            )

    def _nothing(self) -> CheckpointError:
        return CheckpointError(f"no checkpoint in {str(self.directory)!r}: start without resuming")

    def _current(self) -> Path | None:
        """Return the folder that `latest` names; without that file, the one of the highest step."""
        pointer = self.directory / _LATEST
        if not os.path.lexists(pointer):
            return max(self.folders(), key=_order, default=None)
        name = _pointed(pointer)
        if name is None:
            raise CheckpointError(f"{str(pointer)!r} is damaged: {self._way_out(pointer)}")
        return self.directory / name

    def folders(self) -> list[Path]:
        """Return the folders of checkpoints, oldest step first; links and other names are not ours."""
        if not self.directory.exists():
            return []
        ours = [path for path in self.directory.iterdir() if FOLDER_NAME.fullmatch(path.name)]
        return sorted((path for path in ours if path.is_dir() and not path.is_symlink()), key=_order)

    def _verify(self, folder: Path) -> dict[str, Any]:
        try:
            return verified_manifest(folder)
        except Unfit as unfit:
            advice = unfit.advice or self._way_out(folder)
            raise CheckpointError(f"checkpoint {str(folder)!r} {unfit.reason}: {advice}") from unfit

    def _way_out(self, damaged: Path) -> str:
        """Say what a person can do when this file or folder cannot be used."""
        if damaged.parent.resolve() != self.directory.resolve():
            return "give the folder of another checkpoint"
        pointer = self.directory / _LATEST
        culprits = [repr(str(path)) for path in (damaged, pointer) if os.path.lexists(path)]
        remove = f"remove {' and '.join(dict.fromkeys(culprits))}"
        for folder in reversed(self.folders()):
            if folder != damaged and _is_intact(folder):
                return f"{remove} to resume from step {_order(folder)[0]}"
        return "no other checkpoint here is whole, so start anew in another folder"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.open(self.directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Hold off a writer that would remove what is being read; a copy without a lock has no writer."""
        with _refusing_os_errors(f"cannot read checkpoints in {str(self.directory)!r}"):
            self._refuse_a_file()
            try:
                lock = os.open(self.directory / _LOCK, os.O_RDONLY | os.O_NOFOLLOW)
            except FileNotFoundError:
                yield
                return
            try:
                fcntl.flock(lock, fcntl.LOCK_SH)
                yield
            finally:
                os.close(lock)

    def _refuse_a_file(self) -> None:
        if self.directory.exists() and not self.directory.is_dir():
            raise CheckpointError(f"{str(self.directory)!r} is a file: give a folder for checkpoints")

    def _sweep(self) -> None:
        """Remove what killed runs left half written or half removed; the lock says that nobody is at it."""
        for path in self.directory.glob(f"{_WRITING}*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _make_room(self, step: int) -> str:
        """Return a free name for a step, having removed what nothing points to under its name."""
        name = f"step-{step:08d}"
        pointed = _pointed(self.directory / _LATEST)
        for folder in self.folders():
            if _order(folder)[0] == step and pointed not in (None, folder.name):
                self._discard(folder)
        taken = [_order(folder)[1] for folder in self.folders() if _order(folder)[0] == step]
        return f"{name}.{max(taken) + 1}" if taken else name

    def _point_to(self, folder: Path) -> None:
        aside = self.directory / f"{_WRITING}{_LATEST}"
        aside.write_bytes(as_json({"folder": folder.name}))
        sync(aside)
        aside.replace(self.directory / _LATEST)
        sync(self.directory)

    def _prune(self, step: int, current: Path) -> None:
        older = [folder for folder in self.folders() if folder != current and _order(folder)[0] <= step]
        by_step = {_order(folder)[0]: folder for folder in older if _order(folder)[0] < step}
        kept = list(by_step.values())[max(0, len(by_step) - self.keep + 1) :]
        for folder in older:
            if folder not in kept:
                self._discard(folder)

    def _discard(self, folder: Path) -> None:
        """Remove a checkpoint; under its own name it is whole until it is gone."""
        shutil.rmtree(folder.rename(self.directory / f"{_WRITING}discarded-{folder.name}"))


@contextmanager
def _refusing_os_errors(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{what}: {error}") from error


def _order(folder: Path) -> tuple[int, int]:
    """Return step and how often it was saved again, which is what folders are ordered by."""
    match = FOLDER_NAME.fullmatch(folder.name)
    assert match, folder
    return int(match[1]), int(match[2] or 0)


def _pointed(pointer: Path) -> str | None:
    """Return the folder's name that `latest` holds; None if it is not there or holds no such name."""
    if pointer.is_symlink() or not pointer.is_file():
        return None
    value = parsed(pointer)
    name = value.get("folder") if isinstance(value, dict) else None
    return name if isinstance(name, str) and FOLDER_NAME.fullmatch(name) else None


def _is_intact(folder: Path) -> bool:
    try:
        verified_manifest(folder)
    except (Unfit, OSError):
        return False
    return True
