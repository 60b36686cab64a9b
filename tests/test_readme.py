"""Every bash and python block of the documentation runs as a reader would run it, and prints what it says.

The blocks of one page run in order, in a copy of the files that git holds, so a block finds what the blocks
before it left. A python block is a program of its own. `<!-- not run: why -->` before a block skips it: for
what needs the network or a GPU, or takes too long. A text block after the words "It prints" is compared with
what the block before it printed on standard output. After "It prints about", lines may be wrapped, `…` stands
for any text within a line, and decimal numbers may differ by 2 percent.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "packages").glob("*/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
RUN_BY = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
OTHER_NAMES = {"sh", "shell", "zsh", "console", "py", "python3", "pycon"}

FENCE = re.compile(r"^(```+)(\w*)[^\n]*\n(.*?)^\1[ \t]*$", re.DOTALL | re.MULTILINE)
NOT_RUN = re.compile(r"<!-- not run: *(.*?) *-->\s*\Z", re.DOTALL)
PRINTS = re.compile(r"It prints( about)?:?\s*\Z")
DECIMAL = re.compile(r"\d+\.\d+")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One runnable block: its page, the line of its fence, and the output that the page shows."""

    page: Path
    line: int
    language: str
    code: str
    skip: str | None = None
    prints: str | None = None
    prints_about: str | None = None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(text: str, page: Path = ROOT / "README.md") -> list[Block]:
    found: list[Block] = []
    end = 0
    for match in FENCE.finditer(text):
        between, language, code = text[end : match.start()], match[2], match[3]
        end = match.end()
        line = text.count("\n", 0, match.start()) + 1
        assert language not in OTHER_NAMES, f"{page.name}:{line}: write bash, python or text, not {language}"
        if language in RUN_BY:
            mark = NOT_RUN.search(between)
            assert mark is None or mark[1], f"{page.name}:{line}: say why this block is not run"
            skip = mark[1] if mark else None
            found.append(Block(page=page, line=line, language=language, code=code, skip=skip))
        elif language == "text" and found and (mark := PRINTS.search(between)):
            found[-1] = replace(found[-1], **{"prints_about" if mark[1] else "prints": code})
    rest = FENCE.sub("", text)
    assert "```" not in rest, f"{page.name} has a fence that does not end, or one inside a list"
    return found


ALL = [block for page in PAGES if page.exists() for block in blocks(page.read_text(), page)]
RUNNABLE = {
    page.relative_to(ROOT).as_posix(): list(chain)
    for page, chain in groupby((block for block in ALL if not block.skip), lambda block: block.page)
}


def copy_of_repository(folder: Path) -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)


def environment(folder: Path) -> dict[str, str]:
    """Return this environment, with the packages as installed and without anybody's own sessions."""
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
        timeout=600,
        check=False,
    )


def about_the_same(printed: str, shown: str) -> bool:
    """Return whether the output is as shown: `…` is any text in a line, decimals may differ by 2%."""
    words = [re.escape(word).replace("…", ".*") for word in shown.split()]
    pattern = re.sub(r"\d+\\\.\d+", r"(\\d+\\.\\d+)", r"\s+".join(words))
    match = re.fullmatch(pattern, printed.strip())
    numbers = [float(number) for number in DECIMAL.findall(shown)]
    return bool(match) and [float(number) for number in match.groups()] == pytest.approx(numbers, rel=0.02)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", RUNNABLE)
def test_the_blocks_of_a_page_run_in_order(page, tmp_path):
    folder = tmp_path / "sttx"
    copy_of_repository(folder)
    for block in RUNNABLE[page]:
        result = run(block, folder)
        assert result.returncode == 0, (
            f"{block}\n{block.code}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
        )
        if block.prints is not None:
            assert result.stdout == block.prints, block
        if block.prints_about is not None:
            assert about_the_same(result.stdout, block.prints_about), f"{block} prints\n{result.stdout}"


def test_the_readme_shows_the_main_command():
    readme = [block for block in ALL if block.page == ROOT / "README.md" and not block.skip]
    assert any("sttx train" in block.code for block in readme)


# --- reading a page, and noticing a block that fails


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

```bash
four
```

It prints about:

```text
4.0 …
```

```
a tree
```
"""
    first, second, third, fourth = blocks(text)
    assert (first.line, first.language, first.code, first.skip, first.prints) == (
        3,
        "bash",
        "one\n",
        None,
        None,
    )
    assert second.skip == "needs a GPU"
    assert (third.language, third.skip, third.prints, third.prints_about) == ("python", None, "3\n", None)
    assert (fourth.prints, fourth.prints_about) == (None, "4.0 …\n")


@pytest.mark.parametrize(
    ("printed", "same"),
    [
        ("Paid 1.92 bits in 3.1 s.\n", True),
        ("Paid 1.94 bits in 95 s.\n", True),
        ("Paid 1.92 bits\nin 3.1 s.\n", True),
        ("Paid 1.97 bits in 3.1 s.\n", False),
        ("Cost 1.92 bits in 3.1 s.\n", False),
        ("Paid 1.92 bits in 3.1 s.\nMore.\n", False),
    ],
)
def test_output_shown_about(printed, same):
    assert about_the_same(printed, "Paid 1.92 bits in … s.\n") == same


@pytest.mark.parametrize(
    "text",
    [
        "```sh\nls\n```\n",
        "```console\n$ ls\n```\n",
        "<!-- not run: -->\n```bash\nls\n```\n",
        "```bash\nls\n",
        "- item\n  ```bash\n  ls\n  ```\n",
    ],
    ids=["other name", "prompt", "no reason", "no end", "in a list"],
)
def test_a_block_that_would_not_run_is_an_error(text):
    with pytest.raises(AssertionError):
        blocks(text)


def test_a_mark_applies_to_the_next_block_only():
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
def test_a_failing_block_is_noticed(tmp_path, language, code):
    block = Block(page=PAGES[0], line=1, language=language, code=code)
    assert run(block, tmp_path).returncode != 0


def test_uv_run_uses_this_environment(tmp_path):
    block = Block(
        page=PAGES[0], line=1, language="bash", code='uv run python -c "import sys; print(sys.prefix)"\n'
    )
    result = run(block, tmp_path)
    assert (result.stdout.strip(), result.returncode) == (sys.prefix, 0), result.stderr
