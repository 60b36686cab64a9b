"""What every base tokenizer must keep: exact round trips, of any text and bytes or of values, and purity."""

import random
from collections.abc import Callable

from sttx_core.checks.require import require
from sttx_core.checks.values import check_value_tokenizer
from sttx_core.checks.vocabulary import check_ids, check_vocabulary
from sttx_core.tokenizers.protocol import AnyTokenizer, Tokenizer, ValueTokenizer

_TEXTS = (
    "",
    " ",
    "User: Fix the tests.\n\nAssistant: Done.\n\n",
    "def f(x):\n\treturn {'a': [x] * 3}\r\n" * 3,
    "naïve café, 日本語, Ελληνικά, עברית, 🧪👩‍🚀",
    "\x00\x1b[31mred\x1b[0m\x7f",
    "=" * 300 + " " * 300,
)


def check_tokenizer(factory: Callable[[], AnyTokenizer]) -> None:
    """Raise an `AssertionError` that says what a tokenizer, of text or of values, breaks."""
    tokenizer = factory()
    if isinstance(tokenizer, Tokenizer):
        check_vocabulary(tokenizer, factory(), least=257)
        _check_text_tokenizer(tokenizer)
    elif isinstance(tokenizer, ValueTokenizer):
        check_vocabulary(tokenizer, factory(), least=2)
        check_value_tokenizer(tokenizer)
    else:
        name = type(tokenizer).__name__
        raise AssertionError(f"{name} has neither all methods of Tokenizer nor all of ValueTokenizer")


def _check_text_tokenizer(tokenizer: Tokenizer) -> None:
    require(tokenizer.token_bytes(tokenizer.eot_id) == b"", "the end-of-text id has bytes, but must not")
    for text in _TEXTS:
        _check_text(tokenizer, text)
    for data in _byte_strings():
        _check_bytes(tokenizer, data)
    _check_lone_surrogate(tokenizer)


def _byte_strings() -> list[bytes]:
    draw = random.Random(0)
    singles = [bytes([value]) for value in range(256)]
    noise = [draw.randbytes(draw.randrange(1, 60)) for _ in range(50)]
    cut_characters = ["日本".encode()[:cut] for cut in range(6)]
    return [*singles, *noise, *cut_characters, bytes(range(256)) * 2]


def _check_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    require(ids == tokenizer.encode_bytes(text.encode()), f"encode and encode_bytes differ on {text!r}")
    require(tokenizer.decode(ids) == text, f"{text!r} came back as {tokenizer.decode(ids)!r}")


def _check_bytes(tokenizer: Tokenizer, data: bytes) -> None:
    ids = tokenizer.encode_bytes(data)
    check_ids(tokenizer, ids, data)
    require(ids == tokenizer.encode_bytes(data), f"encoding {data!r} twice gave two results")
    require(tokenizer.decode_bytes(ids) == data, f"{data!r} came back as {tokenizer.decode_bytes(ids)!r}")
    pieces = b"".join(map(tokenizer.token_bytes, ids))
    require(pieces == data, f"token_bytes of the ids of {data!r} join to {pieces!r}")
    decoded = tokenizer.decode_bytes([tokenizer.eot_id, *ids, tokenizer.eot_id])
    require(decoded == data, f"end-of-text ids around {data!r} decode to {decoded!r}")
    text = tokenizer.decode(ids)
    require(text == data.decode("utf-8", "replace"), f"{data!r} decodes to {text!r}")


def _check_lone_surrogate(tokenizer: Tokenizer) -> None:
    back = tokenizer.decode(tokenizer.encode("lone \ud83d surrogate"))
    require(back == "lone \ufffd surrogate", f"a lone surrogate came back as {back!r}, not U+FFFD")
