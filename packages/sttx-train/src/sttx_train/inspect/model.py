"""Reports what a model file or folder is and what sttx can do with it, without reading its weights.

An architecture that does not run here, a tuned state, another program's file and a damaged download are
reported like a model. Only a file that cannot be identified raises an error. Reports are JSON-able.
"""

from __future__ import annotations

import codecs
import math
import os
import re
import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sttx_core.errors import ModelError, SttxError, UsageError
from sttx_core.foreign_files import open_regular, shown
from sttx_core.os_errors import explain
from sttx_core.tokenizers import require_text
from sttx_train.architectures import ARCHITECTURES
from sttx_train.files import sha256_of
from sttx_train.formats.detect import RUNNING, Version, detect_naming, detect_version
from sttx_train.formats.locate import EMBEDDED, locate_model
from sttx_train.formats.state import read_sidecar
from sttx_train.formats.sttx import check_hypernet
from sttx_train.formats.tensorfiles import read_infos
from sttx_train.formats.tensorinfo import TensorInfo
from sttx_train.formats.vocabulary import tokenizer_for
from sttx_train.formats.weights import Weights, check_runs
from sttx_train.inspect.outline import Outline, read_outline
from sttx_train.rwkv7.config import ModelConfig, RWKV7Config, counts, forms_of, state_shapes

_NAMES: dict[Version, str] = {
    "x040": "RWKV-4",
    "x050": "RWKV-5.0",
    "x051": "RWKV-5.1",
    "x052": "RWKV-5.2",
    "x060": "RWKV-6",
    "x070": "RWKV-7",
}

_EMBEDDINGS = ("emb.weight", "model.embeddings.weight", "rwkv.embeddings.weight")
_BY_HEAD = ("time_faaaa", "r_k", "bonus")  # [H, N] in every version that has one
_HEAD = 1 << 12  # bytes that show whether a file is text
_LAYER = re.compile(r"(?:^|\.)(?:blocks|layers)\.([0-9]{1,9})\.")
_WIDE = re.compile(r"\.(?:ffn|feed_forward)\.key\.weight$")
_SIGNATURES = {
    b"GGUF": "a GGUF file, made for llama.cpp and similar programs",
    b"fmgg": "a model file of rwkv.cpp",
    b"version https://git-lfs.github.com": "a Git LFS pointer instead of the file itself",
}
_ELSEWHERE = "run it with the Python package `rwkv`"
_EMPTY: dict[str, Any] = {
    **dict.fromkeys(("version", "architecture", "sizes", "vocabulary", "hypernetwork", "advice")),
    "uses": [],
    "notes": [],
}
_OURS = "give an RWKV-7 (x070) model, such as RWKV/RWKV7-Goose-World3-1.5B-HF"


def inspect_model(spec: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Return a report on a model file or folder.

    Args:
        spec: a file, a folder, an id of Hugging Face's hub; None or ``goose-mini`` mean the embedded model.

    Returns:
        ``kind``: ``model``, ``state`` (a tuned one) or ``other``; ``what`` it is in words; ``path``,
        ``files``, ``bytes``; ``version``, ``architecture``, ``sizes`` (None if no tensor shows them),
        ``parameters``, ``multiplications`` (of a token, in products with matrices), ``forms`` and
        ``dense_parameters`` of a model whose matrices have some, ``dtypes`` (stored values by dtype),
        ``vocabulary``; ``hypernetwork`` (its
        ``parameters``, None if there is none); ``problems``, each a sentence that says what to do; ``notes``,
        what was taken off or added to read the files; ``uses``, what sttx can do with the model as it is;
        ``advice`` if it is not for sttx. ``metadata`` are strings kept with the tensors, such as how a
        model was pretrained with `--meta`. ``state`` has the ``numbers`` and ``bytes`` of the recurrent state
        of one document in float32, None if the model does not run here.

    Raises:
        UsageError: there is nothing at the path.
        ModelError: it is not a model, or cannot be identified.
    """
    name, path = locate_model(spec)
    if other := _file_of_another_program(path):
        return other
    _check_not_text(path)
    outline = read_outline(path)
    version = detect_version({name: tensor.shape for name, tensor in outline.tensors.items()})
    if version is not None:
        report = _model(name, path, outline, version)
        if report["runs"]:
            report["uses"] = _uses(str(spec or EMBEDDED), report["vocabulary"])
    elif _is_state(outline.tensors):
        report = _state(path, outline)
    else:
        first = next(iter(outline.tensors), None)
        what = (
            "a file without tensors"
            if first is None
            else f"not an RWKV model: its first tensor is {shown(first)}"
        )
        report = {"kind": "other", "what": what, "advice": _OURS}
    return _EMPTY | report | _file_facts(path, outline) | {"problems": outline.problems}


def require_runs(spec: str | os.PathLike[str]) -> None:
    """Check the names, shapes and config of a model on the disk, in the time that PyTorch takes to import.

    Damage that only its loading reports in full, such as missing files, is left to that.

    Raises:
        ModelError: it does not run here.
        UsageError: there is nothing at the path, or a pipe or a device.
    """
    _, path = locate_model(spec)
    outline = read_outline(path)
    if not outline.problems:
        weights = check_runs(path, outline.tensors, tuple(outline.files), outline.notes)
        _hypernet_parameters(weights, str(path))


def _file_facts(path: Path, outline: Outline) -> dict[str, Any]:
    parameters = Counter[str]()
    for tensor in outline.tensors.values():
        parameters[tensor.dtype] += tensor.numel()
    return {
        "path": str(path),
        "container": outline.container,
        "files": {file.name: size for file, size in outline.files.items()},
        "bytes": sum(outline.files.values()),
        "tensors": len(outline.tensors),
        "dtypes": dict(parameters.most_common()),
    }


def _file_of_another_program(path: Path) -> dict[str, Any] | None:
    """Return a report on a file of another program, detected by its signature; None if it is unknown."""
    start = _head(path)
    for signature, what in _SIGNATURES.items():
        if start.startswith(signature):
            download = "download the file itself with `git lfs pull`"
            return _EMPTY | {
                "kind": "other",
                "what": what,
                "path": str(path),
                "files": {path.name: path.stat().st_size},
                "bytes": path.stat().st_size,
                "problems": [],
                "advice": download
                if b"git-lfs" in signature
                else f"sttx reads .pth and .safetensors: {_OURS}",
            }
    return None


def _head(path: Path) -> bytes:
    """Return the first bytes of a file, none of a folder."""
    if path.is_dir():
        return b""
    try:
        with open_regular(path) as file:
            return file.read(_HEAD)
    except OSError as error:
        raise ModelError(f"cannot read {str(path)!r}: {explain(error)}") from error


def _check_not_text(path: Path) -> None:
    """Raise a ModelError if a path is a text file, which may hold sessions."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(_head(path))
    except UnicodeDecodeError:
        return
    if text and "\0" not in text:
        name = shlex.quote(str(path))
        raise ModelError(
            f"{str(path)!r} is a text file, not a model; if it holds sessions, "
            f"`sttx traces {name}` shows them"
        )


def _model(name: str, path: Path, outline: Outline, version: Version) -> dict[str, Any]:
    weights, hypernet = _runnable(path, outline) if version in ARCHITECTURES else (None, None)
    whole = weights is not None or not outline.problems
    sizes = _sizes(outline.tensors, version) if weights is None else weights.config.to_dict()
    tensors = outline.tensors if weights is None else weights.tensors
    vocabulary = None if weights is None else _vocabulary(path, outline, weights.config.vocab_size)
    files = tuple(outline.files) if weights is None else weights.files
    summary = ("hidden_size", "num_layers", "vocab_size")
    return {
        "kind": "model",
        "what": f"a model of architecture {_NAMES[version]} ({version})",
        "version": version,
        "architecture": f"{_NAMES[version]} ({version})",
        "format": detect_naming(outline.tensors) if weights is None else weights.format,
        "model": {"id": name, "sha256": sha256_of(files) if whole else None}
        | {key: sizes[key] for key in summary},
        "sizes": {name: size for name, size in sizes.items() if name != "forms"},
        **_counts(tensors, None if weights is None else weights.config),
        **({} if weights is None else _inner_steps(weights.config)),
        "state": None if weights is None else _state_size(weights.config),
        "vocabulary": vocabulary,
        "hypernetwork": None if hypernet is None else {"parameters": hypernet},
        "metadata": {name: text for name, text in outline.metadata.items() if name != "format"},
        "runs": weights is not None,
        "notes": list(outline.notes if weights is None else weights.notes),
        "advice": None if version in ARCHITECTURES else f"only {RUNNING}: {_ELSEWHERE}, or {_OURS}",
    }


def _counts(tensors: Mapping[str, TensorInfo], config: ModelConfig | None) -> dict[str, Any]:
    """Return the number of parameters; of matrices that have a form, the numbers that are stored.

    An RWKV-7 also has ``multiplications`` of one token in products with matrices, and, if matrices have
    forms, how many have each one (``forms``), and the parameters of the same model with dense ones.
    """
    if not isinstance(config, RWKV7Config):
        return {"parameters": sum(tensor.numel() for tensor in tensors.values())}
    found = counts(config)
    report = {"parameters": found.numbers, "multiplications": found.multiplications}
    if config.forms:
        report |= {"dense_parameters": found.dense, "forms": forms_of(config)}
    return report


def _inner_steps(config: ModelConfig) -> dict[str, str]:
    """Return in words what tokens do beyond RWKV-7's own step (``inner_steps``); nothing if plain."""
    if not isinstance(config, RWKV7Config) or not config.inner_steps:
        return {}
    steps = "1 extra step" if config.inner_steps == 1 else f"{config.inner_steps} extra steps"
    words = [f"{steps} of gradient descent a token"]
    words += [f"on the last {config.inner_batch} tokens"] if config.inner_batch > 1 else []
    words += [f"momentum {config.inner_momentum:g}"] if config.inner_momentum else []
    folds = config.plain_recurrence
    kernels = "with the kernels of RWKV-7" if folds else "with the kernels 'chunked' and 'recurrent'"
    return {"inner_steps": f"{', '.join(words)}; {kernels}"}


def _state_size(config: ModelConfig) -> dict[str, int]:
    """Return how many ``numbers`` the recurrent state of one document has, and its ``bytes`` in float32."""
    numbers = config.num_layers * sum(map(math.prod, state_shapes(config).values()))
    return {"numbers": numbers, "bytes": 4 * numbers}


def _runnable(path: Path, outline: Outline) -> tuple[Weights[TensorInfo] | None, int | None]:
    """Return the tensors as the model that runs here, and the number of its hypernetwork's parameters.

    If they do not fit, a problem is added, and both are None.
    """
    if outline.problems:
        return None, None
    try:
        weights = check_runs(path, outline.tensors, tuple(outline.files), outline.notes)
        hypernet = _hypernet_parameters(weights, str(path))
    except ModelError as error:
        outline.problems.append(str(error))
        return None, None
    if outline.container == "pth" and path.is_dir():
        outline.problems.append("sttx reads only folders of .safetensors: convert it, or give one .pth file")
        return None, None
    return weights, hypernet


def _hypernet_parameters(weights: Weights[TensorInfo], source: str) -> int | None:
    """Check the file of the hypernetwork and return the number of its parameters; None if there is none."""
    if weights.hypernet is None:
        return None
    shapes = {name: tensor.shape for name, tensor in read_infos(weights.hypernet).items()}
    check_hypernet(shapes, weights.config.hidden_size, source)
    return sum(map(math.prod, shapes.values()))


def _vocabulary(path: Path, outline: Outline, rows: int) -> dict[str, Any] | None:
    try:
        tokenizer = tokenizer_for(path, rows=rows)
    except SttxError as error:
        outline.problems.append(str(error))
        return None
    report = {"entries": tokenizer.vocab_size, "sha256": tokenizer.sha256, "text": True}
    try:
        require_text(tokenizer)
    except UsageError:
        report["text"] = False
    return report


def _sizes(tensors: Mapping[str, TensorInfo], version: Version) -> dict[str, int | None]:
    """Return the sizes of tensors of any version and naming; None for a size that no tensor shows."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    embedding = next((shapes[name] for name in _EMBEDDINGS if len(shapes.get(name, ())) == 2), None)
    width = embedding[1] if embedding else None
    layers = {int(match[1]) for name in shapes if (match := _LAYER.search(name))}
    wide = next((shape[0] for name, shape in shapes.items() if _WIDE.search(name)), None)
    return {
        "vocab_size": embedding[0] if embedding else None,
        "hidden_size": width,
        "num_layers": len(layers) or None,
        "head_size": _head_size(shapes, version, width),
        "ffn_size": wide,
    }


def _head_size(shapes: Mapping[str, tuple[int, ...]], version: Version, width: int | None) -> int | None:
    for name, shape in shapes.items():
        last = name.rsplit(".", 1)[-1]
        if last in _BY_HEAD and len(shape) == 2:
            return shape[1]
        if version in ("x050", "x051") and last == "time_decay" and width and shape[0]:
            return width // shape[0]  # one number per head
    return None


def _is_state(tensors: Mapping[str, TensorInfo]) -> bool:
    return bool(tensors) and (set(tensors) == {"s0"} or all(name.endswith("time_state") for name in tensors))


def _state(path: Path, outline: Outline) -> dict[str, Any]:
    """Return a report on a tuned state: our ``s0[L, H, N, N]``, or ``time_state[H, N, N]`` per layer."""
    shape = list(next(iter(outline.tensors.values())).shape)
    shape = shape if "s0" in outline.tensors else [len(outline.tensors), *shape]
    sizes = None
    if len(shape) == 4:
        sizes = {"num_layers": shape[0], "hidden_size": shape[1] * shape[2], "head_size": shape[2]}
    return {
        "kind": "state",
        "what": "a tuned state, learned for one model; not a model",
        "sizes": sizes,
        "parameters": sum(tensor.numel() for tensor in outline.tensors.values()),
        "metadata": outline.metadata | read_sidecar(path),
        "uses": [] if outline.problems else [f"in Python: sttx_train.load_state({str(path)!r})"],
        "advice": "it belongs with a model of these sizes",
    }


def _uses(spec: str, vocabulary: Mapping[str, Any] | None) -> list[str]:
    """Return what works with a model as it is: sessions need a vocabulary of text, data any vocabulary."""
    quoted, uses = shlex.quote(spec), []
    train = f"sttx pretrain DATA --start-from {quoted} --out FOLDER"
    if vocabulary is None:
        uses.append(f"train all of it on data, with a vocabulary that fits: {train} --tokenizer SPEC")
    else:
        if vocabulary["text"]:
            uses.append(f"learn from sessions: sttx train --model {quoted}")
        uses.append(f"train all of it on data: {train}")
    return [*uses, f"in Python: sttx_train.load_model({spec!r})"]
