"""Averages the weights of models of one shape, matrix by matrix, the hypernetworks' too.

    python average.py OUT 0.35=BEFORE 0.65=AFTER --validation FOLDER

OUT becomes a model folder in float32, which `ship.py` accepts instead of a run. The shares add up to 1. With
--validation the mean is priced on the first bytes of each kind, rounded to bfloat16 as `ship.py` rounds it;
one JSON object goes to standard output. Choose shares on validation text only. Knows nothing of training.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from pricing import price_kinds
from torch import nn

from sttx_core.hypernet import HyperNetwork
from sttx_train.formats import LoadedModel, load_model, save_model


def average_weights(modules: Sequence[nn.Module], shares: Sequence[float]) -> None:
    """Replace the weights of the first module by the mean, weighted by the shares.

    Raises:
        SystemExit: the modules differ in the names or shapes of their weights.
    """
    states = [module.state_dict() for module in modules]
    shapes = [{name: weight.shape for name, weight in state.items()} for state in states]
    if any(shape != shapes[0] for shape in shapes):
        raise SystemExit("the models have different shapes: their weights have no mean")
    mean = {}
    for name, weight in states[0].items():
        total = torch.zeros_like(weight, dtype=torch.float64)
        for state, share in zip(states, shares, strict=True):
            total += share * state[name].double()
        mean[name] = total.to(weight.dtype)
    modules[0].load_state_dict(mean)


def average_models(models: Sequence[LoadedModel], shares: Sequence[float]) -> LoadedModel:
    """Return the first model with the weights of the mean.

    Raises:
        SystemExit: shares that do not add up to 1, other vocabularies, or a hypernetwork that is missing.
    """
    if not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise SystemExit(f"the shares add up to {sum(shares):g}, not to 1")
    if len({model.tokenizer.sha256 for model in models}) > 1:
        raise SystemExit("the models have different vocabularies: their weights have no mean")
    hypernets: list[HyperNetwork] = [model.hypernet for model in models if model.hypernet is not None]
    if len(hypernets) not in (0, len(models)):
        raise SystemExit("some of the models have a hypernetwork and others have none")
    average_weights([model.model for model in models], shares)
    if hypernets:
        average_weights(hypernets, shares)
    return models[0]


def part_of(text: str) -> tuple[float, str]:
    """Return the share and the model of `SHARE=MODEL`.

    >>> part_of("0.35=runs/a=b")
    (0.35, 'runs/a=b')
    """
    share, _, model = text.partition("=")
    return float(share), model


def main() -> None:
    """Write the mean, and price it if there is validation text."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="the model folder to write")
    parser.add_argument("parts", type=part_of, nargs="+", metavar="SHARE=MODEL")
    parser.add_argument("--validation", type=Path, help="folder of kind.txt files to price the mean on")
    parser.add_argument("--bytes", type=int, default=80_000, help="most bytes of each kind")
    options = parser.parse_args()
    shares = [share for share, _ in options.parts]
    mean = average_models([load_model(model) for _, model in options.parts], shares)
    save_model(mean.model, options.out, tokenizer=mean.tokenizer, hypernet=mean.hypernet)
    if options.validation:
        rounded = mean.model.to(torch.bfloat16).float()
        prices = price_kinds(rounded, options.validation, mean.tokenizer, options.bytes)
        bits = {kind: round(price.bits_per_byte, 4) for kind, price in prices.items()}
        print(json.dumps({"mean": round(sum(bits.values()) / len(bits), 4), "kinds": bits}))


if __name__ == "__main__":
    main()
