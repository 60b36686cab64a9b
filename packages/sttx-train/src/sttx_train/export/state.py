"""Writes a tuned state as the files that RWKV programs give to a model at a document's start.

The state comes from a run, one of its checkpoints, or the file of a tuned state in any format. An identity
goes with it: which model it belongs to, and whether it was learned for the start or by injection.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sttx_core.errors import CheckpointError, UsageError
from sttx_core.own_files import make_private_folder
from sttx_train.checkpoint import Checkpoint
from sttx_train.export.kinds import StateKind
from sttx_train.formats import TunedState, load_state, save_state
from sttx_train.formats.state import OPENING, origin, sidecar
from sttx_train.online.average import for_reading
from sttx_train.predict.learned import tuned_state
from sttx_train.run_folder import current_names, load_checkpoint

_INJECTED = (
    "this state was learned by injection at every window; given once, at a document's start, it is worth "
    "little or does harm: tune one for the start with `sttx tune`, or use it in sttx"
)


_AFTER_EOT = (
    "this state was learned before the end-of-text token: give token 0 first; RWKV-Runner and ai00 do not, "
    "so tune with --no-eot for these"
)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        kind: of the export.
        out: the file or folder.
        files: every file that was written.
        identity: what is recorded of its origin, by name.
        notes: sentences that the user should know.
    """

    kind: str
    out: Path
    files: tuple[Path, ...]
    identity: dict[str, str]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON can hold it."""
        return {
            "kind": self.kind,
            "out": str(self.out),
            "files": {str(file): file.stat().st_size for file in self.files},
            "identity": self.identity,
            "notes": list(self.notes),
        }


def state_to_export(source: str | os.PathLike[str]) -> TunedState:
    """Return the tuned state of a run or a checkpoint, or the one in a file.

    Raises:
        UsageError: there is nothing at the path, or nothing was learned that a state could hold.
        CheckpointError: the checkpoint is damaged, or of `sttx pretrain`.
        ModelError: the file is not a tuned state.
    """
    path = Path(source)
    if path.is_file():
        return load_state(path)
    saved = load_checkpoint(path, tensors=True)
    match saved.manifest["kind"]:
        case "stream":
            return _of_training(saved)
        case "tune":
            return tuned_state(saved)
        case _:
            raise CheckpointError(
                f"{str(path)!r} has no tuned state: it is not of `sttx train` or `sttx tune`"
            )


def export_state(state: TunedState, out: str | os.PathLike[str], kind: StateKind) -> Exported:
    """Write a tuned state as another program reads it.

    Args:
        state: the state and its identity.
        out: the file, whose suffix `check_out` has checked.
        kind: ``state-pth`` or ``state-st``.

    Raises:
        UsageError: a value is too large for the format.
    """
    path = Path(out)
    make_private_folder(path.parent)
    save_state(state.s0, path, metadata=state.metadata)
    beside = sidecar(path)
    files = (path, beside) if kind == "state-pth" and beside.exists() else (path,)
    notes = injected_note(state) or ((_AFTER_EOT,) if state.metadata.get(OPENING) == "eot" else ())
    return Exported(kind=kind, out=path, files=files, identity=dict(state.metadata), notes=notes)


def injected_note(state: TunedState) -> tuple[str, ...]:
    """Return the warning that a state is none to start from; empty if it is one."""
    return (_INJECTED,) if state.inject == "every" else ()


def _of_training(saved: Checkpoint) -> TunedState:
    s0, inject, manifest = _learned_s0(saved), _injection(saved), saved.manifest
    window = current_names("stream_config", manifest["stream_config"])["window"]
    metadata = origin(
        model=manifest["base_model"],
        model_sha256=manifest["base_sha256"],
        vocabulary_sha256=manifest["tokenizer_sha256"],
        inject=inject,
        learned_by="sttx train",
        steps=saved.step,
        window=window if inject == "every" else None,
    )
    return TunedState(s0=s0, metadata=metadata | {OPENING: "eot"})


def _learned_s0(saved: Checkpoint) -> Any:
    s0 = for_reading(saved.tensors["learned"])
    if s0 is None:
        scope = ",".join(saved.manifest["learning"]["scope"])
        raise UsageError(f"{str(saved.path)!r} has no tuned state: its run learned with --scope {scope}")
    if not bool(s0.any()):
        raise UsageError(f"the state in {str(saved.path)!r} is zero: its run has learned nothing yet")
    return s0


def _injection(saved: Checkpoint) -> str:
    inject = current_names("learning", saved.manifest["learning"]).get("inject", "every")
    if inject == "none":
        raise UsageError(f"the run of {str(saved.path)!r} had --inject none: its state was never used")
    return inject
