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
from typing import Any, TypeAlias

import numpy as np
import torch

from sttx_ccsniff import open_source
from sttx_core.experts import ExpertsConfig
from sttx_core.render import render_parts
from sttx_core.traces import Trace
from sttx_train.evaluate.intervals import interval
from sttx_train.formats import LoadedModel, load_model
from sttx_train.online import LearnerConfig, Mixture, Window
from sttx_train.online.bank import StateBank
from sttx_train.online.carried import Carried, CarriedStates
from sttx_train.online.payment import NATS_TO_BITS, window_bytes
from sttx_train.predict import Predictor
from sttx_train.rwkv7 import RecurrentState
from sttx_train.stream import TraceWindows

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
        parts = {name: self.changed(tensor) for name, tensor in found.state.tensors().items()}
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


BANKS: dict[str, type[StateBank]] = {
    "bank": StateBank,
    "another project's": Donor,
    "shuffled": Shuffled,
    "zero": Zero,
}
EXPERTS: dict[str, ExpertsConfig] = {"larger experts": LARGER, "small experts": SMALL}
ARMS = ("none", *BANKS, *EXPERTS)
Result: TypeAlias = tuple[str, dict[str, Any]]


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
        every = [window for file in order for window in windows[file]]
        for learner in args.learners.split(","):
            arms = [arm for arm in args.arms.split(",") if (learner, seed, arm) not in done]
            for arm, result in LEARNERS[learner](loaded, every, arms):
                line = json.dumps({"learner": learner, "seed": seed, "arm": arm} | result)
                print(line, flush=True)
                if args.out:
                    with args.out.open("a") as out:
                        out.write(line + "\n")


def frozen(loaded: LoadedModel, windows: Sequence[Window], arms: Sequence[str]) -> Iterator[Result]:
    """Read the windows with the frozen network, the arms as rows of one batch; each has its own experts."""
    nothing = LearnerConfig(scope=(), inject="none", phrases="off", replay_rows=0, frozen=False)
    predictor = Predictor(loaded, learning=nothing)
    learner, tokens = predictor.learner, predictor.tokens
    networks = ["none", *(arm for arm in arms if arm in BANKS)]  # other experts need the plain network
    carried = {arm: CarriedStates(64, loaded.tokenizer.eot_id) for arm in networks}
    for arm, states in carried.items():
        states.bank = BANKS[arm](16) if arm in BANKS else None
    experts = {arm: Mixture(tokens, 64, EXPERTS.get(arm)) for arm in arms}
    costs = {arm: Costs() for arm in arms}
    for window in windows:
        before = [states.of([window])[0] for states in carried.values()]
        with torch.no_grad():
            _, said = learner.networks.read([window] * len(networks), before, phrases=False)
        size = window_bytes(window, learner.byte_lengths)
        log_p = dict(zip(networks, said.log_p_MV.split(len(window.ids)), strict=True))
        nats = dict(zip(networks, said.nats_B.tolist(), strict=True))
        for row, (arm, states) in enumerate(carried.items()):
            after = Carried(said.state.select([row]), window.ids[-1:])
            states.learn(window, after, nats[arm] * NATS_TO_BITS, size)
        for arm in arms:
            source = arm if arm in log_p else "none"
            paid = float(experts[arm].pay([window], [log_p[source]], [None])[0][0].sum())
            costs[arm].add(window, size, paid, nats[source] * NATS_TO_BITS)
    for arm in arms:
        bank = carried[arm].bank if arm in carried else None
        yield arm, {"documents": costs[arm].documents, "bank": bank and bank.report()}


def state(loaded: LoadedModel, windows: Sequence[Window], arms: Sequence[str]) -> Iterator[Result]:
    """Read the windows in one arm after another, while S0 learns."""
    for arm in arms:
        predictor = Predictor(loaded, learning=LearnerConfig(phrases="off", replay_rows=0, frozen=False))
        bank = predictor.learner.carried.bank = BANKS[arm](16) if arm in BANKS else None
        costs = Costs()
        for window in windows:
            score = predictor.step([window]).score
            costs.add(window, score.bytes, score.bits, score.network_bits)
        yield arm, {"documents": costs.documents, "bank": bank and bank.report()}


class Costs:
    """What documents cost.

    Attributes:
        documents: of each its bytes, the bits that were paid, and those of the network alone.
    """

    def __init__(self) -> None:
        self.documents: dict[str, list[float]] = {}

    def add(self, window: Window, size: int, paid: float, network: float) -> None:
        """Count a window."""
        row = self.documents.setdefault(window.document, [0.0, 0.0, 0.0])
        row[:] = row[0] + size, row[1] + paid, row[2] + network


LEARNERS = {"frozen": frozen, "state": state}


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
