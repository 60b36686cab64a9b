"""Output of test runners, compilers and linters, made from the names and lines of a real file.

The templates in `runners.toml` are those of the real tools. `command_output` has their real output where they
could be run.
"""

import dataclasses
import pathlib
import random
import tomllib
from collections.abc import Sequence

from grammar import Literal, fill

_TABLE = tomllib.loads((pathlib.Path(__file__).parent / "runners.toml").read_text("utf-8"))
RUNNERS: list[dict] = _TABLE["runner"]
WORDS: dict[str, list[str]] = _TABLE["words"]


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """A file under test: the project's root, the path below it, the text, and names that it defines."""

    root: str
    file: str
    text: str
    names: Sequence[str]

    def facts(self) -> dict[str, str]:
        """Return the fixed facts about the file."""
        folder, _, base = self.file.rpartition("/")
        stem, _, ending = base.rpartition(".")
        return {
            "root": self.root,
            "project": self.root.rsplit("/", 1)[-1],
            "file": self.file,
            "folder": folder or "src",
            "base": base,
            "stem": stem or base,
            "ending": ending,
            "module": self.file.rsplit(".", 1)[0].replace("/", "."),
        }

    def place(self, rng: random.Random) -> tuple[str, str]:
        """Return the number and the text of a line that is not empty."""
        rows = [
            (str(i), line.strip()) for i, line in enumerate(self.text.split("\n"), 1) if len(line.strip()) > 6
        ]
        return rng.choice(rows or [("1", self.text[:50])])


def run(rng: random.Random, kind: str, source: Source, fails: bool) -> tuple[str, str, int]:
    """Return a check for the kind of file: its command, output and exit code."""
    fitting = [runner for runner in RUNNERS for name in runner["kinds"] if name == kind]
    runner = rng.choice(fitting or [runner for runner in RUNNERS if runner["kinds"] == ["*"]])
    bad, count = rng.choice(source.names), len(source.names)
    facts = source.facts() | {"bad": bad, "count": str(count), "fine": str(count - 1)}
    facts["test_file"] = _fill(rng, rng.choice(runner.get("test_file", ["{file}"])), source, facts).lstrip(
        "/"
    )
    rows = []
    for name in source.names:
        template = runner.get("row_bad" if fails and name == bad else "row", "")
        rows.append(_fill(rng, template, source, facts | {"case": name}))
    facts["rows"] = "\n".join(rows)
    command = _fill(rng, rng.choice(runner["command"]), source, facts)
    output = _fill(rng, runner["failed" if fails else "passed"], source, facts)
    return command, output, runner["code"] if fails else 0


def _fill(rng: random.Random, template: str, source: Source, facts: dict[str, str]) -> str:
    """Fill a template. A line belongs to the number before it, and each new number to another line."""
    place = dict(zip(("number", "line"), source.place(rng), strict=True))
    used = False

    def draw(slot: str) -> str | None:
        nonlocal used
        if slot == "number":
            if used:
                place["number"], place["line"] = source.place(rng)
            used = True
        if slot in facts or slot in place:
            return Literal(facts[slot] if slot in facts else place[slot])
        if slot in {"name", "other"}:
            return Literal(rng.choice(source.names))
        if slot in WORDS:
            return rng.choice(WORDS[slot])
        number = _number(rng, slot)
        return None if number is None else Literal(number)

    return fill(template, draw)


def _number(rng: random.Random, slot: str) -> str | None:
    match slot:
        case "seconds":
            return f"{rng.expovariate(0.7) + 0.01:.2f}"
        case "hex":
            return f"{rng.getrandbits(64):016x}"
        case "clock":
            return f"{rng.randrange(24):02d}:{rng.randrange(60):02d}:{rng.randrange(60):02d}"
        case "digit" | "column" | "small" | "ms":
            return str(rng.randrange({"digit": 10, "column": 60, "small": 90, "ms": 900}[slot]))
    return None
