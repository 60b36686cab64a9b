"""Mixes files and transcripts, encodes them, and writes the training tokens and the held-out texts.

Each document begins with token 0. Held-out folders of packages (see `transcripts.held_out`) are in no training
document, neither as files nor quoted in transcripts.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import random
import shutil

import numpy as np
from sttx_core.tokenizers.trie import TrieTokenizer
from transcripts import held_out

HELD_KINDS = {"python": ["python"], "typescript": ["typescript"], "go": ["go"], "prose": ["prose", "man"], "json": ["json", "yaml"]}
HELD_SIZE = 300_000


def load(path: pathlib.Path) -> list[dict]:
    """The rows of a JSON-lines file."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write_held_out(held: list[dict], sessions: list[dict], out: pathlib.Path) -> dict[str, int]:
    """Writes `heldout/<kind>.txt`, whole documents of each kind, a form feed between two documents."""
    sizes = {}
    (out / "heldout").mkdir(parents=True, exist_ok=True)
    for name, kinds in [*HELD_KINDS.items(), ("transcripts", None)]:
        rows = sessions if kinds is None else [row for row in held if row["kind"] in kinds]
        random.Random(3).shuffle(rows)
        texts, size = [], 0
        for row in rows:
            if size > HELD_SIZE:
                break
            texts.append(row["text"].replace("\f", " "))
            size += len(texts[-1])
        (out / "heldout" / f"{name}.txt").write_text("\f".join(texts), encoding="utf-8")
        sizes[name] = size
    return sizes


def main() -> None:
    """Packs `<work>` into `<out>`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--raw-share", type=float, default=0.4, help="share of the bytes that are plain files")
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    files, sessions = load(options.work / "files.jsonl"), load(options.work / "transcripts.train.jsonl")
    held_sizes = write_held_out([row for row in files if held_out(row)], load(options.work / "transcripts.held.jsonl"), options.out)
    raw = [row for row in files if not held_out(row)]
    rng.shuffle(raw)
    session_bytes = sum(len(row["text"]) for row in sessions)
    budget = session_bytes * options.raw_share / (1 - options.raw_share)
    chosen, size = [], 0
    for row in raw:
        if size > budget:
            break
        chosen.append(row)
        size += len(row["text"])
    documents = sessions + chosen
    rng.shuffle(documents)
    shutil.copy(options.work / "vocab.txt", options.out / "vocab.txt")
    encoder = TrieTokenizer(options.out / "vocab.txt")
    kinds: dict[str, list[int]] = {}
    total = 0
    part = options.out / "train.bin.part"
    with part.open("wb") as out:
        for row in documents:
            ids = np.array([0, *encoder.encode(row["text"])], dtype=np.uint16)
            ids.tofile(out)
            total += len(ids)
            counts = kinds.setdefault(row["kind"], [0, 0])
            counts[0] += len(row["text"].encode())
            counts[1] += len(ids)
    os.replace(part, options.out / "train.bin")
    packages = json.loads((options.work / "manifest.json").read_text())
    manifest = {"tokens": total, "bytes": sum(count[0] for count in kinds.values()), "documents": len(documents),
                "kinds": {kind: {"bytes": count[0], "bytes_per_token": round(count[0] / count[1], 3)} for kind, count in sorted(kinds.items())},
                "heldout": held_sizes, "packages": packages}
    (options.out / "manifest.json").write_text(json.dumps(manifest, indent=1))
    line = f"{total} tokens, {manifest['bytes']} bytes, {len(documents)} documents\n"
    (options.out / "READY.part").write_text(line)
    os.replace(options.out / "READY.part", options.out / "READY")
    print(line, json.dumps(manifest["kinds"], indent=1), held_sizes)


if __name__ == "__main__":
    main()
