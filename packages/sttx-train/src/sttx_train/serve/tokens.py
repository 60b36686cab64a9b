"""Tokens of an answer with their log-probabilities, and how clients want to see them. Knows no requests."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sttx_core.experts import NextToken

END = "<|endoftext|>"
"""How the id that ends a text is shown; it has no bytes."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token that was read or generated.

    Attributes:
        id: its id.
        data: its bytes.
        log_prob: its natural log-probability; None if nobody asked for it, and of the first token of a text.
        top: the likeliest tokens at its place with their log-probabilities, and itself.
    """

    id: int
    data: bytes
    log_prob: float | None = None
    top: tuple[tuple[int, bytes, float], ...] = ()


def token_at(token: int, expected: np.ndarray | NextToken, tokens: Sequence[bytes], top: int) -> Token:
    """Return a token with its log-probability and the likeliest ones at its place.

    Args:
        token: its id.
        expected: ``[V]`` natural log-probabilities there, or what computes them.
        tokens: the bytes of each id.
        top: how many of the likeliest are wanted; the token itself is always among them.
    """
    if isinstance(expected, np.ndarray):
        ids, row = np.arange(len(expected)), expected
    else:
        ids, row = _likely(expected, token, top)
    likeliest = np.argpartition(-row, min(top, len(row) - 1))[:top] if top else np.zeros(0, int)
    places = [int(one) for one in likeliest[np.argsort(-row[likeliest], kind="stable")]]
    own = int(np.flatnonzero(ids == token)[0])
    if own not in places:
        places.append(own)
    return Token(
        id=token,
        data=tokens[token],
        log_prob=float(row[own]),
        top=tuple((int(ids[at]), tokens[ids[at]], float(row[at])) for at in places),
    )


def _likely(expected: NextToken, token: int, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens with their log-probabilities, among them the likeliest ones and one more."""
    order, least = expected.order, 1 / 64
    kept, needed = np.arange(len(order) + 1), np.zeros(len(order) + 1, np.int64)
    needed[int(np.flatnonzero(order == token)[0]) + 1 :] = 1
    while True:
        parts = expected.parts(least, kept, needed)
        single = parts.size == 1
        known, others = parts.log_probs[single], parts.log_probs[~single]
        if not len(others) or (known >= others.max()).sum() >= top:
            return order[parts.first[single]], known
        least = least / 16 if least > 1e-9 else 0.0


def shown(data: bytes) -> str:
    r"""Return a token as text; bytes of incomplete characters are written out, as clients expect.

    >>> shown("café".encode()), shown(b"\xc3"), shown(b"")
    ('café', 'bytes:\\xc3', '<|endoftext|>')
    """
    if not data:
        return END
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def chat_logprobs(tokens: Sequence[Token], top: int) -> dict[str, Any]:
    """Return the ``logprobs`` of a chat's choice."""

    def entry(data: bytes, log_prob: float | None) -> dict[str, Any]:
        return {"token": shown(data), "logprob": log_prob, "bytes": list(data)}

    content = [
        entry(token.data, token.log_prob)
        | {"top_logprobs": [entry(data, log_prob) for _, data, log_prob in token.top[:top]]}
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(tokens: Sequence[Token], offset: int) -> dict[str, Any]:
    """Return the ``logprobs`` of a completion's choice.

    Args:
        tokens: the tokens.
        offset: characters of the text before the first of them.
    """
    offsets, decoder = [], getincrementaldecoder("utf-8")("replace")
    for token in tokens:
        offsets.append(offset)
        offset += len(decoder.decode(token.data))
    return {
        "tokens": [shown(token.data) for token in tokens],
        "token_logprobs": [token.log_prob for token in tokens],
        "top_logprobs": [_alternatives(token) for token in tokens],
        "text_offset": offsets,
    }


def _alternatives(token: Token) -> dict[str, float] | None:
    """Return the likeliest tokens by their text; where two look alike, the likelier one counts."""
    if token.log_prob is None:
        return None
    found: dict[str, float] = {}
    for _, data, log_prob in token.top:
        found.setdefault(shown(data), log_prob)
    found[shown(token.data)] = token.log_prob
    return found
