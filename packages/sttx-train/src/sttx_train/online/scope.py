"""Which tensors learn: named scopes, each of exactly the tensors that it names. Knows no rates."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, cast, get_args

from sttx_core.errors import UsageError
from sttx_train.rwkv7.config import stored_forms

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sttx_train.rwkv7 import LanguageModel

Scope = Literal["state", "bias", "vectors", "head", "all"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
ALIASES: dict[str, Scope] = {"s0": "state"}
"""Other names that are understood."""


def parse_scopes(text: str) -> tuple[Scope, ...]:
    """Read a comma-separated list of scopes.

    Raises:
        UsageError: the list is empty or has an unknown scope.

    >>> parse_scopes("state,bias")
    ('state', 'bias')
    """
    given = [name.strip() for name in text.split(",") if name.strip()]
    names = tuple(dict.fromkeys(ALIASES.get(name, name) for name in given))
    unknown = [name for name in names if name not in SCOPES]
    if unknown or not names:
        raise UsageError(f"unknown scope {(unknown or [text])[0]!r}; choose among {', '.join(SCOPES)}")
    return tuple(scope for scope in SCOPES if scope in names)


def weights_in_scope(model: LanguageModel, scopes: Sequence[Scope]) -> dict[str, nn.Parameter]:
    """Return the model's own weights that the scopes name.

    ``vectors`` are norms, mixes, decay and gate biases (every tensor of one dimension, and those of
    ``[H, N]``: ``r_k``, ``time_faaaa`` and RWKV-5.2's ``time_decay``); ``head`` is the output matrix; ``all``
    is every weight. ``state`` and ``bias`` name no weights of the model: their tensors belong to the learner.

    Raises:
        UsageError: a scope names a matrix that is stored in codes, which cannot learn.
    """
    for name, form in stored_forms(model.config).items():
        learns = "all" in scopes or ("head" in scopes and name == "head.weight")
        if learns and form.bits and not form.training:
            raise UsageError(
                f"scope {','.join(scopes)} would learn {name!r}, which is stored in codes ({form}): learn "
                "with the original model, or in a narrower scope"
            )
    chosen = {}
    for name, parameter in model.named_parameters():
        vector = parameter.ndim == 1 or name.endswith(("r_k", "time_faaaa", "time_decay"))
        if (
            "all" in scopes
            or ("vectors" in scopes and vector)
            or ("head" in scopes and name.startswith("head."))
        ):
            chosen[name] = parameter
    return chosen


def frozen_beside(model: LanguageModel, scopes: Sequence[Scope]) -> LanguageModel:
    """Return the model as it is now, to compare with what it learns in these scopes.

    Weights that no scope names are shared with the model; if none learns, it is the model itself.
    """
    learning = weights_in_scope(model, scopes)
    if not learning:
        return model
    rest = [p for name, p in model.named_parameters() if name not in learning]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in [*rest, *model.buffers()]})


def s0_cannot_learn(model: nn.Module, scopes: Sequence[Scope], *, inject: bool, outer: bool = False) -> bool:
    """Return whether S0 or documents' offsets are to learn and no gradient can reach them.

    They reach the loss only through the attention output matrices, unless those learn themselves.
    """
    if "all" in scopes or not (outer or ("state" in scopes and inject)):
        return False
    outputs = (layer for name, layer in model.named_modules() if name.endswith("att.output"))
    return not any(bool(cast("Tensor", layer.weight).any()) for layer in outputs)
