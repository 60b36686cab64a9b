"""A base's vocabulary as a tokenizer of sttx: text to ids, and the bytes of each id.

In contrast to `sttx_train.formats.HuggingFaceTokenizer` it may lack some bytes, or put a space before a text;
what it cannot encode is lost. Special tokens in a text are plain text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from sttx_core.errors import UsageError
from sttx_train.formats.tokenizer_json import byte_alphabet
from sttx_train.memory.base import Base, Vocabulary

_SPACE = "\u2581"  # how SentencePiece writes a space
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class ServedVocabulary(Vocabulary):
    """A ``tokenizer.json``.

    Args:
        path: the file.
        ends: the ids that end a text, as the base's config says; at least one.

    Attributes:
        ends: as given.
        start: ids that the base wants before a text.

    Raises:
        ModelError: the file cannot be read.
        UsageError: no id ends a text.
    """

    def __init__(self, path: Path, ends: Sequence[int]) -> None:
        super().__init__(path)
        if not ends:
            raise UsageError("the base's config has no eos_token_id, so that no answer would end: add one")
        self.ends = tuple(ends)
        self._backend.encode_special_tokens = True
        self._bytes = _bytes_of(json.loads(self._backend.to_str()), self._backend.get_vocab())

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return max(self._bytes, default=-1) + 1

    @property
    def eot_id(self) -> int:
        """The first of the ids that end a text."""
        return self.ends[0]

    def encode_bytes(self, data: bytes) -> list[int]:
        """Return the ids of a text in UTF-8; other bytes become U+FFFD."""
        return self.encode(data.decode(errors="replace"))

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids."""
        return self.decode_bytes(ids).decode(errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes of ids."""
        return b"".join(self.token_bytes(token) for token in ids)

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of an id; none for one that ends a text.

        Raises:
            UsageError: the vocabulary has no such id.
        """
        if token_id not in self._bytes:
            raise UsageError(f"{token_id!r} is not an id of the vocabulary")
        return b"" if token_id in self.ends else self._bytes[token_id]

    def every_token(self, size: int) -> list[bytes]:
        """Return the bytes of the ids below ``size``; none for those that end a text and unused ones."""
        return [b"" if token in self.ends else self._bytes.get(token, b"") for token in range(size)]


def served_vocabulary(base: Base) -> ServedVocabulary:
    """Return the vocabulary of a base, with the ids that end its texts.

    Raises:
        UsageError: its config names none.
        ModelError: it cannot be read.
    """
    ends = base.model.config.eos_token_id
    known = ends if isinstance(ends, list) else [] if ends is None else [ends]
    return ServedVocabulary(base.folder / "tokenizer.json", known)


def _bytes_of(content: dict, names: dict[str, int]) -> dict[int, bytes]:
    """Return the bytes of each id."""
    added = {entry["id"]: entry["content"] for entry in content.get("added_tokens", ())}
    steps = json.dumps([content.get("pre_tokenizer"), content.get("decoder")])
    of_name = _byte_level if '"ByteLevel"' in steps else _with_spaces
    alphabet = byte_alphabet()
    tokens = {token: of_name(name, alphabet) for name, token in names.items()}
    return tokens | {token: name.encode() for token, name in added.items()}


def _byte_level(name: str, alphabet: dict[str, int]) -> bytes:
    return bytes(alphabet[char] for char in name) if all(char in alphabet for char in name) else name.encode()


def _with_spaces(name: str, alphabet: dict[str, int]) -> bytes:
    del alphabet
    byte = _BYTE.fullmatch(name)
    return bytes([int(byte[1], 16)]) if byte else name.replace(_SPACE, " ").encode()
