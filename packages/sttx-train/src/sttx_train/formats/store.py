"""Loads a model by name, folder or file, and saves one. Formats are detected by content."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sttx_core.errors import UsageError
from sttx_core.hypernet import HyperNetwork
from sttx_core.own_files import replacing_file
from sttx_core.tokenizers import AnyTokenizer, Tokenizer, require_text
from sttx_core.tokenizers.protocol import EOT_ID
from sttx_train.architectures import build_model, refuse_inner_steps
from sttx_train.files import refuse_foreign, replacing_folder, sha256_of
from sttx_train.formats import blinkdl, huggingface, huggingface56, sttx
from sttx_train.formats.fitting import check_memory
from sttx_train.formats.locate import locate_model
from sttx_train.formats.mapped import MappedFile
from sttx_train.formats.pth import map_pth, read_pth_infos, write_pth
from sttx_train.formats.tensorfiles import (
    SINGLE,
    is_safetensors,
    map_folder,
    map_tensors,
    read_folder_infos,
    read_infos,
    read_metadata,
    read_tensors,
    write_tensors,
)
from sttx_train.formats.vocabulary import FILES, tokenizer_files, tokenizer_for
from sttx_train.formats.weights import Format, Weights, check_fit, check_runs, interpret
from sttx_train.rwkv7 import LanguageModel, ModelConfig, RWKV7Config
from sttx_train.rwkv7.stored import check_places, dense_model, model_at_rest
from sttx_train.rwkv56 import RWKV56Config
from sttx_train.wkv import Backend, KernelChoice, choose_backend

_MAPPED_FROM = 1 << 26  # bytes of weights; smaller ones are copied, and outlive any change of their file
_MENTIONED_FROM = 1 << 30  # bytes of weights that are worth a remark
_FOLDER_FILES = FILES | {"config.json", SINGLE, sttx.HYPERNET}


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model ready to predict, and what is known of it.

    Attributes:
        model: in evaluation mode; no weight asks for a gradient.
        id: ``goose-mini``, an id of the hub, or the name of its folder or file.
        path: the folder or file it was read from.
        sha256: hash of the bytes of its weight files, sorted by name.
        format: format of the files.
        kernel: which wkv kernel it runs, and why.
        hypernet: the hypernetwork that was trained with it, in float32; None if there is none.
        notes: what was taken off or added to read its files, each a clause for a person.
        metadata: strings kept with its tensors, such as how it was pretrained with `--meta`.
    """

    model: LanguageModel
    id: str
    path: Path
    sha256: str
    format: Format
    kernel: KernelChoice
    hypernet: HyperNetwork | None = None
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def vocabulary(self) -> AnyTokenizer:
        """The tokenizer that came with it, of text or of values, loaded on first use.

        Raises:
            ModelError: there is none, or it does not fit; the message says which file to put where.
        """
        return tokenizer_for(self.path, rows=self.model.config.vocab_size)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of text that came with it.

        Raises:
            ModelError: there is none, or it does not fit; the message says which file to put where.
            UsageError: it is a tokenizer of values.
        """
        return require_text(self.vocabulary, f"model {self.id!r}")


def load_model(
    spec: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    kernel: Backend = "auto",
) -> LoadedModel:
    """Load a model for prediction; its tensors say which architecture it has.

    On a CPU, weights of 64 MiB or more that have the wanted dtype on disk stay in their file. It is mapped
    into memory, and must not be overwritten in place while the model is in use (`formats.mapped`). Other
    weights are copied one by one, so that no more is in memory than the model itself.

    Args:
        spec: a folder (ours or Hugging Face's), a ``.pth`` or ``.safetensors`` file, an id of Hugging
            Face's hub such as ``RWKV/RWKV7-Goose-World3-1.5B-HF``; None or ``goose-mini`` mean the embedded
            model.
        device: where to put it.
        dtype: dtype of the weights in memory, whatever it is on disk.
        kernel: the wkv kernel to run.

    Raises:
        ModelError: it is not found, damaged, incomplete, of another architecture, or larger than the memory.
        UsageError: there is no such path, or the kernel cannot run on the device.
    """
    device = torch.device(device)
    choose_backend(device, kernel)  # refuses what runs for no model, before a file is read
    name, path = locate_model(spec)
    weights, files = _read(path)
    choice = choose_backend(device, kernel, plain=weights.config.plain_recurrence)
    model = _build(weights, files, str(path), device, dtype, choice.backend)
    hypernet = _load_hypernet(weights, str(path))
    return LoadedModel(
        model=model,
        id=name,
        path=path,
        sha256=sha256_of(weights.files),
        format=weights.format,
        kernel=choice,
        hypernet=None if hypernet is None else hypernet.to(device),
        notes=weights.notes + _in_memory(weights.tensors, device, dtype),
        metadata=_metadata(weights),
    )


def _metadata(weights: Weights[Tensor]) -> dict[str, str]:
    """Return the strings that :func:`save_model` kept with the tensors; other formats have none of ours."""
    if weights.format != "sttx":
        return {}
    strings = read_metadata(weights.files[0])
    return {name: text for name, text in strings.items() if name != "format"}


def _load_hypernet(weights: Weights[Tensor], source: str) -> HyperNetwork | None:
    """Load the hypernetwork of a model on the CPU; None if none was trained with it.

    Args:
        weights: the model's.
        source: the model's path, for error messages.

    Raises:
        ModelError: the file is damaged, or belongs to another model.
    """
    if weights.hypernet is None:
        return None
    return sttx.build_hypernet(read_tensors(weights.hypernet), weights.config.hidden_size, source)


def check_destination(path: str | os.PathLike[str]) -> None:
    """Check that :func:`save_model` can write a folder at a path, before a long run starts.

    Raises:
        UsageError: something other than a model folder is at ``path``.
    """
    refuse_foreign(Path(path), _FOLDER_FILES)


def save_model(
    model: LanguageModel,
    path: str | os.PathLike[str],
    *,
    format: Format = "sttx",
    tokenizer: AnyTokenizer | None = None,
    dtype: torch.dtype | None = None,
    hypernet: HyperNetwork | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a model atomically.

    Args:
        model: the model.
        path: a folder for ``sttx`` and ``huggingface`` (an older model folder there is replaced), a file for
            ``blinkdl``.
        format: format of the files.
        tokenizer: of text or of values. It is written as ``vocab.txt``, or as ``tokenizer.sttx.json`` and,
            for Hugging Face's, its ``tokenizer.json``. If the model is a file, these names get the prefix
            ``NAME.``.
        dtype: dtype on disk, by default the model's.
        hypernet: the hypernetwork that was trained with the model; only ``sttx`` can hold one.
        metadata: strings to keep beside the tensors; only ``sttx`` has a place for them, others lose them.

    Raises:
        UsageError: the format is unknown or cannot hold this model or its hypernetwork, something other than
            a model is at ``path``, or the tokenizer cannot be saved.
    """
    path = Path(path)
    if hypernet is not None and format != "sttx":
        raise UsageError(f"{format!r} cannot hold the hypernetwork of this model: save as 'sttx'")
    if format != "sttx":
        refuse_inner_steps(model.config, f"which {format!r} cannot hold: save as 'sttx'")
    model = model_at_rest(model) if format == "sttx" else dense_model(model)
    tensors = {
        name: tensor.detach().to("cpu", _dtype_of(tensor, dtype))
        for name, tensor in model.state_dict().items()
    }
    if format == "blinkdl":
        _save_blinkdl(model.config, tensors, path, tokenizer)
    elif format == "sttx":
        config = sttx.config_dict(model.config, hypernet is not None)
        _save_folder(path, config, tensors, tokenizer, hypernet, metadata)
    elif format == "huggingface":
        saved_dtype = str(dtype or model.dtype).removeprefix("torch.")
        eot_id = EOT_ID if tokenizer is None else tokenizer.eot_id
        config, named = _huggingface(model.config, tensors, saved_dtype, eot_id)
        _save_folder(path, config, named, tokenizer)
    else:
        raise UsageError(f"unknown model format {format!r}: choose 'sttx', 'huggingface' or 'blinkdl'")


def _huggingface(
    config: ModelConfig, tensors: Mapping[str, Tensor], dtype: str, eot_id: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the ``config.json`` and the tensors of Hugging Face's classes for an architecture."""
    if isinstance(config, RWKV56Config):
        named = huggingface56.to_huggingface(blinkdl.to_pth(tensors))
        return huggingface56.config_dict(config, dtype, eot_id), named
    assert isinstance(config, RWKV7Config)
    return huggingface.config_dict(config, dtype, eot_id), huggingface.to_huggingface(tensors)


def _save_blinkdl(
    config: ModelConfig, tensors: Mapping[str, Tensor], path: Path, tokenizer: AnyTokenizer | None
) -> None:
    held = [("layer_norm_eps", config.layer_norm_eps, 1e-5)]
    held += [("head_norm_eps", config.group_norm_eps, 64e-5)] if isinstance(config, RWKV56Config) else []
    for name, value, needed in held:
        if value != needed:
            raise UsageError(f"'blinkdl' cannot hold {name} {value!r}, only {needed!r}: save as 'sttx'")
    if path.is_dir():
        raise UsageError(f"{str(path)!r} is a folder, but 'blinkdl' is a file: give a name ending in '.pth'")
    own = f"{path.stem}."
    files = tokenizer_files(tokenizer, own) if tokenizer is not None else {}
    write_pth(blinkdl.to_pth(tensors), path)
    for name, write in files.items():
        with replacing_file(path.with_name(name)) as aside:
            write(aside)
    if files:  # remove an older model's vocabulary files, which would be read instead
        for name in {own + name for name in FILES} - files.keys():
            path.with_name(name).unlink(missing_ok=True)


def _save_folder(
    path: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    tokenizer: AnyTokenizer | None,
    hypernet: HyperNetwork | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    files = tokenizer_files(tokenizer) if tokenizer is not None else {}
    with replacing_folder(path, ours=_FOLDER_FILES) as folder:
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        write_tensors(tensors, folder / SINGLE, {"format": "pt", **(metadata or {})})
        if hypernet is not None:
            write_tensors(hypernet.state_dict(), folder / sttx.HYPERNET, {"format": "pt"})
        for name, write in files.items():
            write(folder / name)


def _read(path: Path) -> tuple[Weights[Tensor], tuple[MappedFile, ...]]:
    """Map the tensors of a folder or a file, once their names and shapes are known to be a model's."""
    if path.is_dir():
        check_runs(path, *read_folder_infos(path))
        (tensors, mapped), files = map_folder(path)
        return interpret(path, tensors, files), mapped
    if is_safetensors(path):
        check_runs(path, read_infos(path), (path,))
        tensors, mapped = map_tensors(path)
        return interpret(path, tensors, (path,)), mapped
    check_runs(path, read_pth_infos(path).tensors, (path,))
    (tensors, notes), file = map_pth(path)
    return interpret(path, tensors, (path,), notes), (file,)


def _build(
    weights: Weights[Tensor],
    files: tuple[MappedFile, ...],
    source: str,
    device: torch.device,
    dtype: torch.dtype,
    backend: Backend,
) -> LanguageModel:
    """Return the model with the mapped tensors where they have the dtype, and else with converted copies."""
    model = _skeleton(weights, source, backend)
    tensors = dict(weights.tensors)
    copied = {name: tensors[name] for name in tensors.keys() - _mapped(tensors, device, dtype)}
    if device.type == "cpu":
        needed = sum(tensor.numel() * _dtype_of(tensor, dtype).itemsize for tensor in copied.values())
        check_memory(needed, {tensor.dtype for tensor in copied.values()}, dtype, source)
    for name, tensor in copied.items():
        copy = torch.empty(tensor.shape, dtype=_dtype_of(tensor, dtype), device=device)
        tensors[name] = copy.copy_(tensor)
        for file in files:
            file.release()
    model.load_state_dict(tensors, strict=True, assign=True)
    check_places(model, source)
    return model.eval().requires_grad_(False)


def _mapped(tensors: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> set[str]:
    """Return which tensors need no copy; two never share their numbers, since each may learn."""
    found: dict[int, str] = {}
    for name, tensor in tensors.items():
        whole = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
        if whole and tensor.dtype == _dtype_of(tensor, dtype):
            found.setdefault(tensor.data_ptr(), name)
    large = sum(tensors[name].nbytes for name in found.values()) >= _MAPPED_FROM
    return set(found.values()) if large and device.type == "cpu" else set()


def _in_memory(tensors: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> tuple[str, ...]:
    """Say where weights are that are mapped, or that take a GiB or more and more than on disk."""
    if mapped := _mapped(tensors, device, dtype):
        size = sum(tensors[name].nbytes for name in mapped)
        return (f"{size / 1e9:.1f} GB of weights stay in their file: replace it, but do not write into it",)
    needed = sum(tensor.numel() * _dtype_of(tensor, dtype).itemsize for tensor in tensors.values())
    stored = sum(tensor.nbytes for tensor in tensors.values())
    if device.type != "cpu" or needed < max(_MENTIONED_FROM, stored + 1):
        return ()
    largest = max(tensors.values(), key=lambda tensor: tensor.nbytes)
    on_disk, wanted = (str(each).removeprefix("torch.") for each in (largest.dtype, dtype))
    return (
        f"its weights take {needed / 1e9:.1f} GB in {wanted}; in {on_disk}, as on disk, "
        f"{stored / 1e9:.1f} GB would stay in their file",
    )


def _dtype_of(tensor: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    """Return the dtype that a tensor is to have: codes, masks and places keep theirs."""
    return dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype


def _skeleton(weights: Weights[Tensor], source: str, backend: Backend) -> LanguageModel:
    """Return the model that the tensors belong to, itself on the device ``meta``.

    Raises:
        ModelError: the tensors do not fit; the message names missing, extra and wrongly shaped ones.
    """
    with torch.device("meta"):
        model = build_model(weights.config, backend=backend, initialize=False)
    check_fit(weights.config, weights.tensors, source)
    return model
