"""The architectures that run here: the config and the model of each, chosen by the config. One list for all.

Loads torch only to build a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

from sttx_core.errors import UsageError
from sttx_core.foreign_files import shown
from sttx_train.rwkv7.config import ModelConfig, RWKV7Config
from sttx_train.rwkv7.config import parameter_shapes as shapes_of_x070
from sttx_train.rwkv56.config import RWKV56Config
from sttx_train.rwkv56.config import parameter_shapes as shapes_of_x056

if TYPE_CHECKING:
    from sttx_train.rwkv7.language_model import LanguageModel
    from sttx_train.wkv import Backend

Architecture = Literal["x070", "x060", "x052"]
ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)
NAMES: dict[Architecture, str] = {"x070": "RWKV-7", "x060": "RWKV-6", "x052": "RWKV-5.2"}


def architecture_of(config: ModelConfig) -> Architecture:
    """Return the architecture of a model.

    >>> architecture_of(RWKV7Config(vocab_size=2, hidden_size=64, num_layers=1))
    'x070'
    """
    return config.architecture if isinstance(config, RWKV56Config) else "x070"


def config_from(sizes: Mapping[str, Any]) -> ModelConfig:
    """Return the config that `ModelConfig.to_dict` wrote; one without an architecture is RWKV-7's.

    Raises:
        UsageError: the architecture is unknown, or a value is none that it may have.
        TypeError: a size is missing or unknown.

    >>> config_from({"architecture": "x060", "vocab_size": 9, "hidden_size": 64, "num_layers": 1}).num_heads
    1
    """
    architecture = sizes.get("architecture", "x070")
    if architecture == "x070":
        return RWKV7Config(**{name: value for name, value in sizes.items() if name != "architecture"})
    if architecture not in ARCHITECTURES:
        raise UsageError(f"the architecture {shown(architecture)} is none of {', '.join(ARCHITECTURES)}")
    return RWKV56Config(**sizes)


def new_config(architecture: Architecture, **sizes: Any) -> ModelConfig:
    """Return the config of a new model, with the published sizes where none are given."""
    return config_from({"architecture": architecture, **sizes})


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of each parameter of the model by its published name, in the model's order."""
    if isinstance(config, RWKV56Config):
        return shapes_of_x056(config)
    assert isinstance(config, RWKV7Config)
    return shapes_of_x070(config)


def build_model(
    config: ModelConfig, *, backend: Backend = "auto", initialize: bool = True, seed: int | None = None
) -> LanguageModel:
    """Return a new model of a config's architecture.

    Args:
        config: the sizes.
        backend: which wkv kernel runs.
        initialize: fill the parameters with the published initialization; False is for loaders.
        seed: of the random matrices; torch's global generator draws them when None.
    """
    if isinstance(config, RWKV56Config):
        from sttx_train.rwkv56.model import RWKV56

        return RWKV56(config, backend=backend, initialize=initialize, seed=seed)
    from sttx_train.rwkv7.model import RWKV7

    assert isinstance(config, RWKV7Config)
    return RWKV7(config, backend=backend, initialize=initialize, seed=seed)


def require_x070(config: ModelConfig, what: str) -> RWKV7Config:
    """Return the config if it is RWKV-7's.

    Args:
        config: the sizes.
        what: what works with RWKV-7 alone, and what to do instead: the end of a sentence.

    Raises:
        UsageError: it is another architecture's.
    """
    if isinstance(config, RWKV7Config):
        return config
    architecture = architecture_of(config)
    raise UsageError(f"the model is {NAMES[architecture]} ({architecture}): {what}")


def refuse_inner_steps(config: ModelConfig, what: str) -> None:
    """Refuse a model with inner steps.

    Args:
        config: the sizes.
        what: why, and what to do instead: the end of a sentence.

    Raises:
        UsageError: it has inner steps.
    """
    if isinstance(config, RWKV7Config) and config.inner_steps:
        raise UsageError(f"the model takes inner steps, {what}")
