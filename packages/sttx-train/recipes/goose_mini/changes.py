"""Plausible small changes of real code: renames, comments, new lines, new values, deleted lines."""

import dataclasses
import random
import re
from collections.abc import Sequence

IDENTIFIER = re.compile(r"\b[A-Za-z_]\w{3,}\b")
_DEFINITION = re.compile(
    r"^\s*(?:export |pub |async |static |public |private |default |abstract )*"
    r"(?:def|class|function|func|fn|interface|type|struct|enum|trait|const|impl)\s+(?:\([^)]*\)\s*)?([A-Za-z_]\w{2,})",
    re.M,
)
_COMMENT = {"python": "#", "ruby": "#", "shell": "#", "yaml": "#"}
_NUMBER = re.compile(r"(?<![\w.])\d{1,6}(?![\w.])")
_KEYWORDS = frozenset(
    """this self return const from import function class public private static void async await
    else elif while with true false null None True False undefined string number boolean
    export default interface struct type func error package match impl break continue super
    throw catch finally typeof instanceof""".split()  # noqa: SIM905
)


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """A replacement of `old` by `new`, with a description."""

    old: str
    new: str
    words: str


def names_in(text: str) -> list[str]:
    """Return the names that a source file defines, or the words in it if it defines none."""
    names = dict.fromkeys(_DEFINITION.findall(text)) or dict.fromkeys(IDENTIFIER.findall(text)[:60])
    return [name for name in names if name not in _KEYWORDS] or ["main"]


def propose(
    rng: random.Random, text: str, kind: str, comments: Sequence[str], others: Sequence[str]
) -> Change | None:
    """Return a change of a piece that occurs once in the text; `others` are texts to borrow lines from."""
    lines = text.split("\n")
    spots = [i for i, line in enumerate(lines) if 6 < len(line.strip()) < 120]
    if len(spots) < 12:
        return None
    for _ in range(10):
        start = rng.choice(spots)
        block = lines[start : start + rng.choice([1, 2, 3, 4, 6, 8, 12, 18, 25])]
        old = "\n".join(block).rstrip("\n")
        if len(old) > 3000 or text.count(old) != 1:
            continue
        steps = rng.choice([1, 1, 1, 2, 3])
        new, words = old, ""
        for _ in range(steps):
            made = rng.choice(_KINDS)(rng, new, kind, comments, rng.choice(others))
            new, words = made if made else (new, words)
        if new != old and new.strip() and words:
            return Change(old, new, words)
    return None


def _indent(block: str) -> str:
    return re.match(r"[ \t]*", block).group()


def _rename(rng, block, kind, comments, other):
    words = [word for word in IDENTIFIER.findall(block) if word not in _KEYWORDS]
    if not words:
        return None
    word = rng.choice(words)
    tail = [
        word + end
        for end in ("s", "Value", "Name", "Id", "_id", "Count", "Options", "List", "Ref", "_path", "Type")
    ]
    heads = [
        head + word[0].upper() + word[1:]
        for head in ("new", "raw", "base", "max", "is", "get", "has", "next")
    ]
    new = rng.choice(tail + heads)
    return re.sub(rf"\b{re.escape(word)}\b", new, block), f"rename `{word}` to `{new}`"


def _comment(rng, block, kind, comments, other):
    if kind in {"json", "prose", "web", "man", "log"}:
        return None
    mark = _COMMENT.get(kind, "//")
    return f"{_indent(block)}{mark} {rng.choice(comments)[:100]}\n{block}", "explain this in a comment"


def _borrow(rng, block, kind, comments, other):
    """Add lines from another place, with this indentation."""
    lines = other.split("\n")
    start = rng.randrange(max(1, len(lines) - 10))
    taken = lines[start : start + rng.choice([1, 1, 2, 3, 5, 8, 15])]
    while taken and not taken[0].strip():
        taken.pop(0)
    if not taken:
        return None
    outer, wanted = _indent(taken[0]), _indent(block)
    moved = "\n".join(wanted + line.removeprefix(outer) if line.strip() else "" for line in taken)
    names = names_in(moved)
    joined = f"{block}\n{moved}" if rng.random() < 0.7 else f"{moved}\n{block}"
    return joined, f"add `{names[0]}`"


def _number(rng, block, kind, comments, other):
    numbers = _NUMBER.findall(block)
    if not numbers:
        return None
    old = rng.choice(numbers)
    new = str(rng.choice([int(old) + 1, int(old) * 2, 0, 1, 10, 30, 50, 100, 256, 500, 1000, 5000, 60000]))
    return re.sub(rf"(?<![\w.]){old}(?![\w.])", new, block), f"change {old} to {new}"


def _drop(rng, block, kind, comments, other):
    lines = block.split("\n")
    if len(lines) < 2:
        return None
    gone = lines.pop(rng.randrange(len(lines)))
    names = IDENTIFIER.findall(gone)
    return "\n".join(lines), f"remove `{names[0] if names else gone.strip()[:20]}`"


def _wrap(rng, block, kind, comments, other):
    """Put the block under a condition."""
    names = [word for word in IDENTIFIER.findall(block) if word not in _KEYWORDS]
    if not names or kind in {"json", "prose", "yaml", "web", "shell", "ruby"}:
        return None
    space, name = _indent(block), rng.choice(names)
    step = "\t" if kind == "go" else "    " if kind in {"python", "rust", "c", "csharp", "java"} else "  "
    inner = "\n".join(step + line if line.strip() else line for line in block.split("\n"))
    head = {
        "python": f"if {name} is not None:",
        "go": f"if {name} != nil {{",
        "rust": f"if let Some({name}) = {name} {{",
        "c": f"if ({name} != NULL) {{",
        "csharp": f"if ({name} != null)\n{space}{{",
    }.get(kind, f"if ({name}) {{")
    return f"{space}{head}\n{inner}" + ("" if kind == "python" else f"\n{space}}}"), f"check `{name}` first"


def _string(rng, block, kind, comments, other):
    """Change a word inside quotes."""
    found = re.findall(r"[\"'`]([\w ./-]{4,40})[\"'`]", block)
    words = re.findall(r"[\"'`]([\w ./-]{4,40})[\"'`]", other)
    if not found or not words:
        return None
    old, new = rng.choice(found), rng.choice(words)
    return block.replace(old, new), f"use `{new}` instead of `{old}`"


_KINDS = (_rename, _rename, _comment, _borrow, _borrow, _borrow, _number, _drop, _wrap, _string)
