"""The recurrent state: three tensors whose size does not depend on the number of tokens read.

Legend: L layers, B rows, D hidden size, H heads, N head size. ``wkv`` is indexed ``[..., value, key]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sttx_train.rwkv7.config import RWKV7Config

_FIELDS = ("att_shift", "wkv", "ffn_shift")


@dataclass(frozen=True, kw_only=True)
class RecurrentState:
    """All that RWKV-7 remembers of the tokens it has read.

    Attributes:
        att_shift: ``[L, B, D]`` the previous input of each time mix.
        wkv: ``[L, B, H, N, N]`` float32, the heads' matrices, ``[value, key]``.
        ffn_shift: ``[L, B, D]`` the previous input of each channel mix.
    """

    att_shift: Tensor
    wkv: Tensor
    ffn_shift: Tensor

    @classmethod
    def zeros(
        cls,
        config: RWKV7Config,
        batch: int = 1,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> RecurrentState:
        """Return the state before the first token."""
        layers, width = config.num_layers, config.hidden_size
        heads, size = config.num_heads, config.head_size
        wkv_dtype = torch.float64 if dtype == torch.float64 else torch.float32
        return cls(
            att_shift=torch.zeros(layers, batch, width, device=device, dtype=dtype),
            wkv=torch.zeros(layers, batch, heads, size, size, device=device, dtype=wkv_dtype),
            ffn_shift=torch.zeros(layers, batch, width, device=device, dtype=dtype),
        )

    @classmethod
    def stack(cls, states: Sequence[RecurrentState]) -> RecurrentState:
        """Join states along the batch dimension."""
        return cls(
            att_shift=torch.cat([s.att_shift for s in states], dim=1),
            wkv=torch.cat([s.wkv for s in states], dim=1),
            ffn_shift=torch.cat([s.ffn_shift for s in states], dim=1),
        )

    @classmethod
    def joined(cls, states: Sequence[RecurrentState]) -> RecurrentState:
        """Return :meth:`stack`, but of all :meth:`rows` of a state, in their order, that state: no copy."""
        parts = ([s.att_shift for s in states], [s.wkv for s in states], [s.ffn_shift for s in states])
        return cls(**dict(zip(_FIELDS, map(_joined, parts), strict=True)))

    def rows(self) -> list[RecurrentState]:
        """Return each row of the batch; they share this state's memory."""
        parts = (self.att_shift.split(1, 1), self.wkv.split(1, 1), self.ffn_shift.split(1, 1))
        return [RecurrentState(**dict(zip(_FIELDS, row, strict=True))) for row in zip(*parts, strict=True)]

    def select(self, rows: Sequence[int]) -> RecurrentState:
        """Return a copy of the given rows of the batch, in that order."""
        index = torch.tensor(list(rows), device=self.wkv.device)
        return RecurrentState(
            att_shift=self.att_shift.index_select(1, index),
            wkv=self.wkv.index_select(1, index),
            ffn_shift=self.ffn_shift.index_select(1, index),
        )

    def detach(self) -> RecurrentState:
        """Return the same values, detached from the autograd graph."""
        return RecurrentState(
            att_shift=self.att_shift.detach(), wkv=self.wkv.detach(), ffn_shift=self.ffn_shift.detach()
        )

    def clone(self) -> RecurrentState:
        """Return a copy that shares no memory."""
        return RecurrentState(
            att_shift=self.att_shift.clone(), wkv=self.wkv.clone(), ffn_shift=self.ffn_shift.clone()
        )

    def inject(self, s0: Tensor) -> RecurrentState:
        """Return this state with ``s0 [L, H, N, N]`` added to every row's matrices; differentiable in s0."""
        return RecurrentState(
            att_shift=self.att_shift, wkv=self.wkv + s0.unsqueeze(1), ffn_shift=self.ffn_shift
        )

    @property
    def batch(self) -> int:
        """Number of rows."""
        return self.wkv.shape[1]

    @property
    def nbytes(self) -> int:
        """Memory of the three tensors in bytes."""
        return self.att_shift.nbytes + self.wkv.nbytes + self.ffn_shift.nbytes


def _joined(rows: Sequence[Tensor]) -> Tensor:
    """Return rows ``[L, 1, ...]`` as one tensor: the one of which they are all rows, if there is one."""
    first, step = rows[0], rows[0].stride(1)
    if len(rows) == 1 and first.is_contiguous():
        return first
    memory, start = first.untyped_storage().data_ptr(), first.storage_offset()
    whole = all(
        row.untyped_storage().data_ptr() == memory
        and row.storage_offset() == start + index * step
        and row.stride() == first.stride()
        for index, row in enumerate(rows)
    )
    shape = (first.shape[0], len(rows), *first.shape[2:])
    if whole and first.stride(0) == len(rows) * step and first[0, 0].is_contiguous():
        return first.as_strided(shape, first.stride(), start)
    return torch.cat(list(rows), dim=1)
