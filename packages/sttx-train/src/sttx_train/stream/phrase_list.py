"""The live phrases for people to read: text, length, uses, steps saved. Knows no model and no file."""

from __future__ import annotations

from typing import Any

from sttx_core.phrases import DynamicTokenizer
from sttx_core.tokenizers import Tokenizer


def phrase_list(table: DynamicTokenizer, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    r"""Return every live phrase, JSON-able, the phrases that saved most steps first.

    ``steps_saved`` is ``uses * (length - 1)``. Bytes that are not a complete UTF-8 character appear as
    ``\xNN``.

    >>> from sttx_core.tokenizers import ByteTokenizer
    >>> base = ByteTokenizer()
    >>> table = DynamicTokenizer(base.vocab_size, threshold=2)
    >>> for _ in range(2):
    ...     table.observe(table.merge(base.encode("okok")))
    >>> phrase_list(table, base)[0]["text"]
    'ok'
    """
    rows = [
        {
            "id": table.base_vocab + phrase.slot,
            "text": tokenizer.decode_bytes(list(phrase.tokens)).decode("utf-8", "backslashreplace"),
            "length": len(phrase.tokens),
            "uses": phrase.uses,
            "steps_saved": phrase.uses * (len(phrase.tokens) - 1),
        }
        for phrase in table.live()
    ]
    return sorted(rows, key=lambda row: (-row["steps_saved"], -row["uses"], row["id"]))
