"""The vocabulary that belongs to a model on disk: a file in its folder, or beside its file.

Every format keeps it as an RWKV vocabulary file; bytes are such a vocabulary too. Nothing is guessed: a model
without a vocabulary has no tokenizer.
"""

from __future__ import annotations

import os
from pathlib import Path

from sttx_core.errors import ModelError
from sttx_core.tokenizers import ByteTokenizer, Tokenizer, TrieTokenizer, create_vocab_file

VOCABULARY = "vocab.txt"
WORLD = "rwkv_vocab_v20230424.txt"
_WORLD_ROWS = 65536


def tokenizer_for(path: str | os.PathLike[str], *, rows: int | None = None) -> Tokenizer:
    """Load the vocabulary of a model folder or model file.

    In a folder it is ``vocab.txt`` or ``rwkv_vocab_v20230424.txt`` (World's published name);
    beside a file ``X.pth`` also ``X.vocab.txt``, which comes first.

    Args:
        path: the model's folder or file.
        rows: the model's ``vocab_size``, which the vocabulary has to fit.

    Raises:
        ModelError: no vocabulary is there, or it has more ids than the model has rows.
        DataError: the vocabulary file is damaged.
    """
    model = Path(path)
    candidates = [VOCABULARY, WORLD] if model.is_dir() else [f"{model.stem}.{VOCABULARY}", VOCABULARY, WORLD]
    folder = model if model.is_dir() else model.parent
    for name in candidates:
        if (folder / name).is_file():
            return _fitting(folder / name, rows)
    needed = WORLD if rows == _WORLD_ROWS else candidates[0]
    kind = "the World vocabulary" if rows == _WORLD_ROWS else "its vocabulary (lines `id 'token' length`)"
    raise ModelError(f"{str(model)!r} comes without a vocabulary: put {kind} at {str(folder / needed)!r}")


def write_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Write a tokenizer as a vocabulary file in place: let the caller give a path that is aside."""
    if isinstance(tokenizer, TrieTokenizer):
        tokenizer.save(path)
    else:
        create_vocab_file(map(tokenizer.token_bytes, range(1, tokenizer.vocab_size)), path, add_bytes=False)


def _fitting(path: Path, rows: int | None) -> Tokenizer:
    tokenizer = TrieTokenizer(path)
    if rows is not None and tokenizer.vocab_size > rows:
        raise ModelError(
            f"vocabulary {str(path)!r} is another model's: its ids go up to {tokenizer.vocab_size - 1}, "
            f"but the model has {rows} rows"
        )
    plain = ByteTokenizer()
    return plain if tokenizer.sha256 == plain.sha256 else tokenizer
