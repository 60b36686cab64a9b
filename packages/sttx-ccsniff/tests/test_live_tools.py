"""Whether `live` can run here: nothing is installed to find out."""

import json

import pytest

from sttx_ccsniff import live_tools
from sttx_ccsniff.live.install import INTEGRITY, VERSION


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Return a function that puts a program on an otherwise empty PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("STTX_CACHE_DIR", str(tmp_path / "cache"))

    def put(name, body):
        path = folder / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    return put


def tools():
    return {tool.name: (tool.ready, tool.detail) for tool in live_tools()}


def test_missing_programs_and_what_needs_them(programs):
    assert tools()["node"] == (False, "not found: only `live` needs it (version 20 or newer)")
    assert tools()["npm"] == (False, "not found: only `live` needs it, once, to install ccsniff")


@pytest.mark.parametrize(
    ("body", "ready"),
    [("echo v20.1.0", True), ("echo v9.9.9", False), ("echo nonsense", False), ("exit 1", False)],
)
def test_which_node_is_ready(programs, body, ready):
    programs("node", body)
    assert tools()["node"][0] is ready


@pytest.mark.parametrize("integrity", [INTEGRITY, "sha512-other", None])
def test_only_the_pinned_ccsniff_counts_as_installed(programs, tmp_path, integrity):
    if integrity:
        package = tmp_path / "cache" / f"ccsniff-{VERSION}" / "node_modules" / "ccsniff"
        (package / "src").mkdir(parents=True)
        (package / "src" / "index.js").write_text("")
        (package / "package.json").write_text("{}")
        entry = {"version": VERSION, "integrity": integrity}
        lock = {"packages": {"node_modules/ccsniff": entry}}
        (package.parent / ".package-lock.json").write_text(json.dumps(lock))
    before = sorted(tmp_path.rglob("*"))
    ready, detail = tools()["ccsniff"]
    assert ready and ("is installed into" in detail) is (integrity != INTEGRITY)
    assert sorted(tmp_path.rglob("*")) == before
