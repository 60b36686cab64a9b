"""Measures how fast text is generated: one text and 16 side by side, next to the network's plain step.

    uv run python benchmarks/decode.py [--model MODEL] [--tokens N] [--streams N] [--rounds N] [--threads N]
                                       [--experts | --no-experts] [--llama DTYPE ...]

The plain step is one forward pass of the network for one token in torch, with nothing around it, and the
compiled step is the same in one compiled call. The other ways generate with `Predictor.generate`, alone and
with `step_all`, without and with experts. Rounds alternate, and medians of tokens per second are reported,
by CPU seconds and by the clock, which says little on a busy machine.

`--llama` also lets a llama.cpp server in this process generate from the same weights, as GGUF in each dtype:
alone and with as many requests at once (needs sttx-train[gguf] and xllamacpp). In float16 it rounds its
activations to float16 too; sttx computes in float32. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from sttx_train import LoadedModel, Predictor, SamplingConfig, load_model
from sttx_train.export import ExportDtype
from sttx_train.generate import Generation, step_all

PROMPT = "User: Please fix the failing test.\n\nAssistant:"
SAMPLING = SamplingConfig(temperature=0.8, top_p=0.95)
CLOCKS = {"cpu": time.process_time, "clock": time.perf_counter}


def main() -> None:
    """Measure every way and print one object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="by default goose-mini")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each text")
    parser.add_argument("--streams", type=int, default=16, help="texts side by side")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of torch, of the step and of llama.cpp")
    parser.add_argument("--experts", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--llama", nargs="*", default=[], choices=["float32", "float16", "q8_0"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    loaded = load_model(args.model)
    with ExitStack() as stack:
        more = {
            f"llama.cpp {dtype}, {count(texts)}": stack.enter_context(
                llama(loaded, args.tokens, texts, dtype, args.threads)
            )
            for dtype in args.llama
            for texts in dict.fromkeys((1, args.streams))
        }
        report = measure(loaded, args.tokens, args.streams, args.rounds, more, experts=args.experts)
        print(json.dumps({"threads": args.threads} | report))


def count(texts: int) -> str:
    """Write how many texts there are."""
    return "one text" if texts == 1 else f"{texts} texts"


def measure(
    loaded: LoadedModel,
    tokens: int,
    streams: int,
    rounds: int,
    more: Mapping[str, Callable[[], dict[str, float]]] | None = None,
    *,
    experts: bool = True,
) -> dict[str, object]:
    """Return the median rate of each way, in tokens per second, and in relation to the plain step.

    Args:
        loaded: the model.
        tokens: tokens of each text.
        streams: texts side by side.
        rounds: how often each way is measured.
        more: other ways to measure, by name.
        experts: also measure texts with experts.
    """
    ways: dict[str, Callable[[], dict[str, float]]] = {
        "plain step": lambda: plain(loaded, tokens),
        "compiled step": lambda: compiled(loaded, tokens),
    }
    for beside in ("", ", with experts") if experts else ("",):
        predictor = Predictor(loaded, experts=bool(beside))
        ways[f"one text{beside}"] = lambda each=predictor: together(each, tokens, 1)
        ways[f"{streams} texts{beside}"] = lambda each=predictor: together(each, tokens, streams)
    ways |= more or {}
    rates: dict[str, dict[str, list[float]]] = {clock: {name: [] for name in ways} for clock in CLOCKS}
    for number in range(rounds + 1):  # the first round only warms up
        for name, way in ways.items():
            for clock, rate in way().items():
                rates[clock][name] += [rate] if number else []
    report: dict[str, object] = {"model": loaded.id, "tokens": tokens, "rounds": rounds}
    for clock, each in rates.items():
        medians = {name: statistics.median(values) for name, values in each.items()}
        report[clock] = {
            name: {"rate": round(rate, 1), "of plain": round(rate / medians["plain step"], 2)}
            for name, rate in medians.items()
        }
    return report


def timed(work: Callable[[], int]) -> dict[str, float]:
    """Return tokens per second by each clock; the work returns how many tokens it made."""
    starts = {clock: read() for clock, read in CLOCKS.items()}
    made = work()
    return {clock: made / (read() - starts[clock]) for clock, read in CLOCKS.items()}


def plain(loaded: LoadedModel, tokens: int) -> dict[str, float]:
    """Step the network alone, always with its likeliest token."""
    ids = loaded.tokenizer.encode(PROMPT)
    with torch.inference_mode():
        logits, state = loaded.model(torch.tensor([ids]))

        def work() -> int:
            nonlocal logits, state
            for _ in range(tokens):
                logits, state = loaded.model(logits[:, -1:].argmax(-1), state)
            return tokens

        return timed(work)


def compiled(loaded: LoadedModel, tokens: int) -> dict[str, float]:
    """Step the network alone by its compiled step."""
    ids = loaded.tokenizer.encode(PROMPT)
    with torch.inference_mode():
        logits, state = loaded.model(torch.tensor([ids]))
        logits = logits[:, -1]

        def work() -> int:
            nonlocal logits, state
            for _ in range(tokens):
                logits, state = loaded.model.step(logits.argmax(-1), state)
            return tokens

        return timed(work)


def together(predictor: Predictor, tokens: int, streams: int) -> dict[str, float]:
    """Generate texts side by side; reading the prompts is not timed."""
    texts = [start(predictor, tokens, stream) for stream in range(streams)]

    def work() -> int:
        while any(text.finish_reason is None for text in texts):
            step_all(texts, predictor.batch)
        return sum(len(text.ids) for text in texts)

    return timed(work)


@contextmanager
def llama(
    loaded: LoadedModel, tokens: int, streams: int, dtype: ExportDtype = "float32", threads: int = 1
) -> Iterator[Callable[[], dict[str, float]]]:
    """Yield a function that lets a llama.cpp server generate texts side by side, and times it.

    The prompts are one token long, since reading them is timed too. Its samplers are its own, which keep at
    most 40 tokens before top-p.
    """
    from llama_server import running

    from sttx_train.export import export_model, model_to_export

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(streams) as pool:
        export_model(model_to_export(loaded), Path(folder) / "model.gguf", "gguf", dtype)
        with running(Path(folder) / "model.gguf", streams=streams, threads=threads) as server:

            def one(_: int) -> int:
                answer = server.post(
                    "/completion",
                    prompt=[0],
                    n_predict=tokens,
                    temperature=SAMPLING.temperature,
                    top_p=SAMPLING.top_p,
                    ignore_eos=True,
                    cache_prompt=False,
                )
                return int(answer["tokens_predicted"])

            yield lambda: timed(lambda: sum(pool.map(one, range(streams))))


def start(predictor: Predictor, tokens: int, stream: int) -> Generation:
    """Return a text that has read its prompt; all share the predictor's experts, so that none is copied."""
    return predictor.generate(PROMPT, SAMPLING, max_tokens=tokens, stream=stream, remember=True)


if __name__ == "__main__":
    main()
