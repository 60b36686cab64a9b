"""What a model pays for documents that it was not trained on, its state carried through each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from sttx_core.tokenizers.protocol import EOT_ID
from sttx_train.pretrain.documents import Documents
from sttx_train.pretrain.parallel import Workers
from sttx_train.pretrain.sampling import IGNORED, Sampler
from sttx_train.rwkv7 import RecurrentState, RWKV7Config


@dataclass(frozen=True)
class HeldOut:
    """The price of documents.

    Attributes:
        loss: nats per token.
        bpb: bits per byte of their text; None where they are no text.
        tokens: how many were paid for.
    """

    loss: float
    bpb: float | None
    tokens: int


class Evaluation:
    """Measures a model on documents, all of them each time.

    Args:
        documents: what is paid for.
        rows, context: streams side by side in each process, and ids of a window.
        workers: the processes that share the work.
        text_bytes: UTF-8 bytes that the documents stand for; None if they are no text.
    """

    def __init__(
        self, documents: Documents, *, rows: int, context: int, workers: Workers, text_bytes: int | None
    ) -> None:
        self._sampler = Sampler(documents, rows=rows * workers.count, context=context)
        self._rows, self._workers, self._text_bytes = rows, workers, text_bytes

    def __call__(self, model: nn.Module, config: RWKV7Config, device: torch.device) -> HeldOut:
        """Measure; every process of the run has to."""
        state = RecurrentState.zeros(config, self._rows, device=device)
        nats = torch.zeros(2, dtype=torch.float64, device=device)
        with torch.no_grad():
            for step in range(self._sampler.windows):
                window = self._sampler.window(step, self._workers.rank * self._rows, self._rows)
                inputs, targets = (torch.from_numpy(ids).to(device) for ids in window)
                logits, state = model(inputs, state, None, inputs == EOT_ID)
                summed = F.cross_entropy(
                    logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
                )
                nats += torch.stack([summed.double(), (targets != IGNORED).sum().double()])
        total, tokens = self._workers.sum(nats).tolist()
        bits = total / math.log(2)
        return HeldOut(total / tokens, bits / self._text_bytes if self._text_bytes else None, int(tokens))


def held_out_bits(model: nn.Module, ids: np.ndarray, *, ctx: int = 512) -> float:
    """Return the total bits the model pays for ``ids`` (led by the end-of-text id), state carried."""
    bits, state = 0.0, None
    stream = torch.from_numpy(ids.astype(np.int64))[None]
    with torch.no_grad():
        for start in range(0, stream.shape[1] - 1, ctx):
            piece = stream[:, start : start + ctx + 1]
            logits, state = model(piece[:, :-1], state, None, piece[:, :-1] == EOT_ID)
            bits += float(F.cross_entropy(logits[0].float(), piece[0, 1:], reduction="sum")) / math.log(2)
    return bits
