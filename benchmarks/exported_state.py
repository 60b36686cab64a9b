"""Measures what a state is worth where it is given once, at a document's start, as other programs give it.

    uv run python benchmarks/exported_state.py FOLDER [--only openings|pairs] [--seeds N] [--peers N]

The sessions in FOLDER are redacted and shared out by the hash of their names: two thirds to learn from, one
to measure. Two questions:

- Openings: bits per byte of the first 64, 256 and 1024 tokens of the sessions to measure, for a state learned
  by injection (`sttx train`) and one learned for the start (`sttx tune`, on pieces of sessions as texts),
  each given once; and for the first one added at every window, as sttx reads it.
- Pairs: `sttx tune` on pairs of prompt and completion, next to no state and one whose layers are shuffled,
  for each seed; for the first also next to zero, a random state of the same size, and its transpose. With
  `--peers N` the completions of N pairs are also priced by the package `rwkv` and by llama.cpp, which are
  given the exported files.

Runs in one thread. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import math
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sttx_ccsniff import open_source
from sttx_core.pairs import to_pairs
from sttx_core.render import render
from sttx_core.traces import Pair, Trace
from sttx_train import LearnerConfig, LoadedModel, Predictor, StreamConfig, StreamTrainer, load_model
from sttx_train.evaluate.controls import shuffled
from sttx_train.export import export_model, export_slot, export_state, model_to_export, state_to_export
from sttx_train.formats import TunedState
from sttx_train.formats.state import INJECT
from sttx_train.rwkv7 import RecurrentState
from sttx_train.tune import Example, TuneConfig, Tuner, read_examples

SIZES = (64, 256, 1024)
PIECE, PIECES, PAIRS, LETTERS = 900, 6, 5, 300
TUNING = {"ctx": 320, "warmup": 5, "patience": 0, "batch": 8}


def main() -> None:
    """Measure both questions and print one object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default=None, help="by default goose-mini")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lr", type=float, default=TuneConfig().lr)
    parser.add_argument("--steps", type=int, default=300, help="of learning by injection, 64 tokens each")
    parser.add_argument("--peers", type=int, default=0, help="pairs that other programs price too")
    parser.add_argument("--only", choices=["openings", "pairs"], default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    learn, measure = sessions(args.folder)
    loaded = load_model(args.model)
    tuning = TUNING | {"epochs": args.epochs, "lr": args.lr}
    report: dict[str, Any] = {"model": loaded.id, "sessions": [len(learn), len(measure)], **tuning}
    with tempfile.TemporaryDirectory() as folder:
        if args.only != "pairs":
            report["openings"] = openings(loaded, learn, measure, tuning, args.steps, Path(folder))
        if args.only != "openings":
            pairs = [write_pairs(some, Path(folder) / name) for some, name in ((learn, "a"), (measure, "b"))]
            report["pairs"] = [
                of_pairs(loaded, *pairs, tuning | {"seed": seed}, 0 if seed else args.peers, Path(folder))
                for seed in range(args.seeds)
            ]
    print(json.dumps(report))


def sessions(folder: Path) -> tuple[list[list[Trace]], list[list[Trace]]]:
    """Return the traces of the sessions to learn from, and of those to measure."""
    learn: list[list[Trace]] = []
    measure: list[list[Trace]] = []
    for path in sorted(folder.rglob("*.jsonl")):
        with open_source([str(path)], follow=False) as source:
            traces = [trace for trace in source if render(trace)]
        third = hashlib.sha256(path.name.encode()).digest()[0] % 3 == 0
        (measure if third else learn).append(traces)
    return learn, measure


# -- openings ------------------------------------------------------------------------------------------------


def openings(
    loaded: LoadedModel,
    learn: Sequence[Sequence[Trace]],
    measure: Sequence[Sequence[Trace]],
    tuning: dict[str, Any],
    steps: int,
    folder: Path,
) -> dict[str, Any]:
    """Return bits per byte of the beginnings of sessions, by how their state was learned and is given."""
    config = LearnerConfig(phrases="off", replay_rows=0, frozen=False)
    trainer = StreamTrainer(
        loaded, config, StreamConfig(steps=steps, experts="off"), directory=folder / "injected"
    )
    trainer.run(trace for traces in learn for trace in traces[: 10 * PIECES])
    injected = state_to_export(folder / "injected")
    tuner = Tuner(loaded, TuneConfig(**tuning, loss="all"), write_pieces(learn, loaded, folder / "pieces"))
    tuner.run()
    once = TunedState(s0=injected.s0, metadata=injected.metadata | {INJECT: "start"})
    states = {"none": None, "injected, once": once, "injected, at every window": injected}
    states |= {"tuned, once": tuner.tuned()}
    texts = [loaded.tokenizer.encode("".join(map(render, traces[:200])))[: max(SIZES)] for traces in measure]
    result = {}
    for number, (name, state) in enumerate(states.items()):
        path = None
        if state is not None:
            export_state(state, path := folder / f"{number}.pth", "state-pth")
        result[name] = beginnings(Predictor(loaded, path, experts=False), texts)
    deviations = {"injected": float(injected.s0.std()), "tuned": float(tuner.tuned().s0.std())}
    return {"bpb": result, "deviation": deviations, "sessions": len(texts)}


def write_pieces(learn: Sequence[Sequence[Trace]], loaded: LoadedModel, path: Path) -> tuple[Example, ...]:
    """Write pieces of sessions as texts, the beginning of each among them, and read them as examples."""
    rows = []
    for traces in learn:
        text = "".join(map(render, traces))
        starts = [0, *(at for at in range(PIECE, len(text), max(len(text) // PIECES, PIECE)))]
        rows += [{"text": text[at : at + PIECE]} for at in starts[:PIECES]]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_examples(path, loaded.tokenizer, TuneConfig(ctx=TUNING["ctx"], loss="all")).examples


def beginnings(predictor: Predictor, texts: Sequence[Sequence[int]]) -> dict[int, float]:
    """Return bits per byte of the first tokens of all texts together, by their number."""
    lengths = np.array([len(token) for token in predictor.tokens])
    prices = [(predictor.read().score(ids).bits, lengths[np.array(ids)]) for ids in texts]
    return {
        size: float(sum(bits[:size].sum() for bits, _ in prices) / sum(b[:size].sum() for _, b in prices))
        for size in SIZES
    }


# -- pairs ---------------------------------------------------------------------------------------------------


def write_pairs(learn: Sequence[Sequence[Trace]], path: Path) -> Path:
    """Write pairs of prompt and completion, spread over each session."""
    rows = []
    for traces in learn:
        pairs = [trace for trace in to_pairs(traces) if isinstance(trace, Pair) and trace.prompt]
        chosen = pairs[:: max(len(pairs) // PAIRS, 1)][:PAIRS]
        rows += [{"prompt": one.prompt[-LETTERS:], "completion": one.completion[:600]} for one in chosen]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def of_pairs(
    loaded: LoadedModel, learn: Path, measure: Path, tuning: dict[str, Any], peers: int, folder: Path
) -> dict[str, Any]:
    """Return bits per byte of the completions to measure, with a tuned state and with its controls."""
    config = TuneConfig(**tuning)
    train, held = (read_examples(path, loaded.tokenizer, config).examples for path in (learn, measure))
    tuner = Tuner(loaded, config, train)
    before = completions(loaded, None, held)
    tuner.run()
    state = tuner.tuned()
    others = {"shuffled": torch.from_numpy(shuffled(state.s0.numpy()))}
    if not config.seed:
        noise = torch.randn(state.s0.shape, generator=torch.Generator().manual_seed(1))
        others |= {"zero": torch.zeros_like(state.s0), "random": noise * state.s0.std()}
        others |= {"transposed": state.s0.mT.contiguous()}
    result: dict[str, Any] = {
        "examples": [len(train), len(held)],
        "none": before,
        "tuned": completions(loaded, state.s0, held),
        **{name: completions(loaded, s0, held) for name, s0 in others.items()},
        "deviation": float(state.s0.std()),
    }
    if peers:
        result["peers"] = priced_by_others(loaded, state, held[:peers], folder)
    return result


def completions(loaded: LoadedModel, s0: torch.Tensor | None, examples: Sequence[Example]) -> float:
    """Return bits per byte of what is learned of examples, read one by one from a state."""
    bits = sum(float(bits_of(loaded, s0, example).sum()) for example in examples)
    return bits / sum(example.bytes for example in examples)


def bits_of(loaded: LoadedModel, s0: torch.Tensor | None, example: Example) -> torch.Tensor:
    """Return the bits of each learned token of an example."""
    start = RecurrentState.zeros(loaded.model.config)
    with torch.inference_mode():
        ids = torch.tensor([[example.context, *example.ids[:-1]]])
        logits, _ = loaded.model(ids, start if s0 is None else start.inject(s0))
    return _bits(logits[0], example)


def _bits(logits: torch.Tensor, example: Example) -> torch.Tensor:
    said = -logits.float().log_softmax(-1)[torch.arange(len(example.ids)), list(example.ids)] / math.log(2)
    return said[torch.tensor(example.paid)]


# -- other programs ------------------------------------------------------------------------------------------


def priced_by_others(
    loaded: LoadedModel, state: TunedState, examples: Sequence[Example], folder: Path
) -> dict[str, Any]:
    """Return bits per byte by us, by the package `rwkv` and by llama.cpp, each from its exported file."""
    export_state(state, folder / "state.pth", "state-pth")
    export_model(model_to_export(loaded), folder / "model.pth", "blinkdl", "float32")
    export_model(model_to_export(loaded), folder / "model.gguf", "gguf", "float32")
    size = sum(example.bytes for example in examples)
    ours = {
        "no state": sum(float(bits_of(loaded, None, example).sum()) for example in examples) / size,
        "sttx": sum(float(bits_of(loaded, state.s0, example).sum()) for example in examples) / size,
    }
    return ours | {
        "rwkv": by_rwkv(folder, examples) / size,
        "llama.cpp": by_llama(loaded, state, folder, examples) / size,
    }


def by_rwkv(folder: Path, examples: Sequence[Example]) -> float:
    """Return the bits of all examples by the package `rwkv`."""
    os.environ |= {"RWKV_V7_ON": "1", "RWKV_JIT_ON": "0"}
    with contextlib.redirect_stdout(io.StringIO()):
        from rwkv.model import RWKV

        model = RWKV(str(folder / "model"), "cpu fp32")
    entries = torch.load(folder / "state.pth", weights_only=True)
    bits = 0.0
    for example in examples:
        start = model.generate_zero_state()
        for layer in range(len(entries)):
            start[3 * layer + 1] = entries[f"blocks.{layer}.att.time_state"].clone()
        logits, _ = model.forward([example.context, *example.ids[:-1]], start, full_output=True)
        bits += float(_bits(logits, example).sum())
    return bits


def by_llama(loaded: LoadedModel, state: TunedState, folder: Path, examples: Sequence[Example]) -> float:
    """Return the bits of all examples by llama.cpp, which continues from a slot."""
    from llama_server import running

    vocab_size, bits = loaded.model.config.vocab_size, 0.0
    with running(folder / "model.gguf", slots=folder) as llama:
        llama.post("/completion", prompt=[0], n_predict=0, id_slot=0, cache_prompt=True)
        llama.post("/slots/0?action=save", filename="fresh")
        export_slot(state, loaded, folder / "fresh", folder / "mine")
        for example in examples:
            llama.post("/slots/0?action=restore", filename="mine")
            for at in np.flatnonzero(example.paid).tolist():
                said, reused = llama.next_log_probs([0, *example.ids[:at]], vocab_size)
                assert reused >= 1, "llama.cpp has not continued from the slot"
                bits -= said[example.ids[at]] / math.log(2)
    return bits


if __name__ == "__main__":
    main()
