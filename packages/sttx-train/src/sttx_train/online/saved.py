"""What the tensors of a saved learner must be, beside its document (`states`). Loads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from msgspec import UNSET
from torch import Tensor, nn

from sttx_core.foreign_files import shown
from sttx_core.phrases import PhraseConfig
from sttx_core.saved_state import checked, damaged
from sttx_train.online.average import AVERAGE
from sttx_train.online.carried import OFFSETS
from sttx_train.online.config import LearnerConfig
from sttx_train.online.optimizer import MOMENTUM
from sttx_train.online.states import CarriedState, LearnerState, check_bank, check_carried
from sttx_train.rwkv7 import ModelConfig, RecurrentState
from sttx_train.saved_tensors import check_moments, check_tensor, check_tensors

_OF_NUMPY = (torch.int32, torch.int64, torch.float64)  # dtypes of the arrays of replay


def checked_learner(
    state: Mapping[str, Any],
    trainable: Mapping[str, nn.Parameter],
    sizes: ModelConfig,
    dtype: torch.dtype,
    config: LearnerConfig,
    phrases: PhraseConfig,
    experts: bool,
    bank: int | None,
) -> LearnerState:
    """Return the learner's document, if it and the tensors fit a learner.

    Args:
        state: what `OnlineLearner.state_dict` returned.
        trainable: what learns.
        sizes: of the model.
        dtype: of the model's weights.
        config: of the learner.
        phrases: of its phrase table.
        experts: whether it has a mixture.
        bank: most states of its bank; None if it has none, and then a saved one is left out.

    Raises:
        CheckpointError: says what does not fit.
    """
    meta, tensors = checked_learned(state, trainable, sizes.vocab_size), state["tensors"]
    if ("experts" in tensors, meta.experts is not UNSET) != (experts, experts):
        raise damaged("learner", f"it was saved {'without' if experts else 'with'} experts")
    check_carried(meta, config.max_documents, sizes.vocab_size, phrases.max_length)
    check_carried_tensors(meta, tensors["sessions"], sizes, dtype)
    if bank is not None:
        check_bank(meta, bank)
        _check_bank_tensors(meta, tensors.get("bank", {}), sizes, dtype)
    return meta


def checked_learned(
    state: Mapping[str, Any], trainable: Mapping[str, nn.Parameter], vocab_size: int
) -> LearnerState:
    """Return the learner's document, if what was learned, the optimizer's tensors and replay fit a learner.

    Raises:
        CheckpointError: says what does not fit.
    """
    meta, tensors = checked(LearnerState, state["documents"]["learner"], "learner"), state["tensors"]
    _check_learned(tensors["learned"], trainable, meta.averaged)
    _check_optimizer(tensors["optimizer"], trainable)
    _check_replayed(tensors["replay"], vocab_size)
    return meta


def check_carried_tensors(
    meta: CarriedState, tensors: Mapping[str, Tensor], sizes: ModelConfig, dtype: torch.dtype
) -> None:
    """Check the states of carried documents: as many rows as documents, in the model's sizes.

    Raises:
        CheckpointError: says which tensor does not fit.
    """
    expected: dict[str, Tensor] = {}
    for index, which in ((2, "state"), (3, "frozen")):
        if rows := [session[index] for session in meta.sessions].count(True):
            like = RecurrentState.zeros(sizes, rows, device="meta", dtype=dtype)
            expected |= {f"{which}.{field}": tensor for field, tensor in like.tensors().items()}
    if meta.offsets:
        names = {name for name, *_ in meta.sessions}
        if not set(meta.offsets) <= names or len(set(meta.offsets)) != len(meta.offsets):
            raise damaged("sessions", "an offset is there twice, or of a document that is not carried")
        expected[OFFSETS] = RecurrentState.zeros(sizes, len(meta.offsets), device="meta", dtype=dtype).wkv
    check_tensors("sessions.safetensors", tensors, expected)


def _check_learned(
    tensors: Mapping[str, Tensor], trainable: Mapping[str, nn.Parameter], averaged: int
) -> None:
    """Check the learned tensors, and the average of S0, which earlier versions did not keep."""
    expected: dict[str, Tensor] = dict(trainable)
    if "s0" in trainable and (averaged or AVERAGE in tensors):
        expected[AVERAGE] = trainable["s0"]
    check_tensors("learned.safetensors", tensors, expected)


def _check_optimizer(tensors: Mapping[str, Tensor], trainable: Mapping[str, nn.Parameter]) -> None:
    """Check AdamW's moments, and the last steps of gradient descent with momentum."""
    file, steps = "optimizer.safetensors", {f"{name}/{MOMENTUM}": name for name in trainable}
    for path in steps.keys() & tensors.keys():
        parameter = trainable[steps[path]]
        check_tensor(file, path, tensors[path], parameter.shape, (parameter.dtype,))
    moments = {path: tensor for path, tensor in tensors.items() if path not in steps}
    check_moments(file, moments, trainable)


def _check_bank_tensors(
    meta: LearnerState, tensors: Mapping[str, Tensor], sizes: ModelConfig, dtype: torch.dtype
) -> None:
    """Check the states of a bank: as many rows as projects."""
    count = 0 if meta.bank is UNSET else len(meta.bank.means)
    like = RecurrentState.zeros(sizes, count, device="meta", dtype=dtype)
    check_tensors("bank.safetensors", tensors, like.tensors() if count else {})


def _check_replayed(tensors: Mapping[str, Tensor], vocab_size: int) -> None:
    """Check what only the learner knows of the replayed windows; the buffer checks the rest."""
    for name, tensor in tensors.items():
        if tensor.dtype not in _OF_NUMPY:
            raise damaged("file 'replay.safetensors'", f"{shown(name)} has the dtype {tensor.dtype}")
    tokens, offsets = tensors.get("tokens"), tensors.get("offsets")
    if tokens is None or offsets is None or not tokens.dtype == torch.int32 or offsets.dtype != torch.int64:
        raise damaged("file 'replay.safetensors'", "'tokens' must be int32 and 'offsets' int64")
    if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < vocab_size:
        raise damaged("file 'replay.safetensors'", f"it holds an id that is not below {vocab_size}")
    if offsets.numel() > 1 and int(offsets.diff().min()) < 2:
        raise damaged("file 'replay.safetensors'", "a window in it has no id after its context")
