"""The options that a checkpoint records: the type and range of each, for every command. Loads no torch.

An option that a run lacks is newer than the run. An unknown one is older than this sttx, or was never one: it
is only shown, and a run that resumes refuses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from sttx_core.errors import UsageError
from sttx_core.phrases import PhraseConfig
from sttx_core.saved_state import Amount, Count, Line, Number, Positive, converted
from sttx_train.architectures import Architecture, config_from
from sttx_train.online.config import LearnerConfig
from sttx_train.run_folder.identity import current_names
from sttx_train.rwkv7.config import ModelConfig

Values = dict[Line, bool | int | Number | Line | None | list[Line]]
"""What any option may be, by name."""

Sizes = dict[Line, Positive | Annotated[float, Meta(gt=0, lt=1)] | Line | dict[Line, Line]]
"""The sizes of a model, its epsilons, its architecture if it is not RWKV-7, and forms of its matrices."""

_MOST = 2**53
_Share = Annotated[float, Meta(ge=0, le=1)]
_AboveZero = Annotated[float, Meta(gt=0, le=1e300)]


class _StreamOptions(msgspec.Struct):
    """The options of `StreamConfig` that a run records."""

    window: Positive
    experts: Literal["on", "off"] | UnsetType = UNSET
    batch: Positive | UnsetType = UNSET
    api_pairs: bool | UnsetType = UNSET
    policy: Line | None | UnsetType = UNSET
    memory: Literal["none", "bank"] | UnsetType = UNSET
    bank_states: Positive | UnsetType = UNSET


class _PretrainOptions(msgspec.Struct):
    """The options of `PretrainConfig`."""

    architecture: Architecture | UnsetType = UNSET
    vocab_size: Count | UnsetType = UNSET
    hidden_size: Positive | UnsetType = UNSET
    layers: Positive | UnsetType = UNSET
    head_size: Positive | UnsetType = UNSET
    ctx: Positive | UnsetType = UNSET
    batch: Positive | UnsetType = UNSET
    accumulate: Positive | UnsetType = UNSET
    lr: _AboveZero | UnsetType = UNSET
    schedule: Literal["cosine", "wsd", "constant"] | UnsetType = UNSET
    final: _Share | UnsetType = UNSET
    decay: _Share | UnsetType = UNSET
    warmup: Count | UnsetType = UNSET
    epochs: Count | UnsetType = UNSET
    steps: Count | UnsetType = UNSET
    tokens: Count | UnsetType = UNSET
    minutes: Amount | UnsetType = UNSET
    weight_decay: Amount | UnsetType = UNSET
    clip: _AboveZero | UnsetType = UNSET
    spike: Amount | UnsetType = UNSET
    bf16: bool | UnsetType = UNSET
    recompute: bool | UnsetType = UNSET
    compile: bool | UnsetType = UNSET
    phrase_prob: _Share | UnsetType = UNSET
    meta: bool | UnsetType = UNSET
    meta_lr: _AboveZero | UnsetType = UNSET
    meta_weight: Amount | UnsetType = UNSET
    validation: Annotated[float, Meta(ge=0, lt=1)] | UnsetType = UNSET
    eval_every: Positive | UnsetType = UNSET
    checkpoint_every: Positive | UnsetType = UNSET
    parallel: Literal["ddp", "fsdp"] | UnsetType = UNSET
    seed: Count | UnsetType = UNSET


class _TuneOptions(msgspec.Struct):
    """The options of `TuneConfig`."""

    epochs: Positive | UnsetType = UNSET
    steps: Count | UnsetType = UNSET
    batch: Positive | UnsetType = UNSET
    accumulate: Positive | UnsetType = UNSET
    ctx: Positive | UnsetType = UNSET
    lr: _AboveZero | UnsetType = UNSET
    schedule: Literal["cosine", "linear", "constant"] | UnsetType = UNSET
    final: _Share | UnsetType = UNSET
    warmup: Count | UnsetType = UNSET
    weight_decay: Amount | UnsetType = UNSET
    clip: _AboveZero | UnsetType = UNSET
    loss: Literal["completions", "all"] | UnsetType = UNSET
    eot: bool | UnsetType = UNSET
    eval_every: Count | UnsetType = UNSET
    patience: Count | UnsetType = UNSET
    bf16: bool | None | UnsetType = UNSET
    recompute: bool | UnsetType = UNSET
    checkpoint_every: Positive | UnsetType = UNSET
    seed: Count | UnsetType = UNSET


_SCHEMAS: dict[str, type[Any]] = {
    "stream_config": _StreamOptions,
    "learning": LearnerConfig,
    "phrase_config": PhraseConfig,
    "config": _PretrainOptions,
    "tune_config": _TuneOptions,
}


def check_options(group: str, saved: Any) -> dict[str, Any]:
    """Return a saved group of options under their current names, if each may have its value.

    Args:
        group: ``stream_config``, ``learning`` or ``phrase_config`` of a manifest; ``config`` of pretraining,
            ``tune_config`` of tuning.
        saved: what was saved.

    Raises:
        ValueError: says which option is what it cannot be.
    """
    options = current_names(group, converted(Values, saved))
    _in_words(lambda: converted(_SCHEMAS[group], options))
    _require_exact(options)
    return options


def check_sizes(saved: Mapping[str, Any]) -> ModelConfig:
    """Return the sizes of a model that a checkpoint records.

    Raises:
        ValueError: one is missing, unknown, or none that a model has.
    """
    sizes: dict[str, Any] = converted(Sizes, saved)
    try:
        return _in_words(lambda: config_from(sizes))
    except TypeError as error:
        raise ValueError("a size is missing or unknown") from error


def _in_words(make: Callable[[], Any]) -> Any:
    """Return what is made; a config that refuses its own values says why in an error of the caller."""
    try:
        return make()
    except UsageError as error:
        raise ValueError(str(error)) from error


def _require_exact(values: Mapping[str, Any]) -> None:
    """Refuse whole numbers that other JSON libraries do not hold exactly."""
    for name, value in values.items():
        if type(value) is int and abs(value) > _MOST:
            raise ValueError(f"`{name}` is {'below' if value < 0 else 'above'} every number of a run")
