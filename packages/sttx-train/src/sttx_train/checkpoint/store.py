"""A folder of checkpoints that survives a kill at any moment. Knows nothing of models, learners or streams.

```
DIR/
├── step-00000120/          one checkpoint; complete as soon as it has this name, and never changed again
│   ├── NAME.safetensors    tensors
│   ├── NAME.json           documents
│   └── manifest.json       format, step, time, SHA-256 and size of every file, and the caller's fields
├── latest                  JSON, names the folder to resume from; replaced atomically
├── .lock                   locked while a checkpoint is written (exclusive) or read (shared)
└── .writing-…              being written or removed; the next save removes what a killed run left
```

If a step is saved again while `latest` names it, the new folder is `step-00000120.1`, so that `latest` always
names an existing folder. A damaged checkpoint is refused; an older one never takes its place silently.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sttx_core.errors import CheckpointError, UsageError
from sttx_core.os_errors import disk_is_full, explain
from sttx_core.own_files import PRIVATE_FILE, make_private_folder, sync
from sttx_train.checkpoint.folder import (
    FOLDER_NAME,
    OWN_FIELDS,
    Unfit,
    as_json,
    fill,
    parsed,
    read_document,
    read_manifest,
    read_tensors,
    verified_manifest,
)
from sttx_train.checkpoint.lock import locked
from sttx_train.files import probe_writable

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Checkpoint", "CheckpointStore"]

_STEM = re.compile(r"[a-z][a-z0-9_]*")
_LATEST = "latest"
_LOCK = ".lock"
_WRITING = ".writing-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint, read and verified.

    Attributes:
        step: the step at which it was saved.
        path: its folder.
        tensors: by file stem, then by name; on the CPU, contiguous, each in its own memory.
        documents: by file stem, as JSON gives them back: tuples are lists, keys are strings.
        manifest: the whole manifest, with the caller's fields.
    """

    step: int
    path: Path
    tensors: dict[str, dict[str, Tensor]]
    documents: dict[str, Any]
    manifest: dict[str, Any]


class CheckpointStore:
    """A folder of checkpoints: `save` writes one, `load` returns the latest or a given one.

    >>> import torch
    >>> from tempfile import mkdtemp
    >>> store = CheckpointStore(Path(mkdtemp()))
    >>> store.save(7, tensors={"weights": {"w": torch.ones(2)}}, documents={}, manifest={"seed": 1}).name
    'step-00000007'
    >>> store.load().tensors["weights"]["w"]
    tensor([1., 1.])
    """

    def __init__(self, directory: Path, *, keep: int = 3, run: CheckpointStore | None = None) -> None:
        """Use a folder, which need not exist yet, and keep that many checkpoints in it.

        After a failed write, a run continues from the store ``run``; from this one when None.
        """
        if keep < 1:
            raise UsageError(f"{keep!r} checkpoints cannot be kept: keep at least 1")
        self.directory = Path(directory)
        self.keep = keep
        self._run = run or self

    def save(
        self,
        step: int,
        *,
        tensors: Mapping[str, Mapping[str, Tensor]],
        documents: Mapping[str, Any],
        manifest: Mapping[str, Any],
    ) -> Path:
        """Write a checkpoint, make it the latest, remove those beyond `keep`; return its folder.

        Folders of later steps, which a run leaves when it resumes from further back, are not touched.

        Args:
            step: the number of the step.
            tensors: each entry becomes `<name>.safetensors`; any device and dtype, also views.
            documents: each entry becomes `<name>.json`.
            manifest: further fields of the manifest.

        Raises:
            CheckpointError: the folder cannot be written; `latest` is unchanged.
        """
        assert step >= 0, step
        assert all(map(_STEM.fullmatch, [*tensors, *documents])) and "manifest" not in documents
        assert not OWN_FIELDS & manifest.keys(), OWN_FIELDS & manifest.keys()
        with self._writing(f"cannot write a checkpoint to {str(self.directory)!r}"):
            self._refuse_a_file()
            make_private_folder(self.directory)
            with locked(self.directory / _LOCK):
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
        """Refuse a folder with a run where none is expected, or without one, or that cannot be written.

        It reads file names only and writes a temporary file, so call it before a model is loaded.

        Raises:
            UsageError: there is a run and none is expected, or the reverse, or the folder cannot be written.
            CheckpointError: the folder cannot be read, or the disk is full.
        """
        with _reading_errors(self.directory):
            if self.directory.exists() and not self.directory.is_dir():
                raise UsageError(self._not_a_folder())
            there = os.path.lexists(self.directory / _LATEST) or bool(self.folders())
        if there and not run:
            raise UsageError(
                f"{str(self.directory)!r} already holds a run; continue it with --resume, or name another "
                "folder"
            )
        if run and not there:
            raise UsageError(self._no_checkpoint())
        try:
            probe_writable(self.directory)
        except OSError as error:
            why = explain(error, "fix the cause")
            failure = CheckpointError if disk_is_full(error) else UsageError
            raise failure(
                f"cannot write to {str(self.directory)!r}: {why}, or give another folder"
            ) from error

    def latest(self) -> Path | None:
        """Return the folder to resume from, with every byte verified; None if nothing is saved yet.

        Raises:
            CheckpointError: it is damaged or missing; says what to do. No older one is used instead.
        """
        with self._reading():
            folder = self._current()
            if folder is not None:
                self._verify(folder)
            return folder

    def load(self, path: Path | None = None, *, tensors: bool = True) -> Checkpoint:
        """Read and verify the latest checkpoint, or the one in a given folder.

        Without ``tensors`` it has none, and PyTorch is not imported; their files are verified all the same.

        Raises:
            CheckpointError: there is none, or it is damaged, foreign, or of a newer format; says what to do.
        """
        with self._reading():
            folder = self._current() if path is None else Path(path)
            if folder is None:
                raise CheckpointError(self._no_checkpoint())
            folder = folder.resolve() if path is not None else folder
            manifest = self._verify(folder)
            files = [folder / name for name in manifest["files"]]
            tensor_files = [file for file in files if tensors and file.suffix == ".safetensors"]
            documents = [file for file in files if file.suffix == ".json"]
            with self._completing(folder):
                return Checkpoint(
                    step=manifest["step"],
                    path=folder,
                    tensors={file.stem: read_tensors(file) for file in tensor_files},
                    documents={file.stem: read_document(file) for file in documents},
                    manifest=manifest,
                )

    def manifest(self) -> dict[str, Any]:
        """Return the manifest of the checkpoint to resume from; the files that it names are not verified.

        Raises:
            CheckpointError: there is none, or it is damaged.
        """
        with self._reading():
            folder = self._current()
            if folder is None:
                raise CheckpointError(self._no_checkpoint())
            return self._verify(folder, read_manifest)

    def _no_checkpoint(self) -> str:
        return f"no checkpoint in {str(self.directory)!r}: leave out --resume to start there"

    def _not_a_folder(self) -> str:
        return f"{str(self.directory)!r} is a file: give a folder for checkpoints"

    def _current(self) -> Path | None:
        """Return the folder that `latest` names; without that file, the one with the highest step."""
        pointer = self.directory / _LATEST
        if not os.path.lexists(pointer):
            return max(self.folders(), key=_order, default=None)
        name = _pointed(pointer)
        if name is None:
            raise CheckpointError(f"{str(pointer)!r} is damaged: {self._way_out(pointer)}")
        return self.directory / name

    def folders(self) -> list[Path]:
        """Return the checkpoint folders, lowest step first; links and other names do not count."""
        if not self.directory.exists():
            return []
        ours = [path for path in self.directory.iterdir() if FOLDER_NAME.fullmatch(path.name)]
        return sorted((path for path in ours if path.is_dir() and not path.is_symlink()), key=_order)

    def _verify(
        self, folder: Path, read: Callable[[Path], dict[str, Any]] = verified_manifest
    ) -> dict[str, Any]:
        with self._completing(folder):
            return read(folder)

    @contextmanager
    def _completing(self, folder: Path) -> Iterator[None]:
        """Turn why a checkpoint is unfit into a sentence that says what to do."""
        try:
            yield
        except Unfit as unfit:
            advice = unfit.advice or self._way_out(folder)
            raise CheckpointError(f"checkpoint {str(folder)!r} {unfit.reason}: {advice}") from unfit

    def _way_out(self, damaged: Path) -> str:
        """Return what to do when this file or folder cannot be used."""
        if damaged.parent.resolve() != self.directory.resolve():
            return "give the folder of another checkpoint"
        pointer = self.directory / _LATEST
        culprits = [repr(str(path)) for path in (damaged, pointer) if os.path.lexists(path)]
        remove = f"remove {' and '.join(dict.fromkeys(culprits))}"
        for folder in reversed(self.folders()):
            if folder != damaged and _is_intact(folder):
                return f"{remove} to resume from step {_order(folder)[0]}"
        return "no other checkpoint here is complete, so start again in another folder"

    def last_step(self) -> int | None:
        """Return the step to resume from, by file names alone; None if there is none."""
        pointed = _pointed(self.directory / _LATEST)
        if pointed is not None:
            return _order(self.directory / pointed)[0]
        return max((_order(folder)[0] for folder in self.folders()), default=None)

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        """Turn an error of the system into a sentence: what failed, why, and how the run can continue."""
        try:
            yield
        except OSError as error:
            why = explain(error, "fix the cause")
            raise CheckpointError(f"{what}: {why}, {self.way_on()}") from error

    def way_on(self) -> str:
        """Return how a run continues after a failed write, as the last part of a message."""
        with suppress(OSError):
            step = self._run.last_step()
            if step is None:
                return "then start again: no step is saved yet"
            return f"then continue from step {step} with --resume"
        return "then try again"

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Keep a writer from removing what is being read; a copied folder without a lock has no writer."""
        lock = self.directory / _LOCK
        with _reading_errors(self.directory):
            self._refuse_a_file()
            with locked(lock, shared=True) if os.path.lexists(lock) else nullcontext():
                yield

    def _refuse_a_file(self) -> None:
        if self.directory.exists() and not self.directory.is_dir():
            raise CheckpointError(self._not_a_folder())

    def _sweep(self) -> None:
        """Remove what killed runs left half written or half removed; the lock keeps other writers out."""
        for path in self.directory.glob(f"{_WRITING}*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _make_room(self, step: int) -> str:
        """Return a free name for a step, after removing its folders that `latest` does not name."""
        name = f"step-{step:08d}"
        pointed = _pointed(self.directory / _LATEST)
        for folder in self.folders():
            if _order(folder)[0] == step and pointed not in (None, folder.name):
                self._discard(folder)
        taken = [_order(folder)[1] for folder in self.folders() if _order(folder)[0] == step]
        return f"{name}.{max(taken) + 1}" if taken else name

    def _point_to(self, folder: Path) -> None:
        aside = self.directory / f"{_WRITING}{_LATEST}"
        aside.touch(PRIVATE_FILE, exist_ok=False)  # the sweep has removed any link of that name
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
        """Remove a checkpoint; it is renamed first, so that it is complete as long as it has its name."""
        shutil.rmtree(folder.rename(self.directory / f"{_WRITING}discarded-{folder.name}"))


@contextmanager
def _reading_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = explain(error, "fix the cause")
        raise CheckpointError(
            f"cannot read checkpoints in {str(directory)!r}: {why}, or give another folder"
        ) from error


def _order(folder: Path) -> tuple[int, int]:
    """Return the sort key of a folder: its step, and how often that step was saved again."""
    match = FOLDER_NAME.fullmatch(folder.name)
    assert match, folder
    return int(match[1]), int(match[2] or 0)


def _pointed(pointer: Path) -> str | None:
    """Return the name of a folder that `latest` holds; None if it is missing or holds none."""
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
