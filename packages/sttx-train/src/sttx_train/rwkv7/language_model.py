"""What models of every architecture share: token shift, blocks, embedding, head, and the path of a state.

An architecture adds the two halves of its blocks. Knows nothing of files, learning or phrases.

Legend: B rows, T time, D hidden size, H heads, N head size, V vocabulary, L layers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from sttx_train.fused import StepChoice
from sttx_train.rwkv7.config import ModelConfig
from sttx_train.rwkv7.state import RecurrentState
from sttx_train.wkv import Backend, KernelChoice, LayerState, choose_backend


def shifted(x_BTD: Tensor, last_BD: Tensor, starts_BT: Tensor | None) -> Tensor:
    """Return x delayed by one step; the first step comes from the state, or is 0 where a document starts."""
    previous = torch.cat([last_BD.unsqueeze(1).to(x_BTD.dtype), x_BTD[:, :-1]], dim=1)
    return previous if starts_BT is None else previous.masked_fill(starts_BT.unsqueeze(-1), 0)


def _last_valid(x_BTD: Tensor, lengths_B: Tensor | None) -> Tensor:
    """Return each row's last step that is not padding."""
    if lengths_B is None:
        return x_BTD[:, -1]
    return x_BTD[torch.arange(x_BTD.shape[0], device=x_BTD.device), lengths_B - 1]


class Block(nn.Module):
    """Pre-LayerNorm residual block; the first one also normalizes the embedding (``ln0``).

    Args:
        config: the sizes.
        layer: number of the block.
        att: its time mix, called as `forward` calls it.
        ffn: its channel mix.
    """

    def __init__(self, config: ModelConfig, layer: int, att: nn.Module, ffn: nn.Module) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.layer = layer
        if layer == 0:
            self.ln0 = nn.LayerNorm(width, eps=eps)
        self.ln1 = nn.LayerNorm(width, eps=eps)
        self.ln2 = nn.LayerNorm(width, eps=eps)
        self.att = att
        self.ffn = ffn

    def forward(
        self,
        x: Tensor,
        att_shift_BD: Tensor,
        state: LayerState,
        ffn_shift_BD: Tensor,
        v_first: Tensor | None,
        valid_BT1: Tensor | None,
        starts_BT: Tensor | None,
        backend: Backend,
    ) -> tuple[Tensor, Tensor, Tensor, LayerState, Tensor | None]:
        """Return the output ``[B, T, D]``, both halves' inputs, the recurrence's state and what is handed on.

        The last is layer 0's value in RWKV-7; the time mixes of other architectures return None.
        """
        if self.layer == 0:
            x = self.ln0(x)
        x_att = self.ln1(x)
        y, state, value = self.att(x_att, att_shift_BD, state, v_first, valid_BT1, starts_BT, backend)
        x = x + y
        x_ffn = self.ln2(x)
        return x + self.ffn(x_ffn, ffn_shift_BD, starts_BT), x_att, x_ffn, state, value


class LanguageModel(nn.Module):
    """A recurrent language model.

    ``model(ids_BT, state)`` returns logits ``[B, T, V]`` and the state after the last token; it is
    differentiable in the state.

    Args:
        config: the sizes.
        make_block: returns the block of a layer.
        backend: which wkv kernel runs (``recurrent``, ``chunked``, ``compiled``, ``fla``, or ``auto``).

    Attributes:
        config: the sizes.
        backend: which wkv kernel runs (``recurrent``, ``chunked``, ``compiled``, ``fla``, or ``auto``).
        recompute: recompute the activations inside the blocks in the backward pass, to save memory.
    """

    def __init__(
        self, config: ModelConfig, make_block: Callable[[int], Block], *, backend: Backend = "auto"
    ) -> None:
        super().__init__()
        self.config = config
        self.backend: Backend = backend
        self.recompute = False
        with _NoLayerInit():
            self.emb = nn.Embedding(config.vocab_size, config.hidden_size)
            self.blocks = nn.ModuleList(make_block(layer) for layer in range(config.num_layers))
            self.ln_out = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
            self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(
        self,
        ids_BT: Tensor,
        state: RecurrentState | None = None,
        lengths_B: Tensor | None = None,
        starts_BT: Tensor | None = None,
    ) -> tuple[Tensor, RecurrentState]:
        """Return logits ``[B, T, V]`` and the new state.

        Args:
            ids_BT: token ids.
            state: the initial state; zeros when None.
            lengths_B: number of real tokens of each row, at least 1. The rest is padding, which changes
                neither the state nor the logits before it.
            starts_BT: true at the first token of a document: it does not see the tokens before it.
        """
        hidden, state = self.hidden(self.emb(ids_BT), state, lengths_B, starts_BT)
        return self.logits(hidden), state

    def hidden(
        self,
        x_BTD: Tensor,
        state: RecurrentState | None = None,
        lengths_B: Tensor | None = None,
        starts_BT: Tensor | None = None,
        *,
        learning: int | None = None,
    ) -> tuple[Tensor, RecurrentState]:
        """Run the blocks on embeddings ``[B, T, D]``; return the input of the head and the new state.

        Args:
            x_BTD: what takes the place of the embeddings of the tokens.
            state: as in `forward`.
            lengths_B: as in `forward`.
            starts_BT: as in `forward`.
            learning: only the first so many rows have gradients; all when None. Of the others gradients may
                be computed nevertheless.
        """
        B, T, _ = x_BTD.shape
        if state is None:
            state = RecurrentState.zeros(self.config, B, device=x_BTD.device, dtype=x_BTD.dtype)
        valid_BT1 = None
        if lengths_B is not None:
            valid_BT1 = torch.arange(T, device=x_BTD.device).expand(B, T) < lengths_B.unsqueeze(1)
            valid_BT1 = valid_BT1.unsqueeze(-1).to(x_BTD.dtype)
        x, backend = x_BTD, self.kernel(x_BTD.device).backend
        v_first: Tensor | None = None
        att_shift, layers, ffn_shift = [], [], []
        for layer, block in enumerate(self.blocks):
            arguments = (x, state.att_shift[layer], state.layer(layer), state.ffn_shift[layer])
            run = partial(checkpoint, block, use_reentrant=False) if self.recompute else block
            x, x_att, x_ffn, after, v_first = run(*arguments, v_first, valid_BT1, starts_BT, backend)
            att_shift.append(_last_valid(x_att, lengths_B))
            ffn_shift.append(_last_valid(x_ffn, lengths_B))
            layers.append(after)
        return self.ln_out(x), RecurrentState.of_layers(att_shift, layers, ffn_shift)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return what the head says of its input ``[..., D]``: ``[..., V]``."""
        return self.head(hidden)

    @property
    def reads_whole(self) -> bool:
        """Whether `hidden` reads rows end to end: padding, and rows that do not learn, cost nothing more."""
        return False

    def kernel(self, device: torch.device) -> KernelChoice:
        """Return the wkv kernel that runs on a device, and why."""
        return choose_backend(device, self.backend, plain=self.config.plain_recurrence)

    @property
    def step_choice(self) -> StepChoice:
        """Whether :meth:`step` takes a compiled step where no gradient is wanted, and why."""
        return StepChoice(False, "the compiled step is for RWKV-7")

    def step(self, ids_B: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """Read one token of each row; return the logits ``[B, V]`` and the new state, as `forward` does."""
        logits_BTV, state = self(ids_B.unsqueeze(1), state)
        return logits_BTV[:, 0], state

    def prepare_step(self) -> None:
        """Compile the step, once on a machine, and pack its weights; do nothing where it does not run."""

    def dense_weights(self) -> dict[str, Tensor]:
        """Return all weights by their published names, detached; what is stored otherwise is expanded."""
        return {name: parameter.detach() for name, parameter in self.named_parameters()}

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.ln_out.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.ln_out.weight.dtype


class _NoLayerInit(TorchFunctionMode):
    """Make layers without torch's default values, which an initialization or a loader replaces.

    On the device ``meta``, torch would import its compiler to draw them.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))
