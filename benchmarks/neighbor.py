"""How fast is sttx beside other programs, and what does it take from them?

    python benchmarks/neighbor.py [--work online] [--busy N] [--steps N] [--rounds N] [--ways WAY;WAY]

The same steps run with nothing added to the machine, and again beside N busy programs (by default one for
each core): with PyTorch's own threads, which spin while they wait, and as the `sttx` command runs them, in
turn. A way is "torch", "sttx", or a number of threads, followed by "passive" if idle ones sleep.

`online` is the default step of `sttx train`, `pretrain` that of `sttx pretrain`. One JSON line a way: the
best median step in seconds, its CPU seconds, the CPU seconds of the main thread alone (the step cannot be
faster on idle cores), and how many times as long as the first way the step takes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SPIN = """
import os
parent = os.getppid()
while os.getppid() == parent:  # a killed benchmark leaves nothing running
    for _ in range(100_000):
        pass
"""
WARM_UP = 4  # steps that are not counted: the first ones allocate and choose kernels
SIZES = {"online": 64 * 256, "pretrain": 16 * 256 * 256}  # tokens of a step times the model's width


def main() -> None:
    """Run every way in turn, on the machine as it is and on a busy one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", choices=SIZES, default="online")
    parser.add_argument("--busy", type=int, default=os.cpu_count(), help="busy programs beside")
    parser.add_argument("--steps", type=int, default=20, help="steps that are counted")
    parser.add_argument("--rounds", type=int, default=3, help="how often each way is run; the best counts")
    parser.add_argument("--ways", default="torch;sttx", help='separated by ";", such as "torch;1;2 passive"')
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(run(args.work, args.one, args.steps)))
        return
    for busy in (0, args.busy):
        spinning = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(busy)]
        try:
            compare(args.work, args.ways.split(";"), args.steps, args.rounds, busy)
        finally:
            for process in spinning:
                process.kill()
                process.wait()


def compare(work: str, ways: list[str], steps: int, rounds: int, busy: int) -> None:
    """Run each way in a process of its own, in turn, and print a line for each."""
    results: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            command = [sys.executable, __file__, "--work", work, "--steps", str(steps), "--one", way]
            done = subprocess.run(command, env=environment(way), capture_output=True, text=True, check=True)
            results[way].append(json.loads(done.stdout.splitlines()[-1]))
    first = min(result["seconds"] for result in results[ways[0]])
    for way, several in results.items():
        best = min(several, key=lambda result: result["seconds"])
        ratio = round(best["seconds"] / first, 3)
        line = {"work": work, "busy": busy, "load": round(os.getloadavg()[0], 1), "way": way, **best}
        print(json.dumps(line | {f"times {ways[0]}": ratio}), flush=True)


def environment(way: str) -> dict[str, str]:
    """Return the environment of a way; "sttx" sets its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    return kept | ({"OMP_WAIT_POLICY": "PASSIVE"} if way.endswith("passive") else {})


def run(work: str, way: str, steps: int) -> dict[str, float]:
    """Run the steps in this process and return what one costs, the median of all."""
    from sttx_cli.environment import wait_passively
    from sttx_cli.threads import choose_threads, useful_threads

    if way == "sttx":
        wait_passively()  # before PyTorch is loaded

    import torch

    if way == "sttx":
        torch.set_num_threads(choose_threads(most=useful_threads(SIZES[work], follows=False)).threads)
    elif way != "torch":
        torch.set_num_threads(int(way.split()[0]))
    clock = Clock()
    {"online": online, "pretrain": pretrain}[work](steps + WARM_UP, clock)
    return {"threads": torch.get_num_threads(), **clock.medians(WARM_UP)}


class Clock:
    """Three clocks, read after every step."""

    def __init__(self) -> None:
        self._times = [self._now()]

    def step(self, _: Any) -> None:
        """Take the time after a step."""
        self._times.append(self._now())

    def medians(self, warm_up: int) -> dict[str, float]:
        """Return the median seconds of a step by each clock, without the first steps."""
        times = self._times[warm_up:]
        columns = zip(*times, strict=True)
        names = ("seconds", "cpu", "main_thread")
        return {
            name: round(statistics.median(b - a for a, b in zip(column, column[1:], strict=False)), 4)
            for name, column in zip(names, columns, strict=True)
        }

    @staticmethod
    def _now() -> tuple[float, float, float]:
        return time.monotonic(), time.process_time(), time.thread_time()


def online(steps: int, clock: Clock) -> None:
    """Take default steps of the online learner over the sample that comes with sttx."""
    import sttx_ccsniff
    from sttx_train import StreamConfig, StreamTrainer, load_model

    sample = Path(sttx_ccsniff.__file__).parent / "sample"
    trainer = StreamTrainer(load_model(), config=StreamConfig(steps=steps))
    with sttx_ccsniff.open_source(sample) as source:
        trainer.run(source, clock.step)


def pretrain(steps: int, clock: Clock) -> None:
    """Take steps of the default pretraining, on random ids."""
    import numpy as np

    from sttx_train.pretrain import PretrainConfig, Pretrainer

    ids = np.random.default_rng(0).integers(0, 4096, (400, 1024))
    Pretrainer(PretrainConfig(steps=steps)).fit(ids, clock.step)


if __name__ == "__main__":
    main()
