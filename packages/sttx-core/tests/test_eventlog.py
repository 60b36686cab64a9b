"""The event log: the fields of a line, when nothing is written, and whole lines under concurrency."""

import datetime
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from sttx_core import environment
from sttx_core.errors import DataError, UsageError
from sttx_core.eventlog import EventLog


def lines_of(log):
    return [json.loads(line) for line in log.path.read_bytes().splitlines()]


def test_a_line_has_time_subsystem_and_event(tmp_path):
    log = EventLog("trainer", tmp_path)
    log.write("step", bpb=1.5, phrases=["a", "é"])
    (line,) = lines_of(log)
    assert list(line) == ["time", "subsystem", "event", "bpb", "phrases"]
    assert (line["subsystem"], line["event"], line["bpb"], line["phrases"]) == (
        "trainer",
        "step",
        1.5,
        ["a", "é"],
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["time"])
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(line["time"])
    assert abs(age.total_seconds()) < 60


def test_one_file_for_each_day_and_subsystem(tmp_path, monkeypatch):
    class Clock(datetime.datetime):
        days = iter([1, 1, 2])

        @classmethod
        def now(cls, tz=None):
            return cls(2026, 3, next(cls.days), 23, 59, tzinfo=tz)

    monkeypatch.setattr("sttx_core.eventlog.datetime", Clock)
    EventLog("a", tmp_path).write("x")
    EventLog("b", tmp_path).write("x")
    EventLog("a", tmp_path).write("x")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["a-2026-03-01.jsonl", "a-2026-03-02.jsonl", "b-2026-03-01.jsonl"]


def test_the_environment_names_the_folder_or_the_log_is_off(tmp_path, monkeypatch):
    monkeypatch.delenv("STTX_LOG_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    off = EventLog("x")
    off.write("nothing")
    assert off.path is None
    monkeypatch.setenv("STTX_LOG_DIR", "")
    assert environment.log_dir() is None
    monkeypatch.setenv("STTX_LOG_DIR", str(tmp_path / "deep" / "logs"))
    EventLog("x").write("something")
    assert len(list((tmp_path / "deep" / "logs").iterdir())) == 1
    EventLog("x", tmp_path / "given").write("something")
    assert len(list((tmp_path / "given").iterdir())) == 1
    assert off.path is None


def test_home_is_expanded(monkeypatch):
    monkeypatch.setenv("STTX_LOG_DIR", "~/logs")
    assert environment.log_dir() == Path.home() / "logs"


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (np.float32(0.5), 0.5),
        (np.arange(3), [0, 1, 2]),
        (np.bool_(True), True),
        (None, None),
        ([True, None, 1.5, "\ud800"], [True, None, 1.5, "\ufffd"]),
        (float("nan"), None),
        (Path("/a/b"), "/a/b"),
        (b"bytes", "b'bytes'"),
        ("two\nlines \u2028", "two\nlines \u2028"),
        ("lone \ud800", "lone \ufffd"),
        (2**70, str(2**70)),
        ({1: "k\ud800", "k\udfff": (2**64, float("inf"), np.arange(2), Path("/\udcff"))}, None),
    ],
)
def test_any_value_makes_one_valid_line(tmp_path, value, stored):
    log = EventLog("x", tmp_path)
    log.write("odd", value=value)
    (line,) = lines_of(log)
    if isinstance(value, dict):
        stored = {"1": "k\ufffd", "k\ufffd": [str(2**64), None, [0, 1], "/\ufffd"]}
    assert line["value"] == stored


def test_reserved_field_names_are_refused(tmp_path):
    log = EventLog("x", tmp_path)
    for name in ("time", "subsystem", "event"):
        with pytest.raises(UsageError, match=f"field '{name}'"):
            log.write("e", **{name: 1})
    assert log.path is not None and not log.path.exists()


@pytest.mark.parametrize("name", ["", "A", "a/b", "../a", "a b", "-a", "a\n"])
def test_subsystem_names_that_do_not_fit_a_file_name_are_refused(name, tmp_path):
    with pytest.raises(UsageError, match="subsystem"):
        EventLog(name, tmp_path)


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    log = EventLog("x", tmp_path / "file")
    with pytest.raises(DataError, match="cannot write the event log"):
        log.write("e")


def test_a_full_disk_is_an_error(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:5]))
    log = EventLog("x", tmp_path)
    with pytest.raises(DataError, match="only 5 of"):
        log.write("e")
    monkeypatch.undo()
    log.write("f")
    assert log.path is not None and [
        json.loads(line)["event"] for line in log.path.read_text().splitlines()
    ] == ["f"]


def test_logs_are_private_to_their_owner(tmp_path):
    log = EventLog("x", tmp_path)
    log.write("e")
    assert log.path is not None and log.path.stat().st_mode & 0o077 == 0


def test_a_deleted_file_is_created_again(tmp_path):
    log = EventLog("x", tmp_path)
    log.write("first")
    assert log.path is not None
    log.path.unlink()
    log.write("second")
    assert [line["event"] for line in lines_of(log)] == ["second"]


WRITER = """
from sttx_core.eventlog import EventLog

def write_many(directory, who, count):
    log = EventLog("shared", directory)
    for number in range(count):
        filling = str(who) * (1, 100, 5000, 70_000)[number % 4]
        log.write("e", who=who, number=number, filling=filling)
"""


def assert_whole_and_ordered(directory, writers, count):
    lines = [
        json.loads(line) for path in sorted(directory.iterdir()) for line in path.read_bytes().splitlines()
    ]
    assert len(lines) == writers * count
    for who in range(writers):
        own = [line for line in lines if line["who"] == who]
        assert [line["number"] for line in own] == list(range(count))
        assert all(set(line["filling"]) == {str(who)} for line in own)


def test_lines_stay_whole_under_threads(tmp_path):
    names = {}
    exec(WRITER, names)
    threads = [threading.Thread(target=names["write_many"], args=(tmp_path, who, 60)) for who in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_whole_and_ordered(tmp_path, 6, 60)


def test_lines_stay_whole_under_processes(tmp_path):
    scripts = [f"{WRITER}\nwrite_many({str(tmp_path)!r}, {who}, 200)" for who in range(4)]
    processes = [subprocess.Popen([sys.executable, "-c", script]) for script in scripts]
    assert [process.wait(300) for process in processes] == [0] * 4
    assert_whole_and_ordered(tmp_path, 4, 200)
