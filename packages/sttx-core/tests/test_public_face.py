"""The package's face: sorted names, a light import, one tree of errors, a README that runs."""

import ast
import contextlib
import importlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sttx_core
from sttx_core import checks, errors, memory, tokenizers

PACKAGE = Path(sttx_core.__file__).parent
README = Path(__file__).parent.parent / "README.md"


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    "module", [sttx_core, checks, memory, tokenizers], ids=lambda module: module.__name__
)
def test_all_is_sorted_and_every_name_exists(module):
    assert module.__all__ == sorted(module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(getattr(module, name).__doc__ for name in module.__all__)


def test_importing_loads_nothing_heavy():
    done = run("import sys, sttx_core; print({'torch', 'numpy', 'fla'} & set(sys.modules))")
    assert (done.stdout.strip(), done.stderr) == ("set()", "")


def test_everything_except_the_hypernetwork_works_without_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from sttx_core import *\n"
        "from sttx_core.checks import *\n"
        "check_replay(ReplayBuffer); check_tokenizer(ByteTokenizer)\n"
        "import sttx_core\n"
        "try: sttx_core.HyperNetwork\n"
        "except ImportError: print('needs torch')"
    )
    done = run(code)
    assert (done.stdout.strip(), done.stderr) == ("needs torch", "")


def test_lazy_names_load():
    from sttx_core import ReplayBuffer
    from sttx_core.replay import ReplayBuffer as at_home

    assert ReplayBuffer is at_home
    with pytest.raises(AttributeError, match="no attribute 'Replay'"):
        _ = sttx_core.Replay  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ImportError):
        from sttx_core import Nothing  # pyright: ignore[reportAttributeAccessIssue]  # noqa: F401


def test_the_hypernetwork_loads_by_name():
    pytest.importorskip("torch")
    assert sttx_core.HyperNetwork.__module__ == "sttx_core.hypernet"
    assert "HyperNetwork" not in sttx_core.__all__


def test_render_is_the_function():
    importlib.import_module("sttx_core.render")
    from sttx_core import render

    assert callable(render)


def test_exit_codes_of_the_error_tree():
    tree = {
        errors.SttxError: (Exception, 1),
        errors.UsageError: (errors.SttxError, 2),
        errors.DataError: (errors.SttxError, 1),
        errors.SourceError: (errors.DataError, 1),
        errors.CheckpointError: (errors.DataError, 1),
        errors.ModelError: (errors.DataError, 1),
    }
    for error, (parent, code) in tree.items():
        assert error.__bases__ == (parent,)
        assert error.exit_code == code
    assert errors.SttxWarning.__bases__ == (UserWarning,)
    public = {error for error in vars(errors).values() if isinstance(error, type)}
    assert public == {*tree, errors.SttxWarning}
    assert all(error.__name__ in (errors.__doc__ or "") for error in tree)


def sources():
    return sorted(PACKAGE.rglob("*.py"))


def test_only_the_environment_file_reads_the_environment():
    readers = [path.name for path in sources() if re.search(r"\benviron\b|getenv", path.read_text())]
    assert readers == ["environment.py"]


def test_only_the_hypernetwork_imports_torch():
    importers = []
    for path in sources():
        nodes = ast.walk(ast.parse(path.read_text()))
        names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        nodes = ast.walk(ast.parse(path.read_text()))
        names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        if any(name.split(".")[0] == "torch" for name in names):
            importers.append(path.name)
    assert importers == ["hypernet.py"]


def test_every_file_has_a_docstring():
    assert [path.name for path in sources() if not ast.get_docstring(ast.parse(path.read_text()))] == []


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_readme_prints_what_it_says():
    example, *others = blocks("python")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(example, {})
    assert printed.getvalue() == blocks("text")[0]
    for block in others:
        exec(block, {})


def test_the_readme_names_every_file():
    named = {
        name.rstrip("/") for name in re.findall(r"^\| `([a-z_/]+)` \|", README.read_text(), re.MULTILINE)
    }
    there = {
        path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert named == there - {"__init__"}
