"""Checks that forged runs end in one sentence: no traceback, no hang, bounded memory, no write elsewhere.

    python benchmarks/fuzz_checkpoints.py [--checkpoints N] [--seed S] [--first K] [--limit-mb M]
                                          [--seconds T] [--all]

Makes a run of `sttx train` and one of `sttx pretrain` with a tiny model and forges each copy: values, keys,
lists and bytes of any document or metric; names, shapes, dtypes and numbers of tensors; pipes, folders and
links in place of files. It writes all hashes again, and gives the copy to `inspect`, `merge-stats`, `plot`
and `--resume`, in this process. Whatever is not an answer must be an `SttxError` of one line, and no file
outside of the run may change. Prints the counts. At the first failure it prints the options that make the
same run again (`--first K --checkpoints 1`) and exits with 1; with `--all` it goes on. A run that takes more
than T seconds of the processor, or a process that grows by more than M megabytes, is a failure.
"""

import argparse
import contextlib
import copy
import faulthandler
import io
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from forging import answer, attempt
from fuzz import ODD, damaged_bytes, nested, peak_mb, places
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sttx_ccsniff import open_source
from sttx_cli.app import run
from sttx_core.phrases import PhraseConfig
from sttx_core.tokenizers import ByteTokenizer, IntegerTokenizer
from sttx_train.checkpoint.folder import _digest
from sttx_train.files import sha256_of
from sttx_train.formats import load_model, save_model
from sttx_train.online import LearnerConfig
from sttx_train.pretrain import PretrainConfig, Pretrainer
from sttx_train.run_folder import RunFolder
from sttx_train.rwkv7 import RWKV7, RWKV7Config
from sttx_train.stream import StreamConfig, StreamTrainer

THROUGH_ALL = 20
STEPS, MORE = 8, 2
STREAM = StreamConfig(window=16, batch=2, keep=1, steps=STEPS)
LEARNING = LearnerConfig(phrases="on", max_documents=4, replay_capacity=16)
PHRASES = PhraseConfig(capacity=16, threshold=2)
SIZES = {"vocab_size": 257, "hidden_size": 16, "num_layers": 1, "head_size": 8}
NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 2, -(2**31), 2**31, 2**53, 2**63, 2**64, 10**30, 10**300, 0.5, -0.0, 1e308, -1e308, 1e-320),
    *(float("nan"), float("inf"), float("-inf"), True, None, "1", "٣"),
)
LINES = (
    *(
        b"",
        b"\n",
        b"[1]\n",
        b'{"step": 1',
        b'{"step": -1}\n',
        b'{"step": 1e999, "loss": NaN}\n',
        b"\xff\xfe\n",
    ),
    *(b'{"step": 1, "loss": 1e308, "bpb": {"paid": -1e308}}\n', b"[" * 100_000 + b"\n", b"9" * 3_000_000),
    *(
        b'{"step": 2, "tokens": 1e300, "seconds": -5, "bytes": 1e308, "loss": 1}\n',
        b'{"\\u001b]0;x": 1, "step": 3}\n',
    ),
)
DTYPES = (torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.int64, torch.uint8, torch.bool)


class Runs:
    """A run of each kind, made once, and what is needed to resume a copy of it.

    Args:
        folder: where they are made.
        input: a file of traces.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.input = folder, folder / "pairs.jsonl"
        words = (
            "fold",
            "map",
            "pack",
            "bag",
            "walk",
            "hill",
            "mill",
            "brook",
            "river",
            "bridge",
            "stone",
            "lane",
        )
        dice = random.Random(7)
        rows = [
            {"prompt": " ".join(dice.choices(words, k=8)), "completion": " ".join(dice.choices(words, k=12))}
            for _ in range(40)
        ]
        self.input.write_text("".join(json.dumps(row) + "\n" for row in rows))
        model = RWKV7(RWKV7Config(**SIZES), seed=1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(
                    0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
                )
        save_model(model, folder / "model", tokenizer=ByteTokenizer())
        self.loaded = load_model(folder / "model", kernel="chunked")
        self.numbers = np.random.default_rng(3).integers(0, 7, (12, 30))
        self.stream(folder / "stream", STEPS, resume=False)
        self.pretrain(folder / "pretrain", STEPS, resume=False)

    def stream(self, folder: Path, steps: int, *, resume: bool) -> None:
        """Start or resume a run over the traces."""
        trainer = StreamTrainer(
            self.loaded,
            LEARNING,
            StreamConfig(window=STREAM.window, batch=STREAM.batch, keep=1, steps=steps),
            directory=folder,
            phrase_config=PHRASES,
            resume=resume,
        )
        with open_source([str(self.input)], cursor=trainer.cursor, say=lambda text: None) as source:
            trainer.run(source, cursor=lambda: source.cursor)

    def pretrain(self, folder: Path, steps: int, *, resume: bool) -> None:
        """Start or resume a run over numbers, and write its best model."""
        config = PretrainConfig(
            layers=1,
            hidden_size=16,
            head_size=8,
            ctx=12,
            batch=2,
            warmup=2,
            validation=0.2,
            eval_every=3,
            phrase_prob=0.5,
            bf16=False,
            steps=steps,
        )
        pretrainer = Pretrainer(config, folder, tokenizer=IntegerTokenizer(6), device="cpu", resume=resume)
        pretrainer.fit(self.numbers)
        pretrainer.save_model(folder.with_name("trained"))


def forge_json(path: Path, dice: random.Random) -> None:  # noqa: C901  a table of forgeries
    """Give values in a document other values, or remove, add and repeat some."""
    value = json.loads(path.read_bytes())
    for _ in range(dice.choice((1, 1, 1, 2, 5))):
        *way, key = dice.choice(list(places([value]))[1:])
        inner: Any = [value]
        for step in way:
            inner = inner[step]
        old = inner[key]
        match dice.randrange(8):
            case 0 | 1:
                inner[key] = dice.choice(NUMBERS)
            case 2:
                inner[key] = nested(dice)
            case 3 if isinstance(old, list):
                inner[key] = dice.choice((old * 2, old[:-1], old[::-1], [*old, *old[:1]], [], [old]))
            case 4 if isinstance(old, dict):
                old[dice.choice(("more", "", "\x1b[2J", "x" * 5000))] = copy.deepcopy(dice.choice(ODD))
            case 5 if isinstance(old, int) and not isinstance(old, bool):
                inner[key] = old + dice.choice((-(10**6), -1, 1, 256, 10**6))
            case 6 if way:
                del inner[key]
            case _:
                inner[key] = copy.deepcopy(dice.choice(ODD))
        value = inner[0] if not way else value
        if not isinstance(value, (dict, list)):
            break
    text = json.dumps(value)
    if dice.random() < 0.05:
        text = dice.choice(
            (text[:-1], "\ufeff" + text, text + "{}", "[" * 200_000, '"' + "x" * 10**7 + '"', "")
        )
    path.write_bytes(text.encode("utf-8", "surrogatepass"))


def forge_tensors(path: Path, dice: random.Random) -> None:  # noqa: C901  a table of forgeries
    """Change names, shapes, dtypes and numbers of the tensors of a file."""
    tensors = load_file(path)
    for _ in range(dice.choice((1, 1, 2))):
        if not tensors:
            break
        name = dice.choice(sorted(tensors))
        old = tensors[name]
        match dice.randrange(10):
            case 0:
                del tensors[name]
            case 1:
                tensors[dice.choice(("more", "", "s0", "\x1b[2J", "a/step", "x" * 5000))] = old.clone()
            case 2:
                tensors[name] = old.to(dice.choice(DTYPES))
            case 3:
                tensors[name] = dice.choice(
                    (old[None], old.flatten(), old.reshape(-1)[:1], old.reshape(-1)[:0])
                )
            case 4:
                tensors[name] = torch.zeros(
                    dice.choice(((), (1,), (3, 5), (0,), (1, 1, 1, 1, 1))), dtype=old.dtype
                )
            case 5 if old.ndim:
                tensors[name] = torch.cat((old, old))
            case 6 if old.is_floating_point():
                tensors[name] = torch.full_like(old, dice.choice((float("nan"), float("inf"), -1e30, 1e30)))
            case 7 if old.numel():
                flat = old.flatten().clone()
                limit = 2**31 - 1 if old.dtype == torch.int32 else 2**62
                odd = (-1, 0, 255, 257, limit) if not old.is_floating_point() else (float("nan"), -3.0, 1e38)
                flat[dice.randrange(len(flat))] = dice.choice(odd)
                tensors[name] = flat.view(old.shape)
            case 8:
                tensors[name] = -old if old.dtype not in (torch.bool,) else old
            case _:
                tensors[name] = old.flip(0) if old.ndim else old + 0.5
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path)
    if dice.random() < 0.1:
        path.write_bytes(damaged_bytes(path.read_bytes(), dice))


def forge_file(path: Path, elsewhere: Path, dice: random.Random) -> None:
    """Put something else in the place of a file."""
    content = path.read_bytes() if path.is_file() else b""
    if path.is_dir():  # another forgery made it
        path.rmdir()
    path.unlink(missing_ok=True)
    match dice.randrange(6):
        case 0:
            os.mkfifo(path)
        case 1:
            path.mkdir()
        case 2:
            path.symlink_to(dice.choice(("/dev/zero", "/dev/null", "nowhere", path.name, str(elsewhere))))
        case 3:
            os.link(elsewhere, path)
        case 4:
            path.write_bytes(
                dice.choice((b"", b"\0" * 20_000_000, b"[" * 9_000_000, content[:-3], content * 2))
            )
        case _:
            path.write_bytes(damaged_bytes(content, dice))


def forge_metrics(path: Path, dice: random.Random) -> None:
    """Add odd lines to the metrics, or cut them."""
    content = path.read_bytes()
    at = dice.randrange(len(content))
    path.write_bytes(
        dice.choice((content[:at], content + dice.choice(LINES), content[:at] + dice.choice(LINES)))
    )


def forge(folder: Path, elsewhere: Path, dice: random.Random) -> None:
    """Forge a run, and write its hashes again."""
    checkpoint = next(folder.glob("step-*"))
    best = next(folder.glob("best/step-*"), checkpoint)
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        target = best if dice.random() < 0.15 else checkpoint
        files = [path for path in target.iterdir() if path.is_file() and not path.is_symlink()]
        kind = dice.random()
        if kind < 0.10:
            forge_file(
                folder / dice.choice((".lock", "latest", "metrics.jsonl", "sttx-run.json")), elsewhere, dice
            )
        elif kind < 0.15:
            forge_metrics(folder / "metrics.jsonl", dice) if (folder / "metrics.jsonl").is_file() else None
        elif kind < 0.20 and (folder / "best").is_dir() and not (folder / "best").is_symlink():
            shutil.move(folder / "best", folder.with_name("moved"))
            (folder / "best").symlink_to(folder.with_name("moved"))
            best = checkpoint
        elif kind < 0.25 and files:
            forge_file(dice.choice(files), elsewhere, dice)
        elif files:
            path = dice.choice(files)
            with contextlib.suppress(ValueError, OSError, RecursionError, SafetensorError):
                (forge_json if path.suffix == ".json" else forge_tensors)(path, dice)
    for one in {checkpoint, best}:
        with contextlib.suppress(ValueError, OSError, AttributeError, TypeError, RecursionError, KeyError):
            hash_again(one)


def hash_again(checkpoint: Path) -> None:
    """Write the hashes of a checkpoint's files and of its manifest again, as a forger does."""
    path = checkpoint / "manifest.json"
    if path.is_symlink() or not path.is_file():
        return
    manifest = json.loads(path.read_bytes())
    for file in checkpoint.iterdir():
        if file.is_file() and not file.is_symlink() and file != path:
            entry = manifest["files"].get(file.name)
            if isinstance(entry, dict) and file.stat().st_size != entry.get("bytes", 0) or dict_like(entry):
                manifest["files"][file.name] = {"sha256": sha256_of([file]), "bytes": file.stat().st_size}
    manifest["sha256"] = _digest(manifest)
    path.write_text(json.dumps(manifest))


def dict_like(entry: object) -> bool:
    """Return whether an entry of a manifest is as sttx writes it, so that only its hash is wrong."""
    return isinstance(entry, dict) and entry.keys() == {"sha256", "bytes"} and isinstance(entry["bytes"], int)


def command(*arguments: str) -> None:
    """Run a command line of sttx; only its exit code counts."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert run(arguments) in (0, 1, 2)


def use_all(runs: Runs, kind: str, folder: Path, number: int, counts: Counter[str]) -> None:
    """Give a forged run to everything that reads runs; resuming comes last, because it writes."""
    command("inspect", str(folder))
    command("inspect", "--json", str(folder))
    command("merge-stats", "--json" if number % 2 else "--top=3", str(folder))
    if number % THROUGH_ALL == 0:
        command("plot", str(folder), "--out", str(folder.with_name("curves.svg")))
    resume = runs.stream if kind == "stream" else runs.pretrain

    def expected_and_resumed() -> None:
        RunFolder(folder, kind=kind, keep=1).expect(resume=True)
        resume(folder, STEPS + MORE, resume=True)

    answer(expected_and_resumed, counts, kind)


def forge_and_use(runs: Runs, number: int, seed: int, seconds: int, counts: Counter[str]) -> str:
    """Forge the run of a number and use it; return the error, or ""."""
    dice = random.Random(f"{seed} {number}")
    kind = dice.choice(("stream", "stream", "pretrain"))
    with tempfile.TemporaryDirectory() as place:
        folder, elsewhere = Path(place) / "run", Path(place) / "elsewhere"
        shutil.copytree(runs.folder / kind, folder)
        elsewhere.write_bytes(b'{"step": 1}\n' * 1000)
        forge(folder, elsewhere, dice)
        moved = {path: path.stat().st_mtime_ns for path in Path(place).glob("moved/**/*")}
        failure = attempt(lambda: use_all(runs, kind, folder, number, counts), seconds)
        faulthandler.cancel_dump_traceback_later()
        if elsewhere.read_bytes() != b'{"step": 1}\n' * 1000:
            failure += "\na file outside of the run was changed"
        if moved != {path: path.stat().st_mtime_ns for path in Path(place).glob("moved/**/*")}:
            failure += "\na folder outside of the run was changed"
    return failure


def main() -> int:
    """Forge and use runs; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--checkpoints", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--limit-mb", type=float, default=400)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--all", action="store_true", help="go on after a failure")
    options = parser.parse_args()
    torch.set_num_threads(1)
    failures, counts = 0, Counter[str]()
    with tempfile.TemporaryDirectory() as place:
        runs = Runs(Path(place))
        before = peak_mb()
        for number in range(options.first, options.first + options.checkpoints):
            failure = forge_and_use(runs, number, options.seed, options.seconds, counts)
            if not failure and peak_mb() - before > options.limit_mb:
                failure = f"the process grew by {peak_mb() - before:.0f} MB"
                before = peak_mb()
            if (done := number - options.first + 1) % 100 == 0:
                print(
                    f"after {done}: {failures} failures, {peak_mb() - before:.0f} MB, {dict(counts)}",
                    flush=True,
                )
            if failure:
                failures += 1
                print(f"--seed {options.seed} --first {number} --checkpoints 1\n{failure}", flush=True)
                if not options.all:
                    break
        grown = peak_mb() - before
    print(f"{options.checkpoints} runs, {failures} failures, grown by {grown:.0f} MB: {dict(counts)}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
