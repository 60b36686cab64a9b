"""Measures what experts beside the frozen network are worth on whole sessions, next to zpaq and xz.

    uv run python benchmarks/experts.py FOLDER [--model MODEL] [--most-bytes N] [--json]

Each *.jsonl file under FOLDER is redacted and rendered as in training. The frozen network prices every token,
with its state carried through each document; the experts mix in and learn. "stream" keeps the experts' memory
over all sessions, in the order of their names; "session" starts each one with an empty memory. zpaq -m5 gets
the same bytes, one session at a time, if it is installed. Sizes of the model and of programs are not counted.
"""

from __future__ import annotations

import argparse
import json
import lzma
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from sttx_ccsniff import open_source
from sttx_cli.session_texts import document_texts
from sttx_core import Tokenizer
from sttx_core.experts import Experts
from sttx_train import RWKV7, load_model

WINDOW = 256


def windows(model: RWKV7, ids: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the tokens of a document after its first, window by window, with [T, V] log-probabilities."""
    state = None
    for start in range(0, len(ids) - 1, WINDOW):
        before = torch.from_numpy(ids[start : start + WINDOW][: len(ids) - 1 - start])[None]
        with torch.inference_mode():
            logits, state = model(before) if state is None else model(before, state)
        yield ids[start + 1 : start + 1 + WINDOW], torch.log_softmax(logits[0].float(), -1).numpy()


def tokens_of(tokenizer: Tokenizer) -> list[bytes]:
    """Return the bytes of every id; the end of text has none."""
    every = range(tokenizer.vocab_size)
    return [b"" if token == tokenizer.eot_id else tokenizer.token_bytes(token) for token in every]


def zpaq(data: bytes) -> float:
    """Return the bits of `zpaq -m5` for some bytes, NaN if it is not installed."""
    if shutil.which("zpaq") is None:
        return float("nan")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "text").write_bytes(data)
        subprocess.run(
            ["zpaq", "a", "text.zpaq", "text", "-m5", "-t1"], cwd=folder, check=True, capture_output=True
        )
        return 8.0 * (Path(folder) / "text.zpaq").stat().st_size


def main() -> None:
    """Measure every session and print the results."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--model", default=None, help="by default goose-mini")
    arguments.add_argument("--most-bytes", type=int, default=10**12, help="of each session's text")
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    loaded = load_model(options.model)
    tokens = tokens_of(loaded.tokenizer)
    stream, rows = Experts(tokens), []
    experts_seconds = count = 0.0
    for path in sorted(options.folder.rglob("*.jsonl")):
        with open_source(path, redact=True, say=lambda message: None) as source:
            data = "\f".join(document_texts(source)).encode()[: options.most_bytes]
        if not data:
            continue
        bits = dict.fromkeys(("network", "session", "stream"), 0.0)
        alone = Experts(tokens)
        for text in data.split(b"\f"):
            ids = np.array([loaded.tokenizer.eot_id, *loaded.tokenizer.encode_bytes(text)])
            places = alone.document(), stream.document()
            for window, log_probs in windows(loaded.model, ids):
                bits["network"] -= log_probs[np.arange(len(window)), window].sum() / np.log(2)
                start = time.process_time()
                bits["session"] += alone.read(places[0], log_probs, window).sum()
                experts_seconds += time.process_time() - start
                bits["stream"] += stream.read(places[1], log_probs, window).sum()
                count += len(window)
        bits |= {"zpaq": zpaq(data), "xz": 8.0 * len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))}
        rows.append({"session": path.stem, "bytes": len(data), "bits": bits})
        if not options.json:
            print(line(path.stem, len(data), bits), flush=True)
    size = sum(row["bytes"] for row in rows)
    every = {name: sum(row["bits"][name] for row in rows) for name in rows[0]["bits"]}
    if options.json:
        print(json.dumps({"sessions": rows, "bytes": size, "bits": every}))
    else:
        print(line(f"all {len(rows)}", size, every))
        print(
            f"experts: {experts_seconds / count * 1e6:.0f} microseconds a token, {stream.nbytes / 1e6:.0f} MB"
        )


def line(name: str, size: int, bits: dict[str, float]) -> str:
    """Return one line of the table, in bits per byte."""
    numbers = "  ".join(f"{arm} {value / size:.3f}" for arm, value in bits.items())
    ratios = f"session/zpaq {bits['session'] / bits['zpaq']:.3f}  "
    ratios += f"stream/zpaq {bits['stream'] / bits['zpaq']:.3f}"
    return f"{name:40} {size:>10,} bytes  {numbers}  {ratios}"


if __name__ == "__main__":
    main()
