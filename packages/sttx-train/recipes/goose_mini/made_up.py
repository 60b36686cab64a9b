"""Writes made-up documents of what is costly to predict: `made_up.{train,validation}.jsonl`.

They are lists, logs and settings with identifiers of every shape, answers of APIs in JSON, and pages as
browser tools show them. The names in them come from the gathered files.
"""

import argparse
import json
import pathlib
import random
import re
from collections.abc import Callable, Iterator, Sequence

from grammar import Literal, fill
from identifiers import SHAPES, identifier
from pages import Page
from results import Maker, as_text
from selection import in_validation

LENGTHS = (1_500, 12_000)
VALIDATION_BYTES = 300_000
NAMES_EVERY = 40
_WORD = re.compile(r"\b[A-Za-z][A-Za-z_]{3,18}\b")
_SENTENCE = re.compile(r"(?<=[.!?]\s)[A-Z][^.!?\n|<>{}]{20,140}[.!?](?=\s)")


def lines_of_identifiers(rng: random.Random, maker: Maker) -> str:
    """Return lines of a few shapes in one frame each: a log, a table, settings or a list."""
    shapes = rng.sample(list(SHAPES), rng.randrange(1, 5))
    known = [identifier(rng, rng.choice(shapes)) for _ in range(4)]

    def one() -> str:
        return rng.choice(known) if rng.random() < 0.25 else identifier(rng, rng.choice(shapes))

    names = [maker.word(rng) for _ in range(rng.randrange(2, 7))]
    frame = rng.choice(FRAMES)
    return "\n".join(framed(rng, frame, maker, names, one) for _ in range(rng.randrange(4, 60)))


def framed(rng: random.Random, frame: str, maker: Maker, names: list[str], one: Callable[[], str]) -> str:
    """Return a line of a frame, with names (as code: without blanks) and identifiers in it."""

    def draw(slot: str) -> Literal | None:
        if slot == "name":
            return Literal(rng.choice(names))
        if slot == "word":
            return Literal(re.sub(r"\W", "_", rng.choice(names)))
        if slot == "one":
            return Literal(one())
        made = {"time": lambda: identifier(rng, "time"), "link": lambda: maker.link(rng)}
        made |= {"sentence": lambda: rng.choice(maker.sentences), "number": lambda: str(rng.randrange(10**6))}
        made["level"] = lambda: rng.choice(["INFO", "WARN", "DEBUG", "ERROR"])
        return Literal(made[slot]()) if slot in made else None

    return fill(frame, draw)


FRAMES = (
    "{name}: {one}",
    "{Name}={one}",
    "{one}  {name}",
    "| {name} | {one} | {one} |",
    '  "{name}": "{one}",',
    "const {word} = '{one}';",
    "{time} [{level}] {name} {one} {sentence}",
    "{one} {one} {number}",
    "- [{name}]({link}): `{one}`",
    "curl -H '{name}: {one}' {link}",
    "INSERT INTO {word} VALUES ('{one}', '{one}', {number});",
    "{time} {level} {word}={one} {word}={number}",
    "[{one}] {sentence}",
)


def answers(rng: random.Random, maker: Maker) -> str:
    """Return one or a few answers of APIs."""
    return "\n".join(as_text(rng, maker.answer(rng)) for _ in range(rng.choice([1, 1, 2])))


def page(rng: random.Random, maker: Maker) -> str:
    """Return a page as a browser tool shows it."""
    made = Page(rng, maker.words, maker.sentences)
    title, link = made.label(), maker.link(rng)
    return rng.choice([made.tree, made.numbered])(title, link) if rng.random() < 0.8 else made.markup()


KINDS: dict[str, tuple[Callable[[random.Random, Maker], str], float]] = {
    "identifiers": (lines_of_identifiers, 0.4),
    "answers": (answers, 0.4),
    "pages": (page, 0.2),
}


def generate(maker: Maker, total: int, seed: int) -> Iterator[dict]:
    """Yield documents of `total` bytes together; the same seed gives the same ones."""
    rng, made = random.Random(seed), 0
    weights = [share for _, share in KINDS.values()]
    while made < total:
        kind = rng.choices(list(KINDS), weights)[0]
        text, length = "", rng.randrange(*LENGTHS)
        while len(text) < length:
            text += KINDS[kind][0](rng, maker)[: LENGTHS[1]] + "\n\n"
        made += len(text.encode())
        yield {"kind": kind, "text": text, "package": "made-up", "path": f"{kind}/{made}"}


def maker_of(files: Sequence[dict]) -> Maker:
    """Return a maker with the words and sentences of some files."""
    words: dict[str, None] = {}
    sentences: dict[str, None] = {}
    for item in files[::NAMES_EVERY]:
        words.update(dict.fromkeys(_WORD.findall(item["text"][:3000])[:40]))
        if item["kind"] == "prose":
            sentences.update(dict.fromkeys(_SENTENCE.findall(item["text"][:20_000])[:20]))
    return Maker(list(words), list(sentences))


def main() -> None:
    """Write `<work>/made_up.train.jsonl` and `.validation.jsonl`, with names of the files of each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--bytes", type=int, default=24_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with (options.work / "files.jsonl").open(encoding="utf-8") as lines:
        files = [json.loads(line) for line in lines]
    parts = {"validation": [item for item in files if in_validation(item)] * NAMES_EVERY}
    parts["train"] = [item for item in files if not in_validation(item)]
    sizes = {"validation": VALIDATION_BYTES, "train": options.bytes}
    for name, part in parts.items():
        with (options.work / f"made_up.{name}.jsonl").open("w", encoding="utf-8") as out:
            for row in generate(maker_of(part), sizes[name], options.seed + (name == "validation")):
                out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
