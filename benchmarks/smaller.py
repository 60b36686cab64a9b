"""Measures what smaller weights cost: bytes of a model's file against bits per byte, for many settings.

    uv run python benchmarks/smaller.py RESULTS.json DATA... [--model MODEL] [--minutes N]

DATA is what `sttx pretrain` reads; sessions are redacted. A share of it prices every model, as it loads from
its file; the rest calibrates, and with --minutes N also trains a few smaller models for N minutes each. A
setting that is in RESULTS.json already is not measured again. Prints one line a setting.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from sttx_cli.session_texts import SessionTexts, split_sessions
from sttx_train import load_model, save_model
from sttx_train.data import open_data
from sttx_train.data.documents import Documents, split
from sttx_train.formats import LoadedModel
from sttx_train.rwkv7.config import counts
from sttx_train.shrink import ShrinkConfig, input_grams, shrink_model
from sttx_train.shrink.shrinking import heal, meter

SETTINGS: dict[str, dict[str, Any]] = {
    "int8, a scale a row": {"bits": 8},
    "int4, a scale for 32": {"bits": 4},
    "int4, a scale for 32, not calibrated": {"bits": 4, "calibration": 0},
    "int4, a scale for 128": {"bits": 4, "group": 128},
    "factors, 9 MB": {"size": 9_000_000},
    "factors, 9 MB, not calibrated": {"size": 9_000_000, "calibration": 0},
    "factors, 4.6 MB, int8": {"size": 4_600_000, "bits": 8},
    "factors, energy 0.98": {"energy": 0.98},
    "half zeros": {"zeros": 0.5},
    "half zeros, not calibrated": {"zeros": 0.5, "calibration": 0},
    "half zeros, int8": {"zeros": 0.5, "bits": 8},
    "2:4": {"two_of_four": True},
    "2:4, int8": {"two_of_four": True, "bits": 8},
    "ghost 0.25": {"ghost": 0.25},
    "ghost 0.5": {"ghost": 0.5},
}
HEALED = ("original", "int4, a scale for 32", "factors, 9 MB", "2:4, int8", "ghost 0.5")


class Bench:
    """What all settings share: the model, its price, and its inputs on the data.

    Args:
        loaded: the model.
        documents: the data.
        validation: share of the data that prices the models.
    """

    def __init__(self, loaded: LoadedModel, documents: Documents, validation: float) -> None:
        self.loaded, self.documents, self.validation = loaded, documents, validation
        train, measured = split(documents, validation, 0)
        assert measured is not None
        self.measure = meter(measured, loaded.vocabulary)
        self.grams = input_grams(loaded.model, train, ShrinkConfig(bits=8).calibration)

    def run(self, setting: dict[str, Any], minutes: float) -> dict[str, Any]:
        """Return bytes, multiplications, prices and seconds of a setting; an empty one is the original."""
        config = ShrinkConfig(**(setting or {"bits": 8}), validation=self.validation, heal_minutes=minutes)
        started = time.monotonic()
        small, errors = self.loaded.model, {"": 0.0}
        if setting:
            small, errors = shrink_model(small, config, self.grams if config.calibration else None)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "model"
            save_model(small, out, tokenizer=self.loaded.vocabulary, dtype=torch.bfloat16)
            made = time.monotonic() - started
            steps = heal(out, self.documents, self.loaded.vocabulary, config, print) if minutes else 0
            found = self.measure(load_model(out).model)
            size = (out / "model.safetensors").stat().st_size
        products = counts(small.config).multiplications
        return {
            "bytes": size,
            "multiplications": products,
            "bpb": found.bpb,
            "loss": found.loss,
            "seconds": made,
            "healing_steps": steps,
            "largest_error": max(errors.values()),
        }


def main() -> None:
    """Measure the settings that are not in the results yet, and print all."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("results", type=Path)
    arguments.add_argument("data", nargs="+")
    arguments.add_argument("--model", default=None, help="by default goose-mini")
    arguments.add_argument("--validation", type=float, default=0.1)
    arguments.add_argument("--minutes", type=float, default=0.0)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    loaded = load_model(options.model)
    files, sessions = split_sessions(options.data)
    texts = SessionTexts(sessions, redact=True, say=print) if sessions else None
    documents = open_data(files, loaded.tokenizer, texts=texts).documents
    found = json.loads(options.results.read_text()) if options.results.exists() else {}
    bench = Bench(loaded, documents, options.validation)
    if "original" not in found:
        original = bench.measure(loaded.model)
        found["original"] = {"bpb": original.bpb, "loss": original.loss, "tokens": original.tokens}
    print("original", found["original"], flush=True)
    for name in HEALED if options.minutes else SETTINGS:
        key = f"{name}, healed for {options.minutes:g} minutes" if options.minutes else name
        if key not in found:
            found[key] = bench.run(SETTINGS.get(name, {}), options.minutes)
            options.results.write_text(json.dumps(found, indent=1))
        print(line(key, found[key]), flush=True)


def line(name: str, result: dict[str, Any]) -> str:
    """Return a line of the table."""
    size, millions = f"{result['bytes']:,} bytes", result["multiplications"] / 1e6
    return f"{name:45} {size:>18}  {millions:5.2f} M products a token  {result['bpb']:.4f} bits per byte"


if __name__ == "__main__":
    main()
