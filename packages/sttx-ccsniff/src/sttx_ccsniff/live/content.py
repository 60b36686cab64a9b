"""Which content of ccsniff is run: exactly the files that npm's registry publishes as the pinned version.

Every file is hashed before each start, which takes a millisecond or two: sizes and times can be forged. Knows
nothing of how the files got there.
"""

import hashlib
import os
import stat
from pathlib import Path

from sttx_ccsniff.private_cache import is_private

VERSION = "1.1.38"
"""The one version of ccsniff whose private methods the shim overrides."""

PUBLISHED = "544646fcf5af7e77e38d14d7732cadb31a49d672a9373d26342a388cc2d5face"
"""The hash of that version's files, of their names and contents."""

_LARGEST = 1 << 20
_DEEPEST = 4
_BESIDE = {".bin", ".package-lock.json"}
"""What npm adds to its folder of packages; no program there is run."""


def is_published(folder: Path) -> bool:
    """Return whether a folder of npm holds the pinned ccsniff as published, and nothing that Node might load.

    A link, a file too many, too few or changed, and one that others may write are refused.
    """
    return content_hash(folder) == PUBLISHED


def content_hash(folder: Path) -> str:
    """Return the hash of the files of the ccsniff in a folder of npm; "" if they cannot be trusted."""
    modules = folder / "node_modules"
    try:
        _entries(folder)
        if {entry.name for entry in _entries(modules)} - _BESIDE != {"ccsniff"}:
            return ""
        hashed = hashlib.sha256()
        for name, digest in sorted(_files(modules / "ccsniff", "")):
            hashed.update(f"{name}\0{digest}\n".encode())
        return hashed.hexdigest()
    except (OSError, ValueError):
        return ""


def _files(folder: Path, prefix: str) -> list[tuple[str, str]]:
    found = []
    if prefix.count("/") > _DEEPEST:
        raise ValueError(f"{str(folder)!r} is deeper than any folder that was published")
    for entry in _entries(folder):
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            found += _files(Path(entry.path), f"{prefix}{entry.name}/")
        elif stat.S_ISREG(mode):
            found.append((f"{prefix}{entry.name}", _digest(Path(entry.path))))
        else:
            raise ValueError(f"{entry.path!r} is neither a file nor a folder")
    return found


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    """Return what is in a folder.

    Raises:
        ValueError: The folder is a link, or others may write to it.
    """
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or not is_private(found):
        raise ValueError(f"others may write to {str(folder)!r}")
    with os.scandir(folder) as entries:
        return list(entries)


def _digest(file: Path) -> str:
    """Return the hash of a file.

    Raises:
        ValueError: Others may write it, or it is far larger than any that was published.
    """
    with file.open("rb") as opened:
        found = os.fstat(opened.fileno())
        if not is_private(found) or found.st_size > _LARGEST:
            raise ValueError(f"{str(file)!r} is not as published")
        return hashlib.sha256(opened.read()).hexdigest()
