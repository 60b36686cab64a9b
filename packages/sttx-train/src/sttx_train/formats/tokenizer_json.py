"""Hugging Face's `tokenizer.json` as a tokenizer that is exact for any bytes; every tokenizer by its spec.

A file is accepted only if every byte string survives encoding and decoding: byte-pair encoding over all 256
bytes (byte-level, as GPT-2's, or with byte fallback), with no step before it that changes, adds or removes a
character. The library splits text into ids; the bytes of an id are read from the vocabulary.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

import sttx_core.tokenizers
from sttx_core.errors import DataError, UsageError
from sttx_core.foreign_files import read_at_most
from sttx_core.os_errors import explain
from sttx_core.own_files import write_own
from sttx_core.tokenizers import AnyTokenizer
from sttx_core.tokenizers.protocol import EOT_ID
from sttx_core.tokenizers.table import TokenTable
from sttx_train.formats.numbering import end_of_text

_BYTES = range(256)
_LONGEST_REASON = 200
_MOST_IDS = 10_000_000
_MOST_BYTES = 40_000_000  # of the file; the largest published ones have 35 MB
_RUNS = re.compile("[\udc80-\udcff]+|[^\udc80-\udcff]+")
"""Runs of text, and runs of surrogates, which bytes that are not UTF-8 decode to."""
_KEEPING = frozenset({"ByteLevel", "Digits", "FixedLength", "Punctuation", "Split", "UnicodeScripts"})
"""Pre-tokenizers that only split text, unless their behavior is to remove the separators."""


def load_tokenizer(spec: str | os.PathLike[str]) -> AnyTokenizer:
    """Return the tokenizer that a spec names: all of `sttx_core.tokenizer_from_spec`, and `hf:FILE`.

    Args:
        spec: `bytes`, `integer:MAX`, `angle`, `trie:FILE`, `hf:FILE` (Hugging Face's `tokenizer.json`),
            `hf+1:FILE` (the same with ids that are one more, as earlier versions numbered them), or the path
            of an RWKV vocabulary file.

    Raises:
        UsageError: the spec names no tokenizer.
        DataError: the file is damaged, or its tokenizer loses some byte strings.
    """
    kind, colon, rest = str(spec).partition(":")
    if not (isinstance(spec, str) and colon and kind in ("hf", "hf+1")):
        return sttx_core.tokenizers.tokenizer_from_spec(spec)
    path = Path(rest)
    if not path.is_file():
        raise UsageError(f"{str(path)!r} is not a file: give the path of a tokenizer.json after '{kind}:'")
    return HuggingFaceTokenizer(path, shifted=kind == "hf+1")


class HuggingFaceTokenizer(TokenTable):
    """The vocabulary of a `tokenizer.json`, with its own ids; `numbering` says which one ends a text.

    Special tokens in a text are plain text, none are added, and nothing is truncated or padded. Each byte
    that is not UTF-8 becomes the token of that byte; the text between such bytes is split by itself. A
    special token's bytes are those of its name, except for the end-of-text token, which has none.

    Args:
        path: the file.
        shifted: add 1 to each id, and let 0 be the end-of-text id, as earlier versions of sttx did.

    Attributes:
        end_name: name of the file's end-of-text token; None if it has none, or if the ids are shifted.

    Raises:
        DataError: the file is not a tokenizer, or its tokenizer loses some byte strings; the message says
            why.
    """

    def __init__(self, path: str | os.PathLike[str], *, shifted: bool = False):
        self._set_up(_read(Path(path)), f"tokenizer {str(path)!r}", shifted=shifted)

    def _set_up(self, backend: Backend, name: str, *, shifted: bool) -> None:
        self._backend = backend
        content = json.loads(backend.to_str())
        try:
            tokens = _token_bytes(content)
            singles = _single_bytes(content, tokens)
        except ValueError as error:
            advice = "give another one, or make one with `sttx vocab`"
            raise DataError(f"{name} loses some byte strings: {error}; {advice}") from None
        self._shift = int(shifted)
        eot_id, self.end_name = (EOT_ID, None) if shifted else end_of_text(content)
        super().__init__({token_id + self._shift: token for token_id, token in tokens.items()}, eot_id)
        self._singles = [token_id + self._shift for token_id in singles]

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._backend.encode_special_tokens = True  # the library does not copy it

    def encode_bytes(self, data: bytes) -> list[int]:
        """Encode any bytes."""
        ids: list[int] = []
        for run in _RUNS.findall(data.decode("utf-8", "surrogateescape")):
            if "\udc80" <= run[0] <= "\udcff":
                ids += [self._singles[ord(char) - 0xDC00] for char in run]
            else:
                of_file = self._backend.encode(run, add_special_tokens=False).ids
                ids += [token_id + self._shift for token_id in of_file] if self._shift else of_file
        assert self.decode_bytes(ids) == data, "a tokenizer.json that loses bytes was accepted"
        return ids

    @property
    def numbering(self) -> str:
        """A sentence about which id stands for what."""
        if self._shift:
            return "ids are one more than those of the tokenizer.json, and 0 ends a text"
        end = "which no token of the tokenizer.json has" if self.end_name is None else repr(self.end_name)
        return f"ids are those of the tokenizer.json, and {self.eot_id} ends a text ({end})"

    def shifted(self) -> HuggingFaceTokenizer:
        """Return the same vocabulary with ids that are one more, as earlier versions numbered them."""
        other = HuggingFaceTokenizer.__new__(HuggingFaceTokenizer)
        other._set_up(self._backend, "the tokenizer", shifted=True)
        return other

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a `tokenizer.json` that loads as this tokenizer, `shifted` or not."""
        write_own(path, self._backend.to_str().encode())


def byte_alphabet() -> dict[str, int]:
    """Return the byte that each character of the byte-level alphabet stands for.

    It is GPT-2's: printable characters of Latin-1 stand for themselves, the other bytes in order for the
    characters from U+0100.

    >>> byte_alphabet()["A"], byte_alphabet()["Ġ"]
    (65, 32)
    """
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in _BYTES if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


def _read(path: Path) -> Backend:
    try:
        text = read_at_most(path, _MOST_BYTES).decode()
    except OSError as error:
        raise DataError(f"cannot read the tokenizer {str(path)!r}: {explain(error)}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{str(path)!r} is not a tokenizer.json: it is not UTF-8 ({error.reason})") from error
    try:
        backend = Backend.from_str(text)
    except BaseException as error:  # the library raises nothing narrower, and panics too
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = str(error).split("\n")[0][:_LONGEST_REASON]
        raise DataError(f"{str(path)!r} is not a tokenizer.json of Hugging Face's: {reason}") from error
    if (largest := max(backend.get_vocab().values(), default=0)) >= _MOST_IDS:  # the library counts up to it
        raise DataError(f"{str(path)!r} has the id {largest}, more than any vocabulary: give another one")
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    return backend


def _token_bytes(content: Mapping[str, Any]) -> dict[int, bytes]:
    """Return each id's bytes; raise a `ValueError` that says what would be lost."""
    _check_no_changes(content)
    vocabulary: dict[str, int] = content["model"]["vocab"]
    token_bytes = _byte_level_bytes if _is_byte_level(content) else _byte_fallback_bytes
    alphabet = byte_alphabet()
    tokens = {token_id: token_bytes(name, alphabet) for name, token_id in vocabulary.items()}
    for added in content["added_tokens"]:
        name, token_id = added["content"], added["id"]
        if not added["special"] and (added["lstrip"] or added["rstrip"]):
            raise ValueError(f"its token {name!r} removes the spaces next to it")
        if tokens.get(token_id, name.encode()) != name.encode():
            raise ValueError(f"its token {name!r} stands for {tokens[token_id]!r} as well")
        tokens[token_id] = name.encode()
    return tokens


def _check_no_changes(content: Mapping[str, Any]) -> None:
    """Raise a `ValueError` if a step changes the text before or while it is split."""
    model = content["model"]
    if model["type"] != "BPE":
        raise ValueError(f"its model is {model['type']}, but only BPE is known to keep all bytes")
    if content["normalizer"] is not None:
        raise ValueError(f"its normalizer ({content['normalizer']['type']}) changes the text")
    for step in _pre_tokenizers(content):
        if step.get("add_prefix_space"):
            raise ValueError("it puts a space before the text (add_prefix_space)")
        if step["type"] not in _KEEPING or step.get("behavior") == "Removed":
            raise ValueError(f"its pre-tokenizer ({step['type']}) does not keep every character")
    if model["dropout"]:
        raise ValueError("it skips merges at random (dropout)")
    for mark in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model[mark]:
            raise ValueError(f"it writes {model[mark]!r} into its tokens ({mark})")


def _pre_tokenizers(content: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the steps before the model in order."""
    waiting = [content["pre_tokenizer"]] if content["pre_tokenizer"] is not None else []  # the next one last
    while waiting:
        step = waiting.pop()
        if step["type"] == "Sequence":
            waiting += reversed(step["pretokenizers"])
        else:
            yield step


def _is_byte_level(content: Mapping[str, Any]) -> bool:
    times = sum(step["type"] == "ByteLevel" for step in _pre_tokenizers(content))
    if times > 1:
        raise ValueError("it spells bytes as characters twice (ByteLevel)")
    if not times and not content["model"]["byte_fallback"]:
        raise ValueError("it has neither a byte-level alphabet nor a byte fallback")
    return times == 1


def _byte_level_bytes(name: str, alphabet: Mapping[str, int]) -> bytes:
    """Return the bytes of a token of a byte-level vocabulary; a name outside the alphabet never occurs."""
    return bytes(alphabet[char] for char in name) if all(char in alphabet for char in name) else name.encode()


def _byte_fallback_bytes(name: str, _: Mapping[str, int]) -> bytes:
    """Return the bytes of a token of a vocabulary with byte fallback."""
    byte = re.fullmatch(r"<0x([0-9A-F]{2})>", name)
    return bytes([int(byte[1], 16)]) if byte else name.encode()


def _single_bytes(content: Mapping[str, Any], tokens: Mapping[int, bytes]) -> list[int]:
    """Return the file's id of each single byte's token, in the order of the bytes."""
    vocabulary: dict[str, int] = content["model"]["vocab"]
    if _is_byte_level(content):
        names = {byte: char for char, byte in byte_alphabet().items()}
    else:
        names = {byte: f"<0x{byte:02X}>" for byte in _BYTES}
        _check_fallback_names(content["model"], set(names.values()))
    missing = [byte for byte in _BYTES if names[byte] not in vocabulary]
    if missing:
        raise ValueError(
            f"it has no token for {len(missing)} of the 256 bytes (0x{missing[0]:02x} is the first)"
        )
    singles = [vocabulary[names[byte]] for byte in _BYTES]
    assert all(tokens[token_id] == bytes([byte]) for byte, token_id in enumerate(singles))
    return singles


def _check_fallback_names(model: Mapping[str, Any], names: set[str]) -> None:
    """Raise a `ValueError` if merges can turn text like `<0x0A>` into a byte's token or join such tokens."""
    ambiguous = model["ignore_merges"] or any(
        left in names or right in names or left + right in names for left, right in model["merges"]
    )
    if ambiguous:
        raise ValueError("it can encode the text '<0x0A>' as the byte of that name")
