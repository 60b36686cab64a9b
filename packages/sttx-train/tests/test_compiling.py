"""Kernels are compiled beforehand: all that a model then runs, and nothing else is said to be compiled."""

from typing import Any

import pytest
import torch

from sttx_train.pretrain import PretrainConfig, Pretrainer, pretrainer
from sttx_train.rwkv7 import (
    RWKV7,
    RecurrentState,
    RWKV7Config,
    compile_kernels,
    compiling,
    kernels_are_compiled,
)
from sttx_train.rwkv7.loops import kernels
from sttx_train.wkv.compiled import backward_kernel, forward_kernel


def test_a_model_runs_what_was_compiled_beforehand():
    compile_kernels(16, learns=True)
    assert kernels_are_compiled(16, learns=True)
    compiled: list[Any] = [*kernels(), forward_kernel(16), backward_kernel(16)]
    before = [list(kernel.signatures) for kernel in compiled]
    model = RWKV7(RWKV7Config(vocab_size=9, hidden_size=32, num_layers=2, head_size=16), seed=0)
    ids, starts = torch.arange(60).view(2, 30) % 9, torch.arange(60).view(2, 30) % 7 == 0
    logits, _ = model(ids, None, torch.tensor([30, 20]), starts)
    logits.sum().backward()
    with torch.inference_mode():
        model(ids[:1, :1])
    model.requires_grad_(False)  # all layers in one function
    state = RecurrentState.zeros(model.config, 2).inject(torch.zeros(2, 2, 16, 16, requires_grad=True))
    model(ids, state, torch.tensor([30, 20]), starts)[0].sum().backward()
    assert all(before) and [list(kernel.signatures) for kernel in compiled] == before


def test_what_gradients_need_counts_only_for_what_learns(monkeypatch):
    monkeypatch.setattr(compiling, "is_kept", lambda kernel: kernel is not kernels().mix_back)
    assert kernels_are_compiled(16, learns=False) and not kernels_are_compiled(16, learns=True)
    assert kernels_are_compiled(16, torch.bfloat16, learns=True), "only float32 has compiled parts beside wkv"
    monkeypatch.setattr(compiling, "is_kept", lambda kernel: kernel is not forward_kernel(64))
    assert kernels_are_compiled(16, learns=False) and not kernels_are_compiled(64, learns=False)


@pytest.mark.parametrize("ready", [True, False])
def test_a_pretrainer_says_that_it_compiles(monkeypatch, ready):
    said, compiled = [], []
    monkeypatch.setattr(pretrainer, "kernels_are_compiled", lambda size, learns: ready)
    monkeypatch.setattr(pretrainer, "compile_kernels", lambda size, learns: compiled.append((size, learns)))
    Pretrainer(PretrainConfig(hidden_size=64, head_size=32, layers=1), device="cpu", say=said.append)
    assert any("compiling the kernels" in line for line in said) is not ready
    assert compiled == ([] if ready else [(32, True)])
