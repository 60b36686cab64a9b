"""The protocols of base tokenizers, of text and of values. Does not know phrases."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from sttx_core.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

EOT_ID = 0
"""The end-of-text id of every vocabulary of ours. A vocabulary that others made keeps its own."""


@runtime_checkable
class Tokenizer(Protocol):
    """Turns text or any bytes into ids and back, exactly; `check_tokenizer` checks an implementation.

    `decode_bytes(encode_bytes(data)) == data` for all data. Encoding is pure and never gives `eot_id`.
    """

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        ...

    @property
    def eot_id(self) -> int:
        """The id that opens and closes a document; it has no bytes. 0 in vocabularies of ours."""
        ...

    @property
    def sha256(self) -> str:
        """Identity of the vocabulary: equal if and only if every id stands for the same bytes."""
        ...

    def encode(self, text: str) -> list[int]:
        """Encode the UTF-8 of a text; a lone surrogate counts as U+FFFD."""
        ...

    def encode_bytes(self, data: bytes) -> list[int]:
        """Encode any bytes, valid text or not."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Decode to text; bytes that are not UTF-8 become U+FFFD. Raises `UsageError` for an unknown id."""
        ...

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Decode to the exact bytes. Raises `UsageError` for an unknown id."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of one id. Raises `UsageError` for an unknown id."""
        ...


@runtime_checkable
class ValueTokenizer(Protocol):
    """Turns whole numbers into ids and back, exactly; `check_tokenizer` checks an implementation.

    `decode(encode(values)) == values` for all values in its range; other values are refused, never wrapped.
    Encoding is pure and never gives `eot_id`.
    """

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        ...

    @property
    def eot_id(self) -> int:
        """The id that opens and closes a document; it stands for no value. 0 in vocabularies of ours."""
        ...

    @property
    def sha256(self) -> str:
        """Identity of the vocabulary: equal if and only if kind and size are equal."""
        ...

    def encode(self, values: Iterable[int]) -> list[int]:
        """Encode values. Raises `UsageError` out of range, naming the value, its position and the range."""
        ...

    def encode_array(self, values: np.ndarray) -> np.ndarray:
        """Encode an array of any shape and integer dtype into int64 of the same shape; raises as `encode`."""
        ...

    def decode(self, ids: Iterable[int]) -> list[int]:
        """Decode to values, end-of-text ids left out. Raises `UsageError` for an unknown id."""
        ...


AnyTokenizer: TypeAlias = Tokenizer | ValueTokenizer
"""A tokenizer of text or of values; a model over ids needs only what both have."""


def require_text(tokenizer: AnyTokenizer, name: str = "the tokenizer") -> Tokenizer:
    """Return the tokenizer if it is one of text, for callers that read or write text.

    Args:
        tokenizer: of text or of values.
        name: what the error message calls it.

    Raises:
        UsageError: it is a tokenizer of values.
    """
    if isinstance(tokenizer, Tokenizer):
        return tokenizer
    kind = getattr(tokenizer, "spec", type(tokenizer).__name__)
    raise UsageError(
        f"{name} reads numbers ({kind}), but this needs text: choose a model or tokenizer of text"
    )


def vocabulary_sha256(tokens: Mapping[int, bytes]) -> str:
    """Return the SHA-256 of a vocabulary; it does not depend on the order of the tokens."""
    digest = hashlib.sha256()
    for token_id, token in sorted(tokens.items()):
        digest.update(b"%d %d " % (token_id, len(token)) + token)
    return digest.hexdigest()
