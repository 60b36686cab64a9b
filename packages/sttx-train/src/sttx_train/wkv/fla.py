"""The wkv recurrence on flash-linear-attention's fused Triton kernels. Imported only when chosen.

fla's own tests compare its kernels with each other; ours compare them with the recurrent definition.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sttx_core.errors import UsageError

DECODE_STEPS = 16
"""At most this many steps go to the recurrent kernel, longer inputs to the chunked one."""
LOWEST_LOG_DECAY = -0.6065306597126334
"""RWKV-7's bound, -exp(-0.5). With it fla's kernels can use chunks of 64 on tensor cores."""


def wkv_fla(
    r: Tensor,
    log_w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    state: Tensor,
    starts: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Same contract as :func:`~sttx_train.wkv.recurrent.wkv_recurrent`, on CUDA.

    fla's state is ``[key, value]``, so it is transposed on the way in and out. Everything but the log decay
    and the state is computed in r's dtype. Rows in which documents start are concatenated, because that is
    how fla takes sequences of several lengths. If a gradient is needed the chunked kernel runs, because the
    recurrent one has no backward pass.

    Raises:
        UsageError: flash-linear-attention is not installed, or the tensors are float64.
    """
    if r.dtype == torch.float64:
        raise UsageError("kernel 'fla' does not support float64; choose --kernel chunked, or another --dtype")
    try:
        from fla.ops.rwkv7 import chunk_rwkv7, fused_recurrent_rwkv7
    except ImportError as error:
        raise UsageError(
            f"kernel 'fla' needs flash-linear-attention ({error}); install it or choose --kernel chunked"
        ) from error
    learning = torch.is_grad_enabled() and any(x.requires_grad for x in (r, log_w, k, v, a, b, state))
    decoding = r.shape[1] <= DECODE_STEPS and not learning
    kernel = fused_recurrent_rwkv7 if decoding else partial(chunk_rwkv7, lower_bound=LOWEST_LOG_DECAY)
    r, k, v, a, b = (x.to(r.dtype).contiguous() for x in (r, k, v, a, b))
    packed = PackedRows.of(starts)
    entering, (r, log_w, k, v, a, b) = packed.entering(state), map(packed.flat, (r, log_w, k, v, a, b))
    with warnings.catch_warnings():
        # Tests compare float32 with the definition.
        warnings.filterwarnings("ignore", ".*does not support float32", RuntimeWarning)
        y, final = kernel(
            r=r,
            w=log_w.float().contiguous(),
            k=k,
            v=v,
            a=a,
            b=b,
            scale=1.0,
            initial_state=entering.float().transpose(-1, -2).contiguous(),
            output_final_state=True,
            cu_seqlens=packed.bounds,  # type: ignore[arg-type]  annotated as torch.LongTensor
        )
    return packed.rows(y), packed.leaving(final).transpose(-1, -2)


@dataclass(frozen=True)
class PackedRows:
    """Rows of several documents as fla takes them: one long row, and the bounds of its pieces.

    Attributes:
        bounds: ``[pieces + 1]``; None if no starts were given, and nothing is packed.
        first, last: each row's first and last piece, ``[B]``.
        continues: whether the row's first piece continues from the state, bool ``[B]``.
    """

    bounds: Tensor | None = None
    first: Tensor | None = None
    last: Tensor | None = None
    continues: Tensor | None = None

    @classmethod
    def of(cls, starts: Tensor | None) -> PackedRows:
        """Return how rows are packed in which documents start as ``starts [B, T]`` says."""
        if starts is None:
            return cls()
        B, T = starts.shape
        begins = starts.clone()
        begins[:, 0] = True
        at = begins.flatten().nonzero().squeeze(-1)
        count = begins.sum(1).cumsum(0)
        first = torch.cat([count.new_zeros(1), count[:-1]])
        return cls(torch.cat([at, at.new_tensor([B * T])]), first, count - 1, ~starts[:, 0])

    def flat(self, x: Tensor) -> Tensor:
        """Return rows ``[B, T, ...]`` as one, ``[1, B * T, ...]``."""
        return x if self.bounds is None else x.reshape(1, -1, *x.shape[2:])

    def rows(self, x: Tensor) -> Tensor:
        """Return the one row as rows again."""
        return x if self.first is None else x.reshape(len(self.first), -1, *x.shape[2:])

    def entering(self, state: Tensor) -> Tensor:
        """Return each piece's initial state: the row's state for its first piece, zeros for the others."""
        if self.bounds is None or self.first is None or self.continues is None:
            return state
        pieces = state.new_zeros(len(self.bounds) - 1, *state.shape[1:])
        return pieces.index_copy(0, self.first, state * self.continues.view(-1, 1, 1, 1))

    def leaving(self, final: Tensor) -> Tensor:
        """Return each row's last state, of the last states of all pieces."""
        return final if self.last is None else final.index_select(0, self.last)
