"""Measures what a model pays for sessions that it never saw, without learning.

    uv run python benchmarks/zero_shot.py FOLDER [--model MODEL] [--no-redact] [--joined] [--json]

Each *.jsonl file under FOLDER (other files, such as databases, are ignored) is redacted and rendered as in
training, and every byte is priced, with the state carried through each document. Each trace is encoded by
itself, as when sttx learns; `--joined` encodes whole documents, where tokens reach from one trace into the
next. Prints bits per byte of each session and of all together, and those of `xz -9e` on the same text. FOLDER
must not contain sessions that were used to choose anything about the model.
"""

from __future__ import annotations

import argparse
import json
import lzma
import time
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np

from sttx_ccsniff import open_source
from sttx_core.render import render_parts
from sttx_core.tokenizers import Tokenizer
from sttx_core.traces import Trace
from sttx_train import load_model
from sttx_train.pretrain import validation_bits


def main() -> None:
    """Measure every session and print the results."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--model", default=None, help="by default goose-mini")
    arguments.add_argument("--no-redact", action="store_true")
    arguments.add_argument("--joined", action="store_true", help="encode each document as a whole")
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    loaded = load_model(options.model)
    rows, started = [], time.monotonic()
    for path in sorted(options.folder.rglob("*.jsonl")):
        with open_source(path, redact=not options.no_redact, say=lambda message: None) as source:
            documents = document_parts(source)
        data = "".join(chain.from_iterable(documents)).encode()
        if not data:
            continue
        if options.joined:
            documents = [["".join(parts)] for parts in documents]
        encoded = [encode(parts, loaded.tokenizer) for parts in documents]
        row = {
            "session": path.stem,
            "bytes": len(data),
            "tokens": sum(map(len, encoded)),
            "bpb": sum(validation_bits(loaded.model, ids) for ids in encoded) / len(data),
            "xz": 8 * len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)) / len(data),
        }
        rows.append(row)
        if not options.json:
            print("{session:40} {bytes:>10,} bytes  {bpb:.3f}  xz {xz:.3f}".format(**row), flush=True)
    size = sum(row["bytes"] for row in rows)
    total = {name: sum(row[name] * row["bytes"] for row in rows) / size for name in ("bpb", "xz")}
    total |= {"bytes": size, "mean_bpb": sum(row["bpb"] for row in rows) / len(rows)}
    total |= {"seconds": time.monotonic() - started}
    if options.json:
        print(json.dumps({"sessions": rows, "all": total}))
    else:
        print(
            f"all {len(rows)}: {size:,} bytes, {total['bpb']:.3f} bits per byte (mean of sessions "
            f"{total['mean_bpb']:.3f}), xz {total['xz']:.3f}"
        )


def document_parts(traces: Iterable[Trace]) -> list[list[str]]:
    """Return the rendered parts of each document, in the order of the documents' first texts."""
    documents: dict[str, list[str]] = {}
    for trace in traces:
        for part in render_parts(trace):
            documents.setdefault(trace.document, []).append(part.text)
    return list(documents.values())


def encode(parts: Iterable[str], tokenizer: Tokenizer) -> np.ndarray:
    """Return the tokens of a document after the token that starts it, each part encoded by itself."""
    ids = (token for part in parts for token in tokenizer.encode(part))
    return np.fromiter(chain([tokenizer.eot_id], ids), np.int64)


if __name__ == "__main__":
    main()
