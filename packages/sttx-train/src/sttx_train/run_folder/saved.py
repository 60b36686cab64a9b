"""What the checkpoints of each command hold: the schema of every document and of the manifest.

Knows no tensors. Each part of a learner or trainer checks its own state when it loads it; what is only shown
or compared is checked here.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from sttx_core.errors import CheckpointError
from sttx_core.foreign_files import parse_json, read_at_most, shown
from sttx_core.saved_state import Amount, Count, Line, Number, Positive, Sha256, State, converted, expectation
from sttx_train.checkpoint.folder import OWN_FIELDS
from sttx_train.checkpoint.store import Checkpoint

_LARGEST_MARKER = 4096  # bytes
_DEEPEST = 200  # levels of a source's cursor, which has about ten

Options = dict[Line, bool | int | Number | Line | None | list[Line]]
Signed = Annotated[int, Meta(ge=-(2**53), le=2**53)]


class _Marker(State):
    sttx_run: Literal[1]
    kind: Line


class _StreamManifest(State):
    kind: Literal["stream"]
    base_model: Line
    base_sha256: Sha256
    tokenizer_sha256: Sha256
    learning: Options
    phrase_config: Options
    stream_config: Options
    kernel: Line
    device: Line
    dtype: Line
    torch: Line
    torch_threads: Count | UnsetType = UNSET
    metrics_bytes: Count | UnsetType = UNSET


class SavedTotals(State):
    """Sums over the whole stream."""

    steps: Count
    windows: Count
    bits: Amount
    frozen_bits: Amount
    bytes: Count
    tokens: Count
    model_steps: Count


class _Stream(State):
    taken: dict[str, Count]
    windows: dict[str, Any]
    pairs: dict[str, Any] | None
    totals: SavedTotals
    metrics_bytes: Count | None | UnsetType = UNSET


class _Source(State):
    cursor: dict[str, Any] | None


class _Bpb(State):
    paid: Amount | None
    frozen: Amount | None


class _Phrases(State):
    mode: Literal["auto", "on", "off"]
    on: bool
    decided: bool
    live: Count
    merges: Count
    promotions: Count
    evictions: Count
    steps_saved: Signed


class _Replay(State):
    size: Count
    draws: Count


class _Carried(State):
    carried: Count
    evictions: Count


class _ModelSizes(State):
    id: Line
    sha256: Sha256
    hidden_size: Count
    num_layers: Count
    vocab_size: Count


class _Report(State):
    steps: Count
    windows: Count
    bytes: Count
    tokens: Count
    model_steps: Count
    bpb: _Bpb
    phrases: _Phrases
    replay: _Replay
    sessions: _Carried
    skipped_steps: Count
    scope: list[Line]
    norm_s0: Amount | None
    trainable_parameters: Count
    model: _ModelSizes
    device: Line
    dtype: Line
    kernel: Line
    kernel_reason: Line
    checkpoint: str | None


class _ListedPhrase(State):
    id: Count
    text: str
    length: Positive
    uses: Count
    steps_saved: Count


class _PretrainFields(State, kw_only=True):
    tokenizer_sha256: Line | None
    base_sha256: Line | None
    device: Line
    kernel: Line
    processes: Positive
    torch: Line
    torch_threads: Count | UnsetType = UNSET


class _BestManifest(_PretrainFields):
    kind: Literal["pretrain-best"]


class _PretrainManifest(_PretrainFields, kw_only=True):
    kind: Literal["pretrain"]
    seconds: Amount
    metrics_bytes: Count | UnsetType = UNSET


class SavedValidation(State):
    """A measurement of the validation loss."""

    loss: Number
    bpb: Number | None
    tokens: Count
    steps_per_byte: Amount | None
    phrases_loss: Number | None
    phrases_bpb: Number | None
    phrases_steps_per_byte: Amount | None


class _Progress(State):
    tokens: Count
    epochs: Amount
    guard: dict[str, Any]
    best: SavedValidation | None


class _Data(State):
    sha256: Sha256
    ids: Count
    rows: Count


Sizes = dict[Line, Positive | Annotated[float, Meta(gt=0, le=1)]]

_PRETRAIN: dict[str, Any] = {"config": Options, "model": Sizes, "data": _Data}
_DOCUMENTS: dict[str, dict[str, Any]] = {
    "stream": {
        "stream": _Stream,
        "source": _Source,
        "report": _Report,
        "phrase_list": list[_ListedPhrase],
        "phrases": dict[str, Any],
        "learner": dict[str, Any],
    },
    "pretrain": {**_PRETRAIN, "progress": _Progress},
    "pretrain-best": {**_PRETRAIN, "validation": SavedValidation | None},
}
_MORE = {"pretrain": {"phrases": list[dict[str, Any]]}}
_MANIFESTS: dict[str, type[State]] = {
    "stream": _StreamManifest,
    "pretrain": _PretrainManifest,
    "pretrain-best": _BestManifest,
}
_TENSORS = {
    "stream": ({"learned", "optimizer", "sessions", "replay"}, set()),
    "pretrain": ({"model", "optimizer", "state"}, {"hypernet", "hypernet_optimizer"}),
    "pretrain-best": ({"model"}, {"hypernet"}),
}
"""The files of tensors that must be there, and those that may be, of each kind."""

_RENAMED = {"held_out": "validation"}


def read_marker(path: Path) -> str:
    """Return which command a run folder's marker names.

    Raises:
        CheckpointError: it is damaged.
        OSError: it cannot be read.
    """
    try:
        return converted(_Marker, parse_json(read_at_most(path, _LARGEST_MARKER))).kind
    except ValueError as error:
        raise CheckpointError(
            f"{str(path)!r} is damaged ({expectation(error)}): restore it from a copy, or give another folder"
        ) from error


def check_checkpoint(saved: Checkpoint) -> None:
    """Check every document of a checkpoint, and the fields of its manifest, against their schemas.

    Raises:
        CheckpointError: one is missing, unknown or has other content; says which file, and where in it.
    """
    kind = saved.manifest.get("kind")
    if not isinstance(kind, str) or kind not in _MANIFESTS:
        raise _damaged(saved, "manifest.json", f"`kind` is {shown(kind)}, which this sttx does not know")
    fields = {name: value for name, value in saved.manifest.items() if name not in OWN_FIELDS}
    _check(saved, "manifest.json", fields, _MANIFESTS[kind])
    needed, more = _DOCUMENTS[kind], _MORE.get(kind, {})
    documents = {_RENAMED.get(name, name): value for name, value in saved.documents.items()}
    _require_files(saved, ".json", set(documents), set(needed), set(more))
    for name, value in documents.items():
        _check(saved, f"{name}.json", value, {**needed, **more}[name])
    stems = {
        name.removesuffix(".safetensors") for name in saved.manifest["files"] if not name.endswith("json")
    }
    _require_files(saved, ".safetensors", stems, *_TENSORS[kind])
    if kind == "stream":
        _check_cursor(saved)


def _check(saved: Checkpoint, name: str, value: Any, schema: Any) -> None:
    try:
        converted(schema, value)
    except ValueError as error:
        raise _damaged(saved, name, str(error)) from error


def _require_files(
    saved: Checkpoint, suffix: str, found: Collection[str], needed: Collection[str], more: Collection[str]
) -> None:
    if missing := sorted(set(needed) - set(found)):
        raise _damaged(saved, missing[0] + suffix, "it is missing")
    if unknown := sorted(set(found) - set(needed) - set(more)):
        raise _damaged(saved, unknown[0] + suffix, "this sttx does not know it")


def _check_cursor(saved: Checkpoint) -> None:
    """Refuse a cursor that is nested so deeply that no writer would write it again."""
    level = [saved.documents["source"]["cursor"]]
    for _ in range(_DEEPEST):
        inner = [one for one in level if isinstance(one, dict | list)]
        level = [value for one in inner for value in (one.values() if isinstance(one, dict) else one)]
    if level:
        raise _damaged(saved, "source.json", "it is nested too deeply")


def _damaged(saved: Checkpoint, name: str, reason: str) -> CheckpointError:
    return CheckpointError(
        f"checkpoint {str(saved.path)!r} has a damaged {name!r} ({reason}): restore it from a copy, or give "
        "the folder of another checkpoint"
    )
