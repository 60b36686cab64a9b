"""What the outer step is worth: prequential bits per byte of sessions, with --state-lr and without.

    python benchmarks/outer_step.py read FOLDER --out RESULTS.jsonl [--model M] [--sessions N] [--bytes N]
    python benchmarks/outer_step.py meta FOLDER --data TRAIN.bin --vocab VOCAB.txt --out RESULTS.jsonl

``read`` prices the first bytes of the first N session files of FOLDER by the network alone: frozen, with
outer steps at several rates, by the default learner, and by both. ``meta`` pretrains small models with
--meta, on as many tokens without, and without in the same processor time; each then reads the sessions frozen
and with outer steps. Finished results in RESULTS.jsonl are not computed again. Each row has the bits per byte
of every session, so that arms can be compared session by session.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sttx_cli.session_texts import SessionTexts
from sttx_core.tokenizers import TrieTokenizer
from sttx_train import load_model
from sttx_train.data.reader import open_data
from sttx_train.formats import LoadedModel
from sttx_train.online import LearnerConfig, Window
from sttx_train.predict import Predictor
from sttx_train.pretrain import PretrainConfig, Pretrainer

WINDOW = 64
OUTER: dict[str, dict[str, Any]] = {
    "frozen": {"state_lr": 0.0},
    "0.1": {"state_lr": 0.1},
    "0.2": {"state_lr": 0.2},
    "0.05": {"state_lr": 0.05},
    "0.1, decay 0.01": {"state_lr": 0.1, "state_decay": 0.01},
    "0.1, decay 0.1": {"state_lr": 0.1, "state_decay": 0.1},
    "0.3": {"state_lr": 0.3},
}
LEARNING: dict[str, LearnerConfig] = {
    "learner": LearnerConfig(phrases="off", frozen=False),
    "learner and 0.1": LearnerConfig(phrases="off", frozen=False, state_lr=0.1),
    "learner and 0.03": LearnerConfig(phrases="off", frozen=False, state_lr=0.03),
}
SMALL = PretrainConfig(hidden_size=128, layers=4, ctx=2 * WINDOW, batch=4, lr=3e-3, warmup=20, validation=0.0)


def texts(folder: Path, sessions: int, size: int) -> list[str]:
    """Return the first bytes of the first text of each session file that is long enough."""
    found = []
    for path in sorted(folder.rglob("*.jsonl")):
        text = next(iter(SessionTexts([str(path)], redact=True, say=lambda _: None)), "").encode()
        if len(text) >= size // 2:
            found.append(text[:size].decode(errors="ignore"))
        if len(found) == sessions:
            break
    return found


def read(loaded: LoadedModel, documents: Sequence[str], outer: dict[str, Any]) -> list[float]:
    """Return the bits of each document by a network that learns nothing; they are read as one batch."""
    predictor = Predictor(loaded, experts=False, window=WINDOW, **outer)
    readers = [predictor.read(str(number)) for number in range(len(documents))]
    pieces = [(row, loaded.tokenizer.encode(text)) for row, text in enumerate(documents)]
    return [float(price.network.sum()) for price in predictor.batch(readers).advance_in_order(pieces)]


def learn(loaded: LoadedModel, documents: Sequence[str], config: LearnerConfig) -> list[float]:
    """Return the bits of each document by a learner that is new for each."""
    found = []
    for text in documents:
        predictor = Predictor(loaded, experts=False, window=WINDOW, learning=config)
        ids = loaded.tokenizer.encode(text)
        windows = [Window(document="", ids=tuple(ids[at : at + WINDOW])) for at in range(0, len(ids), WINDOW)]
        found.append(sum(predictor.step([window]).score.network_bits for window in windows))
    return found


class Results:
    """Finished results in a file of JSON lines, by their names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows: dict[str, dict[str, Any]] = {row["name"]: row for row in map(json.loads, lines)}

    def add(self, name: str, documents: Sequence[str], bits: Sequence[float], **more: Any) -> None:
        """Write one result and show it."""
        sizes = [len(text.encode()) for text in documents]
        each = [one / size for one, size in zip(bits, sizes, strict=True)]
        row = {"name": name, "bpb": sum(bits) / sum(sizes), "each": each, **more}
        self.rows[name] = row
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{name:40} {row['bpb']:.4f} {more}", flush=True)


def measure_reading(args: argparse.Namespace) -> None:
    """Price sessions with every arm that is not in the results yet."""
    documents, results = texts(args.folder, args.sessions, args.bytes), Results(args.out)
    loaded = load_model(args.model, device="cpu", dtype=torch.float32)
    for name, outer in OUTER.items():
        if name not in results.rows:
            started = time.process_time()
            results.add(
                name, documents, read(loaded, documents, outer), seconds=time.process_time() - started
            )
    for name, config in LEARNING.items():
        if name not in results.rows:
            started = time.process_time()
            results.add(
                name, documents, learn(loaded, documents, config), seconds=time.process_time() - started
            )


def pretrained(args: argparse.Namespace, seed: int) -> Iterator[tuple[str, float, LoadedModel]]:
    """Yield the models of a seed: how each was trained, its processor time, and the model."""
    tokenizer = TrieTokenizer(args.vocab)
    data, spent = open_data([args.data], tokenizer), 0.0
    for name, changes in (
        ("meta", {"meta": True, "steps": args.steps}),
        ("plain, same tokens", {"steps": args.steps}),
        ("plain, same time", {}),
    ):
        folder = args.out.with_suffix("") / f"{seed} {name}"
        took = folder / "seconds"
        if not took.exists():
            steps = args.steps
            if name.endswith("time"):  # the steps that take as long, by the run on as many tokens
                before = float(
                    (args.out.with_suffix("") / f"{seed} plain, same tokens" / "seconds").read_text()
                )
                steps = round(args.steps * spent / before)
            config = replace(SMALL, **({"steps": steps} | changes), seed=seed)
            trainer, started = Pretrainer(config, tokenizer=tokenizer), time.process_time()
            trainer.fit(data)
            seconds = time.process_time() - started
            trainer.save_model(folder)
            took.write_text(str(seconds))
        spent = float(took.read_text()) if name == "meta" else spent
        yield name, float(took.read_text()), load_model(folder, device="cpu", dtype=torch.float32)


def measure_meta(args: argparse.Namespace) -> None:
    """Pretrain each way with each seed, and let every model read the sessions."""
    documents, results = texts(args.folder, args.sessions, args.bytes), Results(args.out)
    for seed in range(args.seeds):
        for name, seconds, loaded in pretrained(args, seed):
            for outer in ("frozen", "0.1", "0.3"):
                key = f"{seed} {name}, {outer}"
                if key not in results.rows:
                    results.add(key, documents, read(loaded, documents, OUTER[outer]), seconds=seconds)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["read", "meta"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default=None)
    parser.add_argument("--sessions", type=int, default=5)
    parser.add_argument("--bytes", type=int, default=10_000)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--vocab", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    (measure_reading if args.what == "read" else measure_meta)(args)


if __name__ == "__main__":
    main()
