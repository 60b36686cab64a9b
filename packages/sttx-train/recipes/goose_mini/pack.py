"""Mixes files and transcripts, encodes them, and writes the training tokens and the held-out texts.

Each document begins with token 0. Held-out folders (`selection.held_out`) are in no training document,
neither as files nor quoted in transcripts; the transcripts held out are played on held-out files only.
"""

import argparse
import csv
import json
import os
import pathlib
import random
import shutil
from collections.abc import Collection, Sequence

import numpy as np
from near_duplicates import NearDuplicates
from selection import held_out

from sttx_core.tokenizers import TrieTokenizer

HELD_KINDS = {
    "python": ["python"],
    "typescript": ["typescript"],
    "go": ["go"],
    "prose": ["prose", "man"],
    "json": ["json", "yaml"],
}
HELD_BYTES = 300_000
SHARES = {
    "typescript": 21,
    "prose": 18,
    "go": 14,
    "python": 12,
    "rust": 9,
    "javascript": 6,
    "json": 5,
    "log": 4,
    "java": 2.5,
    "man": 2.5,
    "c": 2,
    "yaml": 1.5,
    "shell": 1.5,
    "ruby": 1,
    "csharp": 1,
    "web": 0.5,
}
"""Of the plain files' bytes, in percent; a kind that has less than its share gives all it has."""


def load(path: pathlib.Path) -> list[dict]:
    """The rows of a JSON-lines file."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def take(rows: Sequence[dict], size: float) -> list[dict]:
    """The first rows, until they have `size` bytes."""
    taken, total = [], 0
    for row in rows:
        if total >= size:
            break
        taken.append(row)
        total += len(row["text"].encode())
    return taken


def choose(
    files: Sequence[dict], size: float, rng: random.Random, quoted: Collection[tuple[str, str]] = ()
) -> list[dict]:
    """About `size` bytes of plain files in the proportions of `SHARES`.

    Files that sessions quote, by package and path, are taken last, so that the corpus repeats itself less.
    """
    chosen = []
    for kind, share in SHARES.items():
        rows = [row for row in files if row["kind"] == kind]
        rng.shuffle(rows)
        rows.sort(key=lambda row: (row["package"], row["path"]) in quoted)
        chosen += take(rows, size * share / sum(SHARES.values()))
    return chosen


def only_new(rows: Sequence[dict]) -> list[dict]:
    """The rows whose text is not nearly that of an earlier row."""
    known = NearDuplicates()
    return [row for row in rows if known.is_new(row["text"])]


def size_of(rows: Sequence[dict]) -> int:
    """Bytes of text."""
    return sum(len(row["text"].encode()) for row in rows)


def write_held_out(held: Sequence[dict], sessions: Sequence[dict], out: pathlib.Path) -> dict[str, int]:
    """Writes `heldout/<kind>.txt`, whole documents with a form feed between them; returns their sizes."""
    sizes = {}
    (out / "heldout").mkdir(parents=True, exist_ok=True)
    for name in [*HELD_KINDS, "transcripts"]:
        rows = (
            list(sessions)
            if name == "transcripts"
            else [row for row in held if row["kind"] in HELD_KINDS[name]]
        )
        random.Random(3).shuffle(rows)
        text = "\f".join(row["text"].replace("\f", " ") for row in take(rows, HELD_BYTES))
        (out / "heldout" / f"{name}.txt").write_text(text, encoding="utf-8")
        sizes[name] = len(text.encode())
    return sizes


def write_tokens(documents: Sequence[dict], encoder: TrieTokenizer, path: pathlib.Path) -> dict[str, dict]:
    """Writes the documents' tokens as little-endian uint16; returns bytes and tokens by kind."""
    kinds: dict[str, dict] = {}
    part = path.with_suffix(".part")
    with part.open("wb") as out:
        for row in documents:
            ids = np.array([encoder.eot_id, *encoder.encode(row["text"])], dtype="<u2")
            ids.tofile(out)
            entry = kinds.setdefault(row["kind"], {"bytes": 0, "tokens": 0, "documents": 0})
            for key, value in (("bytes", len(row["text"].encode())), ("tokens", len(ids)), ("documents", 1)):
                entry[key] += value
    os.replace(part, path)
    return dict(sorted(kinds.items()))


def write_packages(packages: Sequence[dict], path: pathlib.Path) -> None:
    """Writes the packages that something was kept of, with their licences, as comma-separated values."""
    with path.open("w", encoding="utf-8", newline="") as out:
        columns = ["package", "from", "version", "licence", "bytes"]
        table = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(entry for entry in packages if entry["outcome"] == "used")


def main() -> None:
    """Packs `<work>` into `<out>`: train.bin, heldout/, vocab.txt, manifest.json, corpus.csv, then READY."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--vocab", type=pathlib.Path, required=True)
    parser.add_argument(
        "--raw-share", type=float, default=0.5, help="share of the bytes that are plain files"
    )
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    files, logs = load(options.work / "files.jsonl"), load(options.work / "terminal.jsonl")
    sessions = load(options.work / "transcripts.train.jsonl")
    offered = {"transcripts": size_of(sessions), "log": size_of(logs)}
    sessions, logs = only_new(sessions), only_new(logs)
    files += logs
    held = write_held_out(
        [row for row in files if held_out(row)], load(options.work / "transcripts.held.jsonl"), options.out
    )
    quoted = {(row["package"], path) for row in sessions for path in row["quotes"]}
    size = size_of(sessions) * options.raw_share / (1 - options.raw_share)
    documents = sessions + choose([row for row in files if not held_out(row)], size, rng, quoted)
    rng.shuffle(documents)
    shutil.copy(options.vocab, options.out / "vocab.txt")
    encoder = TrieTokenizer(options.out / "vocab.txt")
    kinds = write_tokens(documents, encoder, options.out / "train.bin")
    packages = json.loads((options.work / "manifest.json").read_text())
    repeats = {
        "transcripts": offered["transcripts"] - size_of(sessions),
        "log": offered["log"] - size_of(logs),
    }
    manifest = {
        "tokens": sum(entry["tokens"] for entry in kinds.values()),
        "bytes": sum(entry["bytes"] for entry in kinds.values()),
        "documents": len(documents),
        "vocabulary": encoder.sha256,
        "seed": options.seed,
        "kinds": kinds,
        "heldout": held,
        "newness": json.loads((options.work / "newness.json").read_text()) | {"repeats": repeats},
        "packages": packages,
    }
    write_packages(packages, options.out / "corpus.csv")
    (options.out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    line = f"{manifest['tokens']} tokens, {manifest['bytes']} bytes, {len(documents)} documents\n"
    (options.out / "READY.part").write_text(line)
    os.replace(options.out / "READY.part", options.out / "READY")
    print(line, json.dumps({"kinds": kinds, "heldout": held, "repeats": repeats}, indent=1))


if __name__ == "__main__":
    main()
