"""Base tokenizers: bytes, vocabulary files, integers, angles; `tokenizer_from_spec` returns one by name."""

import os
from pathlib import Path

from sttx_core.errors import UsageError
from sttx_core.tokenizers.bytes import ByteTokenizer
from sttx_core.tokenizers.protocol import AnyTokenizer, Tokenizer, ValueTokenizer, require_text
from sttx_core.tokenizers.trie import TrieTokenizer, create_vocab_file
from sttx_core.tokenizers.values import AngleTokenizer, IntegerTokenizer

__all__ = [
    "AngleTokenizer",
    "AnyTokenizer",
    "ByteTokenizer",
    "IntegerTokenizer",
    "Tokenizer",
    "TrieTokenizer",
    "ValueTokenizer",
    "create_vocab_file",
    "require_text",
    "tokenizer_from_spec",
]

_KNOWN = "'bytes', 'integer:MAX', 'angle', 'trie:FILE', 'hf:FILE' or the path of an RWKV vocabulary file"


def tokenizer_from_spec(spec: str | os.PathLike[str]) -> AnyTokenizer:
    """Return the tokenizer that a spec names.

    The specs are `bytes`, `integer:MAX` (values 0 to MAX), `angle`, and `trie:FILE` or a bare path for an
    RWKV vocabulary file. `sttx_train.load_tokenizer` takes these and Hugging Face's `hf:FILE`.

    Raises:
        UsageError: The spec is unknown and not the path of a file.
        DataError: The file is not a vocabulary.

    >>> tokenizer_from_spec("bytes").vocab_size
    257
    >>> tokenizer_from_spec("integer:99").vocab_size
    101
    """
    kind, colon, rest = str(spec).partition(":")
    if isinstance(spec, os.PathLike):
        return _of_file(Path(spec))
    if spec == "bytes":
        return ByteTokenizer()
    if spec == "angle":
        return AngleTokenizer()
    if kind == "integer":
        return IntegerTokenizer(_max_value(spec, rest))
    if kind == "hf" and colon:
        raise UsageError(
            f"{spec!r} is a tokenizer of Hugging Face's, which sttx-core cannot read: install sttx-train and "
            "use sttx_train.load_tokenizer"
        )
    return _of_file(Path(rest if kind == "trie" and colon else spec))


def _of_file(path: Path) -> TrieTokenizer:
    if path.is_file():
        return TrieTokenizer(path)
    raise UsageError(f"{str(path)!r} is neither a tokenizer nor a file: give {_KNOWN}")


def _max_value(spec: str, digits: str) -> int:
    if digits.isascii() and digits.isdecimal() and len(digits) < 20:
        return int(digits)
    raise UsageError(f"{spec!r} does not name the largest value: write it as in 'integer:255'")
