"""The vocabulary of a model on disk: files in its folder, or next to its file.

A vocabulary of text or bytes is saved as an RWKV vocabulary file. Tokenizers of numbers and Hugging Face's
are named in a small JSON file with their hash, which also tells how the ids of a ``tokenizer.json`` are
numbered. A model that others published may have a ``tokenizer.json`` alone; its ids are that file's own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sttx_core.errors import DataError, ModelError, UsageError
from sttx_core.foreign_files import parse_json, read_at_most, shown
from sttx_core.os_errors import explain
from sttx_core.own_files import write_own
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
"""Files that a vocabulary of ours may have in a model folder."""
_WORLD_ROWS = 65536
_MOST_BYTES = 1 << 16  # of the file that names a tokenizer
_LONGEST_SPEC = 40


def tokenizer_for(path: str | os.PathLike[str], *, rows: int | None = None) -> AnyTokenizer:
    """Load the vocabulary of a model folder or model file.

    In a folder it is ``tokenizer.sttx.json``, ``vocab.txt`` or ``rwkv_vocab_v20230424.txt`` (the World
    vocabulary's own name), or at last ``tokenizer.json``. Next to a file ``X.pth`` it is
    ``X.tokenizer.sttx.json`` or ``X.vocab.txt``, then ``vocab.txt`` or World's.

    Args:
        path: the model's folder or file.
        rows: the model's ``vocab_size``, which the vocabulary must fit.

    Raises:
        ModelError: there is no vocabulary, it is not the one that was saved, or it has more ids than the
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
    if model.is_dir() and (folder / HUGGING_FACE).is_file():
        return _fitting(HuggingFaceTokenizer(folder / HUGGING_FACE), folder / HUGGING_FACE, rows)
    needed = WORLD if rows == _WORLD_ROWS else f"{own}{VOCABULARY}"
    missing = "the World vocabulary" if rows == _WORLD_ROWS else "its vocabulary (lines `id 'token' length`)"
    raise ModelError(f"{str(model)!r} comes without a vocabulary: put {missing} at {str(folder / needed)!r}")


def tokenizer_files(tokenizer: AnyTokenizer, own: str = "") -> dict[str, Callable[[Path], None]]:
    """Return the files that save a tokenizer: a function that writes each, by name.

    Args:
        tokenizer: of text or of values.
        own: prefix of the names, for a folder with several models.

    Raises:
        UsageError: it is a tokenizer of values that has no spec.
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
        f"tokenizer {type(tokenizer).__name__!r} cannot be saved with a model: of those for values, "
        "only IntegerTokenizer and AngleTokenizer can"
    )


def numbered_as(sha256: object, tokenizer: AnyTokenizer) -> AnyTokenizer:
    """Return a tokenizer whose ids are numbered as those of a hash, if it has both numberings.

    Earlier versions added 1 to the ids of a ``tokenizer.json``; what they saved has the hash of these ids.
    """
    if isinstance(tokenizer, HuggingFaceTokenizer) and tokenizer.sha256 != sha256:
        earlier = tokenizer.shifted()
        return earlier if earlier.sha256 == sha256 else tokenizer
    return tokenizer


def _naming(spec: str, tokenizer: AnyTokenizer) -> Callable[[Path], None]:
    content = {"tokenizer": spec, "sha256": tokenizer.sha256}
    return lambda path: _write(path, json.dumps(content, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    write_own(path, text.encode())


def _named(path: Path) -> AnyTokenizer:
    """Load the tokenizer that a ``tokenizer.sttx.json`` names; Hugging Face's own file is next to it."""
    try:
        content: Any = parse_json(read_at_most(path, _MOST_BYTES))
    except OSError as error:
        raise DataError(f"cannot read {str(path)!r}: {explain(error)}") from error
    except ValueError as error:
        raise DataError(f"{str(path)!r} is damaged: {error}; save the model again") from error
    spec = content.get("tokenizer") if isinstance(content, dict) else None
    if not isinstance(spec, str) or not isinstance(content.get("sha256"), str):
        raise DataError(f"{str(path)!r} names no tokenizer: save the model again")
    if spec == "hf":
        tokenizer: AnyTokenizer = HuggingFaceTokenizer(path.with_name(path.name.replace(NAMED, HUGGING_FACE)))
    elif spec == "angle" or (spec.startswith("integer:") and len(spec) < _LONGEST_SPEC):
        try:
            tokenizer = tokenizer_from_spec(spec)
        except UsageError as error:
            raise DataError(f"{str(path)!r} is damaged: {error}") from error
    else:
        raise DataError(f"{str(path)!r} names the unknown tokenizer {shown(spec)}: save the model again")
    tokenizer = numbered_as(content["sha256"], tokenizer)
    if tokenizer.sha256 != content["sha256"]:
        raise ModelError(
            f"{str(path)!r} names {spec!r}, but that tokenizer was changed after saving: restore its files"
        )
    return tokenizer


def _fitting(tokenizer: AnyTokenizer, path: Path, rows: int | None) -> AnyTokenizer:
    if rows is not None and tokenizer.vocab_size > rows:
        raise ModelError(
            f"vocabulary {str(path)!r} belongs to another model: its ids go up to "
            f"{tokenizer.vocab_size - 1}, but the model has {rows} rows"
        )
    plain = ByteTokenizer()
    return plain if tokenizer.sha256 == plain.sha256 else tokenizer
