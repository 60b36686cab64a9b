"""Which model a set of tensors is: its format, its sizes, and whether every tensor fits. Loads no torch.

Works on tensors and on their shapes alone (`TensorInfo`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Generic, Literal, NamedTuple

from sttx_core.errors import ModelError
from sttx_train.formats import blinkdl, huggingface, sttx
from sttx_train.formats.detect import detect_config, detect_naming, require_x070
from sttx_train.formats.tensorfiles import read_json
from sttx_train.formats.tensorinfo import AnyTensor
from sttx_train.rwkv7.config import RWKV7Config

Format = Literal["sttx", "huggingface", "blinkdl"]


class Weights(NamedTuple, Generic[AnyTensor]):
    """A model's tensors under the model's own names, in the dtype of the file."""

    format: Format
    files: tuple[Path, ...]
    config: RWKV7Config
    tensors: dict[str, AnyTensor]
    hypernet: Path | None = None


def interpret(path: Path, tensors: Mapping[str, AnyTensor], files: tuple[Path, ...]) -> Weights[AnyTensor]:
    """Detect the format and the sizes of tensors, and rename them to the model's names.

    Raises:
        ModelError: they are not an RWKV-7, are incomplete, or differ from the ``config.json``.
    """
    source = str(path)
    require_x070({name: tensor.shape for name, tensor in tensors.items()}, source)
    naming = detect_naming(tensors)
    if naming is None:
        raise ModelError(f"{source!r} has no embedding under any known name: the file is incomplete")
    tensors = (huggingface if naming == "huggingface" else blinkdl).to_model(tensors)
    config = detect_config({name: tensor.shape for name, tensor in tensors.items()}, source)
    format: Format = naming
    hypernet = None
    if path.is_dir() and (path / "config.json").is_file():
        saved = read_json(path / "config.json")
        if saved.get("format") == sttx.FORMAT:
            format, config = "sttx", sttx.read_config(saved, config, source)
            hypernet = sttx.hypernet_file(saved, path)
        elif naming == "huggingface":
            huggingface.check_config(saved, config, source)
    files += () if hypernet is None else (hypernet,)
    return Weights(format, files, config, tensors, hypernet)


def check_fit(expected: Mapping[str, Sequence[int]], tensors: Mapping[str, AnyTensor], source: str) -> None:
    """Check that tensors have the names and the shapes of a model's.

    Raises:
        ModelError: they do not; the message names missing, extra and wrongly shaped ones.
    """
    problems = []
    if missing := sorted(expected.keys() - tensors.keys()):
        problems.append(f"it lacks {_some(missing)}")
    if unexpected := sorted(tensors.keys() - expected.keys()):
        problems.append(f"it has {_some(unexpected)}, which RWKV-7 does not have")
    problems += [
        f"{name!r} is {list(tensors[name].shape)}, not {list(shape)}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != tuple(shape)
    ][:3]
    if problems:
        raise ModelError(f"{source!r} does not fit the RWKV-7 model: {'; '.join(problems)}")


def _some(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:4]))
    return shown + (f" and {len(names) - 4} more" if len(names) > 4 else "")
