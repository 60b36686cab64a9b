"""The sentences of the user and the agent in a made-up session.

The grammar of `phrases.toml` is filled with names from the session's files, and with real sentences and
change-log lines from the documentation in the corpus.
"""

import pathlib
import random
import re
import tomllib
from collections.abc import Iterable, Mapping

from grammar import Literal, fill
from tongues import sentences_by_tongue

PHRASES: dict[str, list[str]] = tomllib.loads(
    (pathlib.Path(__file__).parent / "phrases.toml").read_text("utf-8")
)
FENCES = {"shell": "bash", "prose": "markdown", "man": "", "web": "html", "log": ""}
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`])")
_CHANGE_LINE = re.compile(
    r"^\s*[-*+] (?:\[?#?\d+\]?:? )?((?:[A-Z][a-z]+|fix|add|remove|update|support|make|improve|allow|avoid|use"
    r"|refactor|correct|handle|drop|deprecate|ensure|prevent|rename|move)\b.{12,140})$",
    re.M,
)
_ENDS_DOUBLED = frozenset(["get", "run", "set", "split", "log", "drop"])


class Phrasebook:
    """The grammar with its bank of real sentences, change-log lines and pages."""

    def __init__(self, prose: Iterable[Mapping[str, str]]) -> None:
        prose = list(prose)
        self.foreign = sentences_by_tongue(item["text"] for item in prose if item["kind"] == "languages")
        sentences: dict[str, None] = {}
        changes: dict[str, None] = {}
        self.pages: list[str] = []
        for item in prose:
            if item["kind"] == "prose":
                for paragraph in item["text"].split("\n\n"):
                    sentences.update(dict.fromkeys(_sentences(" ".join(paragraph.split()))))
            if item["kind"] == "languages":
                continue
            changes.update(dict.fromkeys(line.rstrip(" .") for line in _CHANGE_LINE.findall(item["text"])))
            if len(item["text"]) > 1500:
                self.pages.append(item["text"])
        self.sentences = list(sentences) or ["It works."]
        self.changes = list(changes) or ["Fix the build"]
        self.pages = self.pages or ["Not found"]

    def say(self, rng: random.Random, part: str, facts: Mapping[str, str], code: str = "") -> str:
        """One phrase of a part of the grammar (`request`, `opening`, ...), filled."""
        return self.fill(rng, rng.choice(PHRASES[part]), facts, code)

    def fill(self, rng: random.Random, template: str, facts: Mapping[str, str], code: str = "") -> str:
        """A template with its slots filled from the facts, the bank and the grammar."""

        def draw(slot: str) -> str | None:
            if slot in facts:
                return Literal(facts[slot])
            if slot == "code":
                return Literal(_stretch(rng, code))
            if slot == "fence":
                return Literal(FENCES.get(facts.get("kind", ""), facts.get("kind", "")))
            if slot == "sentence":
                return Literal(rng.choice(self.sentences))
            if slot == "bullet":
                return Literal(rng.choice(self.changes))
            return rng.choice(PHRASES[slot]) if slot in PHRASES else None

        return fill(template, draw)

    def document(self, rng: random.Random, facts: Mapping[str, str], code: str) -> str:
        """A Markdown page about a change."""
        parts = ["# " + self.say(rng, "title", facts), self.say(rng, "clause", facts)]
        for heading in rng.sample(PHRASES["heading"], rng.randrange(2, 8)):
            parts.append(f"## {heading}\n\n" + self.say(rng, "section", facts, code))
        return "\n\n".join(parts) + "\n"

    def todo(self, rng: random.Random, facts: Mapping[str, str]) -> tuple[str, str]:
        """A task and its active form."""
        verb, _, rest = rng.choice(PHRASES["do"]).partition(" ")
        rest = f"{rest} " if rest else ""
        thing = self.say(rng, "object", facts)
        return f"{verb.capitalize()} {rest}{thing}", f"{active_form(verb).capitalize()} {rest}{thing}"

    def slug(self, rng: random.Random, words: int = 1) -> str:
        """A few topics as a file or branch name has them."""
        return "-".join(re.sub(r"\W+", "-", self.say(rng, "topic", {}).lower()) for _ in range(words))


def active_form(verb: str) -> str:
    """The -ing form of a verb.

    >>> active_form("move"), active_form("split"), active_form("fix")
    ('moving', 'splitting', 'fixing')
    """
    return (verb + verb[-1] if verb in _ENDS_DOUBLED else verb.removesuffix("e")) + "ing"


def _stretch(rng: random.Random, code: str) -> str:
    lines = code.split("\n")
    start = rng.randrange(max(1, len(lines) - 12))
    return "\n".join(lines[start : start + rng.randrange(2, 14)]).strip("\n")


def _sentences(paragraph: str) -> list[str]:
    if not paragraph[:1].isupper() or "|" in paragraph or "::" in paragraph or not paragraph.isascii():
        return []
    return [item for item in _SENTENCE_END.split(paragraph) if 25 < len(item) < 200 and item[-1] in ".!?"]
