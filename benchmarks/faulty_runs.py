"""Runs of `sttx` that a fault can strike, and the comparison of what they leave with an undisturbed run.

Each run is a forked process, which saves it the import of PyTorch. Knows no faults: `faults.py` does.
"""

import hashlib
import json
import os
import random
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import sttx_cli.commands.pretrain  # these three are imported once, not in each forked run
import sttx_cli.commands.train  # noqa: F401
import sttx_train.pretrain.pretrainer  # noqa: F401
from sttx_core.errors import CheckpointError
from sttx_core.tokenizers import ByteTokenizer
from sttx_train.checkpoint.store import CheckpointStore
from sttx_train.formats import save_model
from sttx_train.run_folder import METRICS
from sttx_train.run_folder.folder import BEST
from sttx_train.rwkv7 import RWKV7, RWKV7Config, initialize
from sttx_train.stream.trainer import TIME_FIELDS

# One window a step: with more, a run that reads history reads ahead, and one that follows does not.
TINY = "--window 64 --batch 1 --phrases on --replay-rows 1 --kernel chunked --threads 1 --checkpoint-every 2"
SIZES = "--hidden-size 32 --layers 1 --head-size 16 --ctx 32 --batch 2 --no-bf16 --threads 1"
LENGTH = "--steps 16 --validation 0.1 --eval-every 4 --checkpoint-every 2 --phrase-prob 0.5"
WORDS = ("the", "orchard", "keeps", "a", "list", "of", "trees", "and", "how", "much", "each", "tree", "bore")


class Run:
    """One command line that is interrupted and continued until it ends by itself.

    Args:
        folder: everything that the run reads and writes.

    Attributes:
        rows: the metrics of the undisturbed run, without times.
        end: what else the undisturbed run leaves, by name.
        seconds: how long the undisturbed run took.
        operations: how many operations it took on the run folder.
    """

    options = ""

    def __init__(self, folder: Path) -> None:
        self.folder, self.directory, self.log = folder, folder / "run", folder / "log"
        self.logs = folder.parent / "logs"
        self.store = CheckpointStore(self.directory)
        self.rows: list[dict[str, Any]] = []
        self.end: dict[str, Any] = {}
        self.seconds, self.operations = 0.0, 0
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def share_written(self) -> float:
        """How much of what the run reads is written, from 0 to 1."""
        return 1.0

    @property
    def is_complete(self) -> bool:
        """Whether everything that the run reads is written, so that it ends by itself."""
        return self.share_written == 1.0

    def grow(self, dice: random.Random) -> None:
        """Write more of what the run reads."""

    def words(self) -> list[str]:
        """Return the command line without the folder's options."""
        raise NotImplementedError

    def line(self) -> list[str]:
        """Return the command line that starts the run, or continues it if a checkpoint is there."""
        resume = ["--resume"] if self.store.latest() is not None else []
        return [*self.words(), *self.options.split(), "--checkpoint-dir", str(self.directory), *resume]

    def start_again(self) -> None:
        """Remove what an earlier run left."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def expect(self, count: Callable[[], int]) -> None:
        """Run to the end without a fault, and keep what the run leaves as the expected result.

        An earlier process may have done so.

        Args:
            count: returns the number of operations on the run folder.
        """
        known = self.folder / "expected.json"
        if not known.exists():
            started = time.monotonic()
            _, status = os.waitpid(fork(self.line(), self.log), 0)
            if status:
                raise RuntimeError(f"a run without any fault fails: {self.log.read_text()}")
            seconds, operations = time.monotonic() - started, count()
            known.write_text(json.dumps([self.metrics(), self.result(), seconds, operations]))
            self.start_again()
        self.rows, self.end, self.seconds, self.operations = json.loads(known.read_bytes())

    def metrics(self, size: int | None = None) -> list[dict[str, Any]]:
        """Return the rows in the first ``size`` bytes of the metrics, without times."""
        lines = (self.directory / METRICS).read_bytes()[:size].splitlines()
        return [_without(json.loads(line), TIME_FIELDS) for line in lines]

    def steps(self) -> int:
        """Return how many steps the metrics have."""
        metrics = self.directory / METRICS
        return metrics.read_bytes().count(b"\n") if metrics.exists() else 0

    def result(self) -> dict[str, Any]:
        """Return what the run has left: every tensor file by its hash, every document without times."""
        left: dict[str, Any] = {}
        for name, store in {"": self.store, f"{BEST}/": CheckpointStore(self.directory / BEST)}.items():
            if (latest := store.latest()) is None:
                continue
            left[f"{name}step"] = latest.name.split(".")[0]
            for path in latest.iterdir():
                if path.suffix == ".safetensors":
                    left[name + path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
                elif path.stem != "manifest":
                    left[name + path.name] = _without(json.loads(path.read_bytes()), ("checkpoint",))
        return left

    def damage(self) -> str:
        """Return how the run's folder differs from the undisturbed run at the same step; "" if not."""
        try:
            latest = self.store.latest()
        except CheckpointError as error:
            return str(error)
        if latest is None:
            return ""
        manifest = self.store.manifest()
        rows = self.metrics(manifest["metrics_bytes"])
        if rows != self.rows[: manifest["step"]]:
            return f"the metrics up to step {manifest['step']} differ: {_first(rows, self.rows)}"
        return ""

    def difference(self) -> str:
        """Return how the result of a run that has ended differs from the undisturbed one."""
        if (rows := self.metrics()) != self.rows:
            return f"the metrics differ: {_first(rows, self.rows)}"
        result = self.result()
        names = [name for name in {**self.end, **result} if self.end.get(name) != result.get(name)]
        if names:
            return f"{names[0]}: {result.get(names[0])!r} instead of {self.end.get(names[0])!r}"[:2000]
        return ""


class Train(Run):
    """`sttx train` on a file that grows, which is followed until it is complete; secrets are redacted."""

    options = TINY

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.source, self.model = folder / "sessions.jsonl", folder / "model"
        self.content = session()
        if not self.source.exists():
            save_tiny_model(self.model)
            self.source.write_bytes(self.content)

    @property
    def share_written(self) -> float:
        """How much of the file is written, from 0 to 1."""
        return self.source.stat().st_size / len(self.content)

    def grow(self, dice: random.Random) -> None:
        """Append some bytes, seldom whole lines."""
        size = self.source.stat().st_size
        with self.source.open("ab") as file:
            file.write(self.content[size : size + dice.randrange(1, len(self.content) // 20)])

    def words(self) -> list[str]:
        """Return the command line, which follows an incomplete file."""
        follow = "--no-follow" if self.is_complete else "--follow"
        return ["train", str(self.source), follow, "--model", str(self.model)]

    def start_again(self) -> None:
        """Remove what an earlier run left, and start the file again."""
        super().start_again()
        self.source.write_bytes(b"")


class Pretrain(Run):
    """`sttx pretrain` on a text, with validation, the best model and phrases."""

    options = f"{SIZES} {LENGTH}"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.text, self.out = folder / "text.txt", folder / "run" / "out"
        self.text.write_text(prose(random.Random(0), 3_000))

    def words(self) -> list[str]:
        """Return the command line."""
        return ["pretrain", str(self.text), "--tokenizer", "bytes", "--out", str(self.out)]

    def result(self) -> dict[str, Any]:
        """Return what the run has left, and the finished model."""
        left = super().result()
        for path in sorted(self.out.iterdir()):
            left[f"out/{path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
        return left


RUNS = {"train": Train, "pretrain": Pretrain}


def fork(line: list[str], log: Path, prepare: Callable[[], None] = lambda: None) -> int:
    """Run a command line in a forked process whose output goes to a file; return the process id."""
    from sttx_cli.app import run

    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        prepare()
        code = run(line)
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001  a traceback in the log is a failure
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def save_tiny_model(folder: Path) -> None:
    """Save a random byte-level model."""
    torch.manual_seed(0)
    model = initialize(RWKV7(RWKV7Config(vocab_size=257, hidden_size=32, num_layers=1, head_size=16)))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape))
    save_model(model, folder, tokenizer=ByteTokenizer())


def prose(dice: random.Random, size: int) -> str:
    """Return an invented text of about so many characters."""
    text = ""
    while len(text) < size:
        text += " ".join(dice.choices(WORDS, k=dice.randrange(4, 12))) + dice.choice((". ", ".\n", ", "))
    return text


def session(records: int = 24) -> bytes:
    """Return a file with records of three sessions and secrets in every fourth."""
    dice, lines = random.Random(0), []
    for number in range(records):
        text = prose(dice, dice.randrange(20, 120))
        if number % 4 == 0:
            text += f" password = '{dice.randbytes(9).hex()}' of /home/ada/orchard"
        place = {"sessionId": f"session-{number % 3}", "cwd": "/home/ada/orchard", "uuid": f"u{number}"}
        moment = f"2026-01-31T09:{number:02}:00.000Z"
        lines.append({"type": "user", "timestamp": moment, **place, "message": {"content": text}})
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _without(value: Any, names: tuple[str, ...]) -> Any:
    return (
        {key: inner for key, inner in value.items() if key not in names} if isinstance(value, dict) else value
    )


def _first(rows: list[dict[str, Any]], expected: list[dict[str, Any]]) -> str:
    """Return where two lists of rows differ first."""
    for number, (row, wanted) in enumerate(zip(rows, expected, strict=False), 1):
        if row != wanted:
            names = [name for name in wanted if row.get(name) != wanted[name]]
            return f"step {number} in {', '.join(names)}"
    return f"{len(rows)} steps instead of {len(expected)}"
