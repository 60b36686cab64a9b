"""Reads Debian source packages: their files, and which license each file has.

A source package is a `.dsc` next to its tar archives. `debian/copyright` names the license of each file in
the machine-readable format (DEP-5); the last paragraph that matches a file counts.
"""

import pathlib
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence

Paragraph = tuple[re.Pattern[str], str]
COPYRIGHT = "debian/copyright"


def is_source(folder: pathlib.Path) -> bool:
    """Return whether a folder contains a downloaded source package."""
    return any(folder.glob("*.dsc"))


def source_members(
    folder: pathlib.Path, largest: int, wanted: Callable[[str], bool]
) -> Iterator[tuple[str, bytes]]:
    """Yield the wanted regular files of at most `largest` bytes with their path in the source.

    Of Debian's own files only `debian/copyright` is read; it is always wanted.
    """
    for path in sorted(folder.glob("*.tar.*")):
        if path.suffix == ".asc":
            continue
        component = re.search(r"\.orig-([\w-]+)\.tar", path.name)
        top = "" if ".debian.tar" in path.name else f"{component.group(1)}/" if component else None
        with tarfile.open(path) as bundle:
            for member in bundle:
                name = member.name.removeprefix("./")
                inner = name if top == "" else (top or "") + name.partition("/")[2]
                if not member.isfile() or member.size > largest:
                    continue
                if inner.startswith("debian/") and inner != COPYRIGHT:
                    continue
                handle = bundle.extractfile(member) if inner == COPYRIGHT or wanted(inner) else None
                if handle:
                    yield inner, handle.read()


def paragraphs_of(copyright_file: str) -> list[Paragraph]:
    r"""Return the files and licenses of a machine-readable `debian/copyright` in order, empty otherwise.

    >>> text = "Format: x\n\nFiles: *\nLicense: Expat\n\nFiles: a/*\n b?.c\nLicense: GPL-2\n Text."
    >>> [licence_of(path, paragraphs_of(text)) for path in ("c", "a/d/e", "b1.c")]
    ['Expat', 'GPL-2', 'GPL-2']
    """
    found: list[Paragraph] = []
    for paragraph in re.split(r"\n[ \t]*\n", copyright_file.replace("\r\n", "\n")):
        files = re.search(r"^Files:((?:.*\n)(?:[ \t]+.*\n)*)", paragraph + "\n", re.M)
        licence = re.search(r"^License:[ \t]*(.+)$", paragraph, re.M)
        if files and licence:
            globs = [
                re.escape(item).replace(r"\*", ".*").replace(r"\?", ".")
                for item in re.split(r"[\s,]+", files.group(1).strip())
            ]
            found.append((re.compile("|".join(globs), re.S), licence.group(1).strip()))
    return found


def licence_of(path: str, paragraphs: Sequence[Paragraph]) -> str:
    """Return the license of a file, given its path in the source; "" if no paragraph names it."""
    return next((licence for globs, licence in reversed(paragraphs) if globs.fullmatch(path)), "")
