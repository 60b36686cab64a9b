"""Which files a list of files and folders means, and their names in an archive. Reads no file."""

import os
from collections.abc import Sequence
from pathlib import Path

from sttx_core.errors import UsageError
from sttx_core.os_errors import explain
from sttx_train.coding.target import Member

STDIN = "-"
"""Stands for standard input; its name in an archive is `stdin`."""


def members_of(names: Sequence[str]) -> tuple[list[Member], int | None, list[str]]:
    """Return the files, those of a folder sorted by name; their bytes if that is known; and what is left out.

    A file is named as its last part, a file in a folder by the folder's name and the path below it. Links in
    folders are left out, like pipes, devices and empty folders.

    Raises:
        UsageError: a file or folder does not exist, or is neither.
    """
    members: list[Member] = []
    left_out: list[str] = []
    total: int | None = 0
    for name in names:
        if name == STDIN:
            members.append(Member(name="stdin", path=None))
            total = None
            continue
        path = Path(name)
        if path.is_dir():
            found = _in_folder(path, left_out)
        elif path.is_file():
            found = [Member(name=path.name, path=path)]
        else:
            what = "is a pipe, a device or a socket" if path.exists() else "does not exist"
            raise UsageError(f"{name!r} {what}: name files or folders, or - for standard input")
        members += found
        if total is not None:
            total += sum(member.path.stat().st_size for member in found if member.path)
    return members, total, left_out


def _in_folder(folder: Path, left_out: list[str]) -> list[Member]:
    top = folder.resolve().name
    found: list[Member] = []

    def fail(error: OSError) -> None:
        raise UsageError(f"cannot read the folder {error.filename!r}: {explain(error)}") from error

    for parent, folders, files in os.walk(folder, onerror=fail):
        folders.sort()
        for file in sorted(files):
            path = Path(parent, file)
            if path.is_file() and not path.is_symlink():
                below = path.relative_to(folder).as_posix()
                found.append(Member(name=f"{top}/{below}" if top else below, path=path))
            else:
                left_out.append(str(path))
        left_out += [str(path) for name in folders if (path := Path(parent, name)).is_symlink()]
        if not folders and not files:
            left_out.append(parent)
    return found
