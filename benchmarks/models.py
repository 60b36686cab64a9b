"""Measures what models of the published sizes need on a CPU: time and memory to load, learn and generate.

    uv run python benchmarks/models.py [--sizes 0.1B,0.4B,1.5B] [--dtypes float32,bfloat16] [--suffix pth]
                                       [--works load,train,tune,generate] [--folder FOLDER] [--older]

The weights are random, of the shapes of the published files and in bfloat16 as those are. The vocabulary is
World's, from the PyPI package rwkv. Models are written once to --folder, which needs 2 bytes a parameter.
Each measurement is a process of its own, on one thread, that starts only if enough memory is available:

- load: `load_model` alone, which also reads the whole file for its hash;
- train: default steps of `sttx train` (64 tokens, the frozen network, a replayed window, experts);
- tune: a step of `sttx tune --batch 1 --recompute`, an example of 1,024 tokens that are all learned;
- generate: one text, by the network alone.

Reported are seconds of CPU and of the clock (which says little on a busy machine), the peak of resident
memory, and how much of it is anonymous at the end. Pages of a mapped file are not: the system may drop them
and read them again. Prints a JSON object a measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SIZES: dict[str, dict[str, Any]] = {
    "0.1B": {"num_layers": 12, "hidden_size": 768},
    "0.4B": {"num_layers": 24, "hidden_size": 1024, "v_rank": 32, "gate_rank": 128},
    "1.5B": {"num_layers": 24, "hidden_size": 2048, "decay_rank": 96, "a_rank": 96, "gate_rank": 256},
}
"""Sizes of the published RWKV-7 models; ranks where they differ from the formula's."""
OLDER: dict[str, dict[str, Any]] = {
    "RWKV-6 1.6B": {"architecture": "x060", "num_layers": 24, "hidden_size": 2048},
    "RWKV-5 0.4B": {"architecture": "x052", "num_layers": 24, "hidden_size": 1024},
}
WORLD = 65536
VOCABULARY = "rwkv_vocab_v20230424.txt"
PROMPT = "User: Please fix the failing test.\n\nAssistant:"
STEPS, TOKENS, WARM_UP = 6, 16, 2
CONTEXT = 1024  # tokens of the example that is tuned on
SPARE = 1 << 30  # bytes that must stay available to others


def main() -> None:
    """Write the models that are missing, and measure them one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", default=",".join(SIZES), help="with commas between")
    parser.add_argument("--dtypes", default="float32,bfloat16", help="of the weights in memory")
    parser.add_argument("--works", default="load,train,tune,generate", help="what to measure")
    parser.add_argument("--suffix", choices=["safetensors", "pth"], default="safetensors")
    parser.add_argument("--folder", type=Path, default=Path("models"), help="where the weights are kept")
    parser.add_argument("--older", action="store_true", help="measure RWKV-6 and RWKV-5.2 too")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for size in [*args.sizes.split(","), *(OLDER if args.older else ())]:
        file = args.folder / f"{size.replace(' ', '-')}.{args.suffix}"
        if not file.exists():
            _measured("write", size, file)
        for dtype in args.dtypes.split(","):
            for work in args.works.split(","):
                print(json.dumps(_measured(work, size, file, dtype)), flush=True)


def parameters(size: str) -> int:
    """Return how many numbers a model of a size has."""
    import math

    from sttx_train.architectures import parameter_shapes

    return sum(map(math.prod, parameter_shapes(_config(size)).values()))


def measure(work: str, size: str, file: Path, dtype: str) -> dict[str, Any]:
    """Do one work in this process; return its seconds, and the memory of the process."""
    import torch

    torch.set_num_threads(1)
    found, kept = WORKS[work](size, file, dtype)
    memory = {"peak_gb": _memory("VmHWM"), "anonymous_gb": _memory("RssAnon")}
    del kept  # what is measured is still in memory until here
    return found | memory


def write(size: str, file: Path, dtype: str) -> tuple[dict[str, Any], Any]:
    """Write a model of random weights, and the vocabulary beside it."""
    import torch
    from safetensors.torch import save_file

    from sttx_train.architectures import parameter_shapes

    random = torch.Generator().manual_seed(0)
    tensors = {
        name: _drawn(name, shape, random).to(torch.bfloat16)
        for name, shape in parameter_shapes(_config(size)).items()
    }
    aside = file.with_name(f"{file.name}.part")
    torch.save(tensors, aside) if file.suffix == ".pth" else save_file(tensors, aside)
    aside.replace(file)
    package = find_spec("rwkv")
    assert package is not None and package.origin is not None
    (file.parent / VOCABULARY).write_bytes((Path(package.origin).parent / VOCABULARY).read_bytes())
    return {}, tensors


def load(size: str, file: Path, dtype: str) -> tuple[dict[str, Any], Any]:
    """Load the model."""
    times: list[tuple[float, float]] = []
    with _timed(times):
        loaded = _loaded(file, dtype)
    return _medians(times), loaded


def train(size: str, file: Path, dtype: str) -> tuple[dict[str, Any], Any]:
    """Take default steps; the median leaves out the first two, which compile and have nothing to replay."""
    from sttx_ccsniff import open_source, sample_folder
    from sttx_train import LearnerConfig, StreamConfig, StreamTrainer

    trainer = StreamTrainer(_loaded(file, dtype), LearnerConfig(), StreamConfig(steps=STEPS))
    step = trainer.predictor.step
    times: list[tuple[float, float]] = []

    def timed_step(*windows: Any) -> Any:
        with _timed(times):
            return step(*windows)

    trainer.predictor.step = timed_step  # type: ignore[method-assign]
    with open_source([str(sample_folder())], follow=False) as source:
        trainer.run(source)
    return _medians(times[WARM_UP:]) | {"bpb": trainer.totals.bpb_paid}, trainer


def tune(size: str, file: Path, dtype: str) -> tuple[dict[str, Any], Any]:
    """Take one step of state tuning."""
    from sttx_train.tune import Example, TuneConfig, Tuner

    ids = tuple(range(1, CONTEXT))
    example = Example(context=0, ids=ids, paid=(True,) * len(ids), bytes=len(ids))
    config = TuneConfig(steps=1, batch=1, ctx=CONTEXT, recompute=True)
    tuner = Tuner(_loaded(file, dtype), config, [example])
    times: list[tuple[float, float]] = []
    with _timed(times):
        tuner.run()
    return _medians(times), tuner


def generate(size: str, file: Path, dtype: str) -> tuple[dict[str, Any], Any]:
    """Generate a text; reading the prompt and the first two tokens are not timed."""
    from sttx_train import Predictor, SamplingConfig
    from sttx_train.generate import step_all

    predictor = Predictor(_loaded(file, dtype), experts=False)
    text = predictor.generate(
        PROMPT, SamplingConfig(temperature=0.8), max_tokens=TOKENS + WARM_UP, remember=True
    )
    times: list[tuple[float, float]] = []
    while text.finish_reason is None:
        with _timed(times):
            step_all([text], predictor.batch)
    return _medians(times[WARM_UP:]), predictor


WORKS: dict[str, Callable[[str, Path, str], tuple[dict[str, Any], Any]]] = {
    "write": write,
    "load": load,
    "train": train,
    "tune": tune,
    "generate": generate,
}


def _measured(work: str, size: str, file: Path, dtype: str = "bfloat16") -> dict[str, Any]:
    """Do one work in a process of its own, if there is enough memory."""
    about = {"size": size, "file": file.suffix[1:], "dtype": dtype, "work": work}
    needed = parameters(size) * (4 if dtype == "float32" else 2) + (2 << 30) + SPARE
    if (available := _available()) < needed:
        return about | {"skipped": f"needs {needed / 1e9:.1f} GB, {available / 1e9:.1f} GB are available"}
    command = [sys.executable, __file__, "--one", work, size, str(file), dtype]
    one = subprocess.run(
        command, stdout=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True
    )
    return about | json.loads(one.stdout.splitlines()[-1])


def _config(size: str) -> Any:
    from sttx_train.architectures import config_from

    return config_from({"vocab_size": WORLD, **(SIZES | OLDER)[size]})


def _drawn(name: str, shape: tuple[int, ...], random: Any) -> Any:
    """Return random numbers of a sane size; norms only normalize."""
    import torch

    last = name.rsplit(".", 2)[-2:]
    if last[-1] == "weight" and last[0].startswith("ln"):
        return torch.ones(shape)
    if last[-1] == "bias":
        return torch.zeros(shape)
    if len(shape) < 2:
        return torch.rand(shape, generator=random)
    return torch.randn(shape, generator=random) / max(shape) ** 0.5


def _loaded(file: Path, dtype: str) -> Any:
    import torch

    from sttx_train import load_model

    return load_model(file, dtype=getattr(torch, dtype))


@contextmanager
def _timed(times: list[tuple[float, float]]) -> Iterator[None]:
    """Append the seconds of CPU and of the clock that the block takes."""
    used, began = time.process_time(), time.perf_counter()
    yield
    times.append((time.process_time() - used, time.perf_counter() - began))


def _medians(times: list[tuple[float, float]]) -> dict[str, float]:
    cpu, clock = (statistics.median(each) for each in zip(*times, strict=True))
    return {"cpu_seconds": cpu, "seconds": clock}


def _memory(field: str) -> float:
    """Return a number of `/proc/self/status` in GB; that of a new process does not count its parent's."""
    return int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0]) * 1024 / 1e9


def _available() -> int:
    return int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]) * 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        which, of_size, at, of_dtype = sys.argv[2:]
        print(json.dumps(measure(which, of_size, Path(at), of_dtype)))
    else:
        main()
