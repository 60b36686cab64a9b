"""The wkv recurrence of RWKV-5.2 and RWKV-6 in chunks, in plain torch, for devices without another kernel.

The decay of these models may be anything from 0 to 1, so no power of it is divided by. The decay from each
step of a chunk to each later one is one exponential of a sum, which never overflows. The state here is
[key, value], the transpose of the public layout.

Legend: B rows, H heads, G chunks, C steps of a chunk, N head size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sttx_train.wkv.chunked import document_masks, in_chunks

CHUNK = 16  # the decays of a chunk are [C + 1, C + 1, N]: memory grows with C, steps in order with 1 / C


def wkv6_chunked(
    r: Tensor,
    log_w: Tensor,
    k: Tensor,
    v: Tensor,
    u: Tensor,
    state: Tensor,
    starts: Tensor | None = None,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """Same contract as :func:`~sttx_train.rwkv56.recurrent.wkv6_recurrent`."""
    B, T, H, N = r.shape
    chunk = min(chunk, T)
    padding = -T % chunk
    r, log_w, k, v = (in_chunks(x, chunk) for x in (r, log_w, k, v))
    v = v.contiguous()
    decay = _decays(log_w)
    scores = (r.unsqueeze(-2) * k.unsqueeze(-3) * decay[..., :chunk, 1:, :]).sum(-1)  # [.., C, C]
    read, to_end, kept = r * decay[..., :chunk, 0, :], k * decay[..., chunk, 1:, :], decay[..., chunk, 0, :]
    if starts is not None:
        same, from_before, in_last = document_masks(F.pad(starts, (0, padding)).view(B, 1, -1, chunk))
        scores, read, to_end = scores * same, read * from_before, to_end * in_last
        kept = kept * from_before[..., -1, :]
    own = (r * u[:, None, None] * k).sum(-1, keepdim=True) * v
    entering, final = _in_order(kept, to_end.transpose(-1, -2) @ v, state.transpose(-1, -2))
    y = (read @ entering + scores @ v + own).permute(0, 2, 3, 1, 4).reshape(B, T + padding, H, N)
    return y[:, :T], final.transpose(-1, -2)


def _decays(log_w: Tensor) -> Tensor:
    """Return what is left of each step's write when a later step reads, ``[.., C + 1, C + 1, N]``.

    Reader t, up to C, which is the chunk's end; writer s + 1, and writer 0 is the state that enters the
    chunk. What is not written before it is read has 0.
    """
    size = log_w.shape[-2] + 1
    before = torch.ones(size, size, device=log_w.device, dtype=torch.bool).tril()  # writer s + 1 <= reader t
    steps = F.pad(log_w, (0, 0, 1, 0)).unsqueeze(-2)  # the decay of step t - 1, for each writer
    between = (steps * before.tril(-1).unsqueeze(-1)).cumsum(-3)
    return between.exp() * before.unsqueeze(-1)


def _in_order(kept: Tensor, added: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Return the states that enter the chunks ``[B, H, G, N, N]``, and the state after the last chunk."""
    entering = []
    for decay, term in zip(kept.unsqueeze(-1).unbind(2), added.unbind(2), strict=True):
        entering.append(state)
        state = decay * state + term
    return torch.stack(entering, dim=2), state
