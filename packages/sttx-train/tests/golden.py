"""Two short loss curves, of the online learner and of pretraining, that are kept in git.

    python packages/sttx-train/tests/golden.py --write

writes them again; the commit then says why they changed. The weights and the text come from numpy's
generator, which is the same on every machine. The learner computes in float64, where machines agree much more
closely than the test requires; pretraining computes in float32, and the test's tolerance allows for it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sttx_core.phrases import PhraseConfig
from sttx_train.data.documents import Packed
from sttx_train.online import LearnerConfig, OnlineLearner, Window
from sttx_train.pretrain import PretrainConfig
from sttx_train.pretrain.start import StartingModel, TrainingData
from sttx_train.pretrain.trainer import Trainer
from sttx_train.rwkv7 import RWKV7, RWKV7Config

FOLDER = Path(__file__).parent
STEPS, WINDOW, VOCAB = 24, 40, 64
FIELDS = ("loss", "lr", "grad_norm", "tokens", "validation_loss", "validation_phrases_loss")


def make_model() -> RWKV7:
    """Return a tiny model with random weights, in float64."""
    sizes = RWKV7Config(vocab_size=VOCAB, hidden_size=64, num_layers=2, head_size=32)
    model, dice = RWKV7(sizes, backend="chunked").double(), np.random.default_rng(7)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.from_numpy(dice.standard_normal(weight.shape))
            norm = weight.ndim == 1 and name.endswith("weight")
            weight.copy_(1 + 0.1 * noise if norm else noise * (0.3 if weight.ndim == 1 else 0.1))
    return model


def windows() -> list[Window]:
    """Return windows of two documents, made of a few motifs with noise between them."""
    dice = np.random.default_rng(11)
    motifs = [dice.integers(1, VOCAB, 7) for _ in range(5)]
    result = []
    for step in range(STEPS):
        pieces = [np.append(motifs[dice.integers(5)], dice.integers(1, VOCAB)) for _ in range(WINDOW // 8)]
        ids = tuple(int(token) for token in np.concatenate(pieces))
        result.append(Window(document="ab"[step % 3 == 2], ids=ids))
    return result


def learning() -> list[dict[str, Any]]:
    """Return the metrics of each step of the learner, with phrases, replay, state and bias learning."""
    config = LearnerConfig(
        scope=("state", "bias"),
        phrases="on",
        lr_state=0.02,
        lr_bias=0.02,
        lr_hypernet=3e-3,
        lr_vectors=3e-3,
        lr_weights=1e-3,
        replay_rows=2,
        replay_weight=0.2,
    )
    phrases = PhraseConfig(pair_window=200, threshold=2, capacity=24, max_length=8)
    learner = OnlineLearner(make_model(), np.ones(VOCAB, dtype=int), config, phrase_config=phrases)
    rows = []
    for window in windows():
        report = learner.step([window])
        rows.append(
            {
                "bits": report.score.bits,
                "frozen_bits": report.score.frozen_bits,
                "loss": report.loss,
                "grad_norm": report.grad_norm,
                "norm_s0": report.norm_s0,
                "model_steps": report.score.model_steps,
            }
        )
    return rows


def documents(count: int) -> Packed:
    """Return documents of two motifs in random order, so that phrases are found soon."""
    dice = np.random.default_rng(count)
    motifs = np.random.default_rng(5).integers(1, VOCAB, (2, 6))
    return Packed(np.concatenate([[0, *motifs[dice.integers(2, size=40)].ravel()] for _ in range(count)]))


def pretraining() -> list[dict[str, Any]]:
    """Return what each step cost, half of the rows read in phrases, with some validation text."""
    train, validation = documents(12), documents(2)
    config = PretrainConfig(
        vocab_size=VOCAB,
        ctx=32,
        batch=3,
        accumulate=2,
        lr=5e-3,
        schedule="wsd",
        decay=0.5,
        warmup=4,
        steps=STEPS,
        weight_decay=0.1,
        phrase_prob=0.5,
        eval_every=8,
        bf16=False,
    )
    data = TrainingData(train=train, validation=validation)
    trainer = Trainer(config, data, start=StartingModel(model=make_model()))
    rows = [step.row() for step in trainer.run()]
    return [{name: value for name, value in row.items() if name in FIELDS} for row in rows]


CURVES = {"golden_curve.json": learning, "golden_pretraining.json": pretraining}

if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    for name, make in CURVES.items():
        (FOLDER / name).write_text("[\n" + ",\n".join(json.dumps(row) for row in make()) + "\n]\n")
