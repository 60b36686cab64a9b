"""Writes the lists of files in `architecture.md` from each file's first sentence: `python docs/rooms.py`.

So a file says once what it is, at its own top. A test fails while the page says anything else.
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN = "<!-- From here on written by docs/rooms.py -->"
END = "<!-- Down to here -->"

ROOMS = {
    "sttx-core": "packages/sttx-core/src/sttx_core",
    "sttx-ccsniff": "packages/sttx-ccsniff/src/sttx_ccsniff",
    "sttx-train": "packages/sttx-train/src/sttx_train",
    "sttx-cli": "packages/sttx-cli/src/sttx_cli",
    "The embedded model's recipe": "packages/sttx-train/recipes",
    "Benchmarks": "benchmarks",
    "Examples": "examples",
    "Test data": "test-data",
    "Tests of what crosses packages": "tests",
}


def first_sentence(source: str) -> str:
    r"""Return what a file says that it is.

    >>> first_sentence('"' * 3 + 'A queue. It knows nothing of\nits items.' + '"' * 3)
    'A queue.'
    """
    paragraph = (ast.get_docstring(ast.parse(source)) or "").split("\n\n")[0]
    sentence, stop, _ = f"{' '.join(paragraph.split())} ".partition(". ")
    return f"{sentence}{stop}".strip()


def lines(folder: Path) -> list[str]:
    """Return one line a file, the package's own first."""
    files = sorted(path for path in folder.rglob("*.py") if path.name != "__main__.py")
    files.sort(key=lambda path: (path.parent.relative_to(folder).parts, path.name != "__init__.py"))
    return [f"| `{path.relative_to(folder)}` | {first_sentence(path.read_text())} |" for path in files]


def rooms() -> str:
    """Return all lists, as they stand in the page."""
    sections = []
    for title, name in ROOMS.items():
        listed = lines(ROOT / name)
        if listed:
            sections.append(
                "\n".join([f"### {title}", "", f"`{name}/`", "", "| file | |", "| --- | --- |", *listed])
            )
    return "\n\n".join(sections)


def page(text: str) -> str:
    """Return the page with its lists as they should be."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        sys.exit(f"{PAGE.name} has lost its marks {BEGIN!r} and {END!r}: put them back")
    return f"{before}{BEGIN}\n\n{rooms()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
