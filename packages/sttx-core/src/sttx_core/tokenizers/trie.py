"""Greedy longest match over an RWKV vocabulary file, for any bytes.

A vocabulary file has a line `id 'repr' length` for each token: a Python literal of str or bytes, and its
length in bytes. The World vocabulary loads unchanged, with either kind of line end.

The matcher is one regular expression in the shape of a trie. Alternatives share their prefixes, and at a node
that is itself a token the rest is optional, so the greedy match is the longest. The regex engine, in C,
walks the trie: 5 to 8 MB/s with the World vocabulary on one core. It compiles in a second, at the first
encoding.
(`pyrwkv-tokenizer` reaches 40 to 60 MB/s, but refuses bytes that are not UTF-8 and panics on vocabulary files
other than its own. An Aho-Corasick automaton in Rust reached 8.7 MB/s where this reached 6.5.)
"""

import ast
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from itertools import groupby
from pathlib import Path

from sttx_core.errors import DataError, UsageError
from sttx_core.foreign_files import read_at_most
from sttx_core.os_errors import explain
from sttx_core.own_files import write_own
from sttx_core.tokenizers.protocol import EOT_ID
from sttx_core.tokenizers.table import TokenTable

_MOST_BYTES = 6_000_000
"""Of a vocabulary file, some 250,000 tokens; World's has 1.3 MB."""
_LINE = re.compile(r"(\d+) (.+) (\d+)", re.DOTALL)
_PIECE = 16_384
"""Bytes that are encoded at once, some three milliseconds in which the regex engine holds Python's lock."""
_DEEPEST_GROUP = 40
"""Alternatives are listed flat below this depth, because Python's regex compiler recurses."""


class TrieTokenizer(TokenTable):
    """Greedy longest match, left to right, over the tokens of an RWKV vocabulary file.

    Each of the 256 bytes is a token, so nothing is unknown. Id 0 is the end-of-text id and has no bytes.

    Raises:
        DataError: The file is not such a vocabulary; the message names the line and what to do.
    """

    def __init__(self, path: str | os.PathLike[str]):
        tokens = _read_vocabulary(Path(path))
        super().__init__(tokens)
        self._ids = {token: token_id for token_id, token in tokens.items()}

    @cached_property
    def _find_all(self) -> Callable[[bytes, int, int], list[bytes]]:
        return re.compile(_trie_pattern(sorted(self._ids), 0), re.DOTALL).findall

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._ids))

    def encode_bytes(self, data: bytes) -> list[int]:
        """Encode any bytes. Other threads run between its pieces, of a few milliseconds each."""
        ids: list[int] = []
        start = 0
        while start < len(data):
            end = start + _PIECE + self._longest
            found = self._find_all(data, start, end)
            start, sure = end, end - self._longest if end < len(data) else end
            while start - len(found[-1]) >= sure:  # the end of the piece may have cut it off
                start -= len(found.pop())
            ids.extend(map(self._ids.__getitem__, found))
        return ids

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the vocabulary to a file from which the same tokenizer loads."""
        _write(path, {token_id: token for token_id, token in self._tokens.items() if token_id != EOT_ID})


def create_vocab_file(
    tokens: Iterable[str | bytes], path: str | os.PathLike[str], *, add_bytes: bool = True
) -> None:
    """Write an RWKV vocabulary file: the tokens get the ids 1, 2, … in their order.

    Args:
        tokens: text, which stands for its UTF-8, or bytes.
        path: the file; an existing one is replaced.
        add_bytes: append the missing single bytes, in order. A vocabulary needs all 256, or some text could
            not be encoded. If False, a list that lacks one is refused, so the ids are exactly the list's.

    Raises:
        UsageError: a token is empty, repeated, neither text nor bytes, or not valid Unicode; or a byte is
            missing and `add_bytes` is False. Nothing is written.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     create_vocab_file(["the ", "def "], file.name)
    ...     tokenizer = TrieTokenizer(file.name)
    >>> tokenizer.encode("the def "), tokenizer.vocab_size
    ([1, 2], 259)
    """
    listed = [_token_bytes(token, position) for position, token in enumerate(tokens, start=1)]
    seen: set[bytes] = set()
    for token in listed:
        if token in seen:
            raise UsageError(f"token {token!r} is listed twice: list it once")
        seen.add(token)
    if add_bytes:
        listed += [single for byte in range(256) if (single := bytes([byte])) not in seen]
    elif missing := _missing_bytes(listed):
        raise UsageError(f"{missing}: add each of the 256 bytes as a token")
    _write(path, dict(enumerate(listed, start=1)))


def _token_bytes(token: str | bytes, position: int) -> bytes:
    """Return a token's bytes; `position` counts from 1 and is for messages."""
    if not isinstance(token, str | bytes):
        raise UsageError(f"token {position} is {token!r}, neither text nor bytes: use one of them")
    if not token:
        raise UsageError(f"token {position} is empty: leave it out")
    try:
        return token.encode() if isinstance(token, str) else token
    except UnicodeEncodeError:
        raise UsageError(f"token {position} is {token!r}, not valid Unicode: use its bytes") from None


def _write(path: str | os.PathLike[str], tokens: Mapping[int, bytes]) -> None:
    lines = (f"{token_id} {_literal(token)} {len(token)}\n" for token_id, token in sorted(tokens.items()))
    write_own(path, "".join(lines).encode())


def _literal(token: bytes) -> str:
    """Write a token as RWKV's own files do: as text if it is UTF-8, otherwise as bytes."""
    try:
        return repr(token.decode())
    except UnicodeDecodeError:
        return repr(token)


def _read_vocabulary(path: Path) -> dict[int, bytes]:
    try:
        text = read_at_most(path, _MOST_BYTES).decode()
    except OSError as error:
        raise DataError(f"cannot read the vocabulary {str(path)!r}: {explain(error)}") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{str(path)!r} is not a vocabulary file: it is not UTF-8 ({error.reason})"
        ) from error
    tokens: dict[int, bytes] = {}
    line_of: dict[bytes, int] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an unknown escape in a literal is an error, not a warning
        for number, line in enumerate(text.split("\n"), start=1):
            if not (line := line.rstrip("\r")):
                continue
            try:
                token_id, token = _parse_line(line)
                if token_id in tokens:
                    raise ValueError(
                        f"id {token_id} is on line {line_of[tokens[token_id]]} as well: give each its own"
                    )
                if token in line_of:
                    raise ValueError(f"token {token!r} is on line {line_of[token]} as well: remove one")
            except ValueError as error:
                raise DataError(f"vocabulary {str(path)!r}, line {number}: {error}") from None
            tokens[token_id] = token
            line_of[token] = number
    if missing := _missing_bytes(tokens.values()):
        raise DataError(f"vocabulary {str(path)!r}: {missing}: add a line for each of the 256 bytes")
    return tokens


def _parse_line(line: str) -> tuple[int, bytes]:
    """Return the id and the token of a line; a `ValueError` says what is wrong and what to do."""
    fields = _LINE.fullmatch(line)
    if not fields:
        raise ValueError(f"{line[:60]!r} is not of the form `id 'token' length`: correct it")
    token_id, literal, length = int(fields[1]), fields[2], int(fields[3])
    try:
        token = ast.literal_eval(literal)
        token = token.encode() if isinstance(token, str) else token
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        token = None
    if not isinstance(token, bytes):
        raise ValueError(f"{literal[:60]!r} is not a Python literal of str or bytes: write it as repr() does")
    if token_id == EOT_ID:
        raise ValueError(f"id {EOT_ID} is the end-of-text id: number the tokens from 1")
    if not token:
        raise ValueError("the token is empty: remove the line")
    if len(token) != length:
        raise ValueError(
            f"the token has {len(token)} bytes, the line says {length}: correct the one that is wrong"
        )
    return token_id, token


def _missing_bytes(tokens: Iterable[bytes]) -> str:
    """Return a phrase that names the bytes without a token of their own; "" if there are none."""
    single = {token[0] for token in tokens if len(token) == 1}
    missing = [byte for byte in range(256) if byte not in single]
    if not missing:
        return ""
    shown = " ".join(f"0x{byte:02x}" for byte in missing[:8]) + (" …" if len(missing) > 8 else "")
    return f"{len(missing)} single bytes are missing ({shown})"


def _trie_pattern(tokens: list[bytes], at: int, depth: int = 0) -> bytes:
    """Return the regular expression that matches the longest token, from byte `at` of each token.

    The tokens are sorted and distinct, and share the bytes before `at`.
    """
    shared = len(os.path.commonprefix([tokens[0][at:], tokens[-1][at:]])) + at
    head = _escape(tokens[0][at:shared])
    rest = tokens[1:] if len(tokens[0]) == shared else tokens
    if not rest:
        return head
    if depth >= _DEEPEST_GROUP:
        alternatives = [_escape(token[shared:]) for token in sorted(rest, key=len, reverse=True)]
    else:
        alternatives = _alternatives(rest, shared, depth)
    body = b"(?:" + b"|".join(alternatives) + b")"
    return head + body + (b"?" if rest is not tokens else b"")


def _alternatives(tokens: list[bytes], at: int, depth: int) -> list[bytes]:
    """Branch on byte `at`, the branch with most tokens first; bytes that end a branch form one set."""
    branches = [list(group) for _, group in groupby(tokens, key=lambda token: token[at])]
    branches.sort(key=len, reverse=True)
    ends = b"".join(_escape(branch[0][at:]) for branch in branches if _is_end(branch, at))
    inner = [_trie_pattern(branch, at, depth + 1) for branch in branches if not _is_end(branch, at)]
    return [*inner, b"[" + ends + b"]"] if ends else inner


def _is_end(branch: list[bytes], at: int) -> bool:
    return len(branch) == 1 and len(branch[0]) == at + 1


def _escape(data: bytes) -> bytes:
    return b"".join(b"\\x%02x" % byte for byte in data)
