"""`Pretrainer`: data in, a trained model out, in four lines. Connects data, trainer and run folder.

```python
trainer = Pretrainer(PretrainConfig(epochs=20, validation=0.1), "run")
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
from sttx_train.architectures import architecture_of, build_model
from sttx_train.data.arrays import ArrayDocuments, require_rows
from sttx_train.data.documents import Documents, split
from sttx_train.data.reader import Data
from sttx_train.data.scanning import text_bytes
from sttx_train.devices import Device, choose_device, choose_products
from sttx_train.formats import LoadedModel, load_model, save_model
from sttx_train.pretrain.config import META, PretrainConfig, meta_facts
from sttx_train.pretrain.start import StartingModel, TrainingData, training_kernel
from sttx_train.pretrain.trainer import PretrainStep, Trainer
from sttx_train.run_folder import ExtraWriter, RunFolder, Writer, open_writers, require_installed
from sttx_train.rwkv7 import LanguageModel, compile_kernels, kernels_are_compiled
from sttx_train.rwkv7.stored import check_places
from sttx_train.saved_tensors import check_tensors
from sttx_train.workers import Workers, joined, own_device

Array = np.ndarray | Sequence[Sequence[int]]

_RECENT = 100  # steps whose mean is reported as the training loss
_KEEP = 2  # checkpoints


@dataclass(frozen=True)
class PretrainReport:
    """The result of a run.

    Attributes:
        steps: number of steps, including those before a resume.
        epochs: how often the data was read.
        tokens: tokens trained on.
        parameters: number of the model's parameters.
        loss: nats per token: ``train``, the mean of this process's last hundred steps; ``validation``, the
            lowest that was measured; ``validation_phrases``, of the same model in phrases. None if not
            measured.
        bpb: bits per byte of ``validation`` and ``validation_phrases``; None if the data is not text.
        steps_per_byte: steps of the model per byte of the same; None if there is no bpb.
        seconds: training time.
        tokens_per_second: tokens per second of training time.
        skipped: number of skipped steps.
        checkpoint: the run folder; None if there is none.
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

    Under `torchrun` every process makes one and uses it in the same way; the first process reports and saves.

    Args:
        config: how to train.
        directory: the run folder, for checkpoints and metrics; nothing is written when None.
        tokenizer: the tokenizer of the data. None: that of ``start``, or the integers of an array.
        start: a model to continue: a folder, a file or a name; a new model when None.
        device: where to train; ``auto`` chooses a CUDA device if there is one.
        resume: continue the run in ``directory``.
        log: where the metrics of each step go beside ``metrics.jsonl``.
        say: called with a sentence for the user.

    Attributes:
        start: the model to continue, which is trained in place; None for a new one.

    Raises:
        UsageError: the folder holds another run or none to resume, or cannot be written; ``resume`` or
            ``log`` lacks a folder; a package that ``log`` needs is not installed.
        CheckpointError: the run to resume is damaged.
        ModelError: ``start`` is not a model.

    >>> sizes = {"hidden_size": 32, "layers": 1, "head_size": 16, "ctx": 16, "batch": 2}
    >>> config = PretrainConfig(**sizes, steps=3, validation=0.2)
    >>> report = Pretrainer(config).fit(np.arange(80).reshape(10, 8) % 5)
    >>> report.steps, report.tokens, report.loss["validation"] is not None
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
        log: Sequence[ExtraWriter] = (),
        say: Callable[[str], None] | None = None,
    ) -> None:
        if directory is None and (resume or log):
            raise UsageError("a run without a folder cannot be resumed or logged: give a directory")
        require_installed(log)
        self.config, self.tokenizer = config, tokenizer
        self.folder = None if directory is None else RunFolder(Path(directory), kind="pretrain", keep=_KEEP)
        if self.folder is not None:
            self.folder.expect(resume=resume)
        self.trainer: Trainer | None = None
        self.start: LoadedModel | None = None if start is None else load_model(start)
        self._say = say or (lambda text: None)
        if self.start is not None:
            self._settle_vocabulary(self.start)
        self._device, self._resume, self._log = self._choose_device(device), resume, tuple(log)
        self._recent: deque[float] = deque(maxlen=_RECENT)

    @property
    def model(self) -> LanguageModel:
        """The model as it is now; there is none before `fit` or `steps`."""
        return self._running_trainer().model

    def fit(
        self,
        data: Data | Documents | Array,
        on_step: Callable[[PretrainStep], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> PretrainReport:
        """Train until the configured end.

        Args:
            data: integers ``[sequences, length]`` in an array or lists; documents; the result of `open_data`.
            on_step: called after each step.
            stop: called after each step; if it returns true in any process, the run saves and ends.

        Raises:
            DataError: there is nothing to train on, or the training diverged; a checkpoint was saved.
            UsageError: the data does not fit the tokenizer or the run to resume, or this Pretrainer was used.
        """
        for step in self.steps(data):
            if on_step is not None:
                on_step(step)
            if stop is not None and self._running_trainer().workers.any(stop()):
                self.save()
                self._running_trainer().gather()
                break
        return self.report()

    def steps(self, data: Data | Documents | Array) -> Iterator[PretrainStep]:
        """Train like `fit`, yielding after every step; call `save` before you leave the loop early."""
        if self.trainer is not None:
            raise UsageError(
                "this Pretrainer has trained already: make another, with resume=True to continue"
            )
        with joined(self._device) as workers, ExitStack() as stack:
            trainer = self.trainer = self._trainer(data, workers)
            if trainer.progress() >= 1:
                self._say(f"nothing is left to train: the run reached its limits at step {trainer.step}")
            writers: list[Writer] = []
            if self.folder is not None and workers.is_first:
                self.folder.start()
                config = vars(trainer.config)
                opened = open_writers(self._log, self.folder.path, step=trainer.step, config=config)
                writers = stack.enter_context(opened)
            for step in trainer.run():
                if not step.skipped:
                    self._recent.append(step.loss)
                for writer in writers:
                    writer.write(step.step, step.row())
                yield step

    def save(self) -> None:
        """Write a checkpoint now."""
        self._running_trainer().save()

    def save_model(self, out: str | os.PathLike[str], **options: Any) -> None:
        """Write the model with the lowest validation loss, which the run folder keeps.

        Without a run folder or validation data, write the current model.

        Args:
            out: the model's folder.
            options: further arguments of :func:`sttx_train.formats.save_model`.

        Raises:
            DataError: the training diverged: the validation loss was never finite.
        """
        trainer = self._running_trainer()
        if trainer.diverged:
            raise DataError(
                "the validation loss was never finite: the training diverged, and the model is not written; "
                "start again with a lower --lr"
            )
        model, hypernet = trainer.model, trainer.hypernet
        if self.folder is not None and trainer.best is not None:
            best = self.folder.load_best().tensors
            model = build_model(model.config, initialize=False)
            check_tensors("model.safetensors", best["model"], model.state_dict())
            model.load_state_dict(best["model"])
            check_places(model, str(self.folder.path))
            if hypernet is not None:
                hypernet = HyperNetwork(model.config.hidden_size)
                check_tensors("hypernet.safetensors", best.get("hypernet", {}), hypernet.state_dict())
                hypernet.load_state_dict(best["hypernet"])
        metadata = {META: meta_facts(self.config)} if self.config.meta else None
        save_model(model, out, tokenizer=self.tokenizer, hypernet=hypernet, metadata=metadata, **options)

    def checkpoints(self) -> list[Path]:
        """Return the run's checkpoints, oldest first; the best one, if there is one, comes last."""
        if self.folder is None:
            return []
        return [*self.folder.checkpoints.folders(), *self.folder.best.folders()]

    def report(self) -> PretrainReport:
        """Return the result of the run so far."""
        trainer = self._running_trainer()
        best = trainer.best
        return PretrainReport(
            steps=trainer.step,
            epochs=trainer.epochs,
            tokens=trainer.tokens,
            parameters=trainer.parameters,
            loss={
                "train": fmean(self._recent) if self._recent else None,
                "validation": best.loss if best else None,
                "validation_phrases": best.phrases_loss if best else None,
            },
            bpb={
                "validation": best.bpb if best else None,
                "validation_phrases": best.phrases_bpb if best else None,
            },
            steps_per_byte={
                "validation": best.steps_per_byte if best else None,
                "validation_phrases": best.phrases_steps_per_byte if best else None,
            },
            seconds=trainer.seconds,
            tokens_per_second=trainer.tokens / trainer.seconds if trainer.seconds else 0.0,
            skipped=trainer.skipped,
            checkpoint=None if self.folder is None else str(self.folder.path),
        )

    def _running_trainer(self) -> Trainer:
        if self.trainer is None:
            raise UsageError("there is no model yet: call `fit` or `steps` with the data first")
        return self.trainer

    def _trainer(self, data: Data | Documents | Array, workers: Workers) -> Trainer:
        documents = self._documents(data)
        config = self.config
        if not config.vocab_size:
            config = replace(config, vocab_size=self._vocab_size(documents))
        start = self.start
        if start is not None:
            for note in start.notes:
                self._say(f"model: {note}")
            sizes = start.model.config
            config = replace(
                config,
                architecture=architecture_of(sizes),
                hidden_size=sizes.hidden_size,
                layers=sizes.num_layers,
                head_size=sizes.head_size,
            )
            if start.hypernet is not None and not config.phrase_prob:
                self._say("the model's hypernetwork is not used: give --phrase-prob to train it too")
        if config.meta and workers.count > 1:
            raise UsageError("--meta cannot be used in several processes, which share only first gradients")
        train, validation = split(documents, config.validation, config.seed)
        text_size = text_bytes(validation, self.tokenizer) if isinstance(self.tokenizer, Tokenizer) else None
        return Trainer(
            config,
            TrainingData(
                train=train,
                validation=validation,
                text_bytes=text_size,
                tokenizer_sha256=None if self.tokenizer is None else self.tokenizer.sha256,
            ),
            start=start and StartingModel(model=start.model, hypernet=start.hypernet, sha256=start.sha256),
            folder=self.folder,
            resume=self._resume,
            workers=workers,
            say=self._say if workers.is_first else None,
        )

    def _settle_vocabulary(self, start: LoadedModel) -> None:
        """Use the vocabulary of the model to start from, or say that the given one differs."""
        if self.tokenizer is None:
            self.tokenizer = start.vocabulary
            return
        with suppress(ModelError):  # a bare weights file has no vocabulary
            if start.vocabulary.sha256 != self.tokenizer.sha256:
                self._say(
                    f"{start.id} was made with another vocabulary: its embedding rows belong to other tokens"
                )

    def _choose_device(self, requested: Device) -> torch.device:
        """Choose a device and say why; under `torchrun`, the CUDA device of this process."""
        device, reason = choose_device(requested)
        device = own_device(device)
        plain = self.config.plain_recurrence and (not self.start or self.start.model.config.plain_recurrence)
        kernel = training_kernel(device, compile=self.config.compile, plain=plain)
        products = choose_products(device, self.config.bf16)
        self.config = replace(self.config, bf16=products.bf16)
        dtype = "products in bfloat16, weights in float32" if products.bf16 else "float32"
        kernel_line = f"kernel: {kernel.backend} ({kernel.reason})"
        self._say(f"device: {device} ({reason}); {dtype} ({products.reason}); {kernel_line}")
        if kernel.backend == "compiled":
            size = self.start.model.config.head_size if self.start else self.config.head_size
            if not kernels_are_compiled(size, learns=True):
                self._say("compiling the kernels, for half a minute, once on this machine")
                compile_kernels(size, learns=True)
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
