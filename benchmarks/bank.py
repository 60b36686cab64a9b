"""Measures what a bank of states is worth (`sttx train --memory bank`), beside its controls.

    uv run python benchmarks/bank.py FOLDER --out RESULTS.jsonl --seeds 0,1,2,3,4
    uv run python benchmarks/bank.py RESULTS.jsonl --compare

The files of the folder are read one after another, in an order that the seed draws; of each document only the
first windows, because what a document starts from is soon forgotten. Every arm of a seed reads the same
windows, and pays for each before anything takes it in. Prints one JSON line for each arm; finished arms of
``--out`` are not run again. ``--compare`` prints what each arm saves beside the arm without a bank: the mean
of the seeds, the least and the most of them, and a 95% interval over documents.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sttx_ccsniff import open_source
from sttx_core.experts import ExpertsConfig
from sttx_core.render import render_parts
from sttx_core.traces import Trace
from sttx_train.evaluate.intervals import interval
from sttx_train.formats import LoadedModel, load_model
from sttx_train.online import LearnerConfig, Mixture, Window
from sttx_train.online.bank import StateBank
from sttx_train.online.carried import Carried
from sttx_train.predict import Predictor
from sttx_train.rwkv7 import RecurrentState
from sttx_train.stream import TraceWindows

LEARNERS: dict[str, LearnerConfig] = {
    "frozen": LearnerConfig(scope=(), inject="none", phrases="off", replay_rows=0, frozen=False),
    "state": LearnerConfig(phrases="off", replay_rows=0, frozen=False),
}
LARGER = ExpertsConfig(index_bits=19)  # 3.1 MB more than by default: six states of goose-mini have 3.2 MB
SMALL = ExpertsConfig(slot_bits=15, history_bits=18, index_bits=16)  # 2.9 MB, instead of a bank
_BYTES = 8  # of text, more than a window's tokens have on average


class Donor(StateBank):
    """Starts a document from the mean state of the project that was last used, but not its own."""

    def start(self, window: Window, carried: Carried) -> Carried:
        """Return what the document carries, or the other project's state at its start."""
        others = [project for project in self.means if project != window.project]
        if not others or window.project not in self.means:
            return carried
        return super().start(Window(document=window.document, ids=window.ids, project=others[-1]), carried)


class Changed(StateBank):
    """Starts a document from a state that is made of the mean of its project."""

    def start(self, window: Window, carried: Carried) -> Carried:
        """Return what the document carries, or the changed state at its start."""
        found = super().start(window, carried)
        if found is carried or found.state is None:
            return found
        parts = {name: self.changed(tensor) for name, tensor in vars(found.state).items()}
        return Carried(RecurrentState(**parts), found.context, found.frozen)

    def changed(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return what takes the place of a tensor of the state."""
        raise NotImplementedError


class Shuffled(Changed):
    """The numbers of each layer in another order."""

    def changed(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the layers with their numbers shuffled, every time alike."""
        draws = torch.Generator().manual_seed(0)
        layers = [layer.flatten()[torch.randperm(layer.numel(), generator=draws)] for layer in tensor]
        return torch.stack(layers).view_as(tensor)


class Zero(Changed):
    """Zeros."""

    def changed(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return zeros."""
        return torch.zeros_like(tensor)


class Compared(Mixture):
    """Experts that are paid, and others that read the same beside them.

    Attributes:
        others: the other experts, by arm.
        bits: what each of them would have been paid so far, for each document.
    """

    others: dict[str, Mixture]
    bits: dict[str, dict[str, float]]

    def pay(
        self,
        windows: Sequence[Window],
        network: Sequence[Tensor | None],
        frozen: Sequence[Tensor | None],
        *,
        loss: bool = False,
    ) -> tuple[list[np.ndarray], Tensor | None]:
        """Let all read the windows; return what the experts that are paid cost."""
        for arm, other in self.others.items():
            for window, prices in zip(windows, other.pay(windows, network, frozen)[0], strict=True):
                self.bits[arm][window.document] += float(prices.sum())
        return super().pay(windows, network, frozen, loss=loss)


BANKS: dict[str, type[StateBank]] = {
    "bank": StateBank,
    "another project's": Donor,
    "shuffled": Shuffled,
    "zero": Zero,
}
EXPERTS: dict[str, ExpertsConfig] = {"larger experts": LARGER, "small experts": SMALL}
ARMS = ("none", *BANKS)


def main() -> None:
    """Run the arms, or compare their results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--compare", action="store_true", help="FOLDER is a file of results")
    parser.add_argument("--out", type=Path, help="file of results, which is continued")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--learners", default="frozen")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--most", type=int, default=16, help="windows read of each document")
    args = parser.parse_args()
    if args.compare:
        compare([json.loads(line) for line in args.folder.read_text().splitlines()])
        return
    torch.set_num_threads(1)
    loaded = load_model()
    found = args.out.read_text().splitlines() if args.out and args.out.exists() else []
    done = {tuple(row[name] for name in ("learner", "seed", "arm")) for row in map(json.loads, found)}
    windows = {file: list(cut(loaded, file, args.most)) for file in sorted(args.folder.rglob("*.jsonl"))}
    for seed in map(int, args.seeds.split(",")):
        order = sorted(windows)
        random.Random(seed).shuffle(order)
        for learner in args.learners.split(","):
            for arm in args.arms.split(","):
                if (learner, seed, arm) in done:
                    continue
                every = [window for file in order for window in windows[file]]
                for name, result in run(loaded, every, learner, arm).items():
                    line = json.dumps({"learner": learner, "seed": seed, "arm": name} | result)
                    print(line, flush=True)
                    if args.out:
                        with args.out.open("a") as file:
                            file.write(line + "\n")


def run(loaded: LoadedModel, windows: Sequence[Window], learner: str, arm: str) -> dict[str, dict[str, Any]]:
    """Read the windows in one arm.

    Returns:
        By arm what each document cost (bytes, bits paid, bits of the network alone), and the bank's size.
        Without a bank, also what other experts would have cost beside the same network.
    """
    predictor = Predictor(loaded, learning=LEARNERS[learner])
    bank = predictor.learner.carried.bank = BANKS[arm](16) if arm in BANKS else None
    experts = Compared(predictor.tokens)
    kinds = EXPERTS if bank is None else {}
    experts.others = {name: Mixture(predictor.tokens, 64, kind) for name, kind in kinds.items()}
    experts.bits = {name: defaultdict(float) for name in kinds}
    predictor.learner.use(experts)
    documents: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for window in windows:
        score, row = predictor.step([window]).score, documents[window.document]
        row[:] = row[0] + score.bytes, row[1] + score.bits, row[2] + score.network_bits
    found = {arm: {"documents": dict(documents), "bank": bank and bank.report()}}
    for name, bits in experts.bits.items():
        rows = {document: [row[0], bits[document], row[2]] for document, row in documents.items()}
        found[name] = {"documents": rows, "bank": None}
    return found


def cut(loaded: LoadedModel, file: Path, most: int) -> Iterator[Window]:
    """Yield the first windows of each document of a file."""
    windows, counts = TraceWindows(loaded.tokenizer), Counter[str]()
    for trace in first(file, most * windows.size * _BYTES):
        windows.add(trace)
        while (found := windows.take()) is not None:
            counts.update(window.document for window in found)
            yield from (window for window in found if counts[window.document] <= most)
    while (found := windows.flush()) is not None:
        yield from (window for window in found if counts[window.document] < most)


def first(file: Path, most: int) -> Iterator[Trace]:
    """Yield the traces of each document until so many bytes of it are read."""
    sizes: dict[str, int] = defaultdict(int)
    with open_source(file) as source:
        for trace in source:
            if sizes[trace.document] < most:
                yield trace
                sizes[trace.document] += sum(len(part.text.encode()) for part in render_parts(trace))


def compare(results: Sequence[dict[str, Any]]) -> None:
    """Print what each arm saves: all that is paid, and of the network alone."""
    found: dict[tuple[str, str], dict[int, dict[str, list[float]]]] = defaultdict(dict)
    for row in results:
        found[row["learner"], row["arm"]][row["seed"]] = row["documents"]
    for learner, arm in found:
        base = found[learner, "none"]
        for name, column in (("paid", 1), ("network", 2)):
            before = {seed: column_of(rows, column) for seed, rows in base.items()}
            after = {seed: column_of(rows, column) for seed, rows in found[learner, arm].items()}
            print(f"{learner}, {arm}, {name}: {sentence(base, before, after)}")


def column_of(rows: dict[str, list[float]], column: int) -> np.ndarray:
    """Return one number of each document, in the order of their names."""
    return np.array([rows[name][column] for name in sorted(rows)])


def sentence(
    base: dict[int, dict[str, list[float]]], before: dict[int, np.ndarray], after: dict[int, np.ndarray]
) -> str:
    """Return the price in bits per byte, and how much was saved, with its ranges."""
    seeds = sorted(after)
    size = sum(column_of(base[seed], 0).sum() for seed in seeds)
    cost = sum(after[seed].sum() for seed in seeds) / size
    saved = [1 - after[seed].sum() / before[seed].sum() for seed in seeds]
    means = [np.mean([rows[seed] for seed in seeds], axis=0) for rows in (before, after)]
    between = interval(means[0] - means[1], means[0])
    ranges = "" if between is None else f", {between[0]:.2%} to {between[1]:.2%} over documents"
    a_document = (means[0] - means[1]).mean()
    return (
        f"{cost:.4f} bits per byte; saves {np.mean(saved):.2%} ({min(saved):.2%} to {max(saved):.2%} over "
        f"{len(seeds)} seeds{ranges}), {a_document:.1f} bits a document"
    )


if __name__ == "__main__":
    main()
