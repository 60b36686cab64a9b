"""What size of model is worth the time that there is to train it?

    uv run python benchmarks/sizes.py DATA --tokenizer trie:VOCAB [--sizes 192x6 256x8 384x10]
        [--minutes 20] [--marks 5] [--sessions FILE …] [--json]

Each size (width x layers) is trained from scratch for the same time on the same data, its learning rate
never falling, and priced at evenly spaced marks: bits per byte of what is held out, and of session files,
from which nothing is learned. Beside them the tokens trained on, and how fast it writes: tokens a second, one
after another. Trust the speeds on an idle machine only. Only the steps count as time, and of them not the
first, which compiles: what pricing takes costs no size any of its minutes.
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
from sttx_train.pretrain import PretrainConfig, Pretrainer, held_out_bits
from sttx_train.pretrain.trainer import PretrainStep
from sttx_train.rwkv7 import RecurrentState

_ENDLESS = 10**9


def main() -> None:
    """Train every size, and price it on the way."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--tokenizer", required=True)
    arguments.add_argument("--sizes", nargs="+", default=["192x6", "256x8", "384x10"])
    arguments.add_argument("--minutes", type=float, default=20.0, help="of training, for each size")
    arguments.add_argument("--marks", type=int, default=5, help="how often each size is priced")
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
            held_out=0.0005,
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
                "held_out": trainer.measure().bpb,
                "sessions": price(model, tokenizer, texts) if texts else None,
                "written_a_second": writing_speed(model),
            }
            print(json.dumps(row) if options.json else told(row), flush=True)
            if mark == options.marks:
                break


def timed(steps: Iterator[PretrainStep]) -> Iterator[tuple[PretrainStep, float]]:
    """Yield steps, and the minutes that those after the first took; what is done between them takes none."""
    seconds = 0.0
    yield next(steps), seconds
    began = time.perf_counter()
    for step in steps:
        seconds += time.perf_counter() - began
        yield step, seconds / 60
        began = time.perf_counter()


def rendered(path: Path) -> list[str]:
    """Return a session file's documents, redacted, as training reads them."""
    with open_source(path, say=lambda said: None) as source:
        return list(document_texts(source))


def price(model: RWKV7, tokenizer: object, texts: list[str]) -> float:
    """Return bits per byte of texts, the state carried through each."""
    bits = sum(held_out_bits(model, np.array([0, *tokenizer.encode(text)])) for text in texts)
    return bits / sum(len(text.encode()) for text in texts)


def writing_speed(model: RWKV7, tokens: int = 200) -> float:
    """Return tokens a second, each after the one before it."""
    state = RecurrentState.zeros(model.config, 1)
    with torch.no_grad():
        began = time.perf_counter()
        for token in range(tokens):
            _, state = model(torch.tensor([[token]]), state)
    return tokens / (time.perf_counter() - began)


def told(row: dict[str, object]) -> str:
    """Write a row for people."""
    priced = [
        f"  {name.replace('_', ' ')} {row[name]:.3f}"
        for name in ("held_out", "sessions")
        if row[name] is not None
    ]
    return (
        "{size:>7}  {parameters:>11,} parameters  {minutes:5.1f} min  {tokens:>10,} tokens{priced}  "
        "writes {written_a_second:.0f} tokens/s"
    ).format(**row, priced="".join(priced))


if __name__ == "__main__":
    main()
