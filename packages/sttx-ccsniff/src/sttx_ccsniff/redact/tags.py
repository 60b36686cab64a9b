"""Makes tags that distinguish secrets without revealing them: a truncated keyed hash.

The key is 32 random bytes in a file on this machine, created when the first secret is found. Without the key,
the placeholders cannot be tested against a dictionary; a key that others may read or write is not used. The
same secret in the same session gets the same tag in every run; in another session it gets another tag.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
import shlex
import stat
from collections.abc import Callable
from pathlib import Path

from sttx_ccsniff.environment import cache_folder
from sttx_ccsniff.private_cache import is_trusted, make_private_folders, others_may_write
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
            key, problem = _read_or_create(path)
        except OSError as error:
            key, problem = b"", explain(error)
        if not problem:
            return key
        if self._say is not None:
            self._say(
                f"the redaction key {str(path)!r} cannot be used, so placeholders of this run "
                f"will not match those of other runs: {problem}"
            )
        return secrets.token_bytes(_BYTES)


def _read_or_create(path: Path) -> tuple[bytes, str]:
    """Return the key and what is wrong with it; create it atomically, so that two processes agree on one."""
    if problem := others_may_write(path.parent):
        return b"", problem
    with contextlib.suppress(FileNotFoundError):
        return _read(path)
    make_private_folders(path.parent)
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
    return _read(path)


def _read(path: Path) -> tuple[bytes, str]:
    """Read the key; never through a link, and never from a pipe, which might wait for ever."""
    if path.is_symlink():
        return b"", "it is a link: remove it"
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as opened:
        found = os.fstat(opened.fileno())
        if not stat.S_ISREG(found.st_mode):
            return b"", "it is not a file: remove it"
        if not is_trusted(found):
            return b"", "it belongs to another user: remove it"
        if os.name == "posix" and found.st_mode & 0o077:
            return b"", f"others may read or write it: run `chmod 600 {shlex.quote(str(path))}`"
        key = opened.read(_BYTES + 1)
    return key, "" if len(key) == _BYTES == found.st_size else f"it does not hold {_BYTES} bytes: remove it"
