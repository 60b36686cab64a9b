"""Writes a whole model for other programs, with the weights that a run has learned in their places."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sttx_core.errors import UsageError
from sttx_core.own_files import make_private_folder
from sttx_train.export.gguf import write_gguf
from sttx_train.export.kinds import ExportDtype, ModelKind, vocabulary_prefix
from sttx_train.export.state import Exported
from sttx_train.formats import LoadedModel, save_model
from sttx_train.formats.state import MODEL_SHA256, VOCABULARY_SHA256
from sttx_train.formats.vocabulary import tokenizer_files
from sttx_train.online.scope import weights_in_scope
from sttx_train.predict.learned import Learned, find_learned
from sttx_train.pretrain.config import META
from sttx_train.rwkv7.config import stored_forms
from sttx_train.saved_tensors import check_tensors

_BIAS = (
    "the run learned an output bias too, which no model file of other programs can hold: the exported model "
    "predicts differently from the run"
)
_STATE = (
    "the run learned a state too, which model files do not hold: export it with --to state-pth; without it "
    "the model predicts differently from the run"
)
_OUTER = (
    "the run took outer steps (--state-lr), which other programs do not take: there the model predicts "
    "differently from the run"
)
_META = "the model was pretrained for outer steps (--meta), which other programs do not take"
_FORMS = "the model's matrices are stored in forms that other programs do not read: they are expanded"
_HYPERNET = "the model's hypernetwork is left out: other programs do not read phrases"


@dataclass(frozen=True, kw_only=True)
class Merged:
    """A model with learned weights in their places.

    Attributes:
        loaded: the model.
        identity: what is recorded of its origin, by name.
        notes: sentences that the user should know.
    """

    loaded: LoadedModel
    identity: dict[str, str]
    notes: tuple[str, ...]


def model_to_export(loaded: LoadedModel, source: str | os.PathLike[str] | None = None) -> Merged:
    """Return a model to export.

    Args:
        loaded: the base model; it stays as it is.
        source: the folder of a run of `sttx train`, or of one of its checkpoints, whose learned weights take
            the places of the model's; None for the model alone.

    Raises:
        UsageError: the run learned no weights, or with another model.
        CheckpointError: the checkpoint is damaged, or not one of `sttx train`.
    """
    identity = {"model": loaded.id, MODEL_SHA256: loaded.sha256, VOCABULARY_SHA256: loaded.tokenizer.sha256}
    notes = () if loaded.hypernet is None else (_HYPERNET,)
    notes += (_FORMS,) if stored_forms(loaded.model.config) else ()
    notes += (_META,) if META in loaded.metadata else ()
    if source is None:
        return Merged(loaded=loaded, identity=identity, notes=notes)
    found = find_learned(source, loaded)
    names = set(weights_in_scope(loaded.model, found.config.scope))
    if found.state is None or not names:
        raise UsageError(
            f"{str(found.path)!r} has no learned weights (scope {','.join(found.config.scope)}): export its "
            "state with --to state-pth, or the model alone with --model"
        )
    merged = replace(loaded, model=_merged(loaded, found, names))
    scope = found.config.scope
    identity |= {"learned_by": "sttx train", "scope": ",".join(scope)}
    notes += ((_BIAS,) if "bias" in scope else ()) + ((_STATE,) if "state" in scope else ())
    notes += (_OUTER,) if found.config.state_lr else ()
    return Merged(loaded=merged, identity=identity, notes=notes)


def _merged(loaded: LoadedModel, found: Learned, names: set[str]) -> torch.nn.Module:
    """Return a copy of the model with the learned weights of these names."""
    assert found.state is not None
    model = copy.deepcopy(loaded.model)
    weights = model.state_dict()
    learned = {name: tensor for name, tensor in found.state["tensors"]["learned"].items() if name in names}
    check_tensors("learned.safetensors", learned, {name: weights[name] for name in names})
    with torch.no_grad():
        for name, tensor in learned.items():
            weights[name].copy_(tensor)
    return model


def export_model(
    merged: Merged, out: str | os.PathLike[str], kind: ModelKind, dtype: ExportDtype
) -> Exported:
    """Write a model as another program reads it.

    Args:
        merged: the model.
        out: a folder for ``huggingface``, a file for the others; nothing may be there.
        kind: of the export.
        dtype: of the matrices; `chosen_dtype` has checked that the kind has it.

    Raises:
        UsageError: the format cannot hold this model, or a package is missing.
    """
    path, loaded = Path(out), merged.loaded
    beside: list[str] = []
    make_private_folder(path.parent)
    if kind == "gguf":
        assert dtype != "bfloat16"
        write_gguf(
            loaded.model, loaded.tokenizer, path, dtype=dtype, name=loaded.id, metadata=merged.identity
        )
    else:
        vocabulary = loaded.vocabulary
        beside += list(tokenizer_files(vocabulary, vocabulary_prefix(path))) if kind == "blinkdl" else []
        save_model(loaded.model, path, format=kind, tokenizer=vocabulary, dtype=getattr(torch, dtype))
    files = sorted(path.iterdir()) if path.is_dir() else [path, *map(path.with_name, sorted(beside))]
    return Exported(
        kind=kind,
        out=path,
        files=tuple(files),
        identity=merged.identity | {"dtype": dtype},
        notes=merged.notes,
    )
