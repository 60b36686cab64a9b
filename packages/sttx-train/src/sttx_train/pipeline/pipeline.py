"""`TrainingPipeline`: `Pretrainer` with a folder of its own, for users of rwkv_trainer.

It knows where things are in the folder and what options are called there. Everything else is `Pretrainer`'s.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from sttx_core.errors import UsageError
from sttx_core.tokenizers import AnyTokenizer, IntegerTokenizer, TrieTokenizer
from sttx_train.checkpoint import CheckpointStore
from sttx_train.data import ArrayDocuments, Documents, open_data, pair_paths, vocabulary_identity, write_pair
from sttx_train.data.arrays import require_rows
from sttx_train.data.documents import Joined, fingerprint, split
from sttx_train.data.reader import Data
from sttx_train.data.sampling import Sampler
from sttx_train.devices import Device
from sttx_train.inspect import inspect_model, inspect_path
from sttx_train.pipeline.config import DataConfig, ModelConfig, TrainingConfig, pretrain_config
from sttx_train.pretrain import PretrainConfig, Pretrainer, PretrainReport
from sttx_train.run_folder import ExtraWriter

_LARGEST = 359  # of the default tokenizer's values: degrees of a circle, as in rwkv_trainer
_OF_CHECKPOINT = ("model_type", "n_layer", "n_embd", "vocab_size", "head_size_a")


class TrainingPipeline:
    """Prepares data, trains a model on it and keeps all of it in one folder.

    Args:
        work_dir: the folder: ``data`` gets the encoded data, ``run`` the checkpoints, ``model`` the model.
        model_config: the model.
        training_config: how to train.
        data_config: how data is prepared.
        tokenizer: of the data; by default integers from 0 to 359.
        device: where to train; ``auto`` chooses a CUDA device if there is one.
        log: where metrics go beside ``run/metrics.jsonl``: ``tensorboard``, ``wandb``.
        say: called with a sentence for the user.

    >>> from tempfile import mkdtemp
    >>> pipeline = TrainingPipeline(
    ...     mkdtemp(),
    ...     ModelConfig(n_layer=1, n_embd=32, head_size_a=16, ctx_len=16),
    ...     TrainingConfig(micro_bsz=2),
    ...     DataConfig(validation=0.0),
    ...     IntegerTokenizer(4),
    ... )
    >>> report = pipeline.train(np.arange(80).reshape(10, 8) % 5, num_epochs=2)
    >>> report.epochs, pipeline.latest_checkpoint().name
    (2.0, 'step-00000006')
    """

    def __init__(
        self,
        work_dir: str | os.PathLike[str],
        model_config: ModelConfig | None = None,
        training_config: TrainingConfig | None = None,
        data_config: DataConfig | None = None,
        tokenizer: AnyTokenizer | None = None,
        *,
        device: Device = "auto",
        log: Sequence[ExtraWriter] = (),
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.work_dir = Path(work_dir)
        self.model_config = model_config or ModelConfig()
        self.training_config = training_config or TrainingConfig()
        self.data_config = data_config or DataConfig()
        self.tokenizer: AnyTokenizer = IntegerTokenizer(_LARGEST) if tokenizer is None else tokenizer
        self._device: Device = device
        self._log, self._say = tuple(log), say
        self._pair: Path | None = None

    # -- data ----------------------------------------------------------------------------------------------

    def prepare_data(self, data: np.ndarray | Sequence[int] | Sequence[Sequence[int]]) -> None:
        """Prepare whole numbers: sequences ``[sequences, length]``, or one that is cut.

        Raises:
            UsageError: the tokenizer is one of text; there is a run on other data in the folder.
            DataError: a value is outside the tokenizer's.
        """
        rows, length = np.asarray(data), self.data_config.sequence_length
        parts = [rows]
        if rows.ndim == 1:
            whole = len(rows) // length * length
            parts = [rows[:whole].reshape(-1, length), rows[whole:].reshape(1, -1)]
        checked = [require_rows(part, "the array") for part in parts if part.size]
        self._write(_joined([ArrayDocuments(part, self.tokenizer) for part in checked]))

    def prepare_data_from_file(self, path: str | os.PathLike[str]) -> None:
        """Prepare a file or folder of any kind that `open_data` reads, such as ``.npy``.

        Raises:
            UsageError: nothing is there, it needs another tokenizer, or there is a run on other data.
            DataError: it is damaged or empty.
        """
        self.work_dir.mkdir(parents=True, exist_ok=True)
        opened = open_data([Path(path)], self.tokenizer, say=self._say, folder=self.work_dir)
        self._write(opened.documents)

    def prepare_data_from_jsonl(
        self, path: str | os.PathLike[str], *, vocab_file_path: str | os.PathLike[str] | None = None
    ) -> None:
        """Prepare JSON lines: texts, lists of whole numbers, or texts of numbers between spaces.

        Args:
            path: the file.
            vocab_file_path: a vocabulary to encode texts with, instead of the tokenizer.

        Raises:
            UsageError, DataError: as `prepare_data_from_file`.
        """
        if vocab_file_path is not None:
            self.tokenizer = TrieTokenizer(vocab_file_path)
        self.prepare_data_from_file(path)

    def use_existing_data(self, prefix: str | os.PathLike[str]) -> None:
        """Train on a pair of ``.bin`` and ``.idx``, where it is.

        Raises:
            UsageError: there is no pair, or it was made with another vocabulary.
            DataError: it is damaged.
        """
        open_data([Path(prefix)], self.tokenizer, say=self._say)
        self._pair = Path(prefix)

    def _write(self, documents: Documents) -> None:
        """Write the documents as a pair, unless it is there already."""
        prefix = self.work_dir / "data" / "train"
        files = pair_paths(prefix)
        if all(file.exists() for file in files):
            if fingerprint(self._open(prefix).documents) == fingerprint(documents):
                self._pair = prefix
                return
            if self.list_checkpoints():
                raise UsageError(
                    f"{str(self.work_dir)!r} holds a run on other data: give the same, or another work_dir"
                )
            for file in files:
                file.unlink()
        prefix.parent.mkdir(parents=True, exist_ok=True)
        size, identity = self.tokenizer.vocab_size, vocabulary_identity(self.tokenizer)
        write_pair(documents, prefix, vocab_size=size, identity=identity, eot_id=self.tokenizer.eot_id)
        self._pair = prefix

    def _open(self, prefix: Path) -> Data:
        return open_data([prefix], self.tokenizer, say=self._say)

    def _prepared(self) -> Data:
        """Return the data, also what another object has prepared in the folder."""
        prefix = self._pair or self.work_dir / "data" / "train"
        if self._pair is None and not all(file.exists() for file in pair_paths(prefix)):
            raise UsageError("there is no data to train on: give some to `train`, or prepare some")
        return self._open(prefix)

    # -- training ------------------------------------------------------------------------------------------

    def train(
        self,
        data: np.ndarray | Sequence[Sequence[int]] | None = None,
        num_epochs: int = 100,
        continue_training: bool = False,
        random_seed: int | None = None,
    ) -> PretrainReport:
        """Train, and write the model to ``model``.

        Args:
            data: as `prepare_data` takes it; None for the data that was prepared.
            num_epochs: how often the data is read, counted from the start of the run, so a run that continues
                reads it ``num_epochs`` times altogether.
            continue_training: continue the run in the folder from its last checkpoint.
            random_seed: of the initial weights and the order of the documents; None for 0, or for that of the
                run that continues.

        Raises:
            UsageError: there is no data; there is a run and it is not to continue, or none and it is; the
                run has other options.
            DataError: the training diverged; a checkpoint was saved.
        """
        if data is not None:
            self.prepare_data(data)
        config = self._config(num_epochs, self._seed(random_seed, continue_training))
        return self._fit(config, resume=continue_training)

    def train_from_checkpoint(
        self,
        path: str | os.PathLike[str],
        num_epochs: int = 100,
        override: Mapping[str, Any] | None = None,
        random_seed: int | None = None,
    ) -> PretrainReport:
        """Train a model further that comes from anywhere, and write it to ``model``.

        Architecture and sizes are those of its tensors.

        Args:
            path: a ``.pth`` or ``.safetensors`` file, a folder, or a name, as `load_model` takes it.
            num_epochs: how often the data is read.
            override: options of the three configs to use instead, by name: ``{"ctx_len": 2048}``.
            random_seed: of the order of the documents.

        Raises:
            UsageError: as `train`; an option is unknown, or is the checkpoint's.
            ModelError: it is not a model.
        """
        given = dict(override or {})
        for name in sorted(given.keys() & set(_OF_CHECKPOINT)):
            raise UsageError(f"{name} is that of {str(path)!r}: it cannot be overridden")
        for attribute in ("model_config", "training_config", "data_config"):
            current = getattr(self, attribute)
            own = {field.name: given.pop(field.name) for field in fields(current) if field.name in given}
            setattr(self, attribute, replace(current, **own))
        if given:
            raise UsageError(f"unknown option {sorted(given)[0]!r} in override")
        config = self._config(num_epochs, self._seed(random_seed, False))
        return self._fit(replace(config, vocab_size=0), resume=False, start=path)

    def _fit(
        self, config: PretrainConfig, *, resume: bool, start: str | os.PathLike[str] | None = None
    ) -> PretrainReport:
        self._require_run(resume)
        data = self._prepared()
        every = self.training_config.epoch_save * _steps_of_an_epoch(data.documents, config)
        pretrainer = Pretrainer(
            replace(config, checkpoint_every=every, eval_every=every),
            self.run_dir,
            tokenizer=self.tokenizer,
            start=start,
            device=self._device,
            resume=resume,
            log=self._log,
            say=self._say,
        )
        report = pretrainer.fit(data)
        pretrainer.save_model(self.model_dir)
        return report

    def _config(self, epochs: int, seed: int) -> PretrainConfig:
        if epochs < 1:
            raise UsageError(f"num_epochs must be at least 1, not {epochs!r}")
        size = self.tokenizer.vocab_size
        if 0 < self.model_config.vocab_size < size:
            raise UsageError(
                f"vocab_size {self.model_config.vocab_size!r} is less than the {size} ids of the tokenizer"
            )
        return pretrain_config(
            self.model_config, self.training_config, self.data_config, epochs=epochs, seed=seed
        )

    def _seed(self, given: int | None, continues: bool) -> int:
        if given is not None:
            return given
        latest = self.latest_checkpoint() if continues else None
        return 0 if latest is None else int(json.loads((latest / "config.json").read_text())["seed"])

    def _require_run(self, continues: bool) -> None:
        found = bool(self.list_checkpoints())
        if found and not continues:
            raise UsageError(
                f"{str(self.work_dir)!r} holds a run: continue it with train(continue_training=True), or "
                "give another work_dir"
            )
        if continues and not found:
            raise UsageError(f"{str(self.work_dir)!r} holds no run to continue: leave out continue_training")

    # -- what there is -------------------------------------------------------------------------------------

    @property
    def run_dir(self) -> Path:
        """The run folder, which `sttx inspect`, `sttx plot` and `sttx pretrain --resume` take."""
        return self.work_dir / "run"

    @property
    def model_dir(self) -> Path:
        """The model's folder, which every ``--model`` takes."""
        return self.work_dir / "model"

    def list_checkpoints(self) -> list[Path]:
        """Return the run's last checkpoints in the order of their steps, as numbers."""
        return CheckpointStore(self.run_dir).folders()

    def latest_checkpoint(self) -> Path | None:
        """Return the checkpoint of the latest step; None if there is none."""
        return next(reversed(self.list_checkpoints()), None)

    def inspect_checkpoint(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """Return what a checkpoint of a run or a model from anywhere is, without reading its weights.

        Raises:
            UsageError: nothing is there.
            CheckpointError, ModelError: it is damaged, or neither.
        """
        return inspect_path(path) if (Path(path) / "manifest.json").is_file() else inspect_model(path)


def _joined(parts: list[Documents]) -> Documents:
    return parts[0] if len(parts) == 1 else Joined(parts)


def _steps_of_an_epoch(documents: Documents, config: PretrainConfig) -> int:
    """Return how many steps read the training part of the documents once."""
    train, _ = split(documents, config.validation, config.seed)
    return Sampler(train, rows=config.batch, context=config.ctx, seed=config.seed).windows_per_epoch
