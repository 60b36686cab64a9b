"""JSON of archives in few bytes: deflated, by a dictionary of what every archive says."""

import json
import zlib
from typing import Any

from sttx_core.foreign_files import parse_json

_KNOWN = (
    b'{"coder":"rans","fingerprint":{},"learned":"mini[learned]+mini+experts;policy:schedule=","native"'
    b'{"coder":"ac","experts":{"final_rate":0.0015,"first_rate":0.02,"history_bits":20,"index_bits":18,'
    b'"limit":255,"rate":0.01,"slot_bits":20},"experts_version":1,"method":"mini+experts","network":'
    b'{"fingerprint":null,"learned":null,"model":"3","name":"goose-mini","streams":8,"version":1},'
    b'"primer":null,"profile":"portable","vocabulary":"experts[primed]","network":null,"primer":"'
    b'{"files":[{"path":".jsonl","size":0,"sha256":"0123456789abcdef","mode":384,"modified":17,"number":0,'
    b'"segments":[0,0],"form":"lines","coded":0}],"segments":[[-1,-1],"form":"bytes","coded":0},'
    b'"mode":420,"modified":179},{"path":".jsonl","sha256":"","segments":[[0,'
)
"""Changes with the version of the format only: other bytes here unpack to nonsense."""

_DEFLATED = b"z"
_WINDOW = -15
MOST_TIMES = 8
"""An entry unpacks to at most so many times its bytes. So an index is bounded by the records before it."""


def pack(value: Any, *, bounded: bool = True) -> bytes:
    """Return a JSON value in few bytes.

    Args:
        value: what JSON can represent.
        bounded: keep to `MOST_TIMES`.
    """
    text = json.dumps(value, separators=(",", ":")).encode()
    deflate = zlib.compressobj(9, zlib.DEFLATED, _WINDOW, zdict=_KNOWN)
    packed = _DEFLATED + deflate.compress(text) + deflate.flush()
    return text if bounded and len(text) > MOST_TIMES * len(packed) else packed


def unpack(data: bytes, most: int) -> Any:
    """Return the value that `pack` was given.

    Args:
        data: what it returned.
        most: bytes of JSON that are allowed.

    Raises:
        ValueError: it is damaged, or would be larger.

    >>> unpack(pack({"a": [1, 2]}), 20)
    {'a': [1, 2]}
    """
    if not data.startswith(_DEFLATED):
        return parse_json(data)
    inflate = zlib.decompressobj(_WINDOW, zdict=_KNOWN)
    try:
        text = inflate.decompress(data[1:], most)
    except zlib.error as error:
        raise ValueError("it is damaged") from error
    if not inflate.eof or inflate.unused_data:
        raise ValueError("it is cut, or larger than allowed")
    return parse_json(text)
