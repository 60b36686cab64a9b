"""Texts or packed files in, tokens to train on and tokens held out. Knows no model.

What is held out are the last documents, whole: nothing of them is trained on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sttx_core.errors import DataError, UsageError
from sttx_core.tokenizers import Tokenizer
from sttx_train.byte_lengths import token_byte_lengths
from sttx_train.pretrain.data import iter_documents
from sttx_train.pretrain.encoding import encode_documents

PACKED = ".bin"


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Packed tokens, split; every document is led by the end-of-text id.

    Attributes:
        train: what is trained on.
        held: what is only measured; empty when nothing is held out.
        train_bytes, held_bytes: UTF-8 bytes that the tokens stand for.
        skipped: files of the folders that are no text.
    """

    train: np.ndarray
    held: np.ndarray
    train_bytes: int
    held_bytes: int
    skipped: tuple[Path, ...] = ()


def load_corpus(paths: Sequence[Path], tokenizer: Tokenizer, *, held_out: float = 0.01) -> Corpus:
    """Read text files, folders of them, and packed ``.bin`` files, in the order they are given.

    Args:
        paths: what to read.
        tokenizer: encodes texts; packed files must be of the same vocabulary.
        held_out: share of the tokens, at least, that the held-out documents make up; 0 for none.

    Raises:
        UsageError: the share is none, or leaves nothing to train on.
        DataError: a file is absent, damaged, no text though named itself, or of a larger vocabulary; or there
            is no text.
    """
    if not 0 <= held_out < 1:
        raise UsageError(f"--held-out must be a share from 0 to below 1, not {held_out!r}")
    skipped: list[Path] = []
    pieces = list(_pieces(paths, tokenizer, skipped))
    tokens = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    if not len(tokens):
        raise DataError(
            f"no text in {', '.join(repr(str(path)) for path in paths)} ({len(skipped)} files are no text)"
        )
    lengths = token_byte_lengths(tokenizer)
    at = split_point(tokens, held_out, tokenizer.eot_id)
    if at == 0:
        raise UsageError(
            f"--held-out {held_out!r} leaves nothing to train on: the documents are too few; give more, or "
            "--held-out 0"
        )
    train, held = tokens[:at], tokens[at:]
    return Corpus(
        train=train,
        held=held,
        train_bytes=int(lengths[train].sum()),
        held_bytes=int(lengths[held].sum()),
        skipped=tuple(skipped),
    )


def split_point(tokens: np.ndarray, share: float, eot_id: int = 0) -> int:
    """Return where the last documents begin that make up a share of the tokens; the end for share 0.

    >>> split_point(np.array([0, 5, 5, 0, 5, 0, 5]), 0.2)
    5
    """
    if not share:
        return len(tokens)
    starts = np.flatnonzero(tokens == eot_id)
    fitting = starts[starts <= len(tokens) * (1 - share)]
    return int(fitting[-1]) if len(fitting) else 0


def _pieces(paths: Iterable[Path], tokenizer: Tokenizer, skipped: list[Path]) -> Iterator[np.ndarray]:
    for path in paths:
        if path.suffix == PACKED and path.is_file():
            yield _packed(path, tokenizer)
        else:
            yield encode_documents(iter_documents([path], skipped), tokenizer)


def _packed(path: Path, tokenizer: Tokenizer) -> np.ndarray:
    if path.stat().st_size % 2 or not path.stat().st_size:
        raise DataError(f"{str(path)!r} is no packed file: it must hold 16-bit ids, and not none")
    tokens = np.memmap(path, dtype="<u2", mode="r")
    largest = int(tokens.max())
    if largest >= tokenizer.vocab_size:
        raise DataError(
            f"{str(path)!r} holds the id {largest}, but the vocabulary has {tokenizer.vocab_size}: "
            "give the one it was packed with (--vocab)"
        )
    return tokens
