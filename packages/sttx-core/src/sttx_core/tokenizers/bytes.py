"""The tokenizer without a vocabulary file: each byte is an id."""

from collections.abc import Iterable

from sttx_core.errors import UsageError
from sttx_core.text import encodable
from sttx_core.tokenizers.protocol import EOT_ID, vocabulary_sha256


class ByteTokenizer:
    """Bytes as ids: byte b is id b + 1, and 0 is the end-of-text id.

    >>> ByteTokenizer().encode("hi")
    [105, 106]
    """

    vocab_size: int = 257
    eot_id: int = EOT_ID

    @property
    def sha256(self) -> str:
        """Identity of the vocabulary."""
        return vocabulary_sha256(
            {token_id: self.token_bytes(token_id) for token_id in range(self.vocab_size)}
        )

    def encode(self, text: str) -> list[int]:
        """Encode the UTF-8 of a text; a lone surrogate counts as U+FFFD."""
        return self.encode_bytes(encodable(text).encode())

    def encode_bytes(self, data: bytes) -> list[int]:
        """Encode any bytes."""
        return [byte + 1 for byte in data]

    def decode(self, ids: Iterable[int]) -> str:
        """Decode to text; bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Decode to the exact bytes."""
        try:
            return bytes(token_id - 1 for token_id in ids if token_id != EOT_ID)
        except ValueError:
            raise UsageError("an id is not in the vocabulary: bytes have the ids 1 to 256") from None

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of one id; the end-of-text id has none."""
        return self.decode_bytes((token_id,))
