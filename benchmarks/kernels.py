"""Measures how fast the kernels and the training step are, relative to references in the same run.

    uv run python benchmarks/kernels.py [--threads N] [--compile]

First: how many times faster is the chunked kernel than the recurrent one, forward and backward? Second: what
    share
of the machine's matrix-product rate does a whole training step of goose-mini's size reach? Only products with
weights count as work (6 operations per weight and token); the recurrence, norms, the optimizer and the rest
are overhead. Rounds of the two sides alternate, and medians are reported. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from sttx_train.pretrain import PretrainConfig
from sttx_train.pretrain.optimizer import make_optimizer
from sttx_train.pretrain.start import model_sizes
from sttx_train.rwkv7 import RWKV7, initialize
from sttx_train.wkv import wkv_chunked, wkv_recurrent

HEADS, SIZE = 4, 64


def main() -> None:
    """Measure both and print one object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=0, help="0: torch's choice")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="compile the model of the training step")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    report = {
        "threads": torch.get_num_threads(),
        "kernel": kernels(args.rounds),
        "training_step": [training_step(bf16, args) for bf16 in (False, True)],
    }
    print(json.dumps(report))


def kernels(rounds: int, time_steps: int = 1024, rows: int = 1) -> dict[str, float]:
    """Return the seconds of both kernels, forward and backward, and their ratio."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    shape = (rows, time_steps, HEADS, SIZE)
    r, k, v = (draw(*shape) for _ in range(3))
    log_w = -0.6065 * torch.sigmoid(draw(*shape))
    key = F.normalize(draw(*shape), dim=-1)
    inputs = [r, log_w, k, v, -key, key * torch.sigmoid(draw(*shape)), draw(rows, HEADS, SIZE, SIZE)]
    inputs = [x.requires_grad_(True) for x in inputs]

    def once(kernel: Callable[..., tuple[torch.Tensor, torch.Tensor]]) -> Callable[[], None]:
        def run() -> None:
            y, state = kernel(*inputs)
            torch.autograd.grad(y.sum() + state.sum(), inputs)

        return run

    fast, slow = alternate([once(wkv_chunked), once(wkv_recurrent)], rounds)
    return {"T": time_steps, "B": rows, "chunked_s": fast, "recurrent_s": slow, "times_faster": slow / fast}


def training_step(bf16: bool, args: argparse.Namespace) -> dict[str, float | str | bool]:
    """Time a whole step (forward, backward, clipping, AdamW) and matrix products of the same dtype."""
    config = PretrainConfig(vocab_size=4096, batch=8, steps=1, bf16=bf16)
    model = initialize(RWKV7(model_sizes(config), backend="chunked"), seed=0)
    optimizer = make_optimizer(model, config)
    forward = torch.compile(model) if args.compile else model
    ids = torch.randint(0, config.vocab_size, (config.batch, config.ctx + 1))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits, _ = forward(ids[:, :-1])
            loss = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    dtype = torch.bfloat16 if bf16 else torch.float32
    tokens = config.batch * config.ctx
    left = torch.randn(tokens, config.hidden_size).to(dtype)
    right = torch.randn(config.hidden_size, 1024).to(dtype)
    seconds, product = alternate([step, lambda: left @ right], args.rounds)
    weights = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and name != "emb.weight")
    rate = 6 * weights * tokens / seconds
    machine = 2 * tokens * config.hidden_size * 1024 / product
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "compiled": args.compile,
        "tokens_per_second": tokens / seconds,
        "gflops": rate / 1e9,
        "machine_gflops": machine / 1e9,
        "share": rate / machine,
    }


def alternate(functions: list[Callable[[], object]], rounds: int) -> list[float]:
    """Run the functions in turn, for one warm-up round and several others; return their median seconds."""
    times: list[list[float]] = [[] for _ in functions]
    for function in functions:
        function()
    for _ in range(rounds):
        for function, taken in zip(functions, times, strict=True):
            started = time.perf_counter()
            function()
            taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in times]


if __name__ == "__main__":
    main()
