"""Base tokenizers: bytes, and a trie over RWKV vocabulary files."""

import os
from pathlib import Path

from sttx_core.errors import UsageError
from sttx_core.tokenizers.bytes import ByteTokenizer
from sttx_core.tokenizers.protocol import Tokenizer
from sttx_core.tokenizers.trie import TrieTokenizer, write_vocabulary

__all__ = ["ByteTokenizer", "Tokenizer", "TrieTokenizer", "load_tokenizer", "write_vocabulary"]


def load_tokenizer(spec: str | os.PathLike[str]) -> Tokenizer:
    """Give the tokenizer that a spec names: `bytes`, or the path of an RWKV vocabulary file.

    Raises `UsageError` if it names nothing, `DataError` if the file is no vocabulary.

    >>> load_tokenizer("bytes").vocab_size
    257
    """
    if spec == "bytes":
        return ByteTokenizer()
    if Path(spec).is_file():
        return TrieTokenizer(spec)
    raise UsageError(f"{str(spec)!r} is no tokenizer: give 'bytes' or the path of an RWKV vocabulary file")
