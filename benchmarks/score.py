"""Measures how fast frozen scoring of many sessions is, as a share of the machine's matrix rate.

    uv run python benchmarks/score.py [--model MODEL] [--tokens N] [--rounds N] [--threads 1,2]

Sessions that come with sttx are scored by `score_traces` in batches, without and with experts, and one trace
after the other. The reference is the time of the products with the model's own matrices alone, at 1,024 rows,
in the same run; only these products count as work (2 operations per weight and token). The recurrence, norms,
softmax, experts and everything else are overhead. Rounds alternate, and medians are reported, by CPU seconds
and by the clock, which says little on a busy machine. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from sttx_ccsniff import open_source, sample_folder
from sttx_core.render import render
from sttx_core.traces import Trace
from sttx_train import LoadedModel, Predictor, load_model
from sttx_train.evaluate import score_traces

ROWS = 1024


def main() -> None:
    """Measure everything and print one object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="by default goose-mini")
    parser.add_argument("--tokens", type=int, default=8192, help="tokens that each way scores in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", default="1,2", help="numbers of threads, with commas between")
    args = parser.parse_args()
    loaded = load_model(args.model)
    traces = list(some_traces(loaded, args.tokens))
    report = {"model": loaded.id, "operations_per_token": 2 * sum(w.numel() for w in matrices(loaded))}
    for threads in map(int, args.threads.split(",")):
        torch.set_num_threads(threads)
        report[f"threads_{threads}"] = measure(loaded, traces, args.rounds)
    print(json.dumps(report))


def some_traces(loaded: LoadedModel, tokens: int) -> Iterator[Trace]:
    """Yield traces of the sample's documents in turn, over and over, until there is enough text."""
    documents: dict[str, list[Trace]] = {}
    with open_source([str(sample_folder())], follow=False) as source:
        for trace in filter(render, source):
            documents.setdefault(trace.document, []).append(trace)
    turns = itertools.zip_longest(*documents.values())
    for trace in itertools.cycle([trace for turn in turns for trace in turn if trace]):
        if tokens <= 0:
            return
        yield trace
        tokens -= len(loaded.tokenizer.encode(render(trace)))


def matrices(loaded: LoadedModel) -> list[torch.Tensor]:
    """Return every matrix that a token is multiplied with, as [in, out]; the embedding is only looked up."""
    model = loaded.model
    named = [(name, weight) for name, weight in model.named_parameters() if weight.ndim == 2]
    weights = [(name, weight) for name, weight in named if "emb" not in name and "r_k" not in name]
    return [weight.detach().T if name.endswith("weight") else weight.detach() for name, weight in weights]


def measure(loaded: LoadedModel, traces: Sequence[Trace], rounds: int) -> dict[str, object]:
    """Return how many tokens there are, and the rate of each way."""
    tokens = sum(len(loaded.tokenizer.encode(render(trace))) for trace in traces)
    few = traces[: max(1, len(traces) // 4)]
    ways: dict[str, Callable[[], int]] = {
        "products": lambda: products(loaded, max(1, tokens // ROWS)),
        "network": lambda: score(loaded, traces, experts=False),
        "experts": lambda: score(loaded, traces, experts=True),
        "network, one by one": lambda: score(loaded, few, experts=False, batch=1),
    }
    clocks = {"cpu": time.process_time, "clock": time.perf_counter}
    times = {clock: {name: [] for name in ways} for clock in clocks}
    for each in range(rounds + 1):  # the first round only warms up
        for name, way in ways.items():
            starts = {clock: read() for clock, read in clocks.items()}
            count = way()
            for clock, read in clocks.items():
                times[clock][name] += [count / (read() - starts[clock])] if each else []
    return {
        "tokens": tokens,
        "documents": len({trace.document for trace in traces}),
        "by": {clock: shares(each) for clock, each in times.items()},
    }


def shares(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Return the median rate of each way, in tokens per second, and its share of that of the products."""
    rates = {name: statistics.median(each) for name, each in times.items()}
    return {
        name: {"rate": round(rate), "share": round(rate / rates["products"], 3)}
        for name, rate in rates.items()
    }


def products(loaded: LoadedModel, times: int) -> int:
    """Multiply with every matrix of the model; return for how many tokens."""
    weights = matrices(loaded)
    inputs = {weight.shape[0]: torch.randn(ROWS, weight.shape[0]) for weight in weights}
    outputs = {weight.shape[1]: torch.empty(ROWS, weight.shape[1]) for weight in weights}
    with torch.no_grad():
        for _ in range(times):
            for weight in weights:
                torch.mm(inputs[weight.shape[0]], weight, out=outputs[weight.shape[1]])
    return ROWS * times


def score(loaded: LoadedModel, traces: Sequence[Trace], *, experts: bool, batch: int | None = None) -> int:
    """Score the traces; return the number of their tokens. With a batch of 1, one reader reads each trace."""
    predictor = Predictor(loaded, experts=experts)
    if batch is None:
        return sum(len(one.ids) for one in score_traces(predictor, traces))
    readers, count = {}, 0
    for trace in traces:
        reader = readers.setdefault(trace.document, predictor.read(trace.document))
        count += len(reader.advance(loaded.tokenizer.encode(render(trace))))
    return count


if __name__ == "__main__":
    main()
