"""Files that sttx writes or replaces, never through a link, a pipe or a device. Does not know their content.

What a person is handed, such as the folder of a run, may hold links to files elsewhere. A file with several
names (hard links) counts as a link where it is written in place: that would change what the other names show.
"""

import os
import secrets
import stat
from contextlib import suppress
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
    """Write a whole file; the umask decides who may read it. After an error the old file is unchanged.

    Raises:
        UsageError: there is a link, a pipe, a device or a folder at the path.
        OSError: it cannot be written.
    """
    path = Path(path)
    refuse_to_replace(path)
    aside = path.with_name(f".{path.name}.new-{secrets.token_hex(4)}")
    try:
        with os.fdopen(open_own(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


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


def tighten_folder(path: Path) -> None:
    """Let nobody but its owner read a folder that exists; somebody else's keeps its mode."""
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
