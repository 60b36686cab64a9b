"""The outer step: at a window's end, one step of gradient descent on an offset of its document's state.

The offset is added to the matrices of the state where a window starts, beside S0. It starts at zero. Each
step first shrinks it by a share, and then moves each head's matrix by a gradient that is scaled to a root
mean square of 1, because gradients of heads differ by orders of magnitude. So no head's root mean square
exceeds ``rate / decay``, and no window moves it further than another.

Knows windows, prices and offsets; neither optimizers nor where reading stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sttx_train.online.carried import Carried
from sttx_train.online.config import LearnerConfig
from sttx_train.online.window import Window

if TYPE_CHECKING:
    from sttx_train.online.networks import Networks

_LEAST = 1e-10  # of a root mean square: below it, a gradient is rounding, and moves nothing far


def scaled(gradient: Tensor) -> Tensor:
    """Return a gradient ``[..., N, N]`` with each head's matrix scaled to a root mean square of 1.

    Differentiable; a head without gradient stays zero.
    """
    mean_square = gradient.square().mean((-1, -2), keepdim=True)
    return gradient * (mean_square + _LEAST**2).rsqrt()


@dataclass(frozen=True, kw_only=True)
class OuterStep:
    """How the offset of a document changes at a window's end.

    Attributes:
        rate: of the step, as a root mean square of each head's matrix.
        decay: share of the offset that each step takes away, above 0.
    """

    rate: float
    decay: float

    @classmethod
    def of(cls, config: LearnerConfig) -> OuterStep | None:
        """Return what a config asks for; None if its rate is 0."""
        return cls(rate=config.state_lr, decay=config.state_decay) if config.state_lr else None

    def tracked(self, carried: Sequence[Carried], like: Tensor) -> list[Carried]:
        """Return what documents carry, with offsets that gradients can be taken of; at first they are zeros.

        Args:
            carried: what the documents carry.
            like: a tensor of an offset's shape ``[L, H, N, N]``, dtype and device.
        """
        zeros = torch.zeros_like(like, requires_grad=False)
        offsets = [zeros if entry.offset is None else entry.offset for entry in carried]
        return [
            replace(entry, offset=offset.detach().clone().requires_grad_())
            for entry, offset in zip(carried, offsets, strict=True)
        ]

    def after(
        self, carried: Sequence[Carried], nats_B: Tensor, windows: Sequence[Window], *, retain: bool
    ) -> list[Tensor | None]:
        """Return each document's offset after its window; None for one that another process has read.

        The gradient is that of the mean price of the window's tokens that are paid for.

        Args:
            carried: from which the windows were read, as :meth:`tracked` returned it.
            nats_B: the network's own price of each window, differentiable.
            windows: the windows.
            retain: keep the graph for another backward pass.
        """
        counts = [max(int(window.paid_T.sum()), 1) for window in windows]
        offsets = [entry.offset for entry in carried if entry.offset is not None]
        mean_B = nats_B / nats_B.new_tensor(counts)
        if not mean_B.requires_grad:
            return [None] * len(offsets)
        gradients = torch.autograd.grad(mean_B.sum(), offsets, retain_graph=retain, allow_unused=True)
        return [
            None if gradient is None else self.moved(offset, gradient)
            for offset, gradient in zip(offsets, gradients, strict=True)
        ]

    @torch.no_grad()
    def moved(self, offset: Tensor, gradient: Tensor) -> Tensor:
        """Return an offset after a step by a gradient, both ``[L, H, N, N]``.

        Where the gradient of a head is not finite, its offset only shrinks.
        """
        step = scaled(gradient)
        finite = torch.isfinite(step).all(-1, keepdim=True).all(-2, keepdim=True)
        return offset.detach() * (1 - self.decay) - self.rate * torch.where(finite, step, 0.0)


def offsets_after(
    outer: OuterStep, networks: Networks, windows: Sequence[Window], carried: Sequence[Carried]
) -> list[Tensor]:
    """Read whole windows once more, each from what its document carried before it, and take the outer step.

    Gradients are taken also where the caller wants none.

    Args:
        outer: how the offset changes.
        networks: the learning one reads, token by token and not in phrases.
        windows: each of another document.
        carried: what the documents carried before them.

    Returns:
        Each document's offset ``[L, H, N, N]`` after its window.
    """
    with torch.inference_mode(False), torch.enable_grad():
        starts = [
            replace(entry, state=None if entry.state is None else entry.state.clone()) for entry in carried
        ]
        starts = outer.tracked(starts, networks.s0)
        _, learned = networks.read(windows, starts, phrases=False)
        found = outer.after(starts, learned.nats_B, windows, retain=False)
        return [offset for offset in found if offset is not None]
