"""In which form a file is coded: its own bytes, or JSON lines taken apart. Knows no archive.

A form turns the bytes of a file into text, which is coded, and into bytes that no coder makes smaller, which
are stored; and back. An archive names the form of each file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, Protocol, get_args

from sttx_train.coding.jsonl import Damaged, LinesDecoder, LinesEncoder, is_json_lines

Form = Literal["bytes", "lines"]
FORMS: tuple[Form, ...] = get_args(Form)


class Encoder(Protocol):
    """Turns a file into text that is coded, and bytes that are stored."""

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Take the next bytes of the file; return text and stored bytes, as far as they are known."""
        ...

    def finish(self) -> tuple[bytes, bytes]:
        """Return the rest of both."""
        ...


class Decoder(Protocol):
    """Turns text and stored bytes into a file again."""

    def store(self, data: bytes) -> None:
        """Take the next stored bytes."""

    def feed(self, text: bytes) -> Iterator[bytes]:
        """Take the next text; yield the bytes of the file, as far as they are known.

        Raises:
            Damaged: no encoder writes this.
        """
        ...


class _Same:
    """Codes a file's own bytes."""

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        return data, b""

    def finish(self) -> tuple[bytes, bytes]:
        return b"", b""


class _SameAgain:
    """Returns a file's own bytes."""

    def store(self, data: bytes) -> None:
        raise Damaged("a file without stored bytes has some")

    def feed(self, text: bytes) -> Iterator[bytes]:
        yield text


def form_of(start: bytes) -> Form:
    """Return the form for a file that starts so."""
    return "lines" if is_json_lines(start) else "bytes"


def encoder_of(form: Form) -> Encoder:
    """Return what turns a file into this form."""
    return LinesEncoder() if form == "lines" else _Same()


def decoder_of(form: Form) -> Decoder:
    """Return what turns this form into a file."""
    return LinesDecoder() if form == "lines" else _SameAgain()


def sizes(parts: Iterable[bytes]) -> tuple[int, int]:
    """Return the bytes of a file that is read in parts, and those of its text."""
    size = text = 0
    encoder: Encoder | None = None
    for part in parts:
        encoder = encoder or encoder_of(form_of(part))
        size, text = size + len(part), text + len(encoder.feed(part)[0])
    return size, text + (len(encoder.finish()[0]) if encoder else 0)


def scaled(advance: Callable[[int], object], ratio: float) -> Callable[[int], object]:
    """Return what takes bytes of text, and calls ``advance`` with bytes of files, ``ratio`` times as many."""
    if ratio == 1:
        return advance
    done = rest = 0.0

    def count(size: int) -> None:
        nonlocal done, rest
        rest += size * ratio
        done, rest = divmod(rest, 1)
        advance(int(done))

    return count
