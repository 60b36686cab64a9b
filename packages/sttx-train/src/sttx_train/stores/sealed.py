"""An entry as bytes in a file or a database: a line that describes it, then its data, whose hash it holds."""

from __future__ import annotations

import hashlib
import json

from sttx_core.foreign_files import parse_json

LONGEST_LINE = 512
_FORMAT = 1


def seal(key: str, version: int, data: bytes) -> bytes:
    """Return an entry as bytes.

    Args:
        key: of the entry.
        version: of the entry; 0 if it is kept elsewhere.
        data: its bytes.
    """
    about = {
        "sttx_state": _FORMAT,
        "key": key,
        "version": version,
        "bytes": len(data),
        "sha256": _hash(key, version, data),
    }
    return json.dumps(about).encode() + b"\n" + data


def unseal(key: str, sealed: bytes) -> tuple[int, bytes]:
    """Return version and data of an entry.

    Raises:
        ValueError: it is damaged, or another key's; says what is wrong.
    """
    line, _, data = sealed.partition(b"\n")
    about = _about(key, line)
    if about["bytes"] != len(data):
        raise ValueError(f"it has {len(data):,} bytes of data instead of {about['bytes']:,}")
    if about["sha256"] != _hash(key, about["version"], data):
        raise ValueError("its SHA-256 is another one")
    return about["version"], data


def version_of(key: str, start: bytes) -> int:
    """Return the version of an entry from its first bytes; the data may be damaged.

    Raises:
        ValueError: its first line is damaged, or another key's.
    """
    return _about(key, start.partition(b"\n")[0])["version"]


def _about(key: str, line: bytes) -> dict:
    about = parse_json(line[:LONGEST_LINE])
    if (
        not isinstance(about, dict)
        or type(about.get("version")) is not int
        or type(about.get("bytes")) is not int
    ):
        raise ValueError("it does not start with a line that describes it")
    if about.get("sttx_state") != _FORMAT:
        raise ValueError(f"its format is not {_FORMAT}: another version of sttx has written it")
    if about.get("key") != key:
        raise ValueError("it is the entry of another key")
    return about


def _hash(key: str, version: int, data: bytes) -> str:
    digest = hashlib.sha256(f"{key}\0{version}\0".encode())
    digest.update(data)
    return digest.hexdigest()
