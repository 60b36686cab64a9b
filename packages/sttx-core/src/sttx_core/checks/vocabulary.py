"""What every tokenizer must keep: its size, end-of-text id and identity, and the refusal of unknown ids."""

from collections.abc import Callable
from typing import Any

from sttx_core.checks.require import require
from sttx_core.errors import UsageError
from sttx_core.tokenizers.protocol import AnyTokenizer, Tokenizer


def check_vocabulary(tokenizer: AnyTokenizer, twin: AnyTokenizer, *, least: int) -> None:
    """Check the common rules; `twin` is from the same factory, `least` is the smallest allowed vocabulary."""
    size = tokenizer.vocab_size
    require(
        type(size) is int and size >= least, f"vocab_size is {size!r}: it must be a whole number from {least}"
    )
    eot_id = tokenizer.eot_id
    require(type(eot_id) is int and 0 <= eot_id < size, f"eot_id is {eot_id!r}, not from 0 to {size - 1}")
    require(len(tokenizer.decode([eot_id])) == 0, "the end-of-text id must decode to nothing")
    _check_identity(tokenizer, twin)
    for unknown in (-1, size, size + 10**6):
        for decode in _decoders(tokenizer):
            try:
                result = decode(unknown)
            except UsageError:
                continue
            raise AssertionError(f"unknown id {unknown} gave {result!r} instead of raising UsageError")


def check_ids(tokenizer: AnyTokenizer, ids: list[int], given: object) -> None:
    """Check that ids are a list of int in the vocabulary, without the end-of-text id."""
    require(type(ids) is list and all(type(i) is int for i in ids), f"ids of {given!r} are not a list of int")
    least = 0 if tokenizer.eot_id else 1
    require(
        all(least <= i < tokenizer.vocab_size and i != tokenizer.eot_id for i in ids),
        f"ids of {given!r} are not all in {least} to vocab_size - 1 without the end-of-text id: {ids}",
    )


def _decoders(tokenizer: AnyTokenizer) -> list[Callable[[int], Any]]:
    if isinstance(tokenizer, Tokenizer):
        return [tokenizer.token_bytes, lambda token_id: tokenizer.decode_bytes([token_id])]
    return [lambda token_id: tokenizer.decode([token_id])]


def _check_identity(tokenizer: AnyTokenizer, twin: AnyTokenizer) -> None:
    digest = tokenizer.sha256
    is_hex = len(digest) == 64 and set(digest) <= set("0123456789abcdef")
    require(is_hex, f"sha256 is {digest!r}, not 64 lower-case hexadecimal digits")
    require(digest == twin.sha256, "two tokenizers from one factory have different sha256")
