"""The bytes of each token of a vocabulary, and their number, to convert bits per token to bits per byte."""

from __future__ import annotations

import numpy as np

from sttx_core.errors import UsageError
from sttx_core.tokenizers import Tokenizer


def token_byte_lengths(tokenizer: Tokenizer) -> np.ndarray:
    """Return the number of bytes of each token ``[vocab_size]``; 0 for the end of text and unused ids."""
    return np.array([len(one) for one in every_token(tokenizer, tokenizer.vocab_size)])


def every_token(tokenizer: Tokenizer, size: int) -> list[bytes]:
    """Return the bytes of the ids below ``size``; none for the end of text and unused ids."""
    known = [_bytes_or_empty(tokenizer, token) for token in range(tokenizer.vocab_size)]
    return known + [b""] * (size - len(known))


def _bytes_or_empty(tokenizer: Tokenizer, token: int) -> bytes:
    try:
        return tokenizer.token_bytes(token)
    except UsageError:  # ids that the vocabulary leaves unused
        return b""
