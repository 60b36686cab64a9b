"""`Pretrainer`: data in, a trained model out, in four lines. Ties data, trainer, metrics and files together.

```python
trainer = Pretrainer(PretrainConfig(epochs=20, held_out=0.1), "run")
report = trainer.fit(np.load("sequences.npy"))     # integers [sequences, length]
trainer.save_model("model")
print(report.loss, [path.name for path in trainer.checkpoints()])
```
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from sttx_core.errors import DataError, ModelError, UsageError
from sttx_core.hypernet import HyperNetwork
from sttx_core.tokenizers import AnyTokenizer, IntegerTokenizer, Tokenizer
from sttx_train.checkpoint.store import CheckpointStore
from sttx_train.data.arrays import ArrayDocuments, require_rows
from sttx_train.data.documents import Documents, split
from sttx_train.data.reader import Data
from sttx_train.data.scanning import text_bytes
from sttx_train.devices import Device, choose_device
from sttx_train.environment import local_rank, torchrun_launched
from sttx_train.formats import LoadedModel, load_model, save_model
from sttx_train.pretrain.config import PretrainConfig
from sttx_train.pretrain.metrics import (
    METRICS,
    Also,
    JsonLines,
    TensorBoard,
    WeightsAndBiases,
    Writer,
    require_installed,
)
from sttx_train.pretrain.parallel import Workers, joined
from sttx_train.pretrain.trainer import BEST, PretrainStep, Trainer
from sttx_train.rwkv7 import RWKV7
from sttx_train.wkv import choose_backend

Array = np.ndarray | Sequence[Sequence[int]]

_RECENT = 100  # steps whose mean is told as the loss of training


@dataclass(frozen=True)
class PretrainReport:
    """What a run came to.

    Attributes:
        steps: done, those before a resume among them.
        epochs: how often the data was read.
        tokens: trained on.
        parameters: of the model.
        loss: nats per token: ``train``, the mean of the last hundred steps of this process, ``held_out``, the
            best that was measured, and ``held_out_phrases``, the same model's over phrases; None where there
            is none.
        bpb: bits per byte of ``held_out`` and ``held_out_phrases``; None where that is no text.
        steps_per_byte: steps of the model for each byte of them; None where there is no bpb.
        seconds: of training.
        tokens_per_second: over all of them.
        skipped: steps that were left out.
        checkpoint: the run's folder; None if it has none.
    """

    steps: int
    epochs: float
    tokens: int
    parameters: int
    loss: dict[str, float | None]
    bpb: dict[str, float | None]
    steps_per_byte: dict[str, float | None]
    seconds: float
    tokens_per_second: float
    skipped: int
    checkpoint: str | None


class Pretrainer:
    """Trains a model on data.

    Under `torchrun` every process makes one and does the same with it; the first of them tells and saves.

    Args:
        config: how.
        directory: folder for checkpoints and metrics; None for neither.
        tokenizer: of the data. None: that of ``start``, or the integers up to the largest of an array.
        start: a model to go on from: a folder, a file, a name; from scratch when None.
        device: where to train; ``auto`` takes a CUDA device where there is one.
        resume: continue the run in ``directory``.
        log: where the numbers of each step go beside ``metrics.jsonl``.
        say: told in a sentence what a person should know.

    Raises:
        UsageError: the folder holds a run already, nothing to resume from is named, or what shall be logged
            to is not installed.
        CheckpointError: there is none to resume.
        ModelError: ``start`` is no model.

    >>> sizes = {"hidden_size": 32, "layers": 1, "head_size": 16, "ctx": 16, "batch": 2}
    >>> config = PretrainConfig(**sizes, steps=3, held_out=0.2)
    >>> report = Pretrainer(config).fit(np.arange(80).reshape(10, 8) % 5)
    >>> report.steps, report.tokens, report.loss["held_out"] is not None
    (3, 71, True)
    """

    def __init__(
        self,
        config: PretrainConfig,
        directory: str | os.PathLike[str] | None = None,
        *,
        tokenizer: AnyTokenizer | None = None,
        start: str | os.PathLike[str] | None = None,
        device: Device = "auto",
        resume: bool = False,
        log: Sequence[Also] = (),
        say: Callable[[str], None] | None = None,
    ) -> None:
        if directory is None and (resume or log):
            raise UsageError("a run without a folder cannot be resumed, and has nowhere to log to: name one")
        require_installed(log)
        self.config, self.tokenizer = config, tokenizer
        self.directory = None if directory is None else Path(directory)
        if self.directory is not None:
            CheckpointStore(self.directory).expect(run=resume)
        self.trainer: Trainer | None = None
        self._start: LoadedModel | None = None if start is None else load_model(start)
        self._say = say or (lambda said: None)
        if self._start is not None:
            self._settle_vocabulary(self._start)
        self._device, self._resume, self._log = self._chosen(device), resume, tuple(log)
        self._recent: deque[float] = deque(maxlen=_RECENT)

    @property
    def model(self) -> RWKV7:
        """The model as it is now; there is none before the first `fit` or `steps`."""
        return self._begun().model

    def fit(
        self,
        data: Data | Documents | Array,
        on_step: Callable[[PretrainStep], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> PretrainReport:
        """Train until the configured end.

        Args:
            data: integers ``[sequences, length]`` in an array or lists; documents; what `open_data` gave.
            on_step: called after each step.
            stop: asked after each step whether to save and end early; of several processes any one may.

        Raises:
            DataError: there is nothing to train on, or the loss came to nothing; a checkpoint was saved.
            UsageError: the data does not fit the tokenizer, or the run that is resumed; or this one has
                trained already.
        """
        for told in self.steps(data):
            if on_step is not None:
                on_step(told)
            if stop is not None and self._begun().workers.agree(stop()):
                self.save()
                self._begun().gather()
                break
        return self.report()

    def steps(self, data: Data | Documents | Array) -> Iterator[PretrainStep]:
        """Train as `fit` does, yielding after every step; whoever leaves early calls `save` first."""
        if self.trainer is not None:
            raise UsageError("this Pretrainer has trained already: make another, with resume=True to go on")
        with joined(self._device) as workers, ExitStack() as stack:
            trainer = self.trainer = self._trainer(data, workers)
            if trainer.progress() >= 1:
                self._say(f"nothing is left to train: the run is at its limits, at step {trainer.step}")
            writers: list[Writer] = self._writers(trainer) if workers.is_first else []
            for writer in writers:
                stack.callback(writer.close)
            for told in trainer.run():
                if not told.skipped:
                    self._recent.append(told.loss)
                for writer in writers:
                    writer.write(told.step, told.row())
                yield told

    def save(self) -> None:
        """Write a checkpoint now."""
        self._begun().save()

    def save_model(self, out: str | os.PathLike[str], **options: Any) -> None:
        """Write the model that did best on what is held out, which the run's folder keeps.

        Without a folder, or with nothing held out, it is the model as it is now.

        Args:
            out: the folder.
            options: of :func:`sttx_train.formats.save_model`.

        Raises:
            DataError: the model never had a price that is a number for what is held out.
        """
        trainer = self._begun()
        if trainer.diverged:
            raise DataError(
                "what is held out costs no number of bits: the model is worth nothing, and is not written; "
                "begin again with a lower --lr"
            )
        model, hypernet = trainer.model, trainer.hypernet
        if self.directory is not None and trainer.best is not None:
            best = CheckpointStore(self.directory / BEST).load().tensors
            model = RWKV7(model.config)
            model.load_state_dict(best["model"])
            if hypernet is not None:
                hypernet = HyperNetwork(model.config.hidden_size)
                hypernet.load_state_dict(best["hypernet"])
        save_model(model, out, tokenizer=self.tokenizer, hypernet=hypernet, **options)

    def checkpoints(self) -> list[Path]:
        """Return the run's checkpoints, oldest first, and last the best one if there is one."""
        if self.directory is None:
            return []
        folders = (self.directory, self.directory / BEST)
        return [path for folder in folders for path in CheckpointStore(folder).folders()]

    def report(self) -> PretrainReport:
        """Say what the run came to so far."""
        trainer = self._begun()
        best = trainer.best
        return PretrainReport(
            steps=trainer.step,
            epochs=trainer.epochs,
            tokens=trainer.tokens,
            parameters=trainer.parameters,
            loss={
                "train": fmean(self._recent) if self._recent else None,
                "held_out": best.loss if best else None,
                "held_out_phrases": best.phrases_loss if best else None,
            },
            bpb={
                "held_out": best.bpb if best else None,
                "held_out_phrases": best.phrases_bpb if best else None,
            },
            steps_per_byte={
                "held_out": best.steps_per_byte if best else None,
                "held_out_phrases": best.phrases_steps_per_byte if best else None,
            },
            seconds=trainer.seconds,
            tokens_per_second=trainer.tokens / trainer.seconds if trainer.seconds else 0.0,
            skipped=trainer.skipped,
            checkpoint=None if self.directory is None else str(self.directory),
        )

    def _begun(self) -> Trainer:
        if self.trainer is None:
            raise UsageError("there is no model yet: give the data first, to `fit` or `steps`")
        return self.trainer

    def _trainer(self, data: Data | Documents | Array, workers: Workers) -> Trainer:
        documents = self._documents(data)
        config = self.config
        if not config.vocab_size:
            config = replace(config, vocab_size=self._vocab_size(documents))
        start = self._start
        if start is not None:
            sizes = start.model.config
            config = replace(
                config,
                hidden_size=sizes.hidden_size,
                layers=sizes.num_layers,
                head_size=sizes.head_size,
            )
        train, held = split(documents, config.held_out, config.seed)
        hypernet = None if start is None else start.hypernet
        if hypernet is not None and not config.phrases:
            self._say(
                "the hypernetwork of the model to start from is left out: give --phrases to train it too"
            )
        texts = text_bytes(held, self.tokenizer) if isinstance(self.tokenizer, Tokenizer) else None
        return Trainer(
            config,
            train,
            held,
            text_bytes=texts,
            directory=self.directory,
            resume=self._resume,
            start=None if start is None else start.model,
            hypernet=hypernet,
            device=self._device,
            workers=workers,
            identity={
                "tokenizer_sha256": None if self.tokenizer is None else self.tokenizer.sha256,
                "base_sha256": None if start is None else start.sha256,
            },
            say=self._say if workers.is_first else None,
        )

    def _settle_vocabulary(self, start: LoadedModel) -> None:
        """Take the vocabulary of the model to start from, or say that the one given is another."""
        if self.tokenizer is None:
            self.tokenizer = start.vocabulary
            return
        with suppress(ModelError):  # a bare file of weights has none
            if start.vocabulary.sha256 != self.tokenizer.sha256:
                self._say(f"{start.id} was made with another vocabulary: its rows stand for other tokens")

    def _chosen(self, requested: Device) -> torch.device:
        """Choose a device and say why; of several CUDA devices the one that `torchrun` gives this process."""
        device, reason = choose_device(requested)
        if device.type == "cuda" and torchrun_launched():
            device = torch.device("cuda", local_rank())
            torch.cuda.set_device(device)
        kernel = choose_backend(device)
        number = "products in bfloat16, weights in float32" if self.config.bf16 else "float32"
        self._say(f"device: {device} ({reason}); {number}; kernel: {kernel.backend} ({kernel.reason})")
        return device

    def _documents(self, data: Data | Documents | Array) -> Documents:
        if isinstance(data, Data):
            return data.documents
        if not isinstance(data, np.ndarray | Sequence):
            return data
        rows = require_rows(data, "the array")
        if self.tokenizer is None:
            self.tokenizer = IntegerTokenizer(max(int(rows.max()), 0))
        return ArrayDocuments(rows, self.tokenizer)

    def _vocab_size(self, documents: Documents) -> int:
        if self.tokenizer is not None:
            return self.tokenizer.vocab_size
        raise UsageError(
            f"{len(documents.lengths)} documents of ids come without a vocabulary: give a tokenizer, or a "
            "vocab_size in the config"
        )

    def _writers(self, trainer: Trainer) -> list[Writer]:
        if self.directory is None:
            return []
        writers: list[Writer] = [JsonLines(self.directory / METRICS, trainer.step)]
        for also in self._log:
            if also == "tensorboard":
                writers.append(TensorBoard(self.directory / "tensorboard", trainer.step))
            else:
                writers.append(WeightsAndBiases(self.directory / "wandb", vars(trainer.config)))
        return writers
