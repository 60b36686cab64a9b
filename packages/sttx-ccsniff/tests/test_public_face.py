import ast
import subprocess
import sys
from pathlib import Path

import sttx_ccsniff
from sttx_ccsniff import SourceReport, environment
from sttx_ccsniff.report import TRACE_TYPES

SOURCES = sorted(Path(sttx_ccsniff.__file__).parent.glob("*.py"))


def test_the_public_names_are_sorted_and_exist():
    assert sttx_ccsniff.__all__ == sorted(sttx_ccsniff.__all__)
    assert all(getattr(sttx_ccsniff, name).__doc__ for name in sttx_ccsniff.__all__)


def test_importing_loads_nothing_heavy():
    script = (
        "import sys, sttx_ccsniff; print(sorted({'torch', 'transformers', 'zstandard'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_environment_is_read_in_one_place():
    for path in SOURCES:
        reads = {"environ", "getenv"} & {
            node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
        }
        assert bool(reads) == (path.name == "environment.py"), path.name


def test_the_folders_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CLAUDE_CONFIG_DIR", "STTX_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert environment.claude_projects() == tmp_path / ".claude" / "projects"
    assert environment.cache_folder() == tmp_path / ".cache" / "sttx"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert environment.cache_folder() == Path("/x/sttx")
    monkeypatch.setenv("STTX_CACHE_DIR", "/y")
    assert environment.cache_folder() == Path("/y")
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", "/c")
    assert environment.claude_projects() == Path("/c/projects")


def test_a_report_has_every_trace_type():
    report = SourceReport().as_dict()
    assert report["traces"] == dict.fromkeys(TRACE_TYPES, 0)
    assert {
        "records",
        "traces",
        "sessions",
        "bytes_read",
        "text_bytes",
        "malformed",
        "skipped",
    } <= report.keys()


def test_reasons_are_bounded():
    report = SourceReport()
    for number in range(1000):
        report.skip(f"attachment: {number} " + "x" * 1000)
    assert len(report.skipped) == 201 and max(map(len, report.skipped)) == 80
    assert report.skipped.total() == 1000
