"""A trained adapter on the disk: a checkpoint of `MemoryTrainer`, or a GGUF sidecar. Knows no sessions.

A sidecar is for other programs. It has the adapter's tensors under their names (`sttx_train.memory.core`),
and these fields:

| field | value |
| --- | --- |
| ``general.architecture`` | ``sttx-memory`` |
| ``sttx.memory.version`` | 1 |
| ``sttx.memory.base_sha256`` | `AttachedMemory.base_digest` of the base that the adapter was trained beside |
| ``sttx.memory.step`` | training steps |
| ``sttx.memory.sha256`` | of the text ``ADAPTER BASE STEP`` |
| ``sttx.memory.config.*`` | the fields of `MemoryConfig` |

ADAPTER is `AttachedMemory.adapter_digest`, of the config and the tensors; BASE and STEP are the fields above.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from sttx_core.errors import CheckpointError, ModelError, UsageError
from sttx_core.foreign_files import shown
from sttx_train.checkpoint import CheckpointStore
from sttx_train.memory.attached import AttachedMemory
from sttx_train.memory.config import MemoryConfig
from sttx_train.memory.gguf_file import Gguf, Value, read_gguf_file, write_gguf_file
from sttx_train.saved_tensors import check_tensors

ARCHITECTURE, VERSION = "sttx-memory", 1
KIND = "memory"
"""What the manifest of a checkpoint with an adapter says it is."""

_PREFIX = "sttx.memory."
_CONFIG = _PREFIX + "config."
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class SavedAdapter:
    """A trained adapter.

    Attributes:
        config: of its memory, with the numbers of its layers.
        base_sha256: of the base that it was trained beside.
        step: training steps.
        tensors: by their names, float32.
    """

    config: MemoryConfig
    base_sha256: str
    step: int
    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, memory: AttachedMemory, step: int = 0) -> SavedAdapter:
        """Return the adapter of a memory, as it is now."""
        tensors = {name: one.detach().cpu().clone() for name, one in memory.state_dict().items()}
        return cls(config=memory.config, base_sha256=memory.base_digest(), step=step, tensors=tensors)

    def sha256(self) -> str:
        """Return what `AttachedMemory.adapter_digest` returns with this adapter."""
        digest = hashlib.sha256(self.config.digest().encode())
        for name, tensor in sorted(self.tensors.items()):
            digest.update(f"{name} {list(tensor.shape)}\n".encode())
            digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def put_on(self, memory: AttachedMemory) -> None:
        """Give a memory this adapter; what it remembers is forgotten.

        Raises:
            ModelError: the memory has another base or config.
            CheckpointError: the tensors do not fit.
        """
        if memory.config != self.config:
            raise ModelError(f"the adapter is of a memory with {self.config}, not {memory.config}")
        if (base := memory.base_digest()) != self.base_sha256:
            raise ModelError(
                f"the adapter was trained beside a base with the SHA-256 {self.base_sha256}, and this one "
                f"has {base}: give the same base, in the same data type"
            )
        check_tensors("the adapter", self.tensors, memory.state_dict())
        memory.load_state_dict(self.tensors)
        memory.reset()


def read_adapter(path: Path) -> SavedAdapter:
    """Read an adapter: from the folder of a run or of a checkpoint, or from a sidecar.

    Raises:
        UsageError: there is nothing at the path.
        CheckpointError: the checkpoint is damaged, or holds something else.
        ModelError: the sidecar is damaged, or holds something else.
    """
    if path.is_dir():
        return _from_checkpoint(path)
    if not path.exists():
        raise UsageError(f"there is no adapter at {str(path)!r}: give the folder of a run, or a .gguf file")
    return _from_sidecar(path, read_gguf_file(path))


def write_sidecar(adapter: SavedAdapter, path: Path) -> None:
    """Write an adapter as a sidecar, atomically.

    Raises:
        UsageError: the package `gguf` is not installed, or something else than a file is at the path.
        OSError: it cannot be written.
    """
    config = {f"{_CONFIG}{name}": value for name, value in adapter.config.as_dict().items()}
    fields: dict[str, Value] = {
        "general.name": f"memory beside {adapter.base_sha256[:12]}",
        f"{_PREFIX}version": VERSION,
        f"{_PREFIX}base_sha256": adapter.base_sha256,
        f"{_PREFIX}step": adapter.step,
        f"{_PREFIX}sha256": _seal(adapter),
    }
    write_gguf_file(
        path, ARCHITECTURE, fields | config, {name: one.numpy() for name, one in adapter.tensors.items()}
    )


def write_run(adapter: SavedAdapter, folder: Path) -> Path:
    """Write an adapter as a run with one checkpoint, to read from and not to resume; return its folder.

    Raises:
        UsageError: the folder holds a run already.
        CheckpointError: it cannot be written.
    """
    store = CheckpointStore(folder)
    store.expect(run=False)
    manifest = {
        "kind": KIND,
        "memory_config": adapter.config.as_dict(),
        "base_sha256": adapter.base_sha256,
    }
    return store.save(adapter.step, tensors={"adapter": adapter.tensors}, documents={}, manifest=manifest)


Difference: TypeAlias = float | Literal["missing", "another shape"]


def differences(one: SavedAdapter, other: SavedAdapter) -> dict[str, Difference]:
    """Return the largest difference between the numbers of each tensor; ``missing`` if only one has it."""
    found: dict[str, Difference] = {}
    for name in sorted(one.tensors.keys() | other.tensors.keys()):
        first, second = one.tensors.get(name), other.tensors.get(name)
        if first is None or second is None:
            found[name] = "missing"
        elif first.shape != second.shape:
            found[name] = "another shape"
        else:
            found[name] = float((first.double() - second.double()).abs().max())
    return found


def _from_checkpoint(folder: Path) -> SavedAdapter:
    is_checkpoint = (folder / "manifest.json").exists()
    saved = CheckpointStore(folder.parent if is_checkpoint else folder).load(
        folder if is_checkpoint else None
    )
    kind, tensors = saved.manifest.get("kind"), saved.tensors.get("adapter")
    if kind != KIND or tensors is None:
        raise CheckpointError(
            f"{str(saved.path)!r} has no adapter of a memory: give the folder of a run of `sttx memory train`"
        )
    try:
        return _checked(
            saved.manifest.get("memory_config"), saved.manifest.get("base_sha256"), saved.step, tensors
        )
    except _Unfit as unfit:
        raise CheckpointError(f"checkpoint {str(saved.path)!r} has no adapter that fits: {unfit}") from unfit


def _from_sidecar(path: Path, file: Gguf) -> SavedAdapter:
    fields = file.fields
    try:
        if (found := fields.get("general.architecture")) != ARCHITECTURE:
            raise _Unfit(f"it is of the architecture {shown(found)}, not {ARCHITECTURE!r}")
        if (version := fields.get(f"{_PREFIX}version")) != VERSION:
            raise _Unfit(f"its version is {shown(version)}, and {VERSION} is read")
        config = {
            name.removeprefix(_CONFIG): value for name, value in fields.items() if name.startswith(_CONFIG)
        }
        step = fields.get(f"{_PREFIX}step")
        if type(step) is not int or not 0 <= step < 1 << 53:
            raise _Unfit(f"its step is {shown(step)}")
        tensors = {name: torch.from_numpy(array) for name, array in file.tensors.items()}
        adapter = _checked(config, fields.get(f"{_PREFIX}base_sha256"), step, tensors)
        if _seal(adapter) != fields.get(f"{_PREFIX}sha256"):
            raise _Unfit("it was changed: its SHA-256 does not match")
    except _Unfit as unfit:
        raise ModelError(f"{str(path)!r} cannot be read as the sidecar of a memory: {unfit}") from unfit
    return adapter


def _seal(adapter: SavedAdapter) -> str:
    return hashlib.sha256(f"{adapter.sha256()} {adapter.base_sha256} {adapter.step}".encode()).hexdigest()


class _Unfit(Exception):
    """Why something cannot be read as an adapter."""


def _checked(config: Any, base_sha256: Any, step: int, tensors: Mapping[str, Tensor]) -> SavedAdapter:
    """Return the adapter with these parts.

    Raises:
        _Unfit: they are not those of one.
    """
    if not isinstance(config, dict):
        raise _Unfit("it has no config of a memory")
    try:
        known = MemoryConfig.from_dict(config)
    except UsageError as error:
        raise _Unfit(str(error)) from error
    if not isinstance(base_sha256, str) or not _SHA256.fullmatch(base_sha256):
        raise _Unfit(f"the SHA-256 of its base is {shown(base_sha256)}")
    if not known.layers:
        raise _Unfit("its config does not say which layers have a memory")
    expected: dict[str, tuple[int, ...]] = {}
    for number in known.layers:
        expected |= _shapes(number, known.rank, tensors)
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != expected:
        name = min(name for name, _ in found.items() ^ expected.items())
        raise _Unfit(f"the tensor {shown(name)} is {_said(found, name)} instead of {_said(expected, name)}")
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32 or not bool(tensor.isfinite().all()):
            raise _Unfit(f"the tensor {shown(name)} is not of finite float32 numbers")
    return SavedAdapter(config=known, base_sha256=base_sha256, step=step, tensors=dict(tensors))


def _shapes(number: int, rank: int, tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a layer's tensors; its three widths are those that some of the tensors have."""

    def width(name: str, at: int) -> int:
        tensor = tensors.get(f"layers.{number}.{name}")
        return tensor.shape[at] if tensor is not None and tensor.ndim > at else 0

    inside, queries, outputs = width("shift", 0), width("delta_q", 0), width("delta_o", 0)
    shapes: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(("query", "key", "value", "decay", "rate"), (rank, inside)),
        **dict.fromkeys(("decay_bias", "rate_bias", "key_rate"), (rank,)),
        "shift": (inside,),
        "delta_q": (queries, rank),
        "delta_o": (outputs, rank),
    }
    return {f"layers.{number}.{name}": shape for name, shape in shapes.items()}


def _said(shapes: Mapping[str, tuple[int, ...]], name: str) -> str:
    return "missing" if name not in shapes else f"{list(shapes[name])}"
