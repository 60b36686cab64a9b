"""The wkv recurrence on flash-linear-attention's fused Triton kernels. Imported only when chosen."""

from __future__ import annotations

from torch import Tensor

from sttx_core.errors import UsageError

DECODE_STEPS = 16  # at most this many steps go to the recurrent kernel; longer inputs to the chunked one


def wkv_fla(
    r: Tensor, log_w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Same contract as :func:`~sttx_train.wkv.recurrent.wkv_recurrent`, on CUDA.

    fla keeps its state as ``[key, value]``: it is transposed here, going in and coming out.

    Raises:
        UsageError: flash-linear-attention is not installed.
    """
    try:
        from fla.ops.rwkv7 import chunk_rwkv7, fused_recurrent_rwkv7
    except ImportError as error:
        raise UsageError(
            f"kernel 'fla' needs flash-linear-attention ({error}); install it or choose --kernel chunked"
        ) from error
    kernel = fused_recurrent_rwkv7 if r.shape[1] <= DECODE_STEPS else chunk_rwkv7
    y, final = kernel(
        r=r.contiguous(),
        w=log_w.contiguous(),
        k=k.contiguous(),
        v=v.contiguous(),
        a=a.contiguous(),
        b=b.contiguous(),
        scale=1.0,
        initial_state=state.transpose(-1, -2).contiguous(),
        output_final_state=True,
    )
    return y, final.transpose(-1, -2)
