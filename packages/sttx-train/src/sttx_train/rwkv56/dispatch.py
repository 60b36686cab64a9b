"""One entry to the wkv recurrence of RWKV-5.2 and RWKV-6: sends it to the kernel that was chosen."""

from __future__ import annotations

import torch
from torch import Tensor

from sttx_train.rwkv56.chunked import wkv6_chunked
from sttx_train.rwkv56.recurrent import wkv6_recurrent
from sttx_train.wkv import Backend, choose_backend, recurrence


def wkv6(
    r: Tensor,
    log_w: Tensor,
    k: Tensor,
    v: Tensor,
    u: Tensor,
    state: Tensor,
    starts: Tensor | None = None,
    *,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Run ``y = S r + (r . (u k)) v; S = S diag(exp(log_w)) + v k^T``.

    Args:
        r: receptance ``[B, T, H, N]``.
        log_w: natural logarithm of the decay, at most 0, same shape.
        k: key, same shape.
        v: value, same shape.
        u: weight of the token itself ``[H, N]``.
        state: ``[B, H, N, N]``, ``[value, key]``.
        starts: bool ``[B, T]``, true at the first step of a document: the state is zeroed before it.
        backend: which kernel; ``auto`` takes :func:`~sttx_train.wkv.backends.choose_backend`'s.

    Returns:
        y ``[B, T, H, N]`` and the new state; all kernels but fla's return both in the state's dtype.
    """
    chosen = choose_backend(r.device, backend).backend
    if chosen == "fla":
        from sttx_train.rwkv56.fla import wkv6_fla

        return wkv6_fla(r, log_w, k, v, u, state, starts)
    r, log_w, k, v, u = (x.to(state.dtype) for x in (r, log_w, k, v, u))
    with torch.autocast(device_type=r.device.type, enabled=False):
        if chosen == "recurrent" or r.shape[1] == 1:
            return wkv6_recurrent(r, log_w, k, v, u, state, starts)
        if chosen == "compiled":
            return wkv6_compiled(r, log_w, k, v, u, state, starts)
        return wkv6_chunked(r, log_w, k, v, u, state, starts)


def wkv6_compiled(
    r: Tensor,
    log_w: Tensor,
    k: Tensor,
    v: Tensor,
    u: Tensor,
    state: Tensor,
    starts: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Same contract as :func:`~sttx_train.rwkv56.recurrent.wkv6_recurrent`, on RWKV-7's compiled kernel.

    RWKV-7's recurrence without its removal writes the same states. It reads each after the step, and these
    models read it before, so each step is given the receptance of the next one.
    """
    if starts is not None:
        state = state.masked_fill(starts[:, 0, None, None, None], 0)
    none, later = torch.zeros_like(k), torch.cat([r[:, 1:], torch.zeros_like(r[:, :1])], dim=1)
    read, final = recurrence(later, log_w.exp(), k, v, none, none, state, starts)
    first = torch.einsum("bhvk,bhk->bhv", state, r[:, 0])
    y = torch.cat([first.unsqueeze(1), read[:, :-1]], dim=1)
    if starts is not None:
        y = y.masked_fill(starts[..., None, None], 0)
    return y + (r * u * k).sum(-1, keepdim=True) * v, final
