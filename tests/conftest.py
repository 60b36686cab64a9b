"""Fixtures of the cross-package tests: a tiny random model on disk, and the benchmark scripts."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Return the folder of a random byte-level model of 2 layers, hidden size 64."""
    import torch

    from sttx_core.tokenizers import ByteTokenizer
    from sttx_train.formats import save_model
    from sttx_train.rwkv7 import RWKV7, RWKV7Config, initialize

    model = initialize(RWKV7(RWKV7Config(vocab_size=257, hidden_size=64, num_layers=2, head_size=32)))
    dice = np.random.default_rng(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.from_numpy(0.1 * dice.standard_normal(weight.shape)).float())
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_model(model, folder, tokenizer=ByteTokenizer())
    return folder


@pytest.fixture(scope="session")
def benchmark():
    """Return a function that imports a script of `benchmarks/` by name."""

    def load(name):
        spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
