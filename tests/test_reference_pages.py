"""The reference pages match the code: docs/cli.md, docs/environment.md and the README of each package."""

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from sttx_cli import COMMANDS

ROOT = Path(__file__).parents[1]
ENVIRONMENT = ROOT / "docs" / "environment.md"


@pytest.fixture(scope="module")
def commands() -> ModuleType:
    spec = importlib.util.spec_from_file_location("commands", ROOT / "docs" / "commands.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(commands) -> str:
    return commands.page()


def test_the_command_line_page_is_up_to_date(commands, page):
    assert commands.PAGE.read_text() == page, "run `uv run python docs/commands.py`"


def test_the_command_line_page_has_every_command_in_order(page):
    titles = re.findall(r"^## (sttx.*)$", page, re.MULTILINE)
    groups = [title for title in titles if title.count(" ") < 2]  # `sttx data build` belongs to `sttx data`
    assert groups == ["sttx", *(f"sttx {name}" for name in COMMANDS)]
    assert page.count("-h, --help") == len(titles)


def test_every_option_has_its_own_help_sentence():
    import click

    from sttx_cli.app import cli

    context = click.Context(cli)
    commands = {name: cli.get_command(context, name) for name in COMMANDS}
    groups = {name: command for name, command in commands.items() if isinstance(command, click.Group)}
    for name, group in groups.items():
        commands |= {f"{name} {inner}": command for inner, command in group.commands.items()}
    for name, command in commands.items():
        assert command is not None
        helps = [option.help or "" for option in command.params if isinstance(option, click.Option)]
        assert [text for text in helps if not re.fullmatch(r"[A-Z].*\.", text, re.DOTALL)] == [], name
        assert len(helps) == len(set(helps)), name


# --- the environment


def variables_read() -> dict[str, set[str]]:
    """Return the variables that each package's `environment.py` reads."""
    variables: dict[str, set[str]] = {}
    for path in sorted((ROOT / "packages").glob("*/src/*/environment.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.get", "os.getenv"):
                assert isinstance(node.args[0], ast.Constant), ast.unparse(node)
                variables.setdefault(path.parts[-4], set()).add(str(node.args[0].value))
    return variables


def variables_listed(text: str) -> dict[str, set[str]]:
    variables: dict[str, set[str]] = {}
    for name, package in re.findall(r"^\| `(\w+)` \| (sttx-\w+) \| \S", text, re.MULTILINE):
        variables.setdefault(package, set()).add(name)
    return variables


def test_the_environment_page_lists_exactly_what_is_read():
    assert variables_listed(ENVIRONMENT.read_text()) == variables_read()
    assert {"sttx-core", "sttx-ccsniff"} <= variables_read().keys()


def test_an_unlisted_variable_is_noticed():
    text = ENVIRONMENT.read_text().replace("| `STTX_LOG_DIR` ", "| `STTX_LOGS` ")
    assert variables_listed(text) != variables_read()


def test_our_variables_are_named_only_where_they_are_read():
    ours = {name for names in variables_read().values() for name in names if name.startswith("STTX_")}
    sources = [*(ROOT / "packages").glob("*/src/**/*.py"), *(ROOT / "packages").glob("*/src/**/*.mjs")]
    named = {name for path in sources for name in re.findall(r"\bSTTX_[A-Z_]+", path.read_text())}
    assert named == ours


# --- the packages' READMEs


@pytest.mark.parametrize("package", ["sttx_ccsniff", "sttx_cli", "sttx_train"])
def test_a_package_readme_names_every_file(package):
    folder = ROOT / "packages" / package.replace("_", "-")
    rows = re.findall(r"^\| ((?:`[^`]+`(?:, )?)+) \| \S", (folder / "README.md").read_text(), re.MULTILINE)
    named = {name.rstrip("/") for row in rows for name in re.findall(r"`([^`]+)`", row)}
    source = folder / "src" / package
    files = {path.name for path in source.glob("*.py")} - {"__init__.py", "__main__.py"}
    files |= {path.parent.name for path in source.glob("*/__init__.py")}
    assert files - named == set()
    assert [name for name in named if name.endswith(".py") and name not in files] == []
