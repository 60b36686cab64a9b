"""One short loss curve of the online learner, the same on every machine: what learning does, held in git.

    python packages/sttx-train/tests/golden.py --write

writes it anew, which takes a sentence in the commit that says why. The model's weights and the text are drawn
by numpy, whose generator is the same everywhere; all is computed in float64, where machines agree far closer
than the test asks for.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sttx_core.phrases import PhraseConfig
from sttx_train.online import LearnerConfig, OnlineLearner, Window
from sttx_train.rwkv7 import RWKV7, RWKV7Config

CURVE = Path(__file__).with_name("golden_curve.json")
STEPS, WINDOW, VOCAB = 24, 40, 64


def make_model() -> RWKV7:
    """Return a tiny model with drawn weights, in float64."""
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
    found = []
    for step in range(STEPS):
        pieces = [np.append(motifs[dice.integers(5)], dice.integers(1, VOCAB)) for _ in range(WINDOW // 8)]
        ids = tuple(int(token) for token in np.concatenate(pieces))
        found.append(Window(document="ab"[step % 3 == 2], ids=ids))
    return found


def curve() -> list[dict[str, Any]]:
    """Return what each step cost, with phrases, replay, state and bias learning."""
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
    phrases = PhraseConfig(window=200, threshold=2, capacity=24, max_length=8)
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


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    CURVE.write_text("[\n" + ",\n".join(json.dumps(row) for row in curve()) + "\n]\n")
