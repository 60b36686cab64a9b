"""Plants made-up facts into real sessions: each is said once, and its words are used again later.

A fact is a sentence that a person or an agent says (a port, a path, a name, a decision) and lines that use it
later. Every value is drawn at random, so no text holds it already. Beside the facts, decoys are planted:
hashes, UUIDs and other random strings, half of which are printed again later. The kinds of facts are in two
halves: `CHOOSE` is for choosing settings, `TEST` for the measurement. Does not know how facts are looked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from sttx_core.render import render
from sttx_core.traces import AssistantMessage, ToolResult, ToolUse, Trace, UserMessage

_VOWELS, _CONSONANTS = "aeiou", "bdfgklmnprstvz"
_LATER = 400  # bytes that lie at least between a fact and what uses it
_END = 0.9  # facts are said before this share of the text, so that something can follow


@dataclass(frozen=True)
class Kind:
    """A kind of fact: how it is said, and how it is used; `{a}` and `{b}` are its values.

    Attributes:
        name: of the kind.
        values: what `a` and `b` are: of `_value`.
        said: sentences, one of which is planted.
        used: lines, some of which are planted later; after `$ ` is a command that the agent runs.
    """

    name: str
    values: tuple[str, ...]
    said: tuple[str, ...]
    used: tuple[str, ...]


CHOOSE = (
    Kind(
        "port",
        ("port", "name"),
        (
            "The {b} relay listens on port {a} from now on.",
            "Use port {a} for the {b} service, the usual one is taken.",
        ),
        (
            "$ curl -s http://localhost:{a}/health",
            "{b}: connected to 127.0.0.1:{a}",
            "I started {b} on {a} and it answers.",
        ),
    ),
    Kind(
        "path",
        ("name", "name"),
        (
            "The fixtures live in tools/{a}/{b} and nowhere else.",
            "Put everything for this in tools/{a}/{b}, please.",
        ),
        (
            "$ ls tools/{a}/{b}",
            "tools/{a}/{b}/manifest.json",
            "I moved the loader, it reads tools/{a}/{b} first.",
        ),
    ),
    Kind(
        "person",
        ("Name", "word"),
        (
            "{a} owns the {b} module, ask before you change it.",
            "We agreed with {a} that the {b} part is frozen until Friday.",
        ),
        (
            "As {a} asked, the {b} part stays as it is.",
            "Note for {a}: one test of {b} is skipped.",
            "$ git log --author={a} --oneline",
        ),
    ),
    Kind(
        "decision",
        ("word", "word"),
        (
            "Decision: the {a} keeps the retries and the {b} never retries.",
            "Let us do it this way: the {a} validates, and the {b} trusts what it gets.",
        ),
        (
            "Because the {b} never retries, this belongs into the {a}.",
            "The {a} does this now, not the {b}.",
            "This follows the decision about the {a} and the {b}.",
        ),
    ),
)
"""Kinds to choose settings with."""

TEST = (
    Kind(
        "variable",
        ("CONSTANT", "small"),
        ("In CI we set {a}={b}, otherwise it hangs.", "The limit is called {a} and should be {b}."),
        ("$ {a}={b} make check", "{a} is set to {b}", "I documented {a} in the readme."),
    ),
    Kind(
        "version",
        ("name", "version"),
        ("Pin {a} to {b}: later ones break the build.", "It only works with {a} {b}, I tried the others."),
        ("$ pip install {a}=={b}", "Successfully installed {a}-{b}", "I pinned {a} at {b}."),
    ),
    Kind(
        "branch",
        ("name", "name"),
        ("Work on the branch {a}/{b}, main is closed.", "This has to go to {a}/{b} first."),
        ("$ git push origin {a}/{b}", "On branch {a}/{b}", "I pushed it to {a}/{b}."),
    ),
    Kind(
        "rule",
        ("word", "word"),
        (
            "Rule for today: no {a} may import the {b} directly.",
            "We only count a {a} once, also when the {b} sends it twice.",
        ),
        (
            "No {a} imports the {b} any more.",
            "That is the rule about the {a} and the {b}.",
            "A {a} that the {b} sends twice counts once.",
        ),
    ),
)
"""Kinds to measure with, unlike those."""

_WORDS = [
    "client",
    "queue",
    "parser",
    "ledger",
    "cache",
    "writer",
    "reader",
    "router",
    "worker",
    "planner",
    "index",
    "mailer",
    "meter",
    "bridge",
    "gateway",
    "scheduler",
    "exporter",
    "importer",
    "validator",
    "archive",
    "printer",
    "sensor",
    "basket",
    "invoice",
    "voucher",
    "lantern",
    "harbor",
    "orchard",
    "window",
    "mirror",
    "anchor",
    "ticket",
    "badge",
    "folder",
    "ribbon",
    "kettle",
    "saddle",
    "garden",
    "tunnel",
]


@dataclass(frozen=True, kw_only=True)
class Planted:
    """Something that was planted.

    Attributes:
        kind: of the fact, or "decoy", or "decoy again" for one that is printed again.
        values: the words to find; a fact is found where one of them is first read.
        trace: index of the trace in which it is said.
        said: what is said.
        uses: indices of the traces that use it.
    """

    kind: str
    values: tuple[str, ...]
    trace: int
    said: str
    uses: tuple[int, ...] = ()


def plant(
    traces: Sequence[Trace], kinds: Sequence[Kind], *, facts: int, decoys: int, seed: int
) -> tuple[list[Trace], list[Planted]]:
    """Return the traces of a session with what was planted, and a list of it.

    Args:
        traces: those with text of one session, in order.
        kinds: of facts, in turns.
        facts: how many facts.
        decoys: how many random strings; every other one is printed again later.
        seed: of all that is drawn.
    """
    dice = np.random.default_rng(seed)
    sizes = np.array([len(render(trace).encode()) for trace in traces])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    lines: dict[int, list[str]] = {}
    planted: list[tuple[str, tuple[str, ...], int, str, list[int]]] = []
    holders = [at for at, trace in enumerate(traces) if _holds_lines(trace)]
    early = [at for at in holders if starts[at] < _END * sizes.sum()] or holders
    for number in range(facts):
        kind = kinds[number % len(kinds)]
        values = dict(zip("ab", (_value(name, dice) for name in kind.values), strict=False))
        said = kind.said[dice.integers(len(kind.said))].format(**values)
        at = int(dice.choice(early))
        later = [one for one in holders if starts[one] >= starts[at] + min(_LATER, sizes[at]) and one > at]
        uses = sorted(int(dice.choice(later)) for _ in range(int(dice.integers(1, 4)))) if later else []
        lines.setdefault(at, []).append(said)
        for use in uses:
            lines.setdefault(use, []).append(kind.used[dice.integers(len(kind.used))].format(**values))
        planted.append((kind.name, tuple(values.values()), at, said, uses))
    for number in range(decoys):
        said, again = _decoy(dice)
        at = int(dice.choice(early))
        later = [one for one in holders if one > at] if number % 2 else []
        uses = [int(dice.choice(later))] if later else []
        for place, line in zip([at, *uses], [said, again], strict=False):
            lines.setdefault(place, []).append(line)
        planted.append(("decoy again" if uses else "decoy", (said,), at, said, uses))
    result, moved = _spliced(traces, lines, dice)
    return result, [
        Planted(kind=kind, values=values, trace=moved[at], said=said, uses=tuple(moved[use] for use in uses))
        for kind, values, at, said, uses in planted
    ]


def _holds_lines(trace: Trace) -> bool:
    return isinstance(trace, UserMessage | AssistantMessage | ToolResult)


def _spliced(
    traces: Sequence[Trace], lines: dict[int, list[str]], dice: np.random.Generator
) -> tuple[list[Trace], list[int]]:
    """Put lines into traces; a command becomes a call after its trace. Return where each trace is now."""
    result: list[Trace] = []
    moved = []
    numbers = count()
    for at, trace in enumerate(traces):
        added = lines.get(at, [])
        moved.append(len(result))
        result.append(_with_lines(trace, [line for line in added if not line.startswith("$ ")], dice))
        for line in added:
            if line.startswith("$ "):
                number, meta = (
                    next(numbers),
                    replace(trace.meta, uid=f"{trace.meta.uid}-planted-{len(result)}"),
                )
                call = {"command": line[2:], "description": f"Run step {number}"}
                result.append(ToolUse(meta=meta, name="Bash", input=call, id=meta.uid))
    return result, moved


def _with_lines(trace: Trace, added: Sequence[str], dice: np.random.Generator) -> Trace:
    """Return a trace with lines between its own."""
    if not added:
        return trace
    assert isinstance(trace, UserMessage | AssistantMessage | ToolResult)
    own = (trace.output if isinstance(trace, ToolResult) else trace.text).split("\n")
    for line in added:
        own.insert(int(dice.integers(len(own) + 1)), line)
    text = "\n".join(own)
    return replace(trace, output=text) if isinstance(trace, ToolResult) else replace(trace, text=text)


def _value(kind: str, dice: np.random.Generator) -> str:
    """Return a value of a kind that no text holds already."""
    match kind:
        case "port":
            return str(dice.integers(20_000, 60_000))
        case "small":
            return str(dice.integers(11, 990))
        case "version":
            return ".".join(str(dice.integers(0, top)) for top in (9, 40, 60))
        case "word":
            return " ".join(str(word) for word in dice.choice(_WORDS, 2, replace=False))
        case "name":
            return _name(dice)
        case "Name":
            return _name(dice).capitalize()
        case "CONSTANT":
            return f"{_name(dice)}_{dice.choice(_WORDS)}".upper()
        case _:
            raise ValueError(kind)


def _name(dice: np.random.Generator) -> str:
    letters = [
        dice.choice(list(_CONSONANTS if at % 2 == 0 else _VOWELS)) for at in range(dice.integers(5, 8))
    ]
    return "".join(letters)


def _decoy(dice: np.random.Generator) -> tuple[str, str]:
    """Return a line with a random string, as programs print them, and another line with the same string."""
    digits = dice.bytes(20).hex()
    uuid = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:32]}"
    match int(dice.integers(5)):
        case 0:
            return f"request id: {uuid}", f"retrying {uuid} (attempt 2)"
        case 1:
            return f"sha256 {digits}{digits[::-1][:24]}", f"verified {digits}{digits[::-1][:24]}"
        case 2:
            return f"commit {digits}", f"HEAD is now at {digits}"
        case 3:
            return f'etag: W/"{digits[:16]}"', f'if-none-match: W/"{digits[:16]}"'
        case _:
            return f"upload-{digits[:12]}.bin stored", f"GET /files/upload-{digits[:12]}.bin 200"
