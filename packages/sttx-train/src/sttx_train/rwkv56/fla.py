"""The wkv recurrence of RWKV-5.2 and RWKV-6 on the kernels of flash-linear-attention, which loads on use."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from sttx_core.errors import UsageError
from sttx_train.wkv.fla import DECODE_STEPS, PackedRows


def wkv6_fla(
    r: Tensor,
    log_w: Tensor,
    k: Tensor,
    v: Tensor,
    u: Tensor,
    state: Tensor,
    starts: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Same contract as :func:`~sttx_train.rwkv56.recurrent.wkv6_recurrent`, on CUDA.

    fla's state is ``[key, value]``, so it is transposed on the way in and out. The log decay, u and the state
    are float32, everything else has r's dtype.

    Raises:
        UsageError: flash-linear-attention is not installed, or the tensors are float64.
    """
    if r.dtype == torch.float64:
        raise UsageError("kernel 'fla' does not support float64; choose --kernel chunked, or another --dtype")
    try:
        from fla.ops.rwkv6 import chunk_rwkv6, fused_recurrent_rwkv6
    except ImportError as error:
        raise UsageError(
            f"kernel 'fla' needs flash-linear-attention ({error}); install it or choose --kernel chunked"
        ) from error
    kernel: Any = fused_recurrent_rwkv6 if r.shape[1] <= DECODE_STEPS else chunk_rwkv6
    packed = PackedRows.of(starts)
    r, log_w, k, v = (packed.flat(x) for x in (r, log_w.float(), k.to(r.dtype), v.to(r.dtype)))
    with warnings.catch_warnings():
        # Tests compare float32 with the definition.
        warnings.filterwarnings("ignore", ".*does not support float32", RuntimeWarning)
        y, final = kernel(
            r=r.contiguous(),
            k=k.contiguous(),
            v=v.contiguous(),
            w=log_w.contiguous(),
            u=u.float().contiguous(),
            scale=1.0,
            initial_state=packed.entering(state).float().transpose(-1, -2).contiguous(),
            output_final_state=True,
            cu_seqlens=packed.bounds,
        )
    return packed.rows(y), packed.leaving(final).transpose(-1, -2)
