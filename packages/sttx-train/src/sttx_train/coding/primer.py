"""What experts have read before the first file of an archive, so that small files cost less.

`primer.txt` holds starts of made-up sessions about sttx's own files; the recipe of goose-mini makes it. An
archive names its digest, because another text would make other bytes.
"""

from functools import cache, lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np

from sttx_core.experts import Experts, ExpertsConfig
from sttx_core.tokenizers import Tokenizer
from sttx_train.byte_lengths import every_token

_SEPARATOR = b"\f"


@cache
def _primer() -> bytes:
    return Path(__file__).with_name("primer.txt").read_bytes()


@cache
def primer_sha256() -> str:
    """Return the SHA-256 of the text."""
    return sha256(_primer()).hexdigest()


@lru_cache(maxsize=1)
def primed(tokenizer: Tokenizer, config: ExpertsConfig) -> Experts:
    """Return experts that have read the text and nothing else; takes half a second the first time.

    They are shared: read with a `copy` of them.

    Args:
        tokenizer: their vocabulary.
        config: their sizes.
    """
    experts = Experts(every_token(tokenizer, tokenizer.vocab_size), config)
    for text in _primer().split(_SEPARATOR):
        experts.encode(experts.document(), np.array(tokenizer.encode_bytes(text), np.int64))
    return experts
