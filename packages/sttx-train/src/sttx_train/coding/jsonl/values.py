"""Ways to write a value of a kind: times, identifiers, escapes, numbered lines. Each has an inverse."""

from __future__ import annotations

import binascii
import bz2
import lzma
import re
import zlib
from datetime import datetime, timedelta
from json.decoder import scanstring  # type: ignore[attr-defined]  # the C function behind json.loads
from json.encoder import encode_basestring, encode_basestring_ascii  # type: ignore[attr-defined]

from sttx_train.coding.jsonl.memory import MOST_LINE, MOST_LINES, Damaged
from sttx_train.coding.jsonl.syntax import CONTROL, items_of

UUID = re.compile(r'"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"')
HEX = re.compile(r'"(?:[0-9a-f]{2}){8,64}"')
IDENTIFIER = re.compile(r'"[a-z]{2,8}_[0-9A-Za-z]{12,48}"')
TIME = re.compile(r'"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z"')
INTEGER = re.compile(r"(?:0|-?[1-9][0-9]{0,17})")

_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4}){16,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_DIGIT = {digit: number for number, digit in enumerate(_DIGITS)}
_EPOCH = datetime(1970, 1, 1)
_MILLISECOND = timedelta(milliseconds=1)
_NUMBERED = re.compile(r"( *)([1-9][0-9]{0,6})([→\t])")
_NUMBERINGS = ("%6d→", "%d\t", "%6d\t", "%d→", "%5d→")
_WORTH_PACKING = 512
_LONGEST_LIST = 1 << 19
_LZMA_MEMORY = 1 << 27


def time_of(value: str) -> int:
    """Return the milliseconds of a timestamp.

    Raises:
        ValueError: there is no such time.
    """
    return (datetime.fromisoformat(value[1:-2]) - _EPOCH) // _MILLISECOND


def time_text(milliseconds: int) -> str:
    """Return a timestamp.

    Raises:
        OverflowError: it has no four digits for its year.
    """
    return f'"{(_EPOCH + milliseconds * _MILLISECOND).isoformat(timespec="milliseconds")}Z"'


def uuid_text(data: bytes) -> str:
    """Return an identifier of 16 bytes as it is written."""
    text = data.hex()
    return f'"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"'


def shared_prefix(value: str, last: str) -> int:
    """Return how many characters at the start are the same."""
    if value.startswith(last):
        return len(last)
    return next(
        n for n, pair in enumerate(zip(value + "\0", last + "\1", strict=False)) if pair[0] != pair[1]
    )


def letters_bytes(count: int) -> int:
    """Return how many bytes hold so many letters and digits."""
    return int(62**count - 1).bit_length() + 7 >> 3


def pack_letters(text: str) -> bytes:
    """Return letters and digits as fewer bytes."""
    number = 0
    for letter in text:
        number = number * 62 + _DIGIT[letter]
    return number.to_bytes(letters_bytes(len(text)), "big")


def unpack_letters(data: bytes, count: int) -> str:
    """Return the letters and digits again; others if there are no such."""
    number = int.from_bytes(data, "big")
    letters = []
    for _ in range(count):
        number, digit = divmod(number, 62)
        letters.append(_DIGITS[digit])
    return "".join(reversed(letters))


def from_base64(text: str) -> bytes | None:
    """Return the bytes of a text in base 64; None if it is something else, or would be written otherwise."""
    if not _BASE64.fullmatch(text):
        return None
    data = binascii.a2b_base64(text)
    return data if to_base64(data) == text else None


def to_base64(data: bytes) -> str:
    """Return bytes in base 64."""
    return binascii.b2a_base64(data, newline=False).decode()


def pack(data: bytes) -> tuple[int, bytes]:
    """Return bytes smaller, if that is easy, and how: 0 as they are, 1 bzip2, 2 LZMA."""
    if len(data) < _WORTH_PACKING or len(zlib.compress(data, 1)) > len(data) * 0.99:
        return 0, data
    ways = data, bz2.compress(data), lzma.compress(data)
    return min(enumerate(ways), key=lambda way: len(way[1]))


def unpack(how: int, data: bytes, size: int) -> bytes:
    """Return what `pack` was given.

    Raises:
        Damaged: it is not of that size, or not compressed so.
    """
    if how == 0:
        result = data
    elif how in (1, 2) and size <= MOST_LINE:
        way = bz2.BZ2Decompressor() if how == 1 else lzma.LZMADecompressor(memlimit=_LZMA_MEMORY)
        try:
            result = way.decompress(data, size + 1)
        except (OSError, lzma.LZMAError, EOFError) as error:
            raise Damaged("stored bytes are damaged") from error
    else:
        raise Damaged("stored bytes are packed in an unknown way")
    if len(result) != size:
        raise Damaged("stored bytes are not as many as they should be")
    return result


def unescape(value: str) -> tuple[str, str]:
    """Return the letter of the way in which a string is escaped, and the string that `escape` writes so.

    S is JavaScript's way, E Python's with ASCII alone. L is any other: the string stays as it is written.
    """
    inner = value[1:-1]
    if "\\" not in inner:
        return ("S" if encode_basestring(inner) == value else "L"), inner
    try:
        text: str = scanstring(value, 1, True)[0]
        text.encode()
    except ValueError:  # no such escape, or half of a surrogate pair
        return "L", inner
    if CONTROL.search(text) or text.count("\n") >= MOST_LINES:
        return "L", inner
    if encode_basestring(text) == value:
        return "S", text
    return ("E", text) if encode_basestring_ascii(text) == value else ("L", inner)


def escape(letter: str, text: str) -> str:
    """Return a string as it is written."""
    if letter == "S":
        return encode_basestring(text)
    return encode_basestring_ascii(text) if letter == "E" else f'"{text}"'


def without_numbers(text: str) -> tuple[int, int, str, str] | None:
    """Return the numbering of a text of numbered lines, its first number, the lines, and what follows them.

    None if it does not start with two numbered lines.
    """
    start = _NUMBERED.match(text)
    if start is None:
        return None
    first = int(start[2])
    way = next((n for n, way in enumerate(_NUMBERINGS) if way % first == start[0]), None)
    if way is None:
        return None
    lines = text.split("\n")
    bare = []
    for number, line in enumerate(lines, first):
        prefix = _NUMBERINGS[way] % number
        if not line.startswith(prefix):
            break
        bare.append(line[len(prefix) :])
    if len(bare) < 2:
        return None
    rest = "".join(f"\n{line}" for line in lines[len(bare) :])
    return way, first, "\n".join(bare), rest


def with_numbers(way: int, first: int, text: str, rest: str) -> str:
    """Return a text with its lines numbered, and what follows it.

    Raises:
        Damaged: there is no such numbering.
    """
    if not 0 <= way < len(_NUMBERINGS):
        raise Damaged("lines are numbered in an unknown way")
    prefix = _NUMBERINGS[way]
    return "\n".join(prefix % number + line for number, line in enumerate(text.split("\n"), first)) + rest


def list_as_lines(value: str) -> str | None:
    """Return a list of strings as lines; None if something else is in it, or one of them has lines."""
    if len(value) > _LONGEST_LIST:
        return None
    items = items_of(value)
    if not items or any(item[0] != '"' for item in items):
        return None
    ways = [unescape(item) for item in items]
    if any(letter != "S" or "\n" in text for letter, text in ways):
        return None
    return "\n".join(text for _, text in ways)


def lines_as_list(text: str) -> str:
    """Return lines as a list of strings."""
    return f"[{','.join(map(encode_basestring, text.split(chr(10))))}]"
