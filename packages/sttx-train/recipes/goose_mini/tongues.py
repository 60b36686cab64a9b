"""Other languages than English: which one a text is in, and what users and agents say in them."""

import random
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

TONGUES: dict[str, dict[str, list[str]]] = tomllib.loads(
    (Path(__file__).parent / "tongues.toml").read_text("utf-8")
)
PARTS = {
    "request": "request",
    "opening": "say",
    "between": "say",
    "before_edit": "say",
    "thought": "say",
    "success": "say",
    "summary": "summary",
}
"""The parts of the English grammar that have another language's words, and which of its lists."""
OFTEN = 0.8
_SCRIPTS = {
    "ko": re.compile("[가-힣]"),
    "ja": re.compile("[ぁ-ヿ]"),
    "zh": re.compile("[一-鿿]"),
    "ru": re.compile("[а-яА-Я]"),
}
_FREQUENT = {
    "es": "el la los las de que en una para por con no se del es como este está ser",
    "fr": "le la les des du une pour dans est que et pas avec sur ce par vous être ne",
    "de": "der die das und nicht ist ein eine für mit von den werden auf im kann wird zu",
    "pt": "o os uma para não com em do da que por você ser um no na são mais dos",
}
_WORDS = {name: frozenset(words.split()) for name, words in _FREQUENT.items()}
_PIECE = re.compile(
    r'"((?:[^"\\\n]|\\.){12,160})"|>([^<>\n]{12,160})<|^\s*(?:[-*#>]+ )?([^\n|{}<>=;]{12,200})$', re.M
)


def tongue_of(text: str) -> str:
    """Return the language of a sentence, by its script or its most frequent words; "" if none is clear.

    >>> [tongue_of(text) for text in ("Die Datei wird nicht gefunden", "ファイルがありません", "No file")]
    ['de', 'ja', '']
    """
    for name, letters in _SCRIPTS.items():
        if 4 * len(letters.findall(text)) > len(text):
            return name
    words = set(re.findall(r"\w+", text.lower()))
    name, best = max(((name, len(words & known)) for name, known in _WORDS.items()), key=lambda pair: pair[1])
    return name if best >= 2 else ""


def sentences_by_tongue(texts: Iterable[str], most: int = 20_000) -> dict[str, list[str]]:
    """Return sentences of each language, found in translated texts of any format."""
    found: dict[str, dict[str, None]] = {name: {} for name in TONGUES}
    for text in texts:
        for parts in _PIECE.findall(text[:60_000]):
            piece = next(part for part in parts if part).strip().replace('\\"', '"').replace("\\n", " ")
            name = tongue_of(piece)
            if name and len(found[name]) < most:
                found[name][piece] = None
    return {name: list(pieces) for name, pieces in found.items()}


class Tongue:
    """One language with its sentences."""

    def __init__(self, name: str, sentences: list[str]) -> None:
        self.name = name
        self.sentences = sentences or [*TONGUES[name]["say"][:1]]

    def say(self, rng: random.Random, part: str) -> str | None:
        """Return a template for a part of the grammar, or None where English is spoken after all."""
        said = PARTS.get(part)
        return rng.choice(TONGUES[self.name][said]) if said and rng.random() < OFTEN else None


def draw_tongue(rng: random.Random, bank: Mapping[str, list[str]], share: float) -> Tongue | None:
    """Return a language for a session, or None for English."""
    if rng.random() >= share or not bank:
        return None
    name = rng.choice(list(bank))
    return Tongue(name, bank[name])
