"""What every base tokenizer can do. Phrases are built on top of one, and are not known here."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Protocol, runtime_checkable

EOT_ID = 0
"""The id that opens and closes a document, in every vocabulary; it has no bytes."""


@runtime_checkable
class Tokenizer(Protocol):
    """Turns text or any bytes into ids and back, exactly; `check_tokenizer` holds implementations to it.

    `decode_bytes(encode_bytes(data)) == data` for all data. Encoding is pure and never gives `eot_id`.
    """

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        ...

    @property
    def eot_id(self) -> int:
        """The id that opens and closes a document (0); it has no bytes."""
        ...

    @property
    def sha256(self) -> str:
        """Identity of the vocabulary: equal exactly if every id stands for the same bytes."""
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
        """Give the bytes that one id stands for. Raises `UsageError` for an unknown id."""
        ...


def vocabulary_sha256(tokens: Mapping[int, bytes]) -> str:
    """Hash a vocabulary, whatever file or order it came in."""
    digest = hashlib.sha256()
    for token_id, token in sorted(tokens.items()):
        digest.update(b"%d %d " % (token_id, len(token)) + token)
    return digest.hexdigest()
