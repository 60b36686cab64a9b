"""A reversible form of JSON lines: a file becomes less text, which a coder predicts, and bytes to store.

Each line is taken apart into a template, which repeats, and values. A value that was there before becomes a
reference, an identifier or a picture becomes bytes that are stored as they are, and a string becomes text
without escapes. `LinesEncoder` rebuilds each line and compares; a line that would come back otherwise is kept
as it is. Knows nothing of archives, tokens or coders.
"""

from sttx_train.coding.jsonl.decoder import LinesDecoder
from sttx_train.coding.jsonl.encoder import LinesEncoder, is_json_lines
from sttx_train.coding.jsonl.memory import Damaged

__all__ = ["Damaged", "LinesDecoder", "LinesEncoder", "is_json_lines"]
