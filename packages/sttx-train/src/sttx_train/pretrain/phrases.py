"""Pretraining in phrases: each stream has a phrase table that grows on the stream's own text.

The online learner's code decides what a phrase is, how it enters the model and what it costs. A table lives
as long as its stream: it outlives documents and is emptied at the start of an epoch. No phrase spans two
documents. The price of a window is that of its base tokens, whether it is read in phrases or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from sttx_core.errors import UsageError
from sttx_core.hypernet import HyperNetwork
from sttx_core.phrases import DynamicTokenizer
from sttx_core.saved_state import Count, State, checked, damaged
from sttx_core.tokenizers.protocol import EOT_ID
from sttx_train.data.sampling import IGNORED, WindowBatch
from sttx_train.online.config import PHRASES
from sttx_train.online.phrase_head import Batch, PhraseHead, Row
from sttx_train.pretrain.config import PretrainConfig
from sttx_train.pretrain.optimizer import weights
from sttx_train.rwkv7 import LanguageModel, RecurrentState
from sttx_train.saved_tensors import check_tensors
from sttx_train.workers import Workers

_DRAW = 1  # makes these draws differ from the sampler's, which use the same seed


class _Stream(State):
    """What `PhraseStreams.state_dict` returns for a stream."""

    table: dict[str, Any]
    context: list[Count]


class PhraseStreams:
    """The phrase table and the context of each stream.

    Args:
        rows: streams side by side.
        vocab_size: rows of the model's embedding.
        eot_id: the end-of-text id.

    Attributes:
        tables: the phrase table of each stream.
        contexts: each stream's base tokens that its state has not read yet; empty before its first window.
    """

    def __init__(self, rows: int, vocab_size: int, eot_id: int = EOT_ID) -> None:
        self._rows, self._vocab_size, self.eot_id = rows, vocab_size, eot_id
        self.tables: list[DynamicTokenizer] = []
        self.contexts: list[tuple[int, ...]] = []
        self.reset()

    def reset(self) -> None:
        """Empty all tables: the streams start again."""
        self.tables = [DynamicTokenizer(self._vocab_size, PHRASES) for _ in range(self._rows)]
        self.contexts = [()] * self._rows

    def row(self, index: int, inputs: np.ndarray, targets: np.ndarray) -> Row:
        """Return a stream's window as a row; after the end of its text, one token that is not paid for."""
        context = self.contexts[index] or (int(inputs[0]),)
        ids = tuple(targets[targets != IGNORED].tolist())
        if not ids:
            return Row(context=context, ids=(self.eot_id,), paid=(False,))
        return Row(context=context, ids=ids)

    def advance(self, index: int, ids: Sequence[int], last: int) -> None:
        """Let a stream's table learn from a window's ids; its last phrase becomes the context."""
        table = self.tables[index]
        self.contexts[index] = table.tokens(last)
        for is_mark, document in groupby(ids, self.eot_id.__eq__):
            if not is_mark:
                table.cut()
                table.observe(table.merge(tuple(document)))

    def state_dict(self) -> list[dict[str, Any]]:
        """Return all tables and contexts, stream by stream, JSON-able."""
        return [
            {"table": table.state_dict(), "context": list(context)}
            for table, context in zip(self.tables, self.contexts, strict=True)
        ]

    def load_state_dict(self, saved: Sequence[Mapping[str, Any]]) -> None:
        """Continue from a `state_dict`.

        Raises:
            CheckpointError: it is damaged, or has another number of streams.
        """
        streams = checked(list[_Stream], saved, "phrases")
        if len(streams) != self._rows:
            raise damaged("phrases", f"there are {len(streams)} streams, and this run has {self._rows}")
        for table, stream in zip(self.tables, streams, strict=True):
            table.load_state_dict(stream.table)
            longest = table.config.max_length
            if len(stream.context) > longest or max(stream.context, default=0) >= self._vocab_size:
                raise damaged("phrases", f"a context has more than {longest} ids, or one too large")
        self.contexts = [tuple(stream.context) for stream in streams]


class PhraseModel(nn.Module):
    """A model and its hypernetwork as one module, so that processes share the gradients of both."""

    def __init__(self, model: LanguageModel, hypernet: HyperNetwork) -> None:
        super().__init__()
        self.model, self.hypernet = model, hypernet

    def forward(
        self,
        streams: PhraseStreams,
        first: int,
        window: WindowBatch,
        merged: Sequence[bool],
        state: RecurrentState,
    ) -> tuple[Tensor, RecurrentState, int]:
        """Price windows and advance their streams.

        Args:
            streams: all streams.
            first: number of the stream in the window's first row.
            window: base ids and the target of each.
            merged: which rows are read in phrases.
            state: the states that the rows start from.

        Returns:
            The sum of nats, the states after the second to last phrase, and the steps of the model.
        """
        heads, batches, inputs, outputs, steps = [], [], [], [], 0
        for index, (ids, targets) in enumerate(zip(*window, strict=True)):
            head = PhraseHead(self.model, self.hypernet, streams.tables[first + index])
            row = streams.row(first + index, ids, targets)
            batch = head.prepare([row], phrases=bool(merged[index]))
            rows_in, rows_out = head.rows() if batch.phrases else (None, None)
            inputs.append(head.embed(batch.inputs_BT, rows_in)[0])
            heads.append(head)
            batches.append(batch)
            outputs.append(rows_out)
            if row.paid is None:
                streams.advance(first + index, row.ids, batch.merged[0][-1])
                steps += batch.steps[0]
        hidden, state = self._read(inputs, batches, state, streams.eot_id)
        nats = torch.stack(
            [
                head.price(hidden[index : index + 1], batch, rows_out)[0].sum()
                for index, (head, batch, rows_out) in enumerate(zip(heads, batches, outputs, strict=True))
            ]
        ).sum()
        # If nothing was merged, nothing uses the hypernetwork; DDP waits for its gradients all the same.
        unused = sum(weight.sum() for weight in self.hypernet.parameters())
        return nats + 0.0 * unused, state, steps

    def _read(
        self, inputs: Sequence[Tensor], batches: Sequence[Batch], state: RecurrentState, eot_id: int
    ) -> tuple[Tensor, RecurrentState]:
        lengths = [len(row) for row in inputs]
        starts = pad_sequence([batch.inputs_BT[0] == eot_id for batch in batches], batch_first=True)
        lengths_B = None if len(set(lengths)) == 1 else torch.tensor(lengths, device=starts.device)
        return self.model.hidden(pad_sequence(list(inputs), batch_first=True), state, lengths_B, starts)


class PhraseTraining:
    """The hypernetwork of a run, and the phrases of its streams.

    Args:
        config: how to train; its ``phrase_prob`` is above 0.
        model: the model that is trained.
        hypernet: the hypernetwork to continue; a new one when None.
        workers: the processes of the run.
        rows: number of this process's streams.
        eot_id: the end-of-text id.

    Raises:
        UsageError: the model is split over several processes.
    """

    def __init__(
        self,
        config: PretrainConfig,
        model: LanguageModel,
        hypernet: HyperNetwork | None,
        workers: Workers,
        rows: int,
        eot_id: int = EOT_ID,
    ) -> None:
        if workers.count > 1 and config.parallel == "fsdp":
            raise UsageError("--phrase-prob above 0 cannot be used with --parallel fsdp: use --parallel ddp")
        hypernet = hypernet or HyperNetwork(model.config.hidden_size, seed=config.seed)
        self.module = PhraseModel(model, hypernet.to(model.device).float().train().requires_grad_(True))
        self._config, self._workers, self._rows = config, workers, rows
        self.streams = PhraseStreams(rows, model.config.vocab_size, eot_id)

    def merged(self, step: int) -> np.ndarray:
        """Return which of this process's rows are read in phrases at a step, drawn by seed and step."""
        workers, rows = self._workers, self._rows
        drawn = np.random.default_rng([self._config.seed, step, _DRAW]).random(rows * workers.count)
        return drawn[workers.rank * rows :][:rows] < self._config.phrase_prob

    def state_dict(self) -> dict[str, Any]:
        """Return the hypernetwork's weights and the tables of all streams. Every process must call this.

        Returns:
            ``tensors``, by file and name, and ``documents``, JSON-able, by file, as the online learner does.
            The hypernetwork's optimizer state is not among them: its optimizer is the trainer's.
        """
        return {
            "tensors": {"hypernet": weights(self.module.hypernet)},
            "documents": {"phrases": self._workers.collect(self.streams.state_dict())},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned, with this process's share of the streams."""
        hypernet = state["tensors"]["hypernet"]
        check_tensors("hypernet.safetensors", hypernet, self.module.hypernet.state_dict())
        self.module.hypernet.load_state_dict(hypernet)
        start = self._workers.rank * self._rows
        self.streams.load_state_dict(state["documents"]["phrases"][start : start + self._rows])
