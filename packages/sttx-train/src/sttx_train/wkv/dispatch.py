"""One entry to the wkv recurrence: sends it to the kernel that was chosen."""

from __future__ import annotations

import torch
from torch import Tensor

from sttx_train.wkv.backends import Backend, choose_backend
from sttx_train.wkv.chunked import wkv_chunked
from sttx_train.wkv.recurrent import wkv_recurrent


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
        a: the negated normalized key, same shape.
        b: the normalized key times the in-context learning rate, same shape.
        state: ``[B, H, N, N]``, ``[value, key]``.
        starts: bool ``[B, T]``, true at the first step of a document: the state is zeroed before it.
        backend: which kernel; ``auto`` takes :func:`~sttx_train.wkv.backends.choose_backend`'s.

    Returns:
        y ``[B, T, H, N]`` and the new state; all kernels but fla's return both in the state's dtype.
    """
    chosen = choose_backend(r.device, backend).backend
    if chosen == "fla":
        from sttx_train.wkv.fla import wkv_fla

        return wkv_fla(r, log_w, k, v, a, b, state, starts)
    r, log_w, k, v, a, b = (x.to(state.dtype) for x in (r, log_w, k, v, a, b))
    with torch.autocast(device_type=r.device.type, enabled=False):
        if chosen == "compiled":
            from sttx_train.wkv.compiled import wkv_compiled

            return wkv_compiled(r, log_w, k, v, a, b, state, starts)
        if chosen == "recurrent" or r.shape[1] == 1:
            return wkv_recurrent(r, log_w, k, v, a, b, state, starts)
        return wkv_chunked(r, log_w, k, v, a, b, state, starts)
