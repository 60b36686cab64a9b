"""Encodes a session's text turn by turn, as sttx reads it: no token reaches from one trace into the next.

A rendered trace ends with a blank line and has none inside, so the text says where traces end.
"""

import re

from sttx_core.tokenizers import Tokenizer

SESSIONS = "transcripts"
"""The kind of documents that are sessions, and the name of their validation file."""
_END_OF_TURN = re.compile(r"(?<=\n\n)")


def turns_of(text: str) -> list[str]:
    r"""Return a session's turns; joined, they are its text.

    >>> turns_of("User: Hi.\n\nAssistant: Yes?\n\n")
    ['User: Hi.\n\n', 'Assistant: Yes?\n\n']
    """
    return [turn for turn in _END_OF_TURN.split(text) if turn]


def encode(text: str, kind: str, tokenizer: Tokenizer) -> list[int]:
    """Return the tokens of a document of a kind: of a session turn by turn, of other text as a whole."""
    parts = turns_of(text) if kind == SESSIONS else [text]
    return [token for part in parts for token in tokenizer.encode(part)]
