"""Turns a pretraining run into the embedded model: bfloat16 weights, and what it scores on each kind of text.

    python ship.py RUN VOCABULARY HELD_OUT MODEL_FOLDER

RUN is the folder of `sttx pretrain`'s checkpoints, HELD_OUT one of `kind.txt` files that training never saw.
Bits per byte are those of the rounded weights, the state carried through each file; `xz -9e` on the same
bytes stands beside them.
"""

from __future__ import annotations

import json
import lzma
import sys
from pathlib import Path

import torch

from sttx_core.tokenizers import TrieTokenizer
from sttx_train.checkpoint import CheckpointStore
from sttx_train.formats import load_model, save_model
from sttx_train.pretrain import held_out_bits
from sttx_train.pretrain.encoding import encode_documents
from sttx_train.rwkv7 import RWKV7, RWKV7Config


def main(run: Path, vocabulary: Path, held_out: Path, folder: Path) -> None:
    """Write the model folder and print one JSON object of scores."""
    checkpoint = CheckpointStore(run).load()
    model = RWKV7(RWKV7Config(**checkpoint.documents["model"]))
    model.load_state_dict(checkpoint.tensors["model"])
    tokenizer = TrieTokenizer(vocabulary)
    save_model(model, folder, format="sttx", tokenizer=tokenizer, dtype=torch.bfloat16)
    shipped = load_model(folder).model
    scores = {}
    for file in sorted(held_out.glob("*.txt")):
        data = file.read_bytes()
        bits = held_out_bits(shipped, encode_documents([data.decode()], tokenizer))
        scores[file.stem] = {
            "bytes": len(data),
            "bpb": round(bits / len(data), 3),
            "xz": round(8 * len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)) / len(data), 3),
        }
    tokens = checkpoint.documents["progress"]["tokens"]
    minutes = round(checkpoint.manifest["seconds"] / 60, 1)
    print(json.dumps({"step": checkpoint.step, "tokens": tokens, "minutes": minutes, "held_out": scores}))


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
