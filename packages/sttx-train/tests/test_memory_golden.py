"""The recorded layer of a memory is current, and the reader in numpy agrees with the layer beyond it."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sttx_core.memory.attached import STATE, Layer, golden
from sttx_train.memory import LayerAdapter, LayerState, scan
from sttx_train.memory.core import Writing, normalized


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(
        "memory_golden", Path(__file__).with_name("memory_golden.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def alike(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return one == (pytest.approx(other, abs=1e-5) if isinstance(other, float) else other)


def test_the_record_is_what_the_layer_computes_now(script):
    now = json.loads(script.as_text(script.record()))
    assert alike(now, golden()), "run memory_golden.py --write, and say in the commit why it changed"


@pytest.mark.parametrize(("slots", "chunk"), [(1, 0), (1, 2), (2, 3), (3, 1), (4, 0)])
def test_numpy_agrees_with_the_layer(slots, chunk):
    draws = torch.Generator().manual_seed(slots + 10 * chunk)
    adapter = LayerAdapter(8, 3, 6, 7, draws)
    state = LayerState.empty(1, adapter, slots)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=draws)
    weights = {name: one.detach().double().numpy() for name, one in adapter.named_parameters()}
    layer = Layer.empty(weights, slots, chunk)
    for part in range(4):
        x = torch.randn(1, 7, 8, generator=draws)
        mask = torch.rand(1, 7, generator=draws) < 0.8
        opens = torch.tensor([part % 2 == 1])
        layer.opens = bool(opens)
        with torch.no_grad():
            y, found, state = scan(adapter, state, normalized(x), Writing(mask, opens, chunk))
        for at in range(7):
            computed = layer.step(x[0, at].double().numpy(), write=bool(mask[0, at]))
            assert bool(found[0, at]) == (computed["slot"] is not None)
            np.testing.assert_allclose(y[0, at].numpy(), computed["y"], atol=1e-5)
        for name in STATE:
            tensor = getattr(state, name)[0].numpy()
            np.testing.assert_allclose(tensor, getattr(layer, name), atol=1e-5, err_msg=name)
