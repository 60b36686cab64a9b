"""Selects the files to learn from: by name, readability, license and newness.

Knows nothing of packages or downloads.
"""

import collections
import hashlib
import re
from collections.abc import Mapping, Sequence

from near_duplicates import NearDuplicates, signature

EXTENSIONS = {
    "python": ".py .pyi",
    "typescript": ".ts .tsx .mts .cts",
    "javascript": ".js .jsx .mjs .cjs .svelte .vue",
    "go": ".go .mod",
    "rust": ".rs",
    "c": ".c .h .cc .cpp .hpp",
    "csharp": ".cs",
    "java": ".java .kt .kts .gradle",
    "ruby": ".rb .rake .gemspec",
    "shell": ".sh .bash .zsh .bats .mk",
    "json": ".json .jsonc",
    "yaml": ".yaml .yml .toml .cfg .ini",
    "prose": ".md .mdx .rst .txt",
    "web": ".css .html .scss",
}
VALIDATION_OF_256 = 5
NEVER_VALIDATION = frozenset({"ruff", "uv", "pydantic-core"})
"""The weights also saw a draft of the corpus, with other validation folders of these packages."""
_BY_NAME = {"Makefile": "shell", "Dockerfile": "shell", "CMakeLists.txt": "shell", "Rakefile": "ruby"}
_KIND_OF = {extension: kind for kind, extensions in EXTENSIONS.items() for extension in extensions.split()}
_NOT_TEXT = re.compile(r"min\.(js|css)$|-lock\.|\.(map|lock)$|LICEN[CS]E|COPYING|NOTICE|top_level|RECORD")
_LEADING_COMMENT = re.compile(r"(?:(?:#|//)[^\n]*\n)+|\s*/\*.*?\*/\n?", re.S)
_COPYLEFT = re.compile(r"GPL|MPL|EPL|CDDL|SSPL|Commons Clause|-NC|Commercial|UNLICENSED|SEE LICENSE", re.I)


def kind_of(name: str) -> str | None:
    """Return the kind of text for a file name; None if it is not wanted.

    >>> kind_of("src/app.tsx"), kind_of("app.min.js"), kind_of("usr/share/man/man1/jq.1.gz")
    ('typescript', None, 'man')
    """
    if re.search(r"(^|/)(man|man\d)/[^/]+\.[1-9]\w*(\.gz)?$", name):
        return "man"
    base = name.rsplit("/", 1)[-1]
    if _NOT_TEXT.search(base):
        return None
    if base in _BY_NAME:
        return _BY_NAME[base]
    stem, dot, suffix = base.rpartition(".")
    kind = _KIND_OF.get(f".{suffix}") if dot and stem else None
    return kind or ("prose" if re.match(r"README|CHANGE|HISTORY|NEWS|CONTRIBUTING", base) else None)


def without_licence_header(text: str) -> str:
    r"""Return the text without a leading comment about copyright or license, which thousands of files repeat.

    >>> without_licence_header("// Copyright 2020 A.\n// MIT License.\n\npackage main\n")
    'package main\n'
    """
    found = _LEADING_COMMENT.match(text)
    return (
        text[found.end() :].lstrip("\n")
        if found and re.search(r"opyright|icen[cs]e", found.group())
        else text
    )


def is_readable(text: str, kind: str) -> bool:
    """Return whether a text is neither tiny, nor minified, nor mostly non-ASCII."""
    if len(text) < 200:
        return False
    longest_mean = 400 if kind == "prose" else 110
    return len(text) / (text.count("\n") + 1) <= longest_mean and len(text.encode()) - len(text) < 0.08 * len(
        text
    )


def is_permissive(licence: str, accepted: Sequence[str]) -> bool:
    """Return whether a license is permissive: every "and" part has an "or" part that is.

    >>> names = ["MIT", "Apache"]
    >>> [is_permissive(x, names) for x in ("MIT", "GPL-2 OR MIT", "MIT AND MPL-2.0", "", "LGPL-3")]
    [True, True, False, False, False]
    """
    known = re.compile("|".join(accepted), re.I)

    def fine(part: str) -> bool:
        return any(
            known.search(item) and not _COPYLEFT.search(item)
            for item in re.split(r"\bor\b", part, flags=re.I)
        )

    return bool(licence) and all(fine(part) for part in re.split(r"\band\b|/", licence, flags=re.I))


def in_validation(item: Mapping[str, str]) -> bool:
    """Return whether a file is validation data: about one in fifty package folders is, as a whole."""
    if item["package"] in NEVER_VALIDATION:
        return False
    folder = item["package"] + "/" + item["path"].rsplit("/", 1)[0]
    return hashlib.md5(folder.encode()).digest()[0] < VALIDATION_OF_256


class Collector:
    """Accepts new files, and counts the bytes of refused ones by reason and kind.

    It refuses files of a kind that is full; then exact copies; files of which less than 40% of the lines are
    new to the corpus; files similar to a text of `apart`, unless they are validation data
    themselves; and near-duplicates of one earlier file (`near_duplicates`).
    """

    def __init__(self, caps: Mapping[str, int], apart: NearDuplicates | None = None) -> None:
        self._caps = caps
        self._apart = apart or NearDuplicates()
        self._texts: set[bytes] = set()
        self._lines: set[bytes] = set()
        self._near = NearDuplicates()
        self.kinds: collections.Counter[str] = collections.Counter()
        reasons = ("full", "copy", "known lines", "validation before", "near-duplicate")
        self.refused: dict[str, collections.Counter[str]] = {name: collections.Counter() for name in reasons}

    def accept(self, item: Mapping[str, str]) -> bool:
        """Return whether a file (package, path, kind, text) is new and its kind has room; if so store it."""
        text, kind = item["text"], item["kind"]
        size = len(text.encode())
        lines = {_digest(line) for line in map(str.strip, text.split("\n")) if len(line) > 20}
        reason = self._objection(item, lines)
        if reason:
            self.refused[reason][kind] += size
            return False
        self._lines |= lines
        self.kinds[kind] += size
        return True

    def _objection(self, item: Mapping[str, str], lines: set[bytes]) -> str:
        """Return why the file is refused, or "" if it is not."""
        text, kind = item["text"], item["kind"]
        if self.kinds[kind] > self._caps[kind]:
            return "full"
        digest = _digest(text)
        if digest in self._texts:
            return "copy"
        self._texts.add(digest)
        if len(lines - self._lines) < 0.4 * len(lines) or not lines:
            return "known lines"
        signed = signature(text)
        if self._apart.knows(signed) and not in_validation(item):
            return "validation before"
        if self._near.knows(signed):
            return "near-duplicate"
        self._near.add(signed)
        return ""


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=7).digest()
