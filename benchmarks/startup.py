"""How long does each command take before it does anything?

    python benchmarks/startup.py [--rounds N] [--earlier FOLDER] [--only NAME]

Runs every command's help, `inspect` of the model that comes with sttx, and `train` for one step over the
sample, each in a new process. With `--earlier`, a checkout with its own environment (FOLDER/.venv), each
runs there too, in turn. One JSON line a command: the median CPU seconds (user and system) and wall seconds,
and the ratio of CPU seconds to the earlier checkout's, pair by pair.

Compare CPU seconds on a machine that does other work. The first run of each command is not counted: it reads
the disk and writes Python's bytecode (if PYTHONDONTWRITEBYTECODE is set, every run compiles Python again).
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SAMPLE = Path("packages") / "sttx-ccsniff" / "src" / "sttx_ccsniff" / "sample"
HELPS = (
    "",
    "train",
    "score",
    "inspect",
    "merge-stats",
    "plot",
    "validate-data",
    "traces",
    "data",
    "pretrain",
    "vocab",
    "doctor",
)


def main() -> None:
    """Time every command, here and in an earlier checkout."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="runs that are counted")
    parser.add_argument("--earlier", type=Path, help="an earlier checkout, with its environment in .venv")
    parser.add_argument("--only", default="", help="only commands that contain this")
    args = parser.parse_args()
    here = _ours()
    checkouts = [here, *([args.earlier.resolve()] if args.earlier else [])]
    commands = {f"sttx {name} --help".replace("  ", " "): [*name.split(), "--help"] for name in HELPS}
    commands |= {"sttx inspect goose-mini": ["inspect", "goose-mini"]}
    commands |= {"sttx train, one step": ["train", "--ccsniff-from", str(SAMPLE), "--steps", "1"]}
    for name, arguments in commands.items():
        if args.only in name:
            print(json.dumps({"command": name} | compare(arguments, checkouts, args.rounds)), flush=True)


def compare(arguments: list[str], checkouts: list[Path], rounds: int) -> dict[str, float]:
    """Run a command in each checkout in turn."""
    times: dict[Path, list[tuple[float, float]]] = {checkout: [] for checkout in checkouts}
    for _ in range(rounds + 1):
        for checkout in checkouts:
            times[checkout].append(seconds(arguments, checkout))
    cpu = {checkout: [one[0] for one in several[1:]] for checkout, several in times.items()}
    wall = {checkout: [one[1] for one in several[1:]] for checkout, several in times.items()}
    here = checkouts[0]
    result = {"cpu": statistics.median(cpu[here]), "wall": statistics.median(wall[here])}
    for earlier in checkouts[1:]:
        ratios = [now / before for now, before in zip(cpu[here], cpu[earlier], strict=True)]
        result |= {"earlier cpu": statistics.median(cpu[earlier]), "ratio": statistics.median(ratios)}
    return {name: round(value, 2) for name, value in result.items()}


def seconds(arguments: list[str], checkout: Path) -> tuple[float, float]:
    """Return the CPU seconds and the wall seconds of one command."""
    python = checkout / ".venv" / "bin" / "python" if checkout != _ours() else Path(sys.executable)
    with tempfile.TemporaryDirectory() as folder:
        into = ["--checkpoint-dir", f"{folder}/run"] if arguments[0] == "train" and len(arguments) > 2 else []
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        command = [str(python), "-m", "sttx_cli", *arguments, *into]
        kept = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        subprocess.run(command, cwd=checkout, env=kept, capture_output=True, check=True)
        wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall


def _ours() -> Path:
    return Path(__file__).resolve().parents[1]


if __name__ == "__main__":
    main()
