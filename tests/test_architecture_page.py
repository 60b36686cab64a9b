"""docs/architecture.md lists every file there is, says of each what its top says, and names no other."""

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


def test_the_lists_are_what_the_files_say(rooms):
    text = PAGE.read_text()
    now, wanted = set(text.splitlines()), rooms.page(text)
    changed = [line for line in wanted.splitlines() if line not in now]
    assert text == wanted, "run `uv run python docs/rooms.py`; new or changed:\n" + "\n".join(changed)


def test_every_file_says_what_it_is(rooms):
    mute = [
        line for room in rooms.ROOMS.values() for line in rooms.lines(ROOT / room) if line.endswith("|  |")
    ]
    assert mute == []


def listed_files(text: str) -> list[Path]:
    """Read the lists as a person would: a line names the folder, the rows the files in it."""
    folder, found = None, []
    for line in text.splitlines():
        if match := re.fullmatch(r"`([^`]+)/`", line):
            folder = ROOT / match[1]
        elif (match := re.match(r"\| `([^`]+\.py)` \|", line)) and folder:
            found.append(folder / match[1])
    return found


def test_every_file_listed_exists():
    listed = listed_files(PAGE.read_text())
    assert len(listed) > 50
    assert [path for path in listed if not path.is_file()] == []


def test_a_listed_file_that_is_gone_is_noticed():
    rows = "| file | |\n| --- | --- |\n| `errors.py` | x |\n| `gone.py` | x |\n"
    text = f"`packages/sttx-core/src/sttx_core/`\n\n{rows}"
    assert [path.is_file() for path in listed_files(text)] == [True, False]


def test_lost_marks_are_an_error(rooms):
    with pytest.raises(SystemExit, match="lost its marks"):
        rooms.page("# Architecture\n")
