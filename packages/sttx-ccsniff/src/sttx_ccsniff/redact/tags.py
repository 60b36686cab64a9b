"""Makes tags that distinguish secrets without revealing them: a truncated keyed hash.

The key is 32 random bytes in a file on this machine, created when the first secret is found. Without the key,
the placeholders cannot be tested against a dictionary. The same secret in the same session gets the same tag
in every run; in another session it gets another tag.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from sttx_ccsniff.environment import cache_folder
from sttx_core.os_errors import explain

_BYTES = 32
_DIGITS = 8
_NAME = "redaction.key"


class Tagger:
    """Makes tags; the key is read or created at the first tag.

    Args:
        say: Called once if the key cannot be stored.
    """

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self._say = say
        self._key: bytes | None = None

    def tag(self, session: str, secret: str) -> str:
        """Return eight hexadecimal digits for a secret of a session."""
        if self._key is None:
            self._key = self._load()
        message = f"{session}\0{secret}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()[:_DIGITS]

    def _load(self) -> bytes:
        path = cache_folder() / _NAME
        try:
            key = _read_or_create(path)
        except OSError as error:
            problem = explain(error)
        else:
            if len(key) == _BYTES:
                return key
            problem = f"it holds {len(key)} bytes instead of {_BYTES}: remove it"
        if self._say is not None:
            self._say(
                f"the redaction key {str(path)!r} cannot be used, so placeholders of this run "
                f"will not match those of other runs: {problem}"
            )
        return secrets.token_bytes(_BYTES)


def _read_or_create(path: Path) -> bytes:
    """Read the key, or create it atomically, so that two processes agree on one key."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_NAME}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(secrets.token_bytes(_BYTES))
            opened.flush()
            os.fsync(opened.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()
    return path.read_bytes()
