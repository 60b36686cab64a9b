"""Turns a pretraining run into the embedded model: bfloat16 weights, their scores, and samples.

    python ship.py RUN VOCABULARY VALIDATION MODEL_FOLDER

RUN is the folder of `sttx pretrain`'s checkpoints, or a model folder that `average.py` wrote. VALIDATION is a
folder of `kind.txt` files that training never saw. Bits per byte are those of the rounded weights, with the
state carried through each file; sessions (`transcripts.txt`) are encoded trace by trace. For comparison there
are those of `xz -9e`, `zstd --ultra -22 --long` and `zpaq -m5`, if they are installed. Ten texts are sampled
from the model, each from an empty state, with the seeds 0 to 9.
"""

from __future__ import annotations

import json
import lzma
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from pricing import price_kinds

from sttx_core.hypernet import HyperNetwork
from sttx_core.tokenizers import TrieTokenizer
from sttx_train.checkpoint.store import CheckpointStore
from sttx_train.formats import load_model, save_model
from sttx_train.rwkv7 import RWKV7, RWKV7Config

SAMPLES = 10
LENGTH = 160


def main(run: Path, vocabulary: Path, validation: Path, folder: Path) -> None:
    """Write the model folder and print one JSON object of scores."""
    model, hypernet, report = weights_of(run)
    tokenizer = TrieTokenizer(vocabulary)
    save_model(model, folder, tokenizer=tokenizer, dtype=torch.bfloat16, hypernet=hypernet)
    shipped = load_model(folder).model
    scores = {}
    for kind, price in price_kinds(shipped, validation, tokenizer).items():
        sizes = compressed(validation / f"{kind}.txt")
        scores[kind] = {
            "bytes": price.bytes,
            "bpb": round(price.bits_per_byte, 3),
            **{name: round(8 * size / price.bytes, 3) for name, size in sizes.items()},
        }
    report |= {"validation": scores}
    print(json.dumps(report | {"samples": [sample(shipped, tokenizer, seed) for seed in range(SAMPLES)]}))


def weights_of(run: Path) -> tuple[RWKV7, HyperNetwork | None, dict[str, Any]]:
    """Return the weights of a run or a model folder, and for a run its steps, tokens and minutes."""
    if (run / "config.json").is_file():
        loaded = load_model(run)
        return loaded.model, loaded.hypernet, {}
    checkpoint = CheckpointStore(run).load()
    model = RWKV7(RWKV7Config(**checkpoint.documents["model"]), initialize=False)
    model.load_state_dict(checkpoint.tensors["model"])
    hypernet = None
    if "hypernet" in checkpoint.tensors:  # the run learned phrases
        hypernet = HyperNetwork(model.config.hidden_size)
        hypernet.load_state_dict(checkpoint.tensors["hypernet"])
    tokens = checkpoint.documents["progress"]["tokens"]
    minutes = round(checkpoint.manifest["seconds"] / 60, 1)
    return model, hypernet, {"step": checkpoint.step, "tokens": tokens, "minutes": minutes}


def compressed(file: Path) -> dict[str, int]:
    """Return a file's compressed size in bytes for each general compressor that is installed."""
    sizes = {"xz": len(lzma.compress(file.read_bytes(), preset=9 | lzma.PRESET_EXTREME))}
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "archive.zpaq"
        if shutil.which("zstd"):
            command = ["zstd", "--ultra", "-22", "--long", "-c", str(file)]
            sizes["zstd"] = len(subprocess.run(command, capture_output=True, check=True).stdout)
        if shutil.which("zpaq"):
            command = ["zpaq", "add", str(archive), str(file), "-m5"]
            subprocess.run(command, capture_output=True, check=True)
            sizes["zpaq"] = archive.stat().st_size
    return sizes


@torch.no_grad()
def sample(model: RWKV7, tokenizer: TrieTokenizer, seed: int) -> str:
    """Return a text sampled at temperature 1, up to its end or LENGTH tokens."""
    generator = torch.Generator().manual_seed(seed)
    ids: list[int] = []
    state, token = None, tokenizer.eot_id
    while len(ids) < LENGTH:
        logits, state = model(torch.tensor([[token]]), state)
        shares = logits[0, -1, : tokenizer.vocab_size].float().softmax(-1)
        token = int(torch.multinomial(shares, 1, generator=generator))
        if token == tokenizer.eot_id:
            break
        ids.append(token)
    return tokenizer.decode(ids)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
