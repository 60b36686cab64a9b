"""A model's matrices in other forms: expanded, to be trained, or as they are written when training ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from sttx_core.errors import UsageError
from sttx_train.forms.form import Form, module_of
from sttx_train.forms.matrix import StoredMatrix
from sttx_train.rwkv7.config import RWKV7Config, stored_forms
from sttx_train.rwkv7.language_model import LanguageModel
from sttx_train.rwkv7.model import RWKV7


def stored_matrices(model: LanguageModel) -> dict[str, StoredMatrix]:
    """Return the matrices of a model that have a form, by the name of the dense parameter."""
    found = {name: model.get_submodule(module_of(name)) for name in stored_forms(model.config)}
    return {name: matrix for name, matrix in found.items() if isinstance(matrix, StoredMatrix)}


def check_places(model: LanguageModel, source: str) -> None:
    """Check the masks, places and orders of stored matrices that were read from a file.

    Raises:
        ModelError: one is impossible; the message names the matrix.
    """
    for name, matrix in stored_matrices(model).items():
        matrix.check(name, source)


def dense_model(model: LanguageModel) -> LanguageModel:
    """Return a model with expanded matrices; the model itself if they are."""
    if not isinstance(model, RWKV7) or not model.config.forms:
        return model
    config = replace(model.config, forms=(), ghost_ratio=0.0)
    return _filled(model, config, model.dense_weights())


def model_in_training(model: LanguageModel) -> LanguageModel:
    """Return a model whose codes are floating-point numbers that are rounded when they are used.

    The model itself if it has no codes.
    """
    return _recoded(model, training=True)


def model_at_rest(model: LanguageModel) -> LanguageModel:
    """Return a model with codes in the place of numbers that are rounded when they are used."""
    return _recoded(model, training=False)


def with_inner_steps(model: LanguageModel, **inner: int | float) -> LanguageModel:
    """Return a model that takes inner steps; its other weights are copies.

    Args:
        model: a plain RWKV-7.
        inner: the fields of `RWKV7Config` whose names start with ``inner_``.

    Raises:
        UsageError: the model is another architecture's, or takes inner steps already.
    """
    if not isinstance(model, RWKV7):
        raise UsageError("only an RWKV-7 (x070) model can take inner steps: leave --inner-steps out")
    if model.config.inner_steps:
        raise UsageError("the model takes inner steps already, and keeps them: leave --inner-steps out")
    config = replace(model.config, **inner)
    rates = {
        f"blocks.{layer}.att.inner_rate": model.ln_out.weight.new_full((config.num_heads,), config.inner_lr)
        for layer in range(config.num_layers)
    }
    return _filled(model, config, model.state_dict() | rates)


def _recoded(model: LanguageModel, *, training: bool) -> LanguageModel:
    forms = stored_forms(model.config)
    changed = {
        name: replace(form, training=training)
        for name, form in forms.items()
        if form.bits and form.training != training
    }
    if not changed or not isinstance(model, RWKV7):
        return model
    matrices = stored_matrices(model)
    kept = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name.rpartition(".")[0] not in {module_of(name) for name in changed}
    }
    for name, form in changed.items():
        tensors = matrices[name].recoded(form)
        kept |= {f"{module_of(name)}.{part}": tensor for part, tensor in tensors.items()}
    config = replace(model.config, forms=_texts(forms | changed))
    return _filled(model, config, kept)


def _texts(forms: Mapping[str, Form]) -> dict[str, str]:
    return {name: str(form) for name, form in forms.items()}


def _filled(model: RWKV7, config: RWKV7Config, tensors: Mapping[str, Tensor]) -> RWKV7:
    """Return a model like another one of other tensors, which it gets copies of."""
    with torch.device("meta"):
        filled = RWKV7(config, backend=model.backend, initialize=False)
    copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    filled.load_state_dict(copies, strict=True, assign=True)
    filled.recompute = model.recompute
    learns = any(parameter.requires_grad for parameter in model.parameters())
    return filled.train(model.training).requires_grad_(learns)
