"""Reads Debian source packages: their files, and which licence each file has.

A source package is a `.dsc` beside its tar archives; `debian/copyright` says in the machine-readable
format (DEP-5) which files have which licence, the last paragraph that fits a file counting.
"""

import pathlib
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence

Paragraph = tuple[re.Pattern[str], str]
COPYRIGHT = "debian/copyright"


def is_source(folder: pathlib.Path) -> bool:
    """Whether a folder holds a downloaded source package."""
    return any(folder.glob("*.dsc"))


def source_members(
    folder: pathlib.Path, largest: int, wanted: Callable[[str], bool]
) -> Iterator[tuple[str, bytes]]:
    """The wanted regular files of at most `largest` bytes, by their path below the source's root.

    Of what Debian adds only `debian/copyright` is read, which always counts as wanted.
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
    r"""The files and licences of a machine-readable `debian/copyright`, in order; none if it is not one.

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
    """The licence of a file below the source's root, "" where no paragraph names it."""
    return next((licence for globs, licence in reversed(paragraphs) if globs.fullmatch(path)), "")
