"""What experts have read before the first file of an archive, so that small files cost less.

`primer.txt` holds starts of made-up sessions about sttx's own files, and `primer.jsonl` a session as Claude
Code stores it, which is taken apart as in an archive. The recipe of goose-mini makes both. An archive names
the digest of what was read, because other texts would make other bytes.
"""

from functools import cache, lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np

from sttx_core.experts import Experts, ExpertsConfig
from sttx_core.tokenizers import Tokenizer
from sttx_train.byte_lengths import every_token
from sttx_train.coding.jsonl import LinesEncoder

_SEPARATOR = b"\f"


@cache
def _texts() -> tuple[bytes, ...]:
    here = Path(__file__)
    lines, _ = LinesEncoder().feed(here.with_name("primer.jsonl").read_bytes())
    return *here.with_name("primer.txt").read_bytes().split(_SEPARATOR), lines


@cache
def primer_sha256() -> str:
    """Return the SHA-256 of the texts."""
    return sha256(_SEPARATOR.join(_texts())).hexdigest()


@lru_cache(maxsize=1)
def primed(tokenizer: Tokenizer, config: ExpertsConfig) -> Experts:
    """Return experts that have read the texts and nothing else; takes a second the first time.

    They are shared: read with a `copy` of them.

    Args:
        tokenizer: their vocabulary.
        config: their sizes.
    """
    experts = Experts(every_token(tokenizer, tokenizer.vocab_size), config)
    for text in _texts():
        experts.encode(experts.document(), np.array(tokenizer.encode_bytes(text), np.int64))
    return experts
