"""Loops and benign polling to plant into real sessions: four ways to repeat rounds, and four to wait.

Everything follows from a seeded generator. A loop repeats rounds that a session had; polling is made up after
what agents do while they wait for a build or a server. Knows traces; not what they cost.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sttx_core.traces import Json, Meta, ToolResult, ToolUse, Trace

Pair = tuple[ToolUse, ToolResult]

_NAMES = "abcdefghijklmnopqrstuvwxyz0123456789"
_TIMES = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d:\d\d)?|\d\d:\d\d(?::\d\d)?|\d+(?:\.\d+)?(?=\s?m?s\b)")
_WORDS = {
    "error": ("failure", "problem", "fault"),
    "Error": ("Failure", "Problem", "Fault"),
    "file": ("document", "source file"),
    "files": ("documents", "source files"),
    "failed": ("did not pass", "was unsuccessful", "broke"),
    "passed": ("succeeded", "went through", "is green"),
    "test": ("check", "spec"),
    "tests": ("checks", "specs"),
    "not found": ("missing", "absent"),
    "found": ("seen", "located"),
    "update": ("change", "revise"),
    "updated": ("changed", "revised"),
    "successfully": ("without problems", "as asked"),
    "the": ("this", "that"),
    "has": ("now has", "does have"),
    "line": ("row",),
    "lines": ("rows",),
    "function": ("procedure", "routine"),
    "create": ("make", "add"),
    "get": ("fetch", "read"),
    "result": ("outcome", "output"),
}
_KNOWN = re.compile(r"\b(" + "|".join(sorted(_WORDS, key=len, reverse=True)) + r")\b")
_AIMS = ("Check", "Verify", "Look at", "Try", "Run", "Inspect", "Confirm", "See", "Repeat", "Test")
_WHATS = (
    "whether it works now",
    "the result",
    "that once more",
    "the state again",
    "what happens",
    "the fix",
)
_HOWS = ("", " with more output", " in a clean shell", " from the start", " more carefully", " another way")
_BEFORE = ("", "cd . && ", "set -e; ", "time ", "timeout 120 ", "env ", "command ", "true; ", "date; ")
_AFTER = (
    "",
    " 2>&1 | tail -n {}",
    " | head -{}",
    " || true",
    ' ; echo "exit $?"',
    " 2>/dev/null",
    " | cat",
    " 2>&1 | tee log.{}",
)


@dataclass(frozen=True)
class Episode:
    """Rounds to plant: their kind, whether they are a loop, and their traces."""

    kind: str
    is_loop: bool
    traces: Sequence[Trace]


def episodes(last: Pair, before: Pair, seed: str, rounds: int) -> list[Episode]:
    """Return every kind of loop and of polling, to plant after a round.

    Args:
        last: the round after which they are planted; loops repeat it.
        before: another round, for the two-cycle.
        seed: what all random choices follow from.
        rounds: number of rounds of a loop; polling ends when it would in reality.
    """
    result = []
    for kind, made in _LOOPS.items():
        chosen = random.Random(f"{seed} {kind}")
        pairs = [made((last, before), number, chosen) for number in range(rounds)]
        result.append(Episode(kind, True, _placed(pairs, last[1].meta, f"{seed} {kind}", 4.0)))
    for kind, (made, most, gap) in _POLLS.items():
        chosen = random.Random(f"{seed} {kind}")
        pairs = made(last[1].meta, chosen, most)
        result.append(Episode(kind, False, _placed(pairs, last[1].meta, f"{seed} {kind}", gap)))
    return result


def _placed(pairs: Sequence[Pair], after: Meta, seed: str, gap: float) -> list[Trace]:
    """Give each trace an identity and a time after another one's."""
    traces: list[Trace] = []
    for number, (call, result) in enumerate(pairs):
        name, time = f"{seed} {number}", after.time + gap * (number + 1)
        traces.append(replace(call, meta=replace(after, uid=f"{name} call", time=time - gap / 2), id=name))
        traces.append(replace(result, meta=replace(after, uid=f"{name} result", time=time), id=name))
    return traces


# Loops: the next repetition of a round


def _exact(rounds: tuple[Pair, Pair], number: int, chosen: random.Random) -> Pair:
    return rounds[0]


def _two_cycle(rounds: tuple[Pair, Pair], number: int, chosen: random.Random) -> Pair:
    return rounds[(number + 1) % 2]


def _stamped(rounds: tuple[Pair, Pair], number: int, chosen: random.Random) -> Pair:
    """Change what differs between two runs of one command: times, durations, folders and run ids."""
    call, result = rounds[0]
    day, clock = f"2026-02-{chosen.randint(10, 28)}", f"{chosen.randint(10, 23)}:{chosen.randint(10, 59)}"
    place = f"/tmp/{_name(chosen, 8)}/run-{chosen.randint(100, 999)}"

    def call_text(key: str, text: str) -> str:
        if key in ("command", "cmd"):
            return f"{text} --log {place}.log"
        return f"{place}{text}" if text.startswith("/") else text

    output = _TIMES.sub(lambda match: _digits(match[0], chosen), result.output)
    first = f"[{day}T{clock}:{chosen.randint(10, 59)}.{chosen.randint(100, 999)}Z] run {_name(chosen, 7)}"
    output = f"{first} in {place}\n{output}\nDone in {chosen.uniform(0.1, 90):.2f}s, log: {place}.log"
    return replace(call, input=_mapped(call.input, call_text)), replace(result, output=output)


def _paraphrased(rounds: tuple[Pair, Pair], number: int, chosen: random.Random) -> Pair:
    """Call for the same in other words, and get the same in other words and another order."""
    call, result = rounds[0]

    def call_text(key: str, text: str) -> str:
        if key in ("command", "cmd"):
            after = chosen.choice(_AFTER).format(chosen.randint(5, 80))
            return f"{chosen.choice(_BEFORE)}{text}{after}"
        if key == "description":
            return f"{chosen.choice(_AIMS)} {chosen.choice(_WHATS)}{chosen.choice(_HOWS)}"
        return text if "/" in text else _reworded(text, chosen)

    value = _mapped(call.input, call_text)
    if isinstance(value, dict) and ("file_path" in value or "path" in value):
        value = {**value, "offset": chosen.randint(1, 40), "limit": chosen.randint(50, 400)}
    lines = [_reworded(line, chosen) for line in result.output.split("\n") if chosen.random() > 0.15]
    place = chosen.randrange(len(lines) + 1)
    header = f"{chosen.choice(_AIMS)} {chosen.choice(_WHATS)}:"
    output = "\n".join([header, *lines[place:], *lines[:place]])
    return replace(call, input=value), replace(result, output=output)


_LOOPS: dict[str, Callable[[tuple[Pair, Pair], int, random.Random], Pair]] = {
    "exact": _exact,
    "two-cycle": _two_cycle,
    "stamped": _stamped,
    "paraphrased": _paraphrased,
}


def _mapped(value: Json, change: Callable[[str, str], str], key: str = "") -> Json:
    if isinstance(value, dict):
        return {name: _mapped(item, change, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_mapped(item, change, key) for item in value]
    return change(key, value) if isinstance(value, str) else value


def _reworded(text: str, chosen: random.Random) -> str:
    def other(match: re.Match[str]) -> str:
        return chosen.choice(_WORDS[match[0]]) if chosen.random() < 0.5 else match[0]

    return _KNOWN.sub(other, text)


def _digits(text: str, chosen: random.Random) -> str:
    return "".join(str(chosen.randint(0, 9)) if sign.isdigit() else sign for sign in text)


def _name(chosen: random.Random, length: int) -> str:
    return "".join(chosen.choice(_NAMES) for _ in range(length))


# Polling: an agent that waits, for good reason


def _pair(meta: Meta, tool: str, value: dict[str, Any], output: str, *, failed: bool = False) -> Pair:
    return ToolUse(meta=meta, name=tool, input=value), ToolResult(
        meta=meta, name=tool, output=output, is_error=failed
    )


_JOBS = ("lint", "build (ubuntu)", "build (macos)", "unit tests", "integration tests", "docs")
_STEPS = (
    "Set up job",
    "Checkout",
    "Install dependencies",
    "Restore cache",
    "Compile",
    "Run",
    "Upload",
    "Done",
)


def _builds(meta: Meta, chosen: random.Random, rounds: int) -> list[Pair]:
    """Wait for a build: a table of jobs whose times grow, and whose steps change now and then."""
    run, seconds, steps, pairs = chosen.randint(10**9, 10**10), 20, [0] * len(_JOBS), []
    command = f"sleep 30; gh run view {run}"
    for _ in range(rounds):
        seconds += 30 + chosen.randint(1, 4)
        for job in chosen.sample(range(len(_JOBS)), 2):
            steps[job] = min(steps[job] + chosen.randint(0, 1), len(_STEPS) - 1)
        rows = [
            _job(name, step, seconds, run + at)
            for at, (name, step) in enumerate(zip(_JOBS, steps, strict=True))
        ]
        text = f"* main CI · {run}\nTriggered via push {seconds // 60 + 1} minutes ago\n\nJOBS\n" + "\n".join(
            rows
        )
        pairs.append(_pair(meta, "Bash", {"command": command, "description": "Check the build"}, text))
    return pairs


def _job(name: str, step: int, seconds: int, number: int) -> str:
    if step == len(_STEPS) - 1:
        return f"✓ {name} in {30 * step}s (ID {number})"
    return f"* {name} (ID {number})\n  {_STEPS[step]}, running for {seconds // 60}m{seconds % 60}s"


def _server(meta: Meta, chosen: random.Random, rounds: int) -> list[Pair]:
    """Wait for a server that does not answer yet."""
    port = chosen.randint(3000, 9000)
    value = {"command": f"sleep 5 && curl -sf http://localhost:{port}/health", "description": "Is it up?"}
    silent = f"curl: (7) Failed to connect to localhost port {port}: Connection refused"
    pairs = [_pair(meta, "Bash", value, silent, failed=True) for _ in range(rounds - 1)]
    return [*pairs, _pair(meta, "Bash", value, '{"status":"ok","uptime":1.2}')]


def _log(meta: Meta, chosen: random.Random, rounds: int) -> list[Pair]:
    """Read what a job in the background has printed since."""
    job, done, pairs = f"bash_{chosen.randint(1, 9)}", 0, []
    for _ in range(rounds):
        lines = []
        for _ in range(chosen.randint(0, 3)):
            done += chosen.randint(1, 9)
            lines.append(f"[{done}/400] {chosen.choice(_STEPS)} {_name(chosen, 6)}.o")
        text = "<status>running</status>\n\n<stdout>\n" + "\n".join(lines) + "\n</stdout>"
        pairs.append(_pair(meta, "BashOutput", {"bash_id": job}, text))
    return pairs


def _quiet(meta: Meta, chosen: random.Random, rounds: int) -> list[Pair]:
    """Ask for a build's state again and again, without any word that says so."""
    run, pairs = chosen.randint(10**9, 10**10), []
    for number in range(rounds):
        state = "completed\tsuccess" if number == rounds - 1 else "in_progress\t"
        text = (
            f"{state}\tFix the parser\tCI\tmain\tpush\t{run}\t{number}m{chosen.randint(1, 59)}s\t2026-02-11"
        )
        pairs.append(_pair(meta, "Bash", {"command": "gh run list --limit 1"}, text))
    return pairs


_POLLS: dict[str, tuple[Callable[[Meta, random.Random, int], list[Pair]], int, float]] = {
    "build": (_builds, 12, 34.0),
    "server": (_server, 8, 6.0),
    "log": (_log, 12, 15.0),
    "quiet": (_quiet, 5, 20.0),
}
