"""What examples cost, each read from the state that is tuned. Knows no files and no schedule."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sttx_train.online import OnlineLearner, Window
from sttx_train.online.carried import Carried
from sttx_train.tune.examples import Example

_TOKENS = 1 << 13  # most tokens of a pass when nothing is learned
_PROBABILITIES = 1 << 27  # most of a pass: half a gigabyte, several times


def nats_of(learner: OnlineLearner, examples: Sequence[Example], *, bf16: bool) -> Tensor:
    """Return the price of each example ``[B]`` in nats, each from the tuned state alone; differentiable.

    Args:
        learner: whose state is tuned, and added at a document's start.
        examples: of any lengths; the shorter ones are padded.
        bf16: compute matrix products in bfloat16.
    """
    windows = [
        Window(document=str(row), ids=example.ids, paid=None if all(example.paid) else example.paid)
        for row, example in enumerate(examples)
    ]
    carried = [Carried(None, (example.context,)) for example in examples]
    with torch.autocast(learner.s0.device.type, torch.bfloat16, enabled=bf16):
        return learner.networks.read(windows, carried, phrases=False)[1].nats_B


def bits_per_byte(learner: OnlineLearner, examples: Sequence[Example], *, rows: int, bf16: bool) -> float:
    """Return the bits per byte of what is learned of examples; NaN if it has no bytes.

    Args:
        learner: whose state is tuned.
        examples: at least one.
        rows: most examples of a pass.
        bf16: compute matrix products in bfloat16.
    """
    nats, size = 0.0, sum(example.bytes for example in examples)
    with torch.no_grad():
        most = min(_TOKENS, _PROBABILITIES // learner.model.config.vocab_size)
        for batch in _batches(examples, rows, most):
            nats += float(nats_of(learner, batch, bf16=bf16).double().sum())
    return nats / math.log(2) / size if size else math.nan


def _batches(examples: Sequence[Example], rows: int, most: int) -> Iterator[list[Example]]:
    """Yield examples of similar length together, with at most so many rows and tokens."""
    batch: list[Example] = []
    for example in sorted(examples, key=lambda one: len(one.ids)):
        if len(batch) == rows or (batch and len(example.ids) * (len(batch) + 1) > most):
            yield batch
            batch = []
        batch.append(example)
    if batch:
        yield batch
