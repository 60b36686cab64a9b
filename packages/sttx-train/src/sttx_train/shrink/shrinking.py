"""Makes a model smaller, writes it, and reports bytes and prices before and after.

The price after is measured on the model as it loads from its file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from sttx_core.errors import UsageError
from sttx_core.tokenizers import AnyTokenizer, Tokenizer
from sttx_train.data.documents import Documents, split
from sttx_train.data.scanning import text_bytes
from sttx_train.formats import LoadedModel, load_model, save_model
from sttx_train.formats.tensorfiles import SINGLE
from sttx_train.forms import encode, relative_error
from sttx_train.forms.form import module_of
from sttx_train.pretrain import PretrainConfig, Pretrainer
from sttx_train.pretrain.evaluation import STREAMS, Evaluation, Validation
from sttx_train.rwkv7 import RWKV7, LanguageModel
from sttx_train.rwkv7.config import RWKV7Config, counts, forms_of, stored_forms
from sttx_train.rwkv7.stored import stored_matrices
from sttx_train.shrink.calibration import input_grams
from sttx_train.shrink.config import ShrinkConfig
from sttx_train.shrink.plan import choose_forms
from sttx_train.workers import Workers

_DTYPE = torch.bfloat16
_CONTEXT = 256
_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class ShrinkReport:
    """A model before and after it was made smaller.

    Attributes:
        forms: how many matrices have each kind of form.
        bytes: of the weights file: ``before`` (of the original's files) and ``after``.
        numbers: stored numbers, without scales and masks.
        multiplications: of one token, in products of matrices as they run here.
        errors: relative error of each matrix, as its inputs see it if there is data.
        bpb: bits per byte of the validation documents: ``before``, ``after``, ``healed``; None if the data
            is not text.
        loss: nats per token of the same.
        healed_steps: steps of the training that heals.
    """

    forms: dict[str, int]
    bytes: dict[str, int]
    numbers: dict[str, int]
    multiplications: dict[str, int]
    errors: dict[str, float]
    bpb: dict[str, float | None] = field(default_factory=dict)
    loss: dict[str, float] = field(default_factory=dict)
    healed_steps: int = 0


def shrink_model(
    model: LanguageModel, config: ShrinkConfig, grams: Mapping[str, Tensor] | None = None
) -> tuple[RWKV7, dict[str, float]]:
    """Return a model whose matrices have smaller forms, and the relative error of each matrix.

    Args:
        model: a model of dense matrices; it stays as it is.
        config: what to do.
        grams: Gram matrices of the layers' inputs, as `input_grams` returns them.

    Raises:
        UsageError: as `check_shrinkable` and `choose_forms`.
    """
    model = check_shrinkable(model, config)
    grams = grams or {}
    forms, matrices = choose_forms(model, config, grams), stored_matrices(model)
    weights = model.dense_weights()
    tensors: dict[str, Tensor] = {name: weight for name, weight in weights.items() if name not in forms}
    for name, form in forms.items():
        if name in matrices:
            parts = matrices[name].recoded(form)
        else:
            parts = encode(form, weights[name], grams.get(name))
        tensors |= {f"{module_of(name)}.{part}": tensor for part, tensor in parts.items()}
    small = RWKV7(
        replace(model.config, forms={name: str(form) for name, form in forms.items()}),
        backend=model.backend,
        initialize=False,
    )
    small.load_state_dict(tensors)
    small.eval().requires_grad_(False)
    errors = {
        name: relative_error(weights[name], matrix.weight, grams.get(name))
        for name, matrix in stored_matrices(small).items()
    }
    return small, errors


def check_shrinkable(model: LanguageModel, config: ShrinkConfig) -> RWKV7:
    """Return the model if it can be made smaller in this way.

    Raises:
        UsageError: it is not an RWKV-7, or its matrices have a structure or codes already.
    """
    if not isinstance(model, RWKV7):
        raise UsageError("only an RWKV-7 (x070) model can be made smaller")
    forms = stored_forms(model.config)
    if any(form.bits for form in forms.values()):
        raise UsageError("the model is stored in codes already: give the model that it was made of")
    if forms and config.structures:
        raise UsageError(
            f"the model's matrices have a structure already, so {config.structures[0]} cannot give them one: "
            "give the model that it was made of, or only --bits"
        )
    return model


def shrink_to(
    loaded: LoadedModel,
    out: str | os.PathLike[str],
    config: ShrinkConfig,
    documents: Documents | None = None,
    *,
    tokenizer: AnyTokenizer | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> ShrinkReport:
    """Write a smaller model, and measure what it pays for validation documents.

    Args:
        loaded: the model, on the CPU in float32.
        out: the folder to write.
        config: what to do.
        documents: the data: a share is for validation; the rest calibrates and heals. Without it nothing is
            measured, and all errors matter the same.
        tokenizer: that of the data; the model's own when None.
        say: called with a sentence for the user.

    Raises:
        UsageError: as `shrink_model`, or an option needs data.
    """
    vocabulary = tokenizer or loaded.vocabulary
    train, validation = (
        (None, None) if documents is None else split(documents, config.validation, config.seed)
    )
    if train is None and config.heal_minutes:
        raise UsageError("--heal-minutes needs data to train on: name some")
    grams: dict[str, Tensor] = {}
    if train is not None and config.calibration and isinstance(loaded.model, RWKV7):
        say(f"reading {config.calibration:,} tokens for calibration")
        grams = input_grams(loaded.model, train, config.calibration, seed=config.seed)
    small, errors = shrink_model(loaded.model, config, grams)
    kept = {"tokenizer": vocabulary, "hypernet": loaded.hypernet, "metadata": loaded.metadata}
    save_model(small, out, dtype=_DTYPE, **kept)
    measure = None if validation is None else meter(validation, vocabulary)
    prices: dict[str, Validation] = {}
    if measure is not None:
        say("measuring both models")
        prices = {"before": measure(loaded.model), "after": measure(load_model(out).model)}
    steps = 0
    if config.heal_minutes and documents is not None:
        steps = heal(out, documents, vocabulary, config, say)
        if measure is not None:
            prices["healed"] = measure(load_model(out).model)
    return _report(loaded, small, Path(out), errors, prices, steps)


def meter(validation: Documents, tokenizer: AnyTokenizer) -> Callable[[LanguageModel], Validation]:
    """Return what measures a model on validation documents.

    Args:
        validation: the documents.
        tokenizer: theirs, whose text gives bits per byte.
    """
    size = text_bytes(validation, tokenizer) if isinstance(tokenizer, Tokenizer) else None
    evaluation = Evaluation(validation, rows=STREAMS, context=_CONTEXT, workers=Workers(), text_bytes=size)
    return lambda model: evaluation(model, model.config, model.device)


def heal(
    out: str | os.PathLike[str],
    documents: Documents,
    tokenizer: AnyTokenizer,
    config: ShrinkConfig,
    say: Callable[[str], None],
) -> int:
    """Train the model in a folder for some minutes, write it there again, and return the steps.

    Its codes are trained as numbers that are rounded whenever they are used; places of zeros stay.

    Args:
        out: the folder.
        documents: the data, of which a share is not trained on.
        tokenizer: that of the data.
        config: the minutes, the learning rate and the share.
        say: called with a sentence for the user.
    """
    pretraining = PretrainConfig(
        minutes=config.heal_minutes,
        lr=config.heal_lr,
        batch=_BATCH,
        ctx=_CONTEXT,
        validation=config.validation,
        warmup=20,
        eval_every=1_000_000_000,
        seed=config.seed,
    )
    pretrainer = Pretrainer(pretraining, tokenizer=tokenizer, start=out, device="cpu", say=say)
    loaded = load_model(out)
    kept = {"tokenizer": tokenizer, "hypernet": loaded.hypernet, "metadata": loaded.metadata}
    report = pretrainer.fit(documents)
    save_model(pretrainer.model.eval(), out, dtype=_DTYPE, **kept)
    return report.steps


def _report(
    loaded: LoadedModel,
    small: RWKV7,
    out: Path,
    errors: dict[str, float],
    prices: Mapping[str, Validation],
    steps: int,
) -> ShrinkReport:
    files = [loaded.path] if loaded.path.is_file() else sorted(loaded.path.glob("model*.safetensors"))
    assert isinstance(loaded.model.config, RWKV7Config)
    before, after = counts(loaded.model.config), counts(small.config)
    return ShrinkReport(
        forms=forms_of(small.config),
        bytes={"before": sum(file.stat().st_size for file in files), "after": (out / SINGLE).stat().st_size},
        numbers={"before": before.numbers, "after": after.numbers},
        multiplications={"before": before.multiplications, "after": after.multiplications},
        errors=errors,
        bpb={name: price.bpb for name, price in prices.items()},
        loss={name: price.loss for name, price in prices.items()},
        healed_steps=steps,
    )
