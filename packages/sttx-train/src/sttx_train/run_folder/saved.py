"""What the checkpoints of each command hold: the schema of every document and of the manifest.

Knows no tensors. Every command checks a checkpoint here before it uses it: `sttx inspect`, `sttx merge-stats`
and a run that resumes refuse the same documents. Only the source's cursor is checked by `sttx_ccsniff`, which
wrote it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from sttx_core.errors import CheckpointError
from sttx_core.foreign_files import parse_json, read_at_most, shown
from sttx_core.own_files import refuse_unless_own
from sttx_core.phrase_state import PhraseTableState
from sttx_core.saved_state import Amount, Count, Line, Number, Positive, Sha256, State, converted, expectation
from sttx_train.checkpoint.folder import OWN_FIELDS
from sttx_train.checkpoint.store import Checkpoint
from sttx_train.online.states import BankReport, LearnerState
from sttx_train.run_folder.options import Sizes, Values, check_options, check_sizes
from sttx_train.run_folder.parts import (
    GuardState,
    PhraseStreamState,
    WindowsState,
    check_phrase_streams,
    check_stream,
)

_LARGEST_MARKER = 4096  # bytes
_DEEPEST = 200  # levels of a source's cursor, which has about ten

Signed = Annotated[int, Meta(ge=-(2**53), le=2**53)]
Device = Annotated[str, Meta(pattern=r"\A[a-z]{2,16}(?::[0-9]{1,4})?\Z")]
Dtype = Literal["float32", "float64", "bfloat16", "float16"]
Kernel = Literal["recurrent", "chunked", "compiled", "fla"]


class _Marker(State):
    sttx_run: Literal[1]
    kind: Line


class _StreamManifest(State):
    kind: Literal["stream"]
    base_model: Line
    base_sha256: Sha256
    tokenizer_sha256: Sha256
    learning: Values
    phrase_config: Values
    stream_config: Values
    kernel: Kernel
    device: Device
    dtype: Dtype
    torch: Line
    torch_threads: Count | UnsetType = UNSET
    metrics_bytes: Count | UnsetType = UNSET
    state_sha256: Sha256 | UnsetType = UNSET
    processes: Positive | UnsetType = UNSET


class SavedTotals(State, kw_only=True):
    """Sums over the whole stream."""

    steps: Count
    windows: Count
    bits: Amount
    frozen_bits: Amount
    bytes: Count
    tokens: Count
    model_steps: Count
    network_bits: Amount | UnsetType = UNSET


class _Stream(State):
    taken: dict[str, Count]
    windows: WindowsState
    pairs: dict[str, Any] | None
    totals: SavedTotals
    metrics_bytes: Count | None | UnsetType = UNSET


class _Source(State):
    cursor: dict[str, Any] | None


class _Bpb(State, kw_only=True):
    paid: Amount | None
    frozen: Amount | None
    network: Amount | None | UnsetType = UNSET


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
    device: Device
    dtype: Dtype
    kernel: Kernel
    kernel_reason: Line
    checkpoint: str | None
    bank: BankReport | UnsetType = UNSET


class _ListedPhrase(State):
    id: Count
    text: str
    length: Positive
    uses: Count
    steps_saved: Count


class _PretrainFields(State, kw_only=True):
    tokenizer_sha256: Line | None
    base_sha256: Line | None
    device: Device
    kernel: Kernel
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
    guard: GuardState
    best: SavedValidation | None


class _Data(State):
    sha256: Sha256
    ids: Count
    rows: Count


class _TuneManifest(State):
    kind: Literal["tune"]
    base_model: Line
    base_sha256: Sha256
    tokenizer_sha256: Sha256
    tune_config: Values
    data_sha256: Sha256
    validation_sha256: Sha256
    start_sha256: Sha256
    kernel: Kernel
    device: Device
    dtype: Dtype
    torch: Line
    torch_threads: Count | UnsetType = UNSET
    metrics_bytes: Count | UnsetType = UNSET


class _TuneProgress(State):
    tokens: Count
    seconds: Amount
    before: Amount | None
    best_bpb: Amount | None
    best_step: Count
    unimproved: Count


class _CodingManifest(State):
    kind: Literal["coding"]
    base_model: Line
    base_sha256: Sha256
    tokenizer_sha256: Sha256
    learning: Values
    window: Positive
    torch: Line
    torch_threads: Count


_PRETRAIN: dict[str, Any] = {"config": Values, "model": Sizes, "data": _Data}
_DOCUMENTS: dict[str, dict[str, Any]] = {
    "stream": {
        "stream": _Stream,
        "source": _Source,
        "report": _Report,
        "phrase_list": list[_ListedPhrase],
        "phrases": PhraseTableState,
        "learner": LearnerState,
    },
    "pretrain": {**_PRETRAIN, "progress": _Progress},
    "pretrain-best": {**_PRETRAIN, "validation": SavedValidation | None},
    "tune": {"progress": _TuneProgress},
    "coding": {"learner": LearnerState, "phrases": PhraseTableState},
}
_MORE = {"pretrain": {"phrases": list[PhraseStreamState]}}
_MANIFESTS: dict[str, type[State]] = {
    "stream": _StreamManifest,
    "pretrain": _PretrainManifest,
    "pretrain-best": _BestManifest,
    "tune": _TuneManifest,
    "coding": _CodingManifest,
}
_TENSORS = {
    "stream": ({"learned", "optimizer", "sessions", "replay"}, {"experts", "bank"}),
    "pretrain": ({"model", "optimizer", "state"}, {"hypernet", "hypernet_optimizer"}),
    "pretrain-best": ({"model"}, {"hypernet"}),
    "tune": ({"tuned", "optimizer"}, set()),
    "coding": ({"learned", "optimizer", "sessions", "replay"}, set()),
}
"""The files of tensors that must be there, and those that may be, of each kind."""

_RENAMED = {"held_out": "validation"}


def read_marker(path: Path) -> str | None:
    """Return which command a run folder's marker names; None if there is no marker.

    Raises:
        CheckpointError: it is damaged.
        UsageError: it is a link, a pipe or a device.
        OSError: it cannot be read.
    """
    refuse_unless_own(path)
    if not path.exists():
        return None
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
    match kind:
        case "stream":
            _check_stream(saved)
        case "tune":
            _check_tuning(saved)
        case "coding":
            _options(saved, "manifest.json", "learning", saved.manifest["learning"])
        case _:
            _check_pretraining(saved, documents)


def _check_stream(saved: Checkpoint) -> None:
    """Check what must hold between the files of a checkpoint of `sttx train`."""
    _check_cursor(saved)
    options = {name: _options(saved, "manifest.json", name, saved.manifest[name]) for name in _OPTIONS}
    if (steps := saved.documents["stream"]["totals"]["steps"]) != saved.step:
        raise _damaged(saved, "stream.json", f"its totals are of step {steps}")
    check_stream(saved.documents, saved.manifest, options)


def _check_pretraining(saved: Checkpoint, documents: Mapping[str, Any]) -> None:
    """Check what must hold between the files of a checkpoint of `sttx pretrain`."""
    options = _options(saved, "config.json", "config", documents["config"])
    try:
        sizes = check_sizes(documents["model"])
    except ValueError as error:
        raise _damaged(saved, "model.json", str(error)) from error
    if "progress" in documents:
        used = bool(options.get("phrase_prob"))
        if used != ("phrases" in documents):
            raise _damaged(saved, "phrases.json", f"it is {'missing' if used else 'of another run'}")
    if "phrases" in documents:
        check_phrase_streams(documents["phrases"], documents["data"]["rows"], sizes.vocab_size)


def _check_tuning(saved: Checkpoint) -> None:
    """Check what must hold between the files of a checkpoint of `sttx tune`."""
    _options(saved, "manifest.json", "tune_config", saved.manifest["tune_config"])
    if saved.documents["progress"]["best_step"] > saved.step:
        raise _damaged(saved, "progress.json", f"its best step comes after step {saved.step}")


def _options(saved: Checkpoint, file: str, group: str, values: Any) -> dict[str, Any]:
    try:
        return check_options(group, values)
    except ValueError as error:
        raise _damaged(saved, file, f"`{group}`: {error}") from error


_OPTIONS = ("learning", "phrase_config", "stream_config")


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
