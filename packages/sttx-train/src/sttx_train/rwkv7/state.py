"""The recurrent state: tensors whose size does not depend on the number of tokens read.

Legend: L layers, B rows, D hidden size, H heads, N head size, M recent tokens. ``wkv`` is indexed
``[..., value, key]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor

from sttx_train.rwkv7.config import ModelConfig, state_shapes
from sttx_train.wkv import LayerState


@dataclass(frozen=True, kw_only=True)
class RecurrentState:
    """All that a model remembers of the tokens it has read.

    Attributes:
        att_shift: ``[L, B, D]`` the previous input of each time mix.
        wkv: ``[L, B, H, N, N]`` float32, the heads' matrices, ``[value, key]``.
        ffn_shift: ``[L, B, D]`` the previous input of each channel mix.
        velocity: the matrices' velocities, as ``wkv``; None without inner steps with momentum.
        recent: ``[L, B, M, 3, H, N]`` keys, directions and values of the last M tokens, in the dtype of
            ``wkv``; None without inner steps on several tokens.
    """

    att_shift: Tensor
    wkv: Tensor
    ffn_shift: Tensor
    velocity: Tensor | None = None
    recent: Tensor | None = None

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
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        return cls(
            **{
                name: torch.zeros(
                    config.num_layers,
                    batch,
                    *shape,
                    device=device,
                    dtype=dtype if name.endswith("_shift") else wide,
                )
                for name, shape in state_shapes(config).items()
            }
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of this state by name: three, and those of inner steps."""
        found = {name: getattr(self, name) for name in _NAMES}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def layer(self, layer: int) -> LayerState:
        """Return what the recurrence of a layer carries."""
        own = {name: tensor[layer] for name, tensor in self.tensors().items() if name in LayerState._fields}
        return LayerState(**own)

    @classmethod
    def of_layers(
        cls, att_shifts: Sequence[Tensor], layers: Sequence[LayerState], ffn_shifts: Sequence[Tensor]
    ) -> RecurrentState:
        """Return the state of a model from those of its layers."""
        parts = zip(LayerState._fields, zip(*layers, strict=True), strict=True)
        return cls(
            att_shift=torch.stack(list(att_shifts)),
            ffn_shift=torch.stack(list(ffn_shifts)),
            **{name: torch.stack(found) for name, found in parts if found[0] is not None},
        )

    @classmethod
    def stack(cls, states: Sequence[RecurrentState]) -> RecurrentState:
        """Join states along the batch dimension."""
        every = [state.tensors() for state in states]
        return cls(**{name: torch.cat([one[name] for one in every], dim=1) for name in every[0]})

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

    def span(self, first: int, last: int) -> RecurrentState:
        """Return the rows from ``first`` to ``last - 1``; they share this state's memory."""
        return self._changed(lambda x: x[:, first:last])

    def select(self, rows: Sequence[int]) -> RecurrentState:
        """Return a copy of the given rows of the batch, in that order."""
        index = torch.tensor(list(rows), device=self.wkv.device)
        return self._changed(lambda x: x.index_select(1, index))

    def detach(self) -> RecurrentState:
        """Return the same values, detached from the autograd graph."""
        return self._changed(torch.Tensor.detach)

    def clone(self) -> RecurrentState:
        """Return a copy that shares no memory."""
        return self._changed(torch.Tensor.clone)

    def inject(self, s0: Tensor) -> RecurrentState:
        """Return this state with ``s0 [L, H, N, N]`` added to every row's matrices; differentiable in s0."""
        return RecurrentState(**self.tensors() | {"wkv": self.wkv + s0.unsqueeze(1)})

    def _changed(self, change: Callable[[Tensor], Tensor]) -> RecurrentState:
        return RecurrentState(**{name: change(tensor) for name, tensor in self.tensors().items()})

    @property
    def batch(self) -> int:
        """Number of rows."""
        return self.wkv.shape[1]

    @property
    def nbytes(self) -> int:
        """Memory of the tensors in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors().values())


_NAMES = tuple(field.name for field in fields(RecurrentState))


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

    @cached_property
    def velocity(self) -> Tensor | None:  # type: ignore[override]
        """As there."""
        return None if self.whole.velocity is None else self.whole.velocity[:, self.row : self.row + 1]

    @cached_property
    def recent(self) -> Tensor | None:  # type: ignore[override]
        """As there."""
        return None if self.whole.recent is None else self.whole.recent[:, self.row : self.row + 1]
