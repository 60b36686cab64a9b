"""The validation loss: what a model pays for documents that it was not trained on.

The documents are concatenated and cut into eight streams, whatever the batch, so that runs can be compared. A
stream starts without context, so splitting a document raises its loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sttx_train.data.documents import Documents
from sttx_train.data.sampling import IGNORED, Sampler, WindowBatch
from sttx_train.pretrain.config import PretrainConfig
from sttx_train.pretrain.phrases import PhraseModel, PhraseStreams
from sttx_train.pretrain.start import TrainingData
from sttx_train.rwkv7 import ModelConfig, RecurrentState
from sttx_train.workers import Workers

STREAMS = 8
"""Number of streams; a few more if the processes cannot share these evenly."""

Priced = tuple[Tensor, RecurrentState, int]
"""Nats of a window, the states after it, and a count: tokens paid for, or steps of the model."""


@dataclass(frozen=True)
class Validation:
    """The result of measuring the validation documents.

    The fields with ``phrases`` are None if the model does not know phrases.

    Attributes:
        loss: nats per token.
        bpb: bits per byte of text; None if the documents are not text.
        tokens: number of tokens paid for.
        steps_per_byte: steps of the model per byte of text; None if the documents are not text.
        phrases_loss: nats per base token, read in phrases.
        phrases_bpb: bits per byte, read in phrases.
        phrases_steps_per_byte: steps of the model per byte, read in phrases.
    """

    loss: float
    bpb: float | None
    tokens: int
    steps_per_byte: float | None = None
    phrases_loss: float | None = None
    phrases_bpb: float | None = None
    phrases_steps_per_byte: float | None = None

    def saved(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them: None for what is not finite, as phrases may be."""
        return {
            name: None if value is None or not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }

    def row(self) -> dict[str, Any]:
        """Return the numbers by their names in a run's metrics."""
        return {f"validation_{name}": value for name, value in asdict(self).items() if name != "tokens"}


class Evaluation:
    """Measures a model on all validation documents.

    Over phrases, each stream starts with an empty phrase table, so short streams find few phrases.

    Args:
        documents: the validation documents.
        rows: largest number of streams that a process reads side by side.
        context: ids of a window.
        workers: the processes that share the work.
        text_bytes: UTF-8 bytes of the documents; None if they are not text.
    """

    def __init__(
        self, documents: Documents, *, rows: int, context: int, workers: Workers, text_bytes: int | None
    ) -> None:
        self._own = -(-STREAMS // workers.count)
        self._sampler = Sampler(documents, rows=self._own * workers.count, context=context)
        self._rows, self._workers, self._text_bytes = rows, workers, text_bytes
        self._eot_id = documents.eot_id

    def __call__(
        self,
        model: nn.Module,
        config: ModelConfig,
        device: torch.device,
        phrases: PhraseModel | None = None,
    ) -> Validation:
        """Measure, also in phrases if the model knows them. Every process must call this."""

        def over_tokens(_: int, window: WindowBatch, state: RecurrentState) -> Priced:
            return *pay(model, window, state, device, self._eot_id), int((window.targets != IGNORED).sum())

        total, tokens = self._sums(over_tokens, config, device)
        result = Validation(total / tokens, self._bits(total), int(tokens), self._per_byte(tokens))
        if phrases is None:
            return result
        streams = PhraseStreams(self._own, config.vocab_size, self._eot_id)

        def over_phrases(first: int, window: WindowBatch, state: RecurrentState) -> Priced:
            return phrases(streams, first, window, [True] * len(window.inputs), state)

        total, steps = self._sums(over_phrases, config, device)
        return replace(
            result,
            phrases_loss=total / tokens,
            phrases_bpb=self._bits(total),
            phrases_steps_per_byte=self._per_byte(steps),
        )

    def _per_byte(self, count: float) -> float | None:
        return count / self._text_bytes if self._text_bytes else None

    def _bits(self, nats: float) -> float | None:
        return self._per_byte(nats / math.log(2))

    def _sums(
        self,
        price: Callable[[int, WindowBatch, RecurrentState], Priced],
        config: ModelConfig,
        device: torch.device,
    ) -> tuple[float, float]:
        """Return the nats and the counts of all documents, over all processes.

        ``price`` gets the number of this process's stream in its first row, the window and the states.
        """
        sums = torch.zeros(2, dtype=torch.float64, device=device)
        with torch.no_grad():
            for first in range(0, self._own, self._rows):
                rows = min(self._rows, self._own - first)
                state = RecurrentState.zeros(config, rows, device=device)
                for step in range(self._sampler.windows_per_epoch):
                    window = self._sampler.window(step, self._workers.rank * self._own + first, rows)
                    nats, state, count = price(first, window, state)
                    sums += torch.stack([nats.double(), sums.new_tensor(count)])
        total, counted = self._workers.sum(sums).tolist()
        return total, counted


def evaluation_of(config: PretrainConfig, data: TrainingData, workers: Workers) -> Evaluation | None:
    """Return what measures the validation loss; None if there are no validation documents."""
    if data.validation is None or not len(data.validation.lengths):
        return None
    return Evaluation(
        data.validation,
        rows=config.batch,
        context=config.ctx,
        workers=workers,
        text_bytes=data.text_bytes,
    )


def pay(
    model: Callable[..., tuple[Tensor, RecurrentState]],
    window: WindowBatch,
    state: RecurrentState,
    device: torch.device,
    eot_id: int,
) -> tuple[Tensor, RecurrentState]:
    """Return the sum of nats that a model pays for a window, and the states after it.

    The state starts again at each end-of-text id.
    """
    inputs, targets = (torch.from_numpy(ids).to(device) for ids in window)
    logits, state = model(inputs, state, None, inputs == eot_id)
    wide = logits if logits.dtype == torch.float64 else logits.float()
    summed = F.cross_entropy(wide.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
    return summed, state


def validation_bits(model: nn.Module, ids: np.ndarray, *, ctx: int = 512) -> float:
    """Return the total bits that the model pays for ``ids``, which start with the end-of-text id.

    The state is carried from window to window, so ``ctx`` changes only the last bits.
    """
    bits, state, eot_id = 0.0, None, int(ids[0])
    stream = torch.from_numpy(ids.astype(np.int64))[None]
    with torch.no_grad():
        for start in range(0, stream.shape[1] - 1, ctx):
            piece = stream[:, start : start + ctx + 1]
            logits, state = model(piece[:, :-1], state, None, piece[:, :-1] == eot_id)
            bits += float(F.cross_entropy(logits[0].float(), piece[0, 1:], reduction="sum")) / math.log(2)
    return bits
