"""Our AdamW takes the same steps as PyTorch's, and does not load the compiler."""

import subprocess
import sys

import pytest
import torch

from sttx_train.adamw import AdamW


def trained(kind, fused):
    generator = torch.Generator().manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((5, 3), (7,))]
    groups = [{"params": [weight], "weight_decay": 0.1 * index} for index, weight in enumerate(weights)]
    optimizer = kind(groups, lr=0.3, betas=(0.0, 0.95), fused=fused)
    for _ in range(4):
        loss = sum((weight**3).sum() for weight in weights)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    assert all(weight.grad is None for weight in weights)
    return [*weights, *(value for weight in weights for value in optimizer.state[weight].values())]


@pytest.mark.parametrize("fused", [None, True])
def test_every_step_is_the_same_as_pytorchs(fused):
    for ours, theirs in zip(trained(AdamW, fused), trained(torch.optim.AdamW, fused), strict=True):
        assert torch.equal(ours, theirs)


def test_the_compiler_is_not_loaded():
    code = """
import sys, torch
from sttx_train.adamw import AdamW
weight = torch.nn.Parameter(torch.ones(1))
optimizer = AdamW([weight])
weight.grad = torch.ones(1)
optimizer.step()
optimizer.zero_grad()
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("options", [{}, {"foreach": False}, {"fused": True}], ids=str)
def test_each_change_of_a_weight_is_counted(options):
    moved, without_gradient = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = AdamW([moved, without_gradient], **options)
    for _ in range(2):
        moved.grad, before, other = torch.ones(2), moved._version, without_gradient._version
        optimizer.step()
        assert moved._version > before and without_gradient._version == other
