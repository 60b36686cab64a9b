"""Files that sttx writes or replaces, never through a link, a pipe or a device. Does not know their content.

What a person is handed, such as the folder of a run, may hold links to files elsewhere. A file with several
names (hard links) counts as a link where it is written in place: that would change what the other names show.

A file that is replaced as a whole is written beside its target, flushed to the disk and renamed, so that a
crash or a kill at any moment leaves either the old content or the new one, never half of either.
"""

import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sttx_core.errors import UsageError

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
"""Modes of what holds the text or the state of a person, whatever the umask is."""

_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def open_own(path: str | os.PathLike[str], flags: int, mode: int = PRIVATE_FILE) -> int:
    """Open a regular file, for writing one with a single name only; return its descriptor. Never waits.

    Args:
        path: the file.
        flags: as for `os.open`, without `O_TRUNC`, which would empty the file before it is checked.
        mode: of a new file, less the umask.

    Raises:
        UsageError: it is a link, a pipe, a device or a folder.
        OSError: it cannot be opened.
    """
    assert not flags & os.O_TRUNC, "truncate the opened file instead"
    path = Path(path)
    writes = bool(flags & (os.O_WRONLY | os.O_RDWR))
    refuse_unless_own(path, writes=writes)
    handle = os.open(path, flags | _SAFELY, mode)
    try:
        _refuse(path, os.fstat(handle), writes)  # what it is now, if it was replaced since
    except BaseException:
        os.close(handle)
        raise
    return handle


def write_own(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a whole file, as `replacing_file`; the umask decides who may read it.

    Raises:
        UsageError: there is a link, a pipe, a device or a folder at the path.
        OSError: it cannot be written; the old file is unchanged.
    """
    with replacing_file(Path(path)) as aside:
        aside.write_bytes(data)


@contextmanager
def replacing_file(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Yield an empty file to fill; on success it replaces ``path``, on an error it is removed.

    What a killed process left of an earlier attempt is removed too.

    Args:
        path: the file to replace or make.
        private: let nobody but the owner read it; otherwise the umask decides.

    Raises:
        UsageError: ``path`` is a link, a folder, a device or a pipe, which a rename would remove.
    """
    refuse_to_replace(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in leftovers(path):
        if stat.S_ISREG(left.lstat().st_mode):
            left.unlink(missing_ok=True)
    aside = aside_of(path)
    aside.touch(PRIVATE_FILE if private else 0o666, exist_ok=False)
    mode = aside.stat().st_mode  # some writers replace the file and ignore the user's umask
    try:
        yield aside
        aside.chmod(mode)
        sync(aside)
        aside.replace(path)
        sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def aside_of(path: Path) -> Path:
    """Return a new name beside a path, for what is to replace it; it names this process."""
    return path.with_name(f".{path.name}.new-{os.getpid()}-{secrets.token_hex(4)}")


def leftovers(path: Path) -> list[Path]:
    """Return what processes that have ended left beside a path under the names of `aside_of`."""
    name = re.compile(re.escape(f".{path.name}.new-") + r"([0-9]{1,9})-[0-9a-f]{8}")
    found = ((name.fullmatch(entry.name), entry) for entry in path.parent.iterdir())
    return [entry for match, entry in found if match and _has_ended(int(match[1]))]


def _has_ended(process: int) -> bool:
    if os.name == "nt":  # asking would end it
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def sync(path: Path) -> None:
    """Flush a file or a folder's list of names to the disk; Windows flushes the latter itself."""
    on_windows = os.name == "nt"
    if on_windows and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if on_windows else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refuse_to_replace(path: Path) -> None:
    """Raise `UsageError` unless a renamed file may replace what is at a path, if anything.

    A file with several names may be replaced: the others keep its content.
    """
    refuse_unless_own(path, writes=False)


def refuse_unless_own(path: Path, *, writes: bool = True) -> None:
    """Raise `UsageError` if there is something at a path that is not a regular file.

    Args:
        path: the file.
        writes: refuse a file with several names too.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        _refuse(path, path.lstat(), writes)


def refuse_unless_folder(path: Path) -> None:
    """Raise `UsageError` if there is something at a path that is not a folder, such as a link to one."""
    with suppress(FileNotFoundError):
        if not stat.S_ISDIR(path.lstat().st_mode):
            what = "a link" if path.is_symlink() else "not a folder"
            raise UsageError(f"{str(path)!r} is {what}, and sttx writes into its own folders only: remove it")


def make_private(handle: int) -> None:
    """Let nobody but the owner read an open file, also one that an earlier version made."""
    if os.name != "nt" and os.fstat(handle).st_mode & 0o077:
        with suppress(PermissionError):  # somebody else's file, in a folder that is shared on purpose
            os.fchmod(handle, PRIVATE_FILE)


def make_private_folder(path: Path) -> None:
    """Make a folder that nobody but its owner may read; one that exists keeps its mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=PRIVATE_FOLDER)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        path.chmod(PRIVATE_FOLDER)  # a umask may have taken more than it should


def tighten(path: Path) -> None:
    """Let nobody but its owner read a file or folder that exists; somebody else's keeps its mode."""
    found = path.stat()
    if os.name != "nt" and found.st_uid == os.geteuid() and found.st_mode & 0o077:
        with suppress(PermissionError):  # a disk without modes
            path.chmod(stat.S_IMODE(found.st_mode) & ~0o077)


def _refuse(path: Path, found: os.stat_result, writes: bool) -> None:
    name = repr(str(path))
    if stat.S_ISLNK(found.st_mode):
        what = "is a link: give the path that it points to, or remove it"
    elif not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        what = f"is {kind}, not a file: give another path, or remove it"
    elif writes and found.st_nlink > 1:
        what = "has another name too (a hard link), whose content would change: replace it by a copy"
    else:
        return
    raise UsageError(f"{name} {what}")


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
