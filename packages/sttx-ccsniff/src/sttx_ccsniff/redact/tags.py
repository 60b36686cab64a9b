"""Tags that tell secrets apart without telling anything of them: a keyed hash, cut short.

The key is 32 random bytes in a file that stays on this machine, made when the first secret is found. Who has
the placeholders but not the key cannot try a dictionary on them. The same secret in the same session has the
same tag in every run; in another session it has another.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from sttx_ccsniff.environment import cache_folder

_BYTES = 32
_DIGITS = 8
_NAME = "redaction.key"


class Tagger:
    """Makes tags, with a key that is read or created at the first.

    Args:
        say: Told once if the key cannot be kept.
    """

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self._say = say
        self._key: bytes | None = None

    def tag(self, session: str, secret: str) -> str:
        """Return eight hexadecimal digits for a secret of a session."""
        if self._key is None:
            self._key = self._load()
        told = f"{session}\0{secret}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, told, hashlib.sha256).hexdigest()[:_DIGITS]

    def _load(self) -> bytes:
        path = cache_folder() / _NAME
        try:
            key = _read_or_create(path)
        except OSError as error:
            problem = error.strerror or str(error)
        else:
            if len(key) == _BYTES:
                return key
            problem = f"it holds {len(key)} bytes, not {_BYTES}; remove it"
        if self._say is not None:
            self._say(f"placeholders of this run will not match those of others: {str(path)!r}: {problem}")
        return secrets.token_bytes(_BYTES)


def _read_or_create(path: Path) -> bytes:
    """Read the key; where there is none, put one there whole, so that two processes agree on one."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{_NAME}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(secrets.token_bytes(_BYTES))
            opened.flush()
            os.fsync(opened.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(new, path)
    finally:
        new.unlink()
    return path.read_bytes()
