"""Reads what was learned, from a checkpoint of `sttx train` or a file of a tuned state. Predicts nothing."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from sttx_core.errors import CheckpointError, ModelError, SttxWarning, UsageError
from sttx_core.foreign_files import shown
from sttx_core.phrases import PhraseConfig
from sttx_train.checkpoint import Checkpoint
from sttx_train.formats import STATE_SUFFIXES, LoadedModel, TunedState, load_state
from sttx_train.formats.state import MODEL_SHA256, OPENING, VOCABULARY_SHA256, WINDOW, origin
from sttx_train.online import LearnerConfig
from sttx_train.online.config import Injection
from sttx_train.run_folder import current_names, load_checkpoint
from sttx_train.saved_tensors import check_tensors

_INJECTIONS: tuple[Injection, ...] = get_args(Injection)
_WHERE: dict[Injection | None, str] = {
    "every": "by injection at every window",
    "start": "for the start of a document",
    "none": "nowhere",
}
_FIRST = {"eot": "the end-of-text token", "text": "the text itself"}
_LONGEST_WINDOW = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What was learned, and the settings to read it with.

    Attributes:
        path: where it was found.
        config: how it was learned.
        phrases: how its phrases were found; None if there are none.
        window: base tokens of a window.
        experts: whether it was learned beside experts.
        state: what `OnlineLearner.load_state_dict` takes, of a checkpoint.
        s0: the tuned state ``[L, H, N, N]``, of a file of one.
    """

    path: Path
    config: LearnerConfig
    phrases: PhraseConfig | None = None
    window: int = 64
    experts: bool = False
    state: dict[str, Any] | None = None
    s0: Any = None


def find_learned(path: str | os.PathLike[str], loaded: LoadedModel) -> Learned:
    """Read a checkpoint, the latest of a run's folder, or a tuned state.

    Args:
        path: the folder of a run or of a checkpoint, or the file of a tuned state.
        loaded: the model that it was learned with.

    Raises:
        UsageError: it was learned with another model or vocabulary.
        CheckpointError: there is no checkpoint, or it is damaged, or not one of `sttx train`.
        ModelError: the file is not a tuned state, or of another model's shape.
    """
    path = Path(path)
    if path.is_file() and path.suffix in STATE_SUFFIXES:
        return _tuned(path, load_state(path, config=loaded.model.config), loaded)
    saved = load_checkpoint(path, tensors=True)
    if saved.manifest["kind"] == "tune":
        return _tuned(saved.path, _fitting(tuned_state(saved), saved, loaded), loaded)
    if saved.manifest["kind"] not in ("stream", "coding"):
        raise CheckpointError(f"{str(path)!r} is not a checkpoint of `sttx train`, but of `sttx pretrain`")
    _require_same_base(saved, loaded)
    state = {"tensors": saved.tensors, "documents": saved.documents}
    if saved.manifest["kind"] == "coding":
        learning = {**saved.manifest["learning"], "scope": tuple(saved.manifest["learning"]["scope"])}
        return Learned(
            path=saved.path, config=LearnerConfig(**learning), window=saved.manifest["window"], state=state
        )
    options = {name: current_names(name, saved.manifest[name]) for name in ("learning", "stream_config")}
    learning = {**options["learning"], "scope": tuple(options["learning"]["scope"])}
    return Learned(
        path=saved.path,
        config=LearnerConfig(**learning),
        phrases=PhraseConfig(**current_names("phrase_config", saved.manifest["phrase_config"])),
        window=options["stream_config"]["window"],
        experts=options["stream_config"]["experts"] == "on",
        state=state,
    )


def tuned_state(saved: Checkpoint) -> TunedState:
    """Return the best state of a checkpoint of `sttx tune`, and where it comes from."""
    manifest, eot = saved.manifest, saved.manifest["tune_config"].get("eot", True)
    metadata = origin(
        model=manifest["base_model"],
        model_sha256=manifest["base_sha256"],
        vocabulary_sha256=manifest["tokenizer_sha256"],
        inject="start",
        learned_by="sttx tune",
        steps=saved.documents["progress"]["best_step"],
    )
    return TunedState(
        s0=saved.tensors["tuned"]["best"], metadata=metadata | {OPENING: "eot" if eot else "text"}
    )


def _fitting(tuned: TunedState, saved: Checkpoint, loaded: LoadedModel) -> TunedState:
    """Return a state if it was learned with this model and fits it."""
    _require_same_base(saved, loaded)
    sizes = loaded.model.config
    like = torch.empty(sizes.num_layers, sizes.num_heads, sizes.head_size, sizes.head_size, device="meta")
    check_tensors("tuned.safetensors", {"best": tuned.s0}, {"best": like})
    return tuned


def _require_same_base(saved: Checkpoint, loaded: LoadedModel) -> None:
    """Refuse what was learned with another model or vocabulary."""
    for field, now in (("base_sha256", loaded.sha256), ("tokenizer_sha256", loaded.tokenizer.sha256)):
        if saved.manifest[field] != now:
            what = "model" if field.startswith("base") else "vocabulary"
            raise UsageError(
                f"{str(saved.path)!r} was learned with another {what}, {saved.manifest['base_model']!r} of "
                f"SHA-256 {saved.manifest[field][:16]}…: give that as the model"
            )


def _tuned(path: Path, tuned: TunedState, loaded: LoadedModel) -> Learned:
    inject = check_origin(path, tuned, loaded)
    config = LearnerConfig(scope=("state",), inject=inject, phrases="off", replay_rows=0)
    window = tuned.metadata.get(WINDOW, "64")
    if not window.isdecimal() or not 0 < int(window) <= _LONGEST_WINDOW:
        raise ModelError(f"{str(path)!r} says that its windows have {shown(window)} tokens: it is damaged")
    return Learned(path=path, config=config, s0=tuned.s0, window=int(window))


def check_origin(
    path: Path,
    tuned: TunedState,
    loaded: LoadedModel,
    *,
    used: Injection | None = None,
    opening: Literal["eot", "text"] = "eot",
) -> Injection:
    """Return where a tuned state was added while it was learned; warn of what may make it worthless.

    Args:
        path: its file.
        tuned: what is in it.
        loaded: the model that is to read with it.
        used: where it is added now; as it was learned when None.
        opening: what is read first now, the end-of-text token or the text itself.

    Raises:
        UsageError: it was learned with another vocabulary, or is added at an unknown place.

    Warns:
        SttxWarning: the state is not for the start, it was learned with other files of a model, or something
            else was read first.
    """
    check_base(path, tuned, loaded)
    known: Injection | None = next((one for one in _INJECTIONS if one == tuned.inject), None)
    if known is None:
        raise UsageError(
            f"{str(path)!r} says that its state is added at {shown(tuned.inject)}: start or every is known"
        )
    if (first := tuned.metadata.get(OPENING, opening)) != opening:
        warnings.warn(
            f"the state in {str(path)!r} was learned before {_FIRST.get(first, shown(first))}, and is given "
            f"before {_FIRST[opening]} here: expect less of it",
            SttxWarning,
            stacklevel=2,
        )
    if used not in (None, known):
        warnings.warn(
            f"the state in {str(path)!r} was learned {_WHERE[known]}, and is added {_WHERE[used]} here: "
            f"expect less of it, or give --inject {known}",
            SttxWarning,
            stacklevel=2,
        )
    elif known == "every" and used is None:
        warnings.warn(
            f"the state in {str(path)!r} was learned {_WHERE[known]} and is used so here; it is no "
            "start state for other programs",
            SttxWarning,
            stacklevel=2,
        )
    return known


def check_base(path: Path, tuned: TunedState, loaded: LoadedModel) -> None:
    """Check that a tuned state belongs to a model, as far as its metadata says.

    Args:
        path: its file.
        tuned: what is in it.
        loaded: the model that is to read with it.

    Raises:
        UsageError: it was learned with another vocabulary.

    Warns:
        SttxWarning: it was learned with other files of a model.
    """
    metadata = tuned.metadata
    if metadata.get(VOCABULARY_SHA256, loaded.tokenizer.sha256) != loaded.tokenizer.sha256:
        raise UsageError(f"{str(path)!r} was learned with another vocabulary: give its model as --model")
    if metadata.get(MODEL_SHA256, loaded.sha256) != loaded.sha256:
        warnings.warn(
            f"{str(path)!r} was learned with the model {shown(metadata.get('model'))} of SHA-256 "
            f"{metadata[MODEL_SHA256][:16]}…, which is not this file: use it only with the same weights",
            SttxWarning,
            stacklevel=3,
        )
