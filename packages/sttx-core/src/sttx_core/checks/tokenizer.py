"""What every base tokenizer must keep: exact round trips of any bytes, purity, one identity."""

import random
from collections.abc import Callable

from sttx_core.checks.require import require
from sttx_core.errors import UsageError
from sttx_core.tokenizers.protocol import EOT_ID, Tokenizer

_TEXTS = (
    "",
    " ",
    "User: Fix the tests.\n\nAssistant: Done.\n\n",
    "def f(x):\n\treturn {'a': [x] * 3}\r\n" * 3,
    "naïve café, 日本語, Ελληνικά, עברית, 🧪👩‍🚀",
    "\x00\x1b[31mred\x1b[0m\x7f",
    "=" * 300 + " " * 300,
)


def check_tokenizer(factory: Callable[[], Tokenizer]) -> None:
    """Raise an `AssertionError` if what the factory makes is no good tokenizer."""
    tokenizer = factory()
    _check_vocabulary(tokenizer)
    _check_identity(tokenizer, factory())
    for text in _TEXTS:
        _check_text(tokenizer, text)
    for data in _byte_strings():
        _check_bytes(tokenizer, data)
    _check_strange_input(tokenizer)


def _byte_strings() -> list[bytes]:
    draw = random.Random(0)
    singles = [bytes([value]) for value in range(256)]
    noise = [draw.randbytes(draw.randrange(1, 60)) for _ in range(50)]
    cut_characters = ["日本".encode()[:cut] for cut in range(6)]
    return [*singles, *noise, *cut_characters, bytes(range(256)) * 2]


def _check_vocabulary(tokenizer: Tokenizer) -> None:
    size = tokenizer.vocab_size
    require(
        isinstance(size, int) and size > 256, f"vocab_size is {size!r}: 256 bytes and a mark need 257 ids"
    )
    require(tokenizer.eot_id == EOT_ID, f"eot_id is {tokenizer.eot_id!r}, not {EOT_ID}")
    require(tokenizer.token_bytes(EOT_ID) == b"", "the document mark has bytes; it must have none")
    for unknown in (-1, size, size + 10**6):
        for give in (tokenizer.token_bytes, lambda token_id: tokenizer.decode_bytes([token_id])):
            try:
                got = give(unknown)
            except UsageError:
                continue
            raise AssertionError(f"unknown id {unknown} gave {got!r} instead of raising UsageError")


def _check_identity(tokenizer: Tokenizer, twin: Tokenizer) -> None:
    digest = tokenizer.sha256
    is_hex = len(digest) == 64 and set(digest) <= set("0123456789abcdef")
    require(is_hex, f"sha256 is {digest!r}, not 64 lower-case hexadecimal digits")
    require(digest == twin.sha256, "two tokenizers from one factory have different sha256")


def _check_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    require(ids == tokenizer.encode_bytes(text.encode()), f"encode and encode_bytes differ on {text!r}")
    require(tokenizer.decode(ids) == text, f"{text!r} came back as {tokenizer.decode(ids)!r}")


def _check_bytes(tokenizer: Tokenizer, data: bytes) -> None:
    ids = tokenizer.encode_bytes(data)
    require(type(ids) is list and all(type(i) is int for i in ids), f"ids of {data!r} are no list of int")
    require(
        all(0 < i < tokenizer.vocab_size for i in ids), f"ids of {data!r} leave 1 to vocab_size - 1: {ids}"
    )
    require(ids == tokenizer.encode_bytes(data), f"encoding {data!r} twice gave two results")
    require(tokenizer.decode_bytes(ids) == data, f"{data!r} came back as {tokenizer.decode_bytes(ids)!r}")
    pieces = b"".join(map(tokenizer.token_bytes, ids))
    require(pieces == data, f"token_bytes of the ids of {data!r} join to {pieces!r}")
    marked = tokenizer.decode_bytes([EOT_ID, *ids, EOT_ID])
    require(marked == data, f"document marks around {data!r} decode to {marked!r}")
    text = tokenizer.decode(ids)
    require(text == data.decode("utf-8", "replace"), f"{data!r} decodes to {text!r}")


def _check_strange_input(tokenizer: Tokenizer) -> None:
    back = tokenizer.decode(tokenizer.encode("lone \ud83d surrogate"))
    require(back == "lone \ufffd surrogate", f"a lone surrogate came back as {back!r}, not U+FFFD")
