"""Calls of MCP servers' tools in made-up sessions: known servers and invented ones, with results.

`servers.toml` lists the tools; `answering` makes the results.
"""

import random
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

from answering import FORMS, Answers
from identifiers import identifier
from scene import Scene

SERVERS: dict[str, dict[str, list[str]]] = tomllib.loads(
    (Path(__file__).parent / "servers.toml").read_text("utf-8")
)
INVENTED = 0.3
FAILED = 0.06
LONGEST = 12_000
VERBS = (
    "get",
    "list",
    "search",
    "create",
    "update",
    "delete",
    "find",
    "run",
    "read",
    "send",
    "query",
    "sync",
)
PREFIXES = ("mcp__{0}__", "mcp__{0}__", "mcp__{0}__", "mcp__plugin_{0}_{0}__", "{0}_", "{0}__")
_INVENTED = ("id:id", "query:text", "limit:small", "name:word", "path:file", "filter:rows", "url:url")


class Caller:
    """Makes calls with the names and sentences of a scene."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.rng = scene, scene.rng
        self.answers = Answers(scene)

    def play(self) -> None:
        """Add some calls of one server."""
        rng = self.rng
        if rng.random() < INVENTED:
            server = "-".join(self._word().lower() for _ in range(rng.choice([1, 1, 2])))
            tools = {self._verb(): self._tool() for _ in range(rng.randrange(2, 5))}
        else:
            server = rng.choice(list(SERVERS))
            tools = SERVERS[server]
        prefix = rng.choice(PREFIXES).format(server)
        for _ in range(rng.choice([1, 1, 2, 3, 5])):
            tool = rng.choice(list(tools))
            slots, form = tools[tool]
            given = {
                name: self._value(kind) for name, _, kind in (slot.partition(":") for slot in slots.split())
            }
            fails = rng.random() < FAILED
            output = self.answers.failure() if fails else FORMS[form](self.answers)[:LONGEST]
            self.scene.session.use(prefix + tool, given, output, error=fails)
            if rng.random() < 0.4:
                self.scene.say("between")

    def _tool(self) -> list[str]:
        """Return the arguments and the form of the result of an invented tool."""
        slots = self.rng.sample(_INVENTED, self.rng.randrange(4))
        return [" ".join(slots), self.rng.choice(list(FORMS))]

    def _verb(self) -> str:
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self._word()).lower()
        return f"{self.rng.choice(VERBS)}_{words}"

    def _word(self) -> str:
        return self.rng.choice(self.answers.words)

    def _value(self, kind: str) -> object:
        """Return a value of an argument of a kind."""
        return VALUES[kind](self)

    def control(self) -> str:
        """Return what a person calls a control of a page."""
        return f"{self._word()} {self.rng.choice(['button', 'link', 'field', 'tab', 'menu item'])}"

    def function(self) -> str:
        """Return a function that looks at a page."""
        what = self.rng.choice(["innerText", "click()", "outerHTML", "value"])
        return f"() => {{ return document.querySelector('.{self._word()}').{what}; }}"

    def sql(self) -> str:
        """Return a statement in SQL."""
        rng, table, column = self.rng, self._word().lower(), self._word().lower()
        columns = ", ".join(self._word().lower() for _ in range(rng.randrange(1, 5)))
        joined = f"SELECT t.{columns}\nFROM {table} t\nJOIN {self._word().lower()} u ON u.id = t.user_id\n"
        return rng.choice(
            [
                f"SELECT {columns} FROM {table} LIMIT {rng.randrange(1, 100)};",
                f"SELECT count(*) FROM {table} WHERE {column} = '{identifier(rng, 'uuid')}'",
                f"{joined}WHERE t.created_at > now() - interval '7 days'\nORDER BY 1 DESC",
                f"ALTER TABLE {table} ADD COLUMN {column} text NOT NULL DEFAULT '';",
            ]
        )

    def words(self) -> list[str]:
        """Return a few names."""
        return [self._word() for _ in range(self.rng.randrange(3))]

    def text(self) -> str:
        """Return a name or a sentence."""
        return self.rng.choice([self._word(), self.rng.choice(self.scene.book.sentences)])

    def command(self) -> str:
        """Return a command line of a cloud's client."""
        return f"aws {self._word().lower()} describe-{self._word().lower()} --region us-east-1"


def _any(*shapes: str) -> Callable[[Caller], str]:
    return lambda caller: identifier(caller.rng, caller.rng.choice(shapes))


def _paths(caller: Caller) -> list[str]:
    files = list(caller.scene.session.files)
    return caller.rng.sample(files, min(2, len(files)))


def _reference(rng: random.Random) -> str:
    return f"{rng.choice(['e', 'e', '1_', 's1e'])}{rng.randrange(400)}"


VALUES: dict[str, Callable[[Caller], object]] = {
    "url": lambda caller: caller.answers.url(),
    "label": Caller.control,
    "ref": lambda caller: _reference(caller.rng),
    "text": Caller.text,
    "picture": lambda caller: f"{caller.scene.book.slug(caller.rng)}.png",
    "function": Caller.function,
    "small": lambda caller: caller.rng.randrange(1, 20),
    "number": lambda caller: caller.rng.choice([caller.rng.randrange(1, 2000), 100, 5000]),
    "flag": lambda caller: caller.rng.random() < 0.6,
    "action": lambda caller: caller.rng.choice(["screenshot", "left_click", "scroll", "type", "wait"]),
    "word": lambda caller: caller.rng.choice(caller.answers.words),
    "words": Caller.words,
    "file": lambda caller: caller.scene.session.relative(caller.scene.any_file()),
    "path": lambda caller: caller.scene.any_file(),
    "paths": _paths,
    "library": lambda caller: f"/{'/'.join(caller.rng.choices(caller.answers.words, k=2))}".lower(),
    "code": lambda caller: caller.scene.fill("{code}"),
    "thought": lambda caller: caller.scene.phrase("thought"),
    "rows": lambda caller: [caller.answers.row()],
    "sql": Caller.sql,
    "id": _any("uuid", "number", "prefixed", "nano", "object"),
    "command": Caller.command,
    "address": _any("address", "base58"),
    "hash": _any("word of 32 bytes", "base58"),
}
"""How a value of each kind of argument is made."""


def call_server(scene: Scene) -> None:
    """Add calls of an MCP server."""
    Caller(scene).play()
