"""The source that is read when none is named, and Claude Code's folder."""

import json
from pathlib import Path

import pytest

from sttx_ccsniff import open_source
from sttx_ccsniff.default_source import claude_history, default_source, sample_folder

TEST_DATA = Path(__file__).parents[3] / "test-data"


@pytest.fixture
def claude(tmp_path, monkeypatch):
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path))
    return tmp_path


def test_the_history_is_preferred(claude):
    project = claude / "projects" / "-p"
    project.mkdir(parents=True)
    (project / "s.jsonl").write_text("{}\n")
    chosen = default_source()
    assert chosen.spec == "claude"
    assert "holds sessions: 1 files" in chosen.reason


@pytest.mark.parametrize("empty", [False, True])
def test_without_history_the_sample_is_read_with_a_reason(claude, empty):
    if empty:
        (claude / "projects").mkdir()
    chosen = default_source()
    assert chosen.spec == str(sample_folder())
    assert "the sample that comes with sttx" in chosen.reason


def test_every_session_of_the_sample_has_tool_calls():
    with open_source(sample_folder()) as source:
        traces = list(source)
        for trace in traces:
            source.report.measure(trace)
    report = source.report.as_dict()
    assert report["sessions"] == 3
    assert report["traces"]["tool_use"] > 20
    assert report["text_bytes"] > 40_000
    assert len(traces) == sum(report["traces"].values())


@pytest.mark.skipif(not TEST_DATA.is_dir(), reason="the package is tested without the repository around it")
def test_the_sample_is_a_copy_of_the_test_data():
    copies = sorted(sample_folder().iterdir())
    assert len(copies) == 3
    for copy in copies:
        (original,) = TEST_DATA.glob(f"sessions/*/{copy.name}")
        assert copy.read_bytes() == original.read_bytes(), "run test-data/make_sample.py"


@pytest.mark.parametrize(
    ("settings", "days"),
    [
        (None, 30),
        ({}, 30),
        ({"cleanupPeriodDays": 365}, 365),
        ({"cleanupPeriodDays": "x"}, None),
        ([], None),
    ],
)
def test_the_cleanup_setting(claude, settings, days):
    if settings is not None:
        (claude / "settings.json").write_text(json.dumps(settings))
    assert claude_history() == (claude / "projects", 0, days)


def test_unreadable_settings(claude):
    (claude / "settings.json").write_text("{")
    assert claude_history().cleanup_days is None
