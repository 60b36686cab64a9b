"""Every bash and python block of the documentation runs, as a reader would run it, and prints what it says.

The blocks of one page run in order, in a copy of what git holds, so what one leaves the next one finds; a
python block stands alone. `<!-- not run: why -->` before a block leaves it out: for what needs the network or
a GPU, or takes too long. A text block after the words "It prints" is compared with what the block before it
printed.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "packages").glob("*/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
RUN_BY = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
DISGUISES = {"sh", "shell", "zsh", "console", "py", "python3", "pycon"}

FENCE = re.compile(r"^(```+)(\w*)[^\n]*\n(.*?)^\1[ \t]*$", re.DOTALL | re.MULTILINE)
NOT_RUN = re.compile(r"<!-- not run: *(.*?) *-->\s*\Z", re.DOTALL)
PRINTS = re.compile(r"It prints:?\s*\Z")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One runnable block: its page, the line of its fence, and what is known of it."""

    page: Path
    line: int
    language: str
    code: str
    skip: str | None = None
    prints: str | None = None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(text: str, page: Path = ROOT / "README.md") -> list[Block]:
    found: list[Block] = []
    end = 0
    for match in FENCE.finditer(text):
        between, language, code = text[end : match.start()], match[2], match[3]
        end = match.end()
        line = text.count("\n", 0, match.start()) + 1
        assert language not in DISGUISES, (
            f"{page.name}:{line}: write bash or python, or text if it is no program"
        )
        if language in RUN_BY:
            mark = NOT_RUN.search(between)
            assert mark is None or mark[1], f"{page.name}:{line}: not run, but why?"
            skip = mark[1] if mark else None
            found.append(Block(page=page, line=line, language=language, code=code, skip=skip))
        elif language == "text" and found and PRINTS.search(between):
            found[-1] = replace(found[-1], prints=code)
    rest = FENCE.sub("", text)
    assert "```" not in rest, f"{page.name} has a fence that does not end, or one inside a list"
    return found


ALL = [block for page in PAGES if page.exists() for block in blocks(page.read_text(), page)]


@pytest.fixture(scope="module")
def copies(tmp_path_factory) -> dict[Path, Path]:
    """Per page, once it is asked for, a copy of what git holds."""
    return {page: tmp_path_factory.mktemp("page") / "sttx" for page in PAGES}


def copy_of_repository(folder: Path) -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)


def environment(folder: Path) -> dict[str, str]:
    """Take this environment as installed, and show nobody's own sessions."""
    return os.environ | {
        "UV_PROJECT": str(ROOT),
        "UV_PROJECT_ENVIRONMENT": sys.prefix,
        "UV_NO_SYNC": "1",
        "UV_OFFLINE": "1",
        "CLAUDE_CONFIG_DIR": str(folder.parent / "no-claude"),
    }


def run(block: Block, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN_BY[block.language], block.code],
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.mark.parametrize("block", ALL, ids=str)
def test_block_runs(block, copies):
    if block.skip:
        pytest.skip(block.skip)
    folder = copies[block.page]
    if not folder.exists():
        copy_of_repository(folder)
    result = run(block, folder)
    assert result.returncode == 0, f"{block}\n{block.code}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
    if block.prints is not None:
        assert result.stdout == block.prints


def test_the_readme_has_something_to_run():
    ran = [block for block in ALL if block.page == ROOT / "README.md" and not block.skip]
    assert ran, "README.md shows nothing that runs"
    assert any("sttx train" in block.code for block in ran), "README.md does not show the main command"


# --- the rules of reading, and that a wrong block is noticed


def test_reading_a_page():
    text = """# Title

```bash
one
```

<!-- not run: needs a GPU -->
```bash
two
```

```python
print(3)
```

It prints

```text
3
```

```
a tree
```
"""
    first, second, third = blocks(text)
    assert (first.line, first.language, first.code, first.skip, first.prints) == (
        3,
        "bash",
        "one\n",
        None,
        None,
    )
    assert second.skip == "needs a GPU"
    assert (third.language, third.skip, third.prints) == ("python", None, "3\n")


@pytest.mark.parametrize(
    "text",
    [
        "```sh\nls\n```\n",
        "```console\n$ ls\n```\n",
        "<!-- not run: -->\n```bash\nls\n```\n",
        "```bash\nls\n",
        "- item\n  ```bash\n  ls\n  ```\n",
    ],
    ids=["another name", "prompts", "no reason", "no end", "in a list"],
)
def test_what_would_go_unrun_is_an_error(text):
    with pytest.raises(AssertionError):
        blocks(text)


def test_a_mark_counts_for_the_next_block_only():
    text = (
        "<!-- not run: why -->\n```bash\none\n```\n\n<!-- not run: why -->\n\nWords.\n\n```bash\ntwo\n```\n"
    )
    assert [block.skip for block in blocks(text)] == ["why", None]


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("bash", "false\ntrue\n"),
        ("bash", "false | true\n"),
        ("bash", "echo $nothing\n"),
        ("python", "1 / 0\n"),
    ],
)
def test_a_block_that_fails_is_noticed(tmp_path, language, code):
    block = Block(page=PAGES[0], line=1, language=language, code=code)
    assert run(block, tmp_path).returncode != 0


def test_uv_run_takes_the_environment_that_is_there(tmp_path):
    block = Block(
        page=PAGES[0], line=1, language="bash", code='uv run python -c "import sys; print(sys.prefix)"\n'
    )
    result = run(block, tmp_path)
    assert (result.stdout.strip(), result.returncode) == (sys.prefix, 0), result.stderr
