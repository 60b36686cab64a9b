"""Prices validation text with a model: bits per byte of each kind, the state carried through its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from turns import encode

from sttx_core.tokenizers import Tokenizer
from sttx_train.pretrain import validation_bits
from sttx_train.rwkv7 import RWKV7


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a text costs: its size in bytes of UTF-8, and bits."""

    bytes: int
    bits: float

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte."""
        return self.bits / self.bytes


def text_of(file: Path, most: int | None = None) -> str:
    """Return the first `most` bytes of a file as text, without a character that is cut."""
    return file.read_bytes()[:most].decode("utf-8", "strict" if most is None else "ignore")


def price_kinds(
    model: RWKV7, validation: Path, tokenizer: Tokenizer, most: int | None = None
) -> dict[str, Price]:
    """Return the price of each `kind.txt` of a folder, or of its first `most` bytes.

    Raises:
        SystemExit: the folder has no such file.
    """
    prices = {}
    for file in sorted(validation.glob("*.txt")):
        text = text_of(file, most)
        ids = np.array([tokenizer.eot_id, *encode(text, file.stem, tokenizer)])
        prices[file.stem] = Price(bytes=len(text.encode()), bits=validation_bits(model, ids))
    if not prices:
        raise SystemExit(f"{validation} has no .txt files: name a corpus's validation folder")
    return prices
