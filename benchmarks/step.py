"""Measures where the time of a training step goes, and how much faster one kernel makes it than another.

    uv run python benchmarks/step.py [SOURCE] [--kernels compiled,chunked] [--steps N] [--profile]

First the default step of `sttx train`: a window of 64 tokens beside the replayed ones, the frozen network and
the experts. One learner for each kernel reads the same stream, step by step in turn; medians of CPU time and
of the clock are reported, what each learner paid in all, and how many times faster it is than the last one:
with ``chunked`` as the last kernel, than plain torch. Then a step of `sttx pretrain` at the size of
goose-mini, 8 windows of 256 tokens, in float32 and with products in bfloat16; in float32 also the operations
of its products in a second, as a share of torch's rate for such products. With --profile the operations
that take the most CPU time in the default step are listed, for the first kernel. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from sttx_ccsniff import open_source, sample_folder
from sttx_train import LearnerConfig, StreamConfig, StreamTrainer, load_model
from sttx_train.online import Window

WARM_UP = 10  # steps that are not counted: the first ones compile, and have nothing to replay
PROFILED = 20
SHOWN = 12


def main() -> None:
    """Measure both steps and print one object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "source", nargs="?", default=str(sample_folder()), help="sessions; by default a sample"
    )
    parser.add_argument("--model", default=None, help="by default goose-mini")
    parser.add_argument("--kernels", default="compiled,chunked", help="with commas between")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5, help="of the pretraining step")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--profile", action="store_true", help="list the operations of the default step")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    kernels = args.kernels.split(",")
    report: dict[str, Any] = {
        "threads": args.threads,
        "train": online(args.model, args.source, kernels, args.steps),
    }
    report["pretrain"] = [pretraining(args.model, kernels, bf16, args.rounds) for bf16 in (False, True)]
    if args.profile:
        report["operations"] = operations(args.model, args.source, kernels[0])
    print(json.dumps(report))


def online(model: str | None, source: str, kernels: list[str], steps: int) -> dict[str, Any]:
    """Return milliseconds of a default step and bits in all, by kernel."""
    trainers = {kernel: trainer(model, kernel) for kernel in kernels}
    times: dict[str, list[tuple[float, float]]] = {kernel: [] for kernel in kernels}
    bits = dict.fromkeys(kernels, 0.0)
    for number, windows in zip(range(steps + WARM_UP), batches(model, source), strict=False):
        for kernel, one in trainers.items():
            taken = timed(lambda one=one, windows=windows: one.predictor.step(windows))
            bits[kernel] += taken[2].score.bits
            if number >= WARM_UP:
                times[kernel].append(taken[:2])
    found = {kernel: {**medians(times[kernel]), "bits": bits[kernel]} for kernel in kernels}
    slowest = found[kernels[-1]]["cpu_ms"]
    return {kernel: {**one, "times_faster": slowest / one["cpu_ms"]} for kernel, one in found.items()}


def trainer(model: str | None, kernel: str) -> StreamTrainer:
    """Return a trainer with all defaults."""
    return StreamTrainer(load_model(model, kernel=kernel), LearnerConfig(), StreamConfig())


def batches(model: str | None, source: str) -> Iterator[list[Window]]:
    """Yield the windows of the sessions in turn, over and over."""
    windows = trainer(model, "chunked").windows
    for _ in repeat(None):
        with open_source([source], follow=False) as traces:
            for trace in traces:
                windows.add(trace)
                while (taken := windows.take()) is not None:
                    yield taken


def pretraining(name: str | None, kernels: list[str], bf16: bool, rounds: int) -> dict[str, Any]:
    """Return milliseconds of a pretraining step without its optimizer, and the loss, by kernel."""
    model = load_model(name).model.requires_grad_(True)
    ids = torch.randint(0, model.config.vocab_size, (8, 257), generator=torch.Generator().manual_seed(0))

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits, _ = model(ids[:, :-1])
            loss = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        model.zero_grad(set_to_none=True)
        return float(loss.detach())

    times: dict[str, list[tuple[float, float]]] = {kernel: [] for kernel in kernels}
    loss = {}
    for number, kernel in chain.from_iterable(zip(repeat(n), kernels) for n in range(rounds + 1)):
        model.backend = kernel
        taken = timed(step)
        loss[kernel] = taken[2]
        if number:
            times[kernel].append(taken[:2])
    found = {kernel: {**medians(times[kernel]), "loss": loss[kernel]} for kernel in kernels}
    if bf16:
        return {"products": "bfloat16", **found}
    rate = matrix_rate(8 * 256, model.config.hidden_size, model.config.ffn_size)
    weights = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and name != "emb.weight")
    products = (
        6 * weights * 8 * 256
    )  # a multiplication and an addition a weight and token, forward and twice back
    for one in found.values():
        one["share_of_matrix_rate"] = products / (one["cpu_ms"] / 1000) / rate
    return {"products": "float32", "matrix_gflops": rate / 1e9, **found}


def matrix_rate(rows: int, inputs: int, outputs: int) -> float:
    """Return how many operations torch's product of two matrices makes in a second of CPU time, at best."""
    x, matrix = torch.randn(rows, inputs), torch.randn(inputs, outputs)
    return 2 * rows * inputs * outputs / min(timed(lambda: torch.mm(x, matrix))[0] for _ in range(30))


def operations(model: str | None, source: str, kernel: str) -> list[dict[str, Any]]:
    """Return the operations that take the most CPU time of a default step, and how often each is called."""
    one, stream = trainer(model, kernel), batches(model, source)
    for _ in range(WARM_UP):
        one.predictor.step(next(stream))
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(PROFILED):
            one.predictor.step(next(stream))
    rows = sorted(found.key_averages(), key=lambda row: -row.self_cpu_time_total)
    return [
        {
            "name": row.key,
            "milliseconds": row.self_cpu_time_total / PROFILED / 1000,
            "calls": row.count / PROFILED,
        }
        for row in rows[:SHOWN]
    ]


def timed(function: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return seconds of CPU and of the clock, and what the function returned."""
    started, used = time.perf_counter(), time.process_time()
    result = function()
    return time.process_time() - used, time.perf_counter() - started, result


def medians(times: list[tuple[float, float]]) -> dict[str, float]:
    """Return the median milliseconds of CPU and of the clock."""
    cpu, clock = zip(*times, strict=True)
    return {"cpu_ms": 1000 * statistics.median(cpu), "ms": 1000 * statistics.median(clock)}


if __name__ == "__main__":
    main()
