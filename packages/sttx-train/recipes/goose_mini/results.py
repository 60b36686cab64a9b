"""JSON as APIs return it, made up: random schemas of named fields, with fitting values.

A schema is drawn once and filled many times, so the objects of a list have the same keys, as in real answers.
"""

import json
import random
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from identifiers import identifier

_TABLE = tomllib.loads((Path(__file__).parent / "fields.toml").read_text("utf-8"))
FIELDS: dict[str, list[str]] = _TABLE["fields"]
CHOICES: dict[str, list[str]] = _TABLE["choices"]
HOSTS: list[str] = _TABLE["hosts"]
ENVELOPES: list[str] = _TABLE["envelopes"]
DEEPEST = 3
_KIND_OF = {field: kind for kind, fields in FIELDS.items() for field in fields}
_SEPARATORS = "_", "-", " "
_IDENTIFIERS = (
    "uuid",
    "number",
    "object",
    "prefixed",
    "nano",
    "address",
    "base58",
    "sha256",
    "short",
    "ulid",
)
_HASHES = ("commit", "sha256", "address", "word of 32 bytes", "integrity")
_ENDINGS = (".ts", ".py", ".go", ".json", "", ".md")

Value = Callable[[random.Random], object]
Schema = dict[str, object]


class Maker:
    """Makes answers; `words` are names and `sentences` the texts that they contain."""

    def __init__(self, words: Sequence[str], sentences: Sequence[str]) -> None:
        self.words = words or ["main"]
        self.sentences = sentences or ["It works."]

    def answer(self, rng: random.Random) -> object:
        """Return an answer: an object, a list of similar objects, or a list in an envelope."""
        schema = self.schema(rng)
        if rng.random() < 0.3:
            return self.fill(rng, schema)
        rows = [self.fill(rng, schema) for _ in range(rng.choice([1, 2, 3, 5, 8, 10, 20]))]
        if rng.random() < 0.4:
            return rows
        envelope: dict = {rng.choice(ENVELOPES): rows}
        extra = {
            "total": len(rows) + rng.choice([0, 0, 10, 153]),
            "page": 1,
            "per_page": rng.choice([10, 20, 50, 100]),
        }
        extra |= {"next_cursor": identifier(rng, "base64"), "has_more": rng.random() < 0.5, "success": True}
        for key in rng.sample(sorted(extra), rng.randrange(3)):
            envelope[key] = extra[key]
        return envelope if rng.random() < 0.5 else dict(reversed(envelope.items()))

    def schema(self, rng: random.Random, depth: int = 0) -> Schema:
        """Return fields with the kinds of their values; some are objects or lists of objects again."""
        camel = rng.random() < 0.5
        found: Schema = {}
        for field in rng.sample(list(_KIND_OF), rng.randrange(3, 12 - 2 * depth)):
            kind = _KIND_OF[field]
            name = _camel(field) if camel else field
            if kind in ("object", "list") and depth >= DEEPEST:
                continue
            inner = self.schema(rng, depth + 1) if kind in ("object", "list") else None
            found[name] = inner if kind == "object" else [inner] if kind == "list" else f"{kind}:{field}"
            if kind == "identifier":
                found[name] = f"identifier:{rng.choice(_IDENTIFIERS)}"
        return found

    def fill(self, rng: random.Random, schema: Schema) -> dict:
        """Return an object with the fields of a schema."""
        row: dict = {}
        for name, kind in schema.items():
            if isinstance(kind, dict):
                row[name] = self.fill(rng, kind)
            elif isinstance(kind, list):
                row[name] = [self.fill(rng, kind[0]) for _ in range(rng.randrange(4))]
            else:
                row[name] = self.value(rng, *str(kind).split(":", 1))
        return row

    def value(self, rng: random.Random, kind: str, detail: str) -> object:
        """Return a value of a kind: an identifier, number, flag, word, text, address on the web or choice."""
        if kind == "identifier":
            shown = identifier(rng, detail)
            return int(shown) if detail == "number" else shown
        if rng.random() < 0.07:
            return None
        makers: dict[str, Value] = {
            "count": lambda rng: rng.randrange(10 ** rng.choice([1, 2, 3, 4, 6])),
            "measure": lambda rng: round(rng.random() * 10 ** rng.randrange(4), rng.choice([1, 2, 4, 14])),
            "flag": lambda rng: rng.random() < 0.6,
            "time": lambda rng: identifier(rng, "time"),
            "word": self.word,
            "text": lambda rng: rng.choice(self.sentences),
            "link": self.link,
            "path": self.path,
            "words": lambda rng: [self.word(rng) for _ in range(rng.randrange(5))],
            "choice": lambda rng: rng.choice(CHOICES[detail]),
            "hash": lambda rng: identifier(rng, rng.choice(_HASHES)),
        }
        return makers[kind](rng)

    def word(self, rng: random.Random) -> str:
        """Return a name, or two joined."""
        if rng.random() < 0.6:
            return rng.choice(self.words)
        return rng.choice(_SEPARATORS).join(rng.choices(self.words, k=2))

    def path(self, rng: random.Random) -> str:
        """Return a place of a file."""
        return "/".join(self.word(rng) for _ in range(rng.randrange(2, 5))) + rng.choice(_ENDINGS)

    def link(self, rng: random.Random) -> str:
        """Return an address on the web."""
        last = identifier(rng, rng.choice(["uuid", "number", "short", "nano"]))
        path = f"{self.word(rng).replace(' ', '-').lower()}/{last}"
        tail = rng.choice(["", "", "", f"?{rng.choice(self.words)}={identifier(rng, 'number')}"])
        return f"https://{rng.choice(HOSTS)}/{path}{tail}"


def as_text(rng: random.Random, value: object) -> str:
    """Return a value as JSON, compact or indented, with or without escapes."""
    indent = rng.choice([None, None, 2, 2, 4])
    separators = (",", ":") if indent is None and rng.random() < 0.7 else None
    return json.dumps(value, ensure_ascii=rng.random() < 0.1, indent=indent, separators=separators)


def _camel(field: str) -> str:
    """Return a field's name in camel case.

    >>> _camel("created_at")
    'createdAt'
    """
    head, *rest = field.split("_")
    return head + "".join(part.capitalize() for part in rest)
