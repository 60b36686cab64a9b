"""The vocabulary that belongs to a model on disk: files in its folder, or beside its file.

Text is kept as an RWKV vocabulary file; bytes are such a vocabulary too. Numbers and Hugging Face's
tokenizers are named in a small JSON file, with the hash of what they are. Nothing is guessed: a model without
a vocabulary has no tokenizer, and a ``tokenizer.json`` that is not named does not count as one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sttx_core.errors import DataError, ModelError, UsageError
from sttx_core.tokenizers import (
    AngleTokenizer,
    AnyTokenizer,
    ByteTokenizer,
    IntegerTokenizer,
    Tokenizer,
    TrieTokenizer,
    create_vocab_file,
    tokenizer_from_spec,
)
from sttx_train.formats.tokenizer_json import HuggingFaceTokenizer

VOCABULARY = "vocab.txt"
WORLD = "rwkv_vocab_v20230424.txt"
NAMED = "tokenizer.sttx.json"
HUGGING_FACE = "tokenizer.json"
FILES = frozenset({VOCABULARY, NAMED, HUGGING_FACE})
"""What a vocabulary of ours may leave in a model's folder."""
_WORLD_ROWS = 65536


def tokenizer_for(path: str | os.PathLike[str], *, rows: int | None = None) -> AnyTokenizer:
    """Load the vocabulary of a model folder or model file.

    In a folder it is ``tokenizer.sttx.json``, ``vocab.txt`` or ``rwkv_vocab_v20230424.txt`` (World's own
    name); beside a file ``X.pth`` it is ``X.tokenizer.sttx.json`` or ``X.vocab.txt``, then the last two.

    Args:
        path: the model's folder or file.
        rows: the model's ``vocab_size``, which the vocabulary has to fit.

    Raises:
        ModelError: no vocabulary is there, it is not the one that was saved, or it has more ids than the
            model has rows.
        DataError: a file of the vocabulary is damaged.
    """
    model = Path(path)
    folder, own = (model, "") if model.is_dir() else (model.parent, f"{model.stem}.")
    if (folder / f"{own}{NAMED}").is_file():
        return _fitting(_named(folder / f"{own}{NAMED}"), folder / f"{own}{NAMED}", rows)
    for name in (f"{own}{VOCABULARY}", VOCABULARY, WORLD):
        if (folder / name).is_file():
            return _fitting(TrieTokenizer(folder / name), folder / name, rows)
    needed = WORLD if rows == _WORLD_ROWS else f"{own}{VOCABULARY}"
    kind = "the World vocabulary" if rows == _WORLD_ROWS else "its vocabulary (lines `id 'token' length`)"
    raise ModelError(f"{str(model)!r} comes without a vocabulary: put {kind} at {str(folder / needed)!r}")


def tokenizer_files(tokenizer: AnyTokenizer, own: str = "") -> dict[str, Callable[[Path], None]]:
    """Return the files that keep a tokenizer: of each name, what writes it at a path.

    Args:
        tokenizer: of text or of values.
        own: leads the names, where they stand beside those of other models.

    Raises:
        UsageError: it is one of values that no name gives again.
    """
    if isinstance(tokenizer, HuggingFaceTokenizer):
        return {f"{own}{HUGGING_FACE}": tokenizer.save, f"{own}{NAMED}": _naming("hf", tokenizer)}
    if isinstance(tokenizer, TrieTokenizer):
        return {f"{own}{VOCABULARY}": tokenizer.save}
    if isinstance(tokenizer, Tokenizer):
        tokens = map(tokenizer.token_bytes, range(1, tokenizer.vocab_size))
        return {f"{own}{VOCABULARY}": lambda path: create_vocab_file(tokens, path, add_bytes=False)}
    if isinstance(tokenizer, IntegerTokenizer) and type(tokenizer) in (IntegerTokenizer, AngleTokenizer):
        return {f"{own}{NAMED}": _naming(tokenizer.spec, tokenizer)}
    raise UsageError(
        f"tokenizer {type(tokenizer).__name__!r} cannot be kept with a model: of values, only "
        "IntegerTokenizer and AngleTokenizer can"
    )


def _naming(spec: str, tokenizer: AnyTokenizer) -> Callable[[Path], None]:
    told = {"tokenizer": spec, "sha256": tokenizer.sha256}
    return lambda path: _write(path, json.dumps(told, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _named(path: Path) -> AnyTokenizer:
    """Load what a ``tokenizer.sttx.json`` names; Hugging Face's own file lies beside it."""
    try:
        told: Any = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{str(path)!r} is damaged: {error}; save the model again") from error
    spec = told.get("tokenizer") if isinstance(told, dict) else None
    if not isinstance(spec, str) or not isinstance(told.get("sha256"), str):
        raise DataError(f"{str(path)!r} names no tokenizer: save the model again")
    if spec == "hf":
        tokenizer: AnyTokenizer = HuggingFaceTokenizer(path.with_name(path.name.replace(NAMED, HUGGING_FACE)))
    elif spec == "angle" or spec.startswith("integer:"):
        try:
            tokenizer = tokenizer_from_spec(spec)
        except UsageError as error:
            raise DataError(f"{str(path)!r} is damaged: {error}") from error
    else:
        raise DataError(f"{str(path)!r} names {spec!r}, no tokenizer that is kept so: save the model again")
    if tokenizer.sha256 != told["sha256"]:
        raise ModelError(
            f"{str(path)!r} names {spec!r}, which is not what was saved with the model: bring its own back"
        )
    return tokenizer


def _fitting(tokenizer: AnyTokenizer, path: Path, rows: int | None) -> AnyTokenizer:
    if rows is not None and tokenizer.vocab_size > rows:
        raise ModelError(
            f"vocabulary {str(path)!r} is another model's: its ids go up to {tokenizer.vocab_size - 1}, "
            f"but the model has {rows} rows"
        )
    plain = ByteTokenizer()
    return plain if tokenizer.sha256 == plain.sha256 else tokenizer
