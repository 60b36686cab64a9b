"""Writes the input of `old-run/`: one small file for each parser, and numbers to pretrain on.

    python test-data/make_old_run.py [FOLDER]       # by default test-data/old-run/input

The same invented lines every time. `commands(...)` says how the model and the two runs of `old-run/` were
made from them, with an sttx of before the runs' identity, metrics and resume became one module (commit
b2920b5); a later sttx would write something else, so this script does not run them.
"""

import json
import random
import sys
from pathlib import Path
from typing import Any

HERE = "test-data/old-run"
FILES = ("session.jsonl", "rows.ndjson", "pairs.jsonl", "rollout.jsonl", "traces.jsonl")
STREAM = ["--window", "64", "--batch", "2", "--phrases", "on", "--replay-rows", "1", "--keep", "1"]
STREAM += ["--phrase-capacity", "32", "--sessions", "16"]
PRETRAIN = ["--tokenizer", "integer:11", "--layers", "1", "--hidden-size", "16", "--head-size", "8"]
PRETRAIN += ["--ctx", "24", "--batch", "4", "--warmup", "2", "--lr", "0.01", "--held-out", "0.2"]
PRETRAIN += ["--schedule", "constant", "--eval-every", "3", "--phrases", "0.5", "--device", "cpu"]
LINES, STOPPED, STEPS, PRETRAIN_STOPPED, PRETRAIN_STEPS = 8, 31, 100, 6, 12
"""Steps after which the saved runs stopped, and those of the runs that went through."""

_WORDS = ["apple", "pear", "plum", "tree", "ladder", "basket", "count", "pick", "carry", "sort", "wash"]
_WORDS += ["store", "north", "south", "row"]


def commands() -> list[list[str]]:
    """Return the commands that made the checkpoints and metrics, run in `/old-run`, beside `test-data`."""
    sources = [word for name in FILES for word in ("--ccsniff-from", f"{HERE}/input/{name}")]
    train = ["train", *sources, "--model", f"{HERE}/model", "--device", "cpu", "--kernel", "chunked", *STREAM]
    pretrain = ["pretrain", f"{HERE}/input/numbers.jsonl", *PRETRAIN]
    return [
        [*train, "--steps", str(STOPPED), "--checkpoint-dir", f"{HERE}/stream"],
        [*train, "--steps", str(STEPS), "--checkpoint-dir", "whole-stream"],
        [
            *pretrain,
            "--steps",
            str(PRETRAIN_STOPPED),
            "--out",
            "model",
            "--checkpoint-dir",
            f"{HERE}/pretrain",
        ],
        [*pretrain, "--steps", str(PRETRAIN_STEPS), "--out", "whole", "--checkpoint-dir", "whole-pretrain"],
    ]


def lines(name: str, first: int, last: int) -> list[dict[str, Any]]:
    """Return records `first` to `last` (from 0, without the last) of one file."""
    make = {
        "session.jsonl": _session,
        "rows.ndjson": _row,
        "pairs.jsonl": _pair,
        "rollout.jsonl": _rollout,
        "traces.jsonl": _trace,
    }[name]
    return [make(number) for number in range(first, last)]


def text(name: str, number: int) -> str:
    """Return invented talk, another for each file and number."""
    dice = random.Random(f"{name} {number}")
    return f"{name} {number}: " + " ".join(dice.choice(_WORDS) for _ in range(6))


def _session(number: int) -> dict[str, Any]:
    role = ("user", "assistant")[number % 2]
    content: Any = text("session", number)
    if role == "assistant":
        content = [{"type": "text", "text": content}]
    return {
        "type": role,
        "uuid": f"00000000-0000-4000-8000-{number:012d}",
        "sessionId": "5e551015-0000-4000-8000-000000000001",
        "cwd": "/home/ada/orchard",
        "timestamp": f"2026-02-02T09:{number:02d}:00.500Z",
        "message": {"role": role, "content": content},
    }


def _row(number: int) -> dict[str, Any]:
    return {
        "ts": 1770023400000 + 60000 * number,
        "iso": f"2026-02-02T09:{10 + number:02d}:00.000Z",
        "sid": "5e551015-0000-4000-8000-000000000002",
        "parent": None,
        "cwd": "/home/ada/orchard",
        "project": "orchard",
        "role": ("user", "assistant")[number % 2],
        "type": "text",
        "tool": None,
        "isMeta": False,
        "text": text("row", number),
    }


def _pair(number: int) -> dict[str, Any]:
    return {"prompt": text("prompt", number), "completion": text("completion", number)}


def _rollout(number: int) -> dict[str, Any]:
    stamp = f"2026-02-02T10:{number:02d}:00.500Z"
    if number == 0:
        payload = {
            "id": "0199aaaa-0000-7000-8000-000000000001",
            "timestamp": stamp,
            "cwd": "/home/ada/orchard",
            "source": "cli",
        }
        return {"timestamp": stamp, "type": "session_meta", "payload": payload}
    role, kind = (("user", "input_text"), ("assistant", "output_text"))[(number + 1) % 2]
    content = [{"type": kind, "text": text("rollout", number)}]
    payload = {"type": "message", "role": role, "content": content}
    return {"timestamp": stamp, "type": "response_item", "payload": payload}


def _trace(number: int) -> dict[str, Any]:
    if number == 0:
        return {"sttx_traces": 1}
    meta = {
        "uid": f"trace-{number}",
        "session": "5e551015-3",
        "project": "orchard",
        "origin": "elsewhere.jsonl",
    }
    return {
        "type": ("user_message", "assistant_message")[(number + 1) % 2],
        "meta": meta | {"time": 1770030000.0 + number},
        "text": text("trace", number),
    }


def main(folder: Path) -> None:
    """Write the files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        rows = lines(name, 0, LINES)
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    dice = random.Random(1)
    starts = [(dice.randrange(12), dice.choice((1, 5, 7))) for _ in range(24)]
    rows = [[(start + step * place) % 12 for place in range(20)] for start, step in starts]
    (folder / "numbers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "old-run" / "input")
