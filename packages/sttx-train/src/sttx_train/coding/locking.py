"""One writer at a time for an archive: a lock on the file itself, which the system releases when it ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sttx_core.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows does not let two processes write a file that both opened so
    fcntl = None


@contextmanager
def only_writer(file: BinaryIO, path: Path) -> Iterator[None]:
    """Keep other writers of sttx away while the block runs.

    Args:
        file: the archive, open for writing.
        path: its name, for messages.

    Raises:
        UsageError: another process is writing it.
    """
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another process is writing {str(path)!r}: wait until it ends") from error
    yield
