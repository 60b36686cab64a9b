"""docs/architecture.md lists every file with the first sentence of its docstring, and only existing files."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"


@pytest.fixture(scope="module")
def rooms() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rooms", ROOT / "docs" / "rooms.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_lists_match_the_files(rooms):
    text = PAGE.read_text()
    lines, expected = set(text.splitlines()), rooms.page(text)
    changed = [line for line in expected.splitlines() if line not in lines]
    assert text == expected, "run `uv run python docs/rooms.py`; new or changed:\n" + "\n".join(changed)


def test_every_file_has_a_first_sentence(rooms):
    without = [
        line for room in rooms.ROOMS.values() for line in rooms.lines(ROOT / room) if line.endswith("|  |")
    ]
    assert without == []


def listed_files(text: str) -> list[Path]:
    """Return the files in the lists: a line names the folder, the rows below it the files."""
    folder, listed = None, []
    for line in text.splitlines():
        if match := re.fullmatch(r"`([^`]+)/`", line):
            folder = ROOT / match[1]
        elif (match := re.match(r"\| `([^`]+\.py)` \|", line)) and folder:
            listed.append(folder / match[1])
    return listed


def test_every_file_listed_exists():
    listed = listed_files(PAGE.read_text())
    assert len(listed) > 50
    assert [path for path in listed if not path.is_file()] == []


def test_a_deleted_file_is_noticed():
    rows = "| file | |\n| --- | --- |\n| `errors.py` | x |\n| `gone.py` | x |\n"
    text = f"`packages/sttx-core/src/sttx_core/`\n\n{rows}"
    assert [path.is_file() for path in listed_files(text)] == [True, False]


def test_missing_markers_are_an_error(rooms):
    with pytest.raises(SystemExit, match="has no markers"):
        rooms.page("# Architecture\n")
