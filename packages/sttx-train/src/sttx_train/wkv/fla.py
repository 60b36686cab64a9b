"""The wkv recurrence on flash-linear-attention's fused Triton kernels. Imported only when chosen.

fla's own tests compare its kernels with one another; ours hold them to the recurrent definition.
"""

from __future__ import annotations

import warnings
from functools import partial

import torch
from torch import Tensor

from sttx_core.errors import UsageError

DECODE_STEPS = 16
"""At most this many steps go to the recurrent kernel, longer inputs to the chunked one."""
LOWEST_LOG_DECAY = -0.6065306597126334
"""RWKV-7's bound, -exp(-0.5): lets fla's kernels take chunks of 64 on tensor cores."""


def wkv_fla(
    r: Tensor, log_w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Same contract as :func:`~sttx_train.wkv.recurrent.wkv_recurrent`, on CUDA.

    fla keeps its state as ``[key, value]``: it is transposed here, going in and coming out. Everything but
    the log decay and the state is computed in r's number type. Whatever needs a gradient goes to the chunked
    kernel: the recurrent one has none.

    Raises:
        UsageError: flash-linear-attention is not installed, or the numbers are float64.
    """
    if r.dtype == torch.float64:
        raise UsageError("kernel 'fla' has no float64; choose --kernel chunked, or another --dtype")
    try:
        from fla.ops.rwkv7 import chunk_rwkv7, fused_recurrent_rwkv7
    except ImportError as error:
        raise UsageError(
            f"kernel 'fla' needs flash-linear-attention ({error}); install it or choose --kernel chunked"
        ) from error
    learning = torch.is_grad_enabled() and any(x.requires_grad for x in (r, log_w, k, v, a, b, state))
    decoding = r.shape[1] <= DECODE_STEPS and not learning
    kernel = fused_recurrent_rwkv7 if decoding else partial(chunk_rwkv7, lower_bound=LOWEST_LOG_DECAY)
    k, v, a, b = (x.to(r.dtype).contiguous() for x in (k, v, a, b))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not support float32", RuntimeWarning)  # parity is tested
        y, final = kernel(
            r=r.contiguous(),
            w=log_w.float().contiguous(),
            k=k,
            v=v,
            a=a,
            b=b,
            scale=1.0,
            initial_state=state.float().transpose(-1, -2).contiguous(),
            output_final_state=True,
        )
    return y, final.transpose(-1, -2)
