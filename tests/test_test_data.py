"""The test data equals what its scripts write, is small and names no real machine."""

import json
import subprocess
import sys
from pathlib import Path

from sttx_ccsniff import open_source

DATA = Path(__file__).parent.parent / "test-data"


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_sessions_equal_what_their_script_writes(tmp_path):
    script = [sys.executable, "-B", str(DATA / "make_sessions.py"), str(tmp_path / "sessions")]
    subprocess.run(script, check=True)
    assert files(tmp_path / "sessions") == files(DATA / "sessions")


def test_the_fixture_holds_rows_of_these_sessions():
    rows = [json.loads(line) for line in (DATA / "ccsniff-fixture.ndjson").read_text().split("\n") if line]
    assert len(rows) >= 200
    keys = {"ts", "iso", "sid", "parent", "cwd", "project", "role", "type", "tool", "isMeta", "text"}
    assert all(set(row) == keys for row in rows)
    sessions = {path.stem for path in (DATA / "sessions").rglob("*.jsonl")}
    assert {row["sid"] for row in rows} <= sessions
    assert {row["cwd"] for row in rows} == {"/home/ada/sttx", "/home/ada/orchard", "-home-ada-sttx"}


def test_the_fixture_is_long_enough_to_learn_from():
    with open_source(DATA / "ccsniff-fixture.ndjson", say=lambda message: None) as source:
        for trace in source:
            source.report.measure(trace)
    report = source.report.as_dict()
    assert report["text_bytes"] > 90_000 and report["malformed"] == 0
    assert all(
        report["traces"][kind] > 30
        for kind in ("user_message", "assistant_message", "tool_use", "tool_result")
    )


def test_the_data_stays_small():
    contents = {name: data for name, data in files(DATA).items() if "__pycache__" not in name}
    assert sum(map(len, contents.values())) < 1_000_000
