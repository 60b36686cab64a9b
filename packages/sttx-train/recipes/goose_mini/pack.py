"""Mixes files and transcripts, encodes them, and writes the training tokens and the validation texts.

Each document starts with token 0, and sessions are encoded trace by trace (`turns`). No training document has
text from the validation folders (`selection.in_validation`), neither as files nor as quotes in transcripts.
The validation transcripts are about validation files only.
"""

import argparse
import collections
import csv
import json
import os
import pathlib
import random
import shutil
from collections.abc import Collection, Sequence

import numpy as np
from near_duplicates import NearDuplicates
from selection import in_validation
from turns import SESSIONS, encode

from sttx_core.tokenizers import TrieTokenizer

VALIDATION_KINDS = {
    "python": ["python"],
    "typescript": ["typescript"],
    "go": ["go"],
    "prose": ["prose", "man"],
    "json": ["json", "yaml"],
    "contracts": ["contracts"],
    "languages": ["languages"],
    "colors": ["colors"],
    "terminal": ["log"],
    "data": ["notebook", "snapshot", "markup", "schema", "sql"],
    "front": ["web", "mobile", "javascript"],
    "identifiers": ["identifiers"],
    "answers": ["answers", "pages"],
}
VALIDATION_BYTES = 300_000
VALIDATION_PIECE = {SESSIONS: 30_000}
"""Most characters of one validation document of a kind; the others have 12,000, so that many packages fit."""
SHARES = {
    "typescript": 17,
    "prose": 18,
    "go": 12,
    "python": 11,
    "rust": 7,
    "javascript": 6,
    "json": 7,
    "log": 4,
    "java": 2.5,
    "man": 2,
    "c": 2,
    "yaml": 1.5,
    "shell": 1.5,
    "ruby": 1,
    "csharp": 1,
    "web": 7,
    "contracts": 3,
    "sql": 2,
    "mobile": 3,
    "scripts": 3,
    "schema": 1,
    "markup": 2,
    "notebook": 2,
    "latex": 0.5,
    "snapshot": 1.5,
    "languages": 14,
    "colors": 5,
    "identifiers": 3,
    "answers": 5,
}
"""Percent of the plain files' bytes; of a kind with less than its share everything is used."""


def load(path: pathlib.Path) -> list[dict]:
    """Return the rows of a JSON-lines file."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def take(rows: Sequence[dict], size: float) -> list[dict]:
    """Return the first rows that have `size` bytes together."""
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
    """Return about `size` bytes of plain files in the proportions of `SHARES`.

    Files that sessions quote, given by package and path, come last, so that the corpus repeats itself less.
    """
    chosen = []
    for kind, share in SHARES.items():
        rows = [row for row in files if row["kind"] == kind]
        rng.shuffle(rows)
        rows.sort(key=lambda row: (row["package"], row["path"]) in quoted)
        chosen += take(rows, size * share / sum(SHARES.values()))
    return chosen


def only_new(rows: Sequence[dict]) -> list[dict]:
    """Return the rows without near-duplicates of earlier rows."""
    known = NearDuplicates()
    return [row for row in rows if known.is_new(row["text"])]


def size_of(rows: Sequence[dict]) -> int:
    """Return the bytes of the rows' text."""
    return sum(len(row["text"].encode()) for row in rows)


def piece_of(row: dict, name: str) -> str:
    """Return the start of a document, up to a whole line or, of a session, a whole turn; no form feeds."""
    most, text = VALIDATION_PIECE.get(name, 12_000), row["text"].replace("\f", " ")
    end = "\n\n" if name == SESSIONS else "\n"
    return text if len(text) <= most else text[:most].rpartition(end)[0] + end


def in_turn(rows: Sequence[dict]) -> list[dict]:
    """Return the rows so that packages take turns: the first of each, then the second of each.

    >>> [row["path"] for row in in_turn([{"package": p[0], "path": p} for p in ("a1", "a2", "b1")])]
    ['a1', 'b1', 'a2']
    """
    counts: collections.Counter[str] = collections.Counter()
    keyed = []
    for row in rows:
        keyed.append((counts[row["package"]], row))
        counts[row["package"]] += 1
    return [row for _, row in sorted(keyed, key=lambda pair: pair[0])]


def write_validation(files: Sequence[dict], sessions: Sequence[dict], out: pathlib.Path) -> dict[str, int]:
    """Write `validation/<kind>.txt`, starts of documents with form feeds between them; return their sizes."""
    sizes = {}
    (out / "validation").mkdir(parents=True, exist_ok=True)
    for name in [*VALIDATION_KINDS, SESSIONS]:
        rows = (
            list(sessions)
            if name == SESSIONS
            else [row for row in files if row["kind"] in VALIDATION_KINDS[name]]
        )
        random.Random(3).shuffle(rows)
        pieces = [row | {"text": piece_of(row, name)} for row in in_turn(rows)]
        text = "\f".join(row["text"] for row in take(pieces, VALIDATION_BYTES))
        (out / "validation" / f"{name}.txt").write_text(text, encoding="utf-8")
        sizes[name] = len(text.encode())
    return sizes


def write_tokens(documents: Sequence[dict], encoder: TrieTokenizer, path: pathlib.Path) -> dict[str, dict]:
    """Write the documents' tokens as little-endian uint16; return bytes and tokens by kind."""
    kinds: dict[str, dict] = {}
    part = path.with_suffix(".part")
    with part.open("wb") as out:
        for row in documents:
            ids = np.array([encoder.eot_id, *encode(row["text"], row["kind"], encoder)], dtype="<u2")
            ids.tofile(out)
            entry = kinds.setdefault(row["kind"], {"bytes": 0, "tokens": 0, "documents": 0})
            for key, value in (("bytes", len(row["text"].encode())), ("tokens", len(ids)), ("documents", 1)):
                entry[key] += value
    os.replace(part, path)
    return dict(sorted(kinds.items()))


def write_packages(packages: Sequence[dict], path: pathlib.Path) -> None:
    """Write the packages that were used, with their licenses, as comma-separated values."""
    with path.open("w", encoding="utf-8", newline="") as out:
        columns = ["package", "from", "version", "licence", "bytes"]
        table = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(entry for entry in packages if entry["outcome"] == "used")


def main() -> None:
    """Pack `<work>` into `<out>`: train.bin, validation/, vocab.txt, manifest.json, corpus.csv, READY."""
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
    files += logs + load(options.work / "made_up.train.jsonl")
    apart = load(options.work / "transcripts.validation.jsonl")
    unseen = [row for row in files if in_validation(row)] + load(options.work / "made_up.validation.jsonl")
    validation = write_validation(unseen, apart, options.out)
    quoted = {(row["package"], path) for row in sessions for path in row["quotes"]}
    size = size_of(sessions) * options.raw_share / (1 - options.raw_share)
    documents = sessions + choose([row for row in files if not in_validation(row)], size, rng, quoted)
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
        "validation": validation,
        "newness": json.loads((options.work / "newness.json").read_text()) | {"repeats": repeats},
        "packages": packages,
    }
    write_packages(packages, options.out / "corpus.csv")
    (options.out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    line = f"{manifest['tokens']} tokens, {manifest['bytes']} bytes, {len(documents)} documents\n"
    (options.out / "READY.part").write_text(line)
    os.replace(options.out / "READY.part", options.out / "READY")
    print(line, json.dumps({"kinds": kinds, "validation": validation, "repeats": repeats}, indent=1))


if __name__ == "__main__":
    main()
