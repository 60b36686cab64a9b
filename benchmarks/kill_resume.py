"""Checks that a run which is killed and resumed many times equals an undisturbed run.

    python benchmarks/kill_resume.py [SOURCE] [--kills 20] [--steps 24] [--model M] [--seed 0] [-- OPTIONS]

Runs `sttx train` once undisturbed, and once killed with SIGKILL at random moments and resumed each time.
Compares their metrics.jsonl line by line, except for times. OPTIONS are passed to `sttx train`. Prints one
JSON object; exits with 1 if any line differs.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sttx_train.checkpoint.store import CheckpointStore
from sttx_train.run_folder import METRICS
from sttx_train.stream.trainer import TIME_FIELDS

SESSIONS = Path(__file__).parents[1] / "test-data" / "sessions"
MAX_SECONDS = 600.0


def command(source: Path, directory: Path, options: Sequence[str]) -> list[str]:
    """Return the command that starts the run in a folder, or resumes it if there is a checkpoint."""
    resume = ["--resume"] if CheckpointStore(directory).latest() is not None else []
    source_and_place = ["--ccsniff-from", str(source), "--checkpoint-dir", str(directory)]
    return [sys.executable, "-m", "sttx_cli", "train", *source_and_place, *resume, *options]


def finish(source: Path, directory: Path, options: Sequence[str]) -> None:
    """Run to the last step."""
    done = subprocess.run(
        command(source, directory, options), capture_output=True, text=True, timeout=MAX_SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(f"sttx train ended with {done.returncode}: {done.stderr}")


def kill(source: Path, directory: Path, options: Sequence[str], dice: random.Random, most: int) -> bool:
    """Kill a run at a random moment after a few more steps; return whether it was still running."""
    metrics = directory / METRICS
    process = subprocess.Popen(
        command(source, directory, options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    before, wanted = None, dice.randint(1, most)
    deadline = time.monotonic() + MAX_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        changed = metrics.stat().st_mtime_ns if metrics.exists() else 0
        if before is not None and changed != before:
            wanted -= 1
        before = changed
        if wanted <= 0:
            break
        time.sleep(0.002)
    time.sleep(dice.uniform(0.0, 0.05))
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def comparable(directory: Path) -> list[dict[str, Any]]:
    """Return a run's metrics without the fields that differ from run to run."""
    rows = [json.loads(line) for line in (directory / METRICS).read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in TIME_FIELDS} for row in rows]


def compare(
    source: Path, work: Path, kills: int, seed: int, options: Sequence[str], most: int = 3
) -> dict[str, Any]:
    """Run undisturbed and with kills; return where it was killed and the first step that differs."""
    whole, killed_run = work / "whole", work / "killed"
    finish(source, whole, options)
    dice, at, killed = random.Random(seed), [], 0
    for _ in range(kills):
        killed += kill(source, killed_run, options, dice, most)
        at.append(
            len((killed_run / METRICS).read_bytes().splitlines()) if (killed_run / METRICS).exists() else 0
        )
    finish(source, killed_run, options)
    expected, actual = comparable(whole), comparable(killed_run)
    differing = [i + 1 for i, (one, other) in enumerate(zip(expected, actual, strict=False)) if one != other]
    return {
        "kills": killed,
        "killed_at_step": at,
        "steps": len(expected),
        "steps_after_kills": len(actual),
        "first_different_step": differing[0] if differing else None,
        "equal": expected == actual and bool(expected),
    }


def main() -> None:
    """Compare, print the result and set the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, nargs="?", default=SESSIONS)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--model", default=None)
    parser.add_argument("--seed", type=int, default=0)
    args, more = parser.parse_known_args()
    options = [
        "--steps",
        str(args.steps),
        "--checkpoint-every",
        "1",
        *(option for option in more if option != "--"),
    ]
    options += ["--model", args.model] if args.model else []
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as work:
        result = compare(args.source, Path(work), args.kills, args.seed, options)
    print(json.dumps(result | {"options": options, "seconds": round(time.monotonic() - started, 1)}))
    sys.exit(0 if result["equal"] else 1)


if __name__ == "__main__":
    main()
