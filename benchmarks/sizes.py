"""Compares model sizes by what they reach in the same training time.

    uv run python benchmarks/sizes.py DATA --tokenizer trie:VOCAB [--sizes 192x6 256x8 384x10]
        [--minutes 20] [--marks 5] [--sessions FILE …] [--json]

Each size (width x layers) is trained from scratch for the same time on the same data, at a constant learning
rate. At evenly spaced marks it is measured: bits per byte of the validation data and of session files, from
which it does not learn, the tokens trained on, and the tokens it generates per second. Trust the speeds only
on an idle machine. Only the steps count as training time, without the first one, which compiles the model;
measuring does not count.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from sttx_ccsniff import open_source
from sttx_cli.session_texts import document_texts
from sttx_train import RWKV7
from sttx_train.data import open_data
from sttx_train.formats.tokenizer_json import load_tokenizer
from sttx_train.pretrain import PretrainConfig, Pretrainer, validation_bits
from sttx_train.pretrain.trainer import PretrainStep
from sttx_train.rwkv7 import RecurrentState

_ENDLESS = 10**9


def main() -> None:
    """Train every size and measure it at every mark."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--tokenizer", required=True)
    arguments.add_argument("--sizes", nargs="+", default=["192x6", "256x8", "384x10"])
    arguments.add_argument("--minutes", type=float, default=20.0, help="training time of each size")
    arguments.add_argument("--marks", type=int, default=5, help="how often each size is measured")
    arguments.add_argument("--lr", type=float, default=1e-3)
    arguments.add_argument("--batch", type=int, default=8)
    arguments.add_argument("--sessions", nargs="*", type=Path, default=[])
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    tokenizer = load_tokenizer(options.tokenizer)
    data = open_data([options.data], tokenizer)
    texts = [text for path in options.sessions for text in rendered(path)]
    for size in options.sizes:
        width, layers = map(int, size.split("x"))
        config = PretrainConfig(
            hidden_size=width,
            layers=layers,
            lr=options.lr,
            batch=options.batch,
            schedule="constant",
            steps=_ENDLESS,
            validation=0.0005,
            eval_every=_ENDLESS,
            compile=True,
        )
        pretrainer = Pretrainer(config, tokenizer=tokenizer)
        mark = 0
        for step, minutes in timed(pretrainer.steps(data)):
            if minutes < options.minutes * (mark + 1) / options.marks:
                continue
            mark += 1
            trainer, model = pretrainer.trainer, pretrainer.model
            row = {
                "size": size,
                "parameters": trainer.parameters,
                "minutes": minutes,
                "tokens": step.tokens,
                "validation": trainer.measure().bpb,
                "sessions": price(model, tokenizer, texts) if texts else None,
                "generated_per_second": generation_speed(model),
            }
            print(json.dumps(row) if options.json else as_text(row), flush=True)
            if mark == options.marks:
                break


def timed(steps: Iterator[PretrainStep]) -> Iterator[tuple[PretrainStep, float]]:
    """Yield steps and the minutes spent in them so far, without the first step and the time between steps."""
    seconds = 0.0
    yield next(steps), seconds
    began = time.perf_counter()
    for step in steps:
        seconds += time.perf_counter() - began
        yield step, seconds / 60
        began = time.perf_counter()


def rendered(path: Path) -> list[str]:
    """Return a session file's documents, redacted, as training reads them."""
    with open_source(path, say=lambda message: None) as source:
        return list(document_texts(source))


def price(model: RWKV7, tokenizer: object, texts: list[str]) -> float:
    """Return the bits per byte of texts, with the state carried through each text."""
    bits = sum(
        validation_bits(model, np.array([tokenizer.eot_id, *tokenizer.encode(text)])) for text in texts
    )
    return bits / sum(len(text.encode()) for text in texts)


def generation_speed(model: RWKV7, tokens: int = 200) -> float:
    """Return tokens per second, generated one after another."""
    state = RecurrentState.zeros(model.config, 1)
    with torch.no_grad():
        began = time.perf_counter()
        for token in range(tokens):
            _, state = model(torch.tensor([[token]]), state)
    return tokens / (time.perf_counter() - began)


def as_text(row: dict[str, object]) -> str:
    """Return a row as a line of text."""
    measured = [f"  {name} {row[name]:.3f}" for name in ("validation", "sessions") if row[name] is not None]
    return (
        "{size:>7}  {parameters:>11,} parameters  {minutes:5.1f} min  {tokens:>10,} tokens{measured}  "
        "generates {generated_per_second:.0f} tokens/s"
    ).format(**row, measured="".join(measured))


if __name__ == "__main__":
    main()
