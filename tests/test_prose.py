"""Words and phrases that readers stumble over do not come back, in code, messages, pages or names."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Patterns, and what to write instead. docs/glossary.md has the terms.
BANNED = {
    r"told": "report, result, or name what it is",
    r"whoever|whatever comes|whosoever": "name who or what it is",
    r"anew": "again, or from the start",
    r"(?<!there )(?:is|are|was|were) no (?!longer\b|more\b|less\b)[a-z]+": "is not a",
    r"held out|(?<![\"'])held_out": "validation (in quotes it is a key of older runs)",
    r"came[ _]to[ _]nothing|comes to nothing": "diverged, failed",
    r"led on there|stands? (?:before|behind|beside)": "follows, precedes, is next to",
    r"number types?": "dtype",
    r"thereof|wherefrom|thereby|hitherto|heretofore": "say it in a sentence of today",
    r"what is held|that which": "name it",
    r"begun with|has begun|had begun": "started",
    r"(?<!there )(?:is|are|was|were) (?-i:none)(?: of ours)?(?=[:;.,)]|$)": "is not one, does not exist",
    r"no number": "not finite",
    r"said aloud|says aloud|say aloud": "print, warn",
    r"(?:is|are|was|were) to be": "must be, will be",
    r"of (?:itself|themselves)": "about itself, its own, by itself",
    r"at hand": "available, given",
    r"comes? along|came along|brings? along": "is included",
    r"(?:goes|go|went|gone) on (?:where|with|from|as|at)": "continues",
    r"gives? back": "returns",
    r"tells? of": "reports, names",
    r"wherever|whence|thence|lest|of late": "say it in a sentence of today",
    r"but for": "except",
    r"dearer": "costs more",
    r"as (?:he|it|they) (?:stands?|stood)": "unchanged, as written",
    r"what becomes of|comes of it": "name the result",
    r"mend(?:s|ed|ing)?": "fix, repair",
    r"gave back": "returned",
    r"stands_in": "matches_checkpoint, or name what it compares",
    r"(?<![\"'`])figures": "metrics, numbers",
    r"def (?:snapshot|restore)": "state_dict, load_state_dict",
}
PATTERN = re.compile("|".join(rf"\b(?:{phrase})\b" for phrase in BANNED), re.IGNORECASE)

FOLDERS = ("packages", "docs", "tests", "benchmarks", "examples", "test-data", ".github")
SUFFIXES = {".py", ".md", ".toml", ".mjs", ".sh", ".yml"}
GENERATED = ("/sample/", "/old-run/", "/sessions/", "/quoted/", "/node_modules/")
PAGES = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "conftest.py",
    ".ci/run",
    ".ci/alone",
    ".ci/check_alone.py",
)
EXCEPT = (
    "tests/test_prose.py",
    "docs/glossary.md",
    "test-data/make_sessions.py",  # data: what people and agents say in the invented sessions
    "test-data/stories.py",  # the same
    "packages/sttx-train/recipes/goose_mini/phrases.toml",  # data: the sentences that goose-mini learned from
)


def texts() -> list[Path]:
    files = [ROOT / page for page in PAGES if (ROOT / page).is_file()]
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SUFFIXES and not any(
                part in f"/{path.relative_to(ROOT).as_posix()}" for part in GENERATED
            ):
                files.append(path)
    return [path for path in files if path.relative_to(ROOT).as_posix() not in EXCEPT]


def stumbles(text: str) -> list[str]:
    return [
        f"{number}: {match[0]!r}"
        for number, line in enumerate(text.splitlines(), 1)
        for match in PATTERN.finditer(line)
    ]


def test_no_pattern_comes_back():
    places = [
        f"{path.relative_to(ROOT)}:{place}"
        for path in texts()
        for place in stumbles(path.read_text(encoding="utf-8"))
    ]
    assert not places, f"{len(places)} places to rewrite:\n" + "\n".join(places)


@pytest.mark.parametrize(
    "sentence",
    [
        "what is no number",
        "the cursor is none.",
        "data that is held out",
        "Whoever reads it",
        "he was told",
        "what is to be known of it",
        "it goes on where it was",
        "all but for the last",
        "it is to be mended",
        "def restore(self, state)",
    ],
)
def test_a_pattern_is_noticed(sentence):
    assert stumbles(sentence)


@pytest.mark.parametrize("sentence", ["there is no file", "it is no longer there", "nothing is left"])
def test_ordinary_sentences_pass(sentence):
    assert not stumbles(sentence)
