"""The recurrent state: three tensors whose size does not depend on the number of tokens read.

Legend: L layers, B rows, D hidden size, H heads, N head size. ``wkv`` is indexed ``[..., value, key]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sttx_train.rwkv7.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class RecurrentState:
    """All that a model remembers of the tokens it has read.

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
        config: ModelConfig,
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
        first = states[0]
        if not isinstance(first, _Row):
            return first if len(states) == 1 else cls.stack(states)
        in_order = first.whole.batch == len(states) and all(
            isinstance(state, _Row) and state.whole is first.whole and state.row == row
            for row, state in enumerate(states)
        )
        return first.whole if in_order else cls.stack(states)

    def rows(self) -> list[RecurrentState]:
        """Return each row of the batch; they share this state's memory."""
        return [_Row(self, row) for row in range(self.batch)]

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


class _Row(RecurrentState):
    """One row of a state, whose memory it shares; its tensors are taken out when they are asked for.

    Attributes:
        whole: the state.
        row: which row of its batch this is.
    """

    def __init__(self, whole: RecurrentState, row: int) -> None:
        self.__dict__.update(whole=whole, row=row)  # the class of a state is frozen

    whole: RecurrentState
    row: int

    @cached_property
    def att_shift(self) -> Tensor:  # type: ignore[override]
        """As in `RecurrentState`, of one row."""
        return self.whole.att_shift[:, self.row : self.row + 1]

    @cached_property
    def wkv(self) -> Tensor:  # type: ignore[override]
        """As there."""
        return self.whole.wkv[:, self.row : self.row + 1]

    @cached_property
    def ffn_shift(self) -> Tensor:  # type: ignore[override]
        """As there."""
        return self.whole.ffn_shift[:, self.row : self.row + 1]
