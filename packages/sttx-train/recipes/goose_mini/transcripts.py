"""Writes made-up sessions about the gathered files: `transcripts.{train,validation}.jsonl`.

Validation files get sessions of their own. The same seed gives the same sessions.
"""

import argparse
import collections
import json
import pathlib
import random
import re
from collections.abc import Iterator, Mapping, Sequence

from phrasebook import Phrasebook
from playing import play_task
from scene import Scene
from selection import in_validation

LIKING = {
    "typescript": 1.0,
    "go": 0.9,
    "python": 0.6,
    "rust": 0.6,
    "javascript": 0.5,
    "csharp": 1.0,
    "c": 0.3,
    "prose": 0.4,
    "json": 0.5,
    "yaml": 0.7,
    "shell": 1.0,
    "java": 0.6,
    "ruby": 0.5,
    "web": 0.7,
    "contracts": 1.0,
    "sql": 0.8,
    "mobile": 0.8,
    "scripts": 0.6,
    "schema": 0.8,
    "markup": 0.4,
    "notebook": 0.5,
    "latex": 0.4,
    "snapshot": 0.5,
    "languages": 0.5,
}
"""Share of the file groups that get a session, by kind: real sessions see more TypeScript and Go."""
DECLARATIONS = 0.25
LENGTHS = (8_000, 90_000)
MOST_TASKS = 16
VALIDATION_BYTES = 700_000


def windows(rng: random.Random, files: Sequence[dict]) -> list[tuple[str, list[dict]]]:
    """Return groups of 3 to 14 neighbouring files of one package: the files that one session can see."""
    packages = collections.defaultdict(list)
    for item in files:
        packages[item["package"]].append(item)
    groups = []
    for package, items in packages.items():
        items.sort(key=lambda item: item["path"])
        start = 0
        while start < len(items):
            step = rng.randrange(3, 15)
            group = items[start : start + step]
            if len(group) > 2 and sum(len(item["text"]) for item in group) > 6_000:
                groups.append((package, group))
            start += step
    return groups


def liking(item: Mapping[str, str]) -> float:
    """Return how often a group whose first file is this one gets a session, from 0 to 1."""
    return DECLARATIONS if re.search(r"\.d\.[cm]?ts$", item["path"]) else LIKING[item["kind"]]


def generate(files: Sequence[dict], total: int, seed: int, book: Phrasebook) -> Iterator[dict]:
    """Yield sessions of `total` bytes together, going round the groups of files.

    Each has its `text`, its `package`, and as `quotes` the paths of the files that tools were called with.
    """
    rng = random.Random(seed)
    runs = [run for item in files if "runs" in item for run in item["runs"]]
    groups, made = windows(rng, [item for item in files if item["kind"] in LIKING]), 0
    if not groups:
        raise ValueError("too few files: no package has three neighbouring files of 6 kB together")
    while made < total:
        rng.shuffle(groups)
        for package, group in groups:
            if rng.random() > liking(group[0]) or made >= total:
                continue
            inner = random.Random(rng.getrandbits(64))
            length = inner.randrange(*LENGTHS)
            scene = Scene(inner, package, group, book, runs)
            for _ in range(MOST_TASKS):
                play_task(scene)
                if scene.session.length > length:
                    break
            text = scene.session.text()
            made += len(text.encode())
            quotes = [item["path"] for item in group if f'"{scene.place_of(item["path"])}"' in text]
            yield {"kind": "transcripts", "text": text, "package": package, "quotes": quotes}


def main() -> None:
    """Write `<work>/transcripts.train.jsonl` and `.validation.jsonl`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--bytes", type=int, default=168_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    files = []
    for name in ("files.jsonl", "terminal.jsonl"):
        with (options.work / name).open(encoding="utf-8") as lines:
            files += [json.loads(line) for line in lines]
    train = [item for item in files if not in_validation(item)]
    validation = [item for item in files if in_validation(item)]
    book = Phrasebook(item for item in train if item["kind"] in {"prose", "man", "languages"})
    for name, part, size in (
        ("validation", validation, VALIDATION_BYTES),
        ("train", train, options.bytes),
    ):
        with (options.work / f"transcripts.{name}.jsonl").open("w", encoding="utf-8") as out:
            for row in generate(part, size, options.seed, book):
                out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
