"""A vocabulary as a table of the bytes of each id, and decoding with it. Does not know how text is split."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import cached_property

from sttx_core.errors import UsageError
from sttx_core.text import encodable
from sttx_core.tokenizers.protocol import EOT_ID, vocabulary_sha256


class TokenTable(ABC):
    """A text tokenizer in which each id stands for fixed bytes; a subclass splits bytes into ids.

    Args:
        tokens: the bytes of each id except the end-of-text id.
        eot_id: the end-of-text id.
    """

    def __init__(self, tokens: Mapping[int, bytes], eot_id: int = EOT_ID):
        self.eot_id = eot_id
        self._tokens = {**tokens, eot_id: b""}
        self._vocab_size = max(self._tokens) + 1

    @property
    def vocab_size(self) -> int:
        """One more than the largest id.

        A model may have more rows: the largest id of World is 65529, and its models have 65536 rows.
        """
        return self._vocab_size

    @property
    def sha256(self) -> str:
        """Identity of the vocabulary: equal if and only if every id stands for the same bytes."""
        return self._sha256

    @cached_property
    def _sha256(self) -> str:
        return vocabulary_sha256(self._tokens)

    def encode(self, text: str) -> list[int]:
        """Encode the UTF-8 of a text; a lone surrogate counts as U+FFFD."""
        return self.encode_bytes(encodable(text).encode())

    @abstractmethod
    def encode_bytes(self, data: bytes) -> list[int]:
        """Encode any bytes."""

    def decode(self, ids: Iterable[int]) -> str:
        """Decode to text; bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Decode to the exact bytes."""
        try:
            return b"".join(map(self._tokens.__getitem__, ids))
        except KeyError as error:
            raise UsageError(
                f"id {error.args[0]!r} is not in the vocabulary, whose largest id is {self._vocab_size - 1}"
            ) from None

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of one id; the end-of-text id has none."""
        return self.decode_bytes((token_id,))
