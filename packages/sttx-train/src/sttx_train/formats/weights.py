"""Which model a set of tensors is: its format, its sizes, and whether every tensor fits. Loads no torch.

Works on tensors and on their shapes alone (`TensorInfo`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple

from sttx_core.errors import ModelError, UsageError
from sttx_core.foreign_files import shown
from sttx_train.architectures import NAMES, architecture_of, parameter_shapes
from sttx_train.formats import blinkdl, huggingface, huggingface56, sttx
from sttx_train.formats.detect import detect_config, detect_naming, require_architecture
from sttx_train.formats.tensorfiles import has_file, read_json
from sttx_train.formats.tensorinfo import AnyTensor, TensorInfo
from sttx_train.formats.unwrap import unwrap_names
from sttx_train.forms.form import StoredTensor
from sttx_train.rwkv7.config import ModelConfig, RWKV7Config, forms_of, stored_tensors
from sttx_train.rwkv56.config import RWKV56Config

Format = Literal["sttx", "huggingface", "blinkdl"]

_FLOATS = ("float32", "bfloat16", "float16", "float64")


class Weights(NamedTuple, Generic[AnyTensor]):
    """A model's tensors under the model's own names, in the dtype of the file.

    `notes` says what was taken off or added to get at them.
    """

    format: Format
    files: tuple[Path, ...]
    config: ModelConfig
    tensors: dict[str, AnyTensor]
    hypernet: Path | None = None
    notes: tuple[str, ...] = ()


def interpret(
    path: Path, tensors: Mapping[str, AnyTensor], files: tuple[Path, ...], notes: tuple[str, ...] = ()
) -> Weights[AnyTensor]:
    """Detect the format and the sizes of tensors, and rename them to the model's names.

    Args:
        path: the model's folder or file.
        tensors: those of its files.
        files: its weight files.
        notes: what was left out of the files to get at the tensors.

    Raises:
        ModelError: they are not a model that runs here, are incomplete, or differ from the ``config.json``.
    """
    source = str(path)
    architecture = require_architecture({name: tensor.shape for name, tensor in tensors.items()}, source)
    saved = read_json(path / "config.json") if path.is_dir() and has_file(path / "config.json") else {}
    ours = saved.get("format") == sttx.FORMAT
    if ours and (stored := sttx.read_stored_config(saved, source)) is not None:
        hypernet = sttx.hypernet_file(saved, path)
        files += () if hypernet is None else (hypernet,)
        notes += (described(stored),) if stored.forms else ()
        return Weights("sttx", files, stored, dict(tensors), hypernet, notes)
    tensors, taken_off = unwrap_names(tensors, source)
    naming = detect_naming(tensors)
    if naming is None:
        raise ModelError(f"{source!r} has no embedding under any known name: the file is incomplete")
    added: tuple[str, ...] = ()
    if naming == "huggingface":
        x070 = architecture == "x070"
        tensors = huggingface.to_model(tensors) if x070 else huggingface56.to_model(tensors, source)
        tensors, added = huggingface.completed(tensors, {} if ours else saved, source)
    tensors = blinkdl.to_model(tensors)
    if any(name.endswith("att.inner_rate") for name in tensors):
        raise ModelError(
            f"{source!r} is a model with inner steps, whose number only its config.json says: "
            "give the folder with both"
        )
    config = detect_config({name: tensor.shape for name, tensor in tensors.items()}, source)
    format: Format = naming
    hypernet = None
    if ours:
        format, config = "sttx", sttx.read_config(saved, config, source)
        hypernet = sttx.hypernet_file(saved, path)
    elif naming == "huggingface":
        _check_config(saved, config, source)
    files += () if hypernet is None else (hypernet,)
    return Weights(format, files, config, tensors, hypernet, notes + taken_off + added)


def _check_config(saved: Mapping[str, Any], config: ModelConfig, source: str) -> None:
    """Check Hugging Face's ``config.json`` against the tensors."""
    if isinstance(config, RWKV56Config):
        huggingface56.check_config(saved, config, source)
    else:
        assert isinstance(config, RWKV7Config)
        huggingface.check_config(saved, config, source)


def check_runs(
    path: Path, tensors: Mapping[str, TensorInfo], files: tuple[Path, ...], notes: tuple[str, ...] = ()
) -> Weights[TensorInfo]:
    """Return the model that tensors of these names and shapes are; nothing of their size is allocated.

    Raises:
        ModelError: it does not run here: as `interpret`, `check_numbers` and `check_fit`.
    """
    weights = interpret(path, tensors, files, notes)
    check_numbers(weights.tensors, str(path), weights.config)
    check_fit(weights.config, weights.tensors, str(path))
    return weights


def check_numbers(tensors: Mapping[str, TensorInfo], source: str, config: ModelConfig | None = None) -> None:
    """Check that every tensor holds floating-point numbers, or what the forms of a model say.

    Raises:
        ModelError: one does not; the message names it.
    """
    stored = {} if config is None else _expected(config, source)
    for name, tensor in tensors.items():
        kind = stored[name].kind if name in stored else "float"
        if kind == "float" and tensor.dtype not in _FLOATS:
            raise ModelError(
                f"{source!r} holds {shown(name)} in {tensor.dtype}, but a model is read from "
                f"{', '.join(_FLOATS)}: convert it"
            )
        if kind != "float" and tensor.dtype != kind:
            raise ModelError(
                f"{source!r} holds {shown(name)} in {tensor.dtype}, but its form has {kind}: "
                "download it again"
            )


def check_fit(config: ModelConfig, tensors: Mapping[str, AnyTensor], source: str) -> None:
    """Check that tensors have the names and the shapes of a model of these sizes.

    Raises:
        ModelError: they do not; the message names missing, extra and wrongly shaped ones.
    """
    name_of_model = NAMES[architecture_of(config)]
    expected = {name: stored.shape for name, stored in _expected(config, source).items()}
    problems = []
    if missing := sorted(expected.keys() - tensors.keys()):
        problems.append(f"it lacks {_some(missing)}")
    if unexpected := sorted(tensors.keys() - expected.keys()):
        problems.append(f"it has {_some(unexpected)}, which {name_of_model} does not have")
    problems += [
        f"{shown(name)} is {shown(list(tensors[name].shape))}, not {list(shape)}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != tuple(shape)
    ][:3]
    if problems:
        raise ModelError(f"{source!r} does not fit the {name_of_model} model: {'; '.join(problems)}")


def _expected(config: ModelConfig, source: str) -> dict[str, StoredTensor]:
    """Return what each tensor of a model holds."""
    if not isinstance(config, RWKV7Config):
        return {name: StoredTensor(shape, "float") for name, shape in parameter_shapes(config).items()}
    try:
        return stored_tensors(config)
    except UsageError as error:
        raise ModelError(f"config.json of {source!r} is damaged ({error}): download it again") from error


def described(config: RWKV7Config) -> str:
    """Return how the matrices of a model are stored, as a clause."""
    forms = ", ".join(f"{count} as {form}" for form, count in forms_of(config).items())
    return f"matrices that are not stored dense: {forms}"


def _some(names: list[str]) -> str:
    return ", ".join(map(shown, names[:4])) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
