"""The price of tokens in few passes, against torch's own functions."""

import pytest
import torch

from sttx_train.online.cross_entropy import cross_entropy


@pytest.mark.parametrize("used", ["nats", "log_p", "both"])
def test_values_and_gradients(used):
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 7, generator=g, dtype=torch.float64)
    logits[2, 3] = float("-inf")
    target, weights = torch.tensor([0, 6, 2, 2, 5]), torch.rand(5, 7, generator=g, dtype=torch.float64)
    weights[2, 3] = 0
    found = []
    for price in (cross_entropy, definition):
        leaf = logits.clone().requires_grad_()
        nats, log_p = price(leaf, target)
        loss = (nats * weights[:, 0]).sum() if used != "log_p" else 0
        loss = loss + ((log_p.exp() * weights).sum() if used != "nats" else 0)
        found.append((nats, log_p, *torch.autograd.grad(loss, leaf)))
    for x, y in zip(*found, strict=True):
        torch.testing.assert_close(x, y)


def definition(logits, target):
    log_p = torch.log_softmax(logits, dim=-1)
    return torch.nn.functional.nll_loss(log_p, target, reduction="none"), log_p
