"""What experts have read before the first file of an archive, so that small files cost less.

`primer.txt` holds starts of made-up sessions about sttx's own files, and `primer.jsonl` a session as Claude
Code stores it, which is taken apart as in an archive. The recipe of goose-mini makes both. Experts beside a
network read only the second: with the first, sessions that are rendered as text become larger there. An
archive names the digest of what was read, because other texts would make other bytes.
"""

from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sttx_core.experts import Experts, ExpertsConfig, Known
from sttx_core.tokenizers import Tokenizer
from sttx_train.byte_lengths import every_token
from sttx_train.coding.jsonl import LinesEncoder

_SEPARATOR = b"\f"


@cache
def _texts(with_network: bool) -> tuple[bytes, ...]:
    here = Path(__file__)
    lines, _ = LinesEncoder().feed(here.with_name("primer.jsonl").read_bytes())
    if with_network:
        return (lines,)
    return *here.with_name("primer.txt").read_bytes().split(_SEPARATOR), lines


@cache
def primer_sha256(with_network: bool) -> str:
    """Return the SHA-256 of the texts that experts read, beside a network or alone."""
    return sha256(_SEPARATOR.join(_texts(with_network))).hexdigest()


class _Last(NamedTuple):
    """What was asked for last, and what such experts know."""

    key: tuple[str, int, ExpertsConfig, bool]
    known: Known


_last: list[_Last] = []


def primed(tokenizer: Tokenizer, vocab_size: int, config: ExpertsConfig, *, with_network: bool) -> Experts:
    """Return new experts that have read the texts and nothing else; takes a second the first time.

    Args:
        tokenizer: their vocabulary.
        vocab_size: number of tokens that they tell apart, at least as many as the vocabulary has.
        config: their sizes.
        with_network: whether they are for use beside a network.
    """
    key = tokenizer.sha256, vocab_size, config, with_network
    tokens = every_token(tokenizer, vocab_size)
    if _last and _last[0].key == key:
        return Experts(tokens, config, _last[0].known)
    _last.clear()
    experts = Experts(tokens, config)
    for text in _texts(with_network):
        experts.encode(experts.document(), np.array(tokenizer.encode_bytes(text), np.int64))
    _last.append(_Last(key, experts.known()))
    return experts
