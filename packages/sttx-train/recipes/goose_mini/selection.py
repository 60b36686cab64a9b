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
    "web": ".css .html .scss .less",
    "contracts": ".sol .vy .cairo .move",
    "sql": ".sql",
    "mobile": ".swift .dart .m .mm",
    "scripts": ".php .lua .ex .exs .scala .nim .clj .hs .erl .jl .r .R .pl .pm .ps1 .psm1 .bat .cmd .vim .el",
    "schema": ".tf .tfvars .hcl .proto .graphql .gql .prisma .thrift",
    "markup": ".xml .plist .csproj .svg .xsd .wsdl .resx",
    "notebook": ".ipynb",
    "latex": ".tex .sty .bib",
    "snapshot": ".snap .stderr .stdout .out .ambr",
    "languages": ".po .xlf",
}
VALIDATION_OF_256 = 5
COLORS_OF_256 = 32
"""The same for output with colors, of which there is little."""
NEVER_VALIDATION = frozenset({"ruff", "uv", "pydantic-core", "made-up"})
"""The weights also saw a draft of the corpus, with other validation folders of these packages; and what is
made up has validation data of its own."""
_BY_NAME = {"Makefile": "shell", "Dockerfile": "shell", "CMakeLists.txt": "shell", "Rakefile": "ruby"}
_KIND_OF = {extension: kind for kind, extensions in EXTENSIONS.items() for extension in extensions.split()}
_NOT_TEXT = re.compile(r"min\.(js|css)$|-lock\.|\.(map|lock)$|LICEN[CS]E|COPYING|NOTICE|top_level|RECORD")
_TRANSLATION = re.compile(
    r"[._-](?!en\b)(?:zh|ja|ko|es|fr|de|pt|ru|it|pl|tr|uk)(?:[-_]?(?:[A-Z]{2}|[a-z]{2}|Hans|Hant|419))?"
    r"\.(?:md|mdx|rst|txt|properties|json|xml|yml|yaml)$"
    r"|\.(?:xml|txt|md)\.(?!en\b)[a-z]{2}(?:[-_][A-Za-z]{2})?(?:\.utf-?8)?$"
    r"|(?:^|/)(?:locales?|i18n|lang|languages?|translations?|l10n)/(?:.*/)?(?!en\b)[a-z]{2}"
    r"(?:[-_][A-Za-z]{2,4})?"
    r"(?:/.*)?\.(?:json|js|ts|mjs|ya?ml|php|properties|md|txt)$"
)
_OWN_LICENCE = re.compile(r"SPDX-License-Identifier:\s*([^\n*]+)")
TEXT_FOR_PEOPLE = frozenset({"prose", "json", "man", "web", "yaml", "markup", "latex"})
FOREIGN = 0.08
LONGEST_MEAN = {"prose": 400, "languages": 400, "latex": 400, "notebook": 400, "snapshot": 200}
"""Most characters of a line, on average, of a kind; the others have 110: longer lines are minified code."""
_LEADING_COMMENT = re.compile(r"(?:(?:#|//)[^\n]*\n)+|\s*/\*.*?\*/\n?", re.S)
_COPYLEFT = re.compile(r"GPL|MPL|EPL|CDDL|SSPL|Commons.Clause|-NC|Commercial|UNLICENSED|SEE LICENSE", re.I)


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
    if _TRANSLATION.search(name):
        return "languages"
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


def kind_of_text(text: str, kind: str) -> str:
    """Return the kind of a file by what it says: text for people in another language has a kind of its own.

    >>> [kind_of_text(text, "prose") for text in ("Schöne Grüße", "Kind regards")], kind_of_text("Grüß", "go")
    (['languages', 'prose'], 'go')
    """
    return "languages" if kind in TEXT_FOR_PEOPLE and _foreign(text) > FOREIGN / 2 else kind


def _foreign(text: str) -> float:
    """Return the share of letters outside of ASCII among all characters."""
    if text.isascii():
        return 0.0
    return sum(letter > "\x7f" and letter.isalpha() for letter in text) / len(text)


def is_readable(text: str, kind: str) -> bool:
    """Return whether a text is neither tiny, nor minified, nor a table of symbols outside of ASCII."""
    if len(text) < 200:
        return False
    longest_mean = {"prose": 400, "languages": 400, "latex": 400, "notebook": 400, "snapshot": 200}.get(
        kind, 110
    )
    if len(text) / (text.count("\n") + 1) > longest_mean:
        return False
    letters, others = 0, 0
    for letter in () if text.isascii() else text:
        if letter > "\x7f":
            letters += letter.isalpha()
            others += not letter.isalpha()
    return others < 2 * FOREIGN / 3 * len(text) + letters


def has_own_copyleft(text: str, accepted: Sequence[str]) -> bool:
    r"""Return whether a file names a license of its own that is not permissive.

    >>> has_own_copyleft("// SPDX-License-Identifier: BUSL-1.1\n", ["MIT"])
    True
    """
    found = _OWN_LICENCE.search(text[:2000])
    return found is not None and not is_permissive(found.group(1).strip().strip("()"), accepted)


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
    """Return whether a file is validation data: about one in fifty package folders is, as a whole.

    >>> [in_validation({"package": "zod", "path": "src/a.ts", "kind": kind}) for kind in ("go", "log")]
    [False, False]
    """
    if item["package"] in NEVER_VALIDATION:
        return False
    folder = item["package"] + "/" + item["path"].rsplit("/", 1)[0]
    bound = COLORS_OF_256 if item.get("kind") == "colors" else VALIDATION_OF_256
    return hashlib.md5(folder.encode()).digest()[0] < bound


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
