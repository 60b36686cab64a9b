"""One entry to the wkv recurrence, three kernels behind it: the definition, chunks, and fla's Triton."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from sttx_core.errors import UsageError
from sttx_train.wkv.chunked import wkv_chunked
from sttx_train.wkv.recurrent import wkv_recurrent

__all__ = ["BACKENDS", "Backend", "KernelChoice", "choose_backend", "wkv", "wkv_chunked", "wkv_recurrent"]

Backend = Literal["auto", "recurrent", "chunked", "fla"]
BACKENDS: tuple[Backend, ...] = ("auto", "recurrent", "chunked", "fla")


class KernelChoice(NamedTuple):
    """A kernel and why it was chosen."""

    backend: Backend
    reason: str


def choose_backend(device: torch.device, requested: Backend = "auto") -> KernelChoice:
    """Say which kernel runs on a device, and why.

    Raises:
        UsageError: the requested kernel cannot run there.

    >>> choose_backend(torch.device("cpu"))
    KernelChoice(backend='chunked', reason='cpu: plain torch in chunks is the fastest here')
    """
    if requested == "fla" and device.type != "cuda":
        raise UsageError(f"kernel 'fla' needs a CUDA device, not {device.type!r}; use --kernel chunked")
    if requested != "auto":
        return KernelChoice(requested, "asked for")
    if device.type != "cuda":
        return KernelChoice("chunked", f"{device.type}: plain torch in chunks is the fastest here")
    try:
        import fla.ops.rwkv7  # noqa: F401
    except ImportError as error:
        return KernelChoice("chunked", f"cuda, but flash-linear-attention cannot be imported ({error})")
    return KernelChoice("fla", "cuda: fused Triton kernels of flash-linear-attention")


def wkv(
    r: Tensor,
    log_w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    state: Tensor,
    starts: Tensor | None = None,
    *,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Run RWKV-7's recurrence ``S = S diag(exp(log_w)) + (S a) b^T + v k^T; y = S r``.

    Args:
        r: receptance ``[B, T, H, N]``.
        log_w: natural logarithm of the decay, in (-0.607, 0], same shape.
        k: key, same shape.
        v: value, same shape.
        a: the negated normalised key, same shape.
        b: the normalised key times the in-context learning rate, same shape.
        state: ``[B, H, N, N]``, ``[value, key]``.
        starts: bool ``[B, T]``, true at steps before which the state is emptied: a document begins there.
        backend: which kernel; ``auto`` takes :func:`choose_backend`'s.

    Returns:
        y ``[B, T, H, N]`` and the new state, both in the state's number type for the torch kernels.
    """
    chosen = choose_backend(r.device, backend).backend
    if chosen == "fla":
        from sttx_train.wkv.fla import wkv_fla

        return wkv_fla(r, log_w, k, v, a, b, state, starts)
    r, log_w, k, v, a, b = (x.to(state.dtype) for x in (r, log_w, k, v, a, b))
    with torch.autocast(device_type=r.device.type, enabled=False):
        if chosen == "recurrent" or r.shape[1] == 1:
            return wkv_recurrent(r, log_w, k, v, a, b, state, starts)
        return wkv_chunked(r, log_w, k, v, a, b, state, starts)
