"""The real npm ccsniff, run by our shim, follows a folder while it is written to."""

import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from sttx_ccsniff import open_source
from sttx_ccsniff.live.content import VERSION
from sttx_ccsniff.live.install import shim_command
from sttx_core.traces import trace_type

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed"),
]

SESSIONS = Path(__file__).parent.parent / "test-data" / "sessions"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Return a cache folder with the pinned ccsniff from npm, and the messages of its installation."""
    cache, messages = tmp_path_factory.mktemp("cache"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STTX_CACHE_DIR", str(cache))
        shim_command(cache, messages.append)
    return cache, messages


@pytest.fixture
def projects(installed, tmp_path, monkeypatch):
    """Return Claude Code's projects folder in an otherwise empty home folder."""
    folder = tmp_path / ".claude" / "projects"
    folder.mkdir(parents=True)
    monkeypatch.setenv("STTX_CACHE_DIR", str(installed[0]))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    return folder


def by_document(traces):
    """Return the traces of each document in order: sessions may interleave in any way."""
    documents: dict[str, list[object]] = {}
    for trace in traces:
        documents.setdefault(trace.document, []).append(
            (trace_type(trace), trace.meta.uid, trace.meta.subagent)
        )
    return documents


def test_the_pinned_version_is_installed_with_one_message(installed):
    cache, messages = installed
    assert len(messages) == 1 and VERSION in messages[0]
    package = cache / f"ccsniff-{VERSION}" / "node_modules" / "ccsniff" / "package.json"
    assert json.loads(package.read_text())["version"] == VERSION


def test_the_history_through_ccsniff_equals_the_files(projects):
    shutil.copytree(SESSIONS, projects, dirs_exist_ok=True)
    with open_source("live", follow=False) as source:
        live = list(source)
    with open_source(projects) as native:
        files = list(native)
    assert live == files
    assert source.report.as_dict() == native.report.as_dict()
    assert source.cursor == native.cursor


class Writer(threading.Thread):
    """Writes session files as Claude Code does: line by line, some in two halves, one by a sub-agent."""

    def __init__(self, projects, turns):
        super().__init__(daemon=True)
        self.folder = projects / "-home-ada-orchard"
        self.turns = turns
        self.written = {}

    def run(self):
        for turn in range(self.turns):
            for session, agent in (("s1", ""), ("s2", ""), ("s1", "q")):
                self.turn(session, agent, turn)
            time.sleep(0.01)

    def turn(self, session, agent, turn):
        name = f"{session}/subagents/agent-{agent}.jsonl" if agent else f"{session}.jsonl"
        call = {"type": "tool_use", "id": f"{session}{agent}{turn}", "name": "Bash", "input": {"n": turn}}
        answer = {"type": "tool_result", "tool_use_id": call["id"], "content": f"日本語 {turn}\n"}
        self.line(name, session, agent, f"{turn}a", "assistant", {"type": "text", "text": f"turn {turn}"})
        self.line(name, session, agent, f"{turn}b", "assistant", call)
        self.line(name, session, agent, f"{turn}c", "user", answer, halves=True)

    def line(self, name, session, agent, uuid, role, block, halves=False):
        record = {
            "type": role,
            "uuid": f"{session}{agent}{uuid}",
            "sessionId": session,
            "isSidechain": bool(agent),
        }
        record |= {"agentId": agent} if agent else {}
        record["message"] = {"role": role, "id": "m", "content": [block]}
        data = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        middle = data.index("本".encode()) + 1 if halves else len(data)
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for half in (data[:middle], data[middle:]):
            with path.open("ab", buffering=0) as file:
                file.write(half)
            time.sleep(0.003 if halves else 0)
        self.written[record["uuid"]] = time.monotonic()


def test_new_records_arrive_once_whole_and_soon(projects, tmp_path):
    (projects / "-home-ada-orchard").mkdir()
    turns = 40
    writer = Writer(projects, turns)
    traces, delays = [], []
    with open_source("live", idle_timeout=20, capacity=16) as source:
        first = projects / "-home-ada-orchard" / "before.jsonl"
        first.write_text('{"type":"user","uuid":"before","sessionId":"s0","message":{"content":"Hi"}}\n')
        assert next(source).text == "Hi"
        writer.start()
        for trace in source:
            traces.append(trace)
            writer_time = writer.written.get(trace.meta.uid)
            delays.append(time.monotonic() - writer_time if writer_time else 0.0)
            if len(traces) == 9 * turns:
                break
    documents = by_document(traces)
    assert set(documents) == {"s1", "s2", "s1/q"}
    for document, agent in (("s1", ""), ("s2", ""), ("s1/q", "q")):
        name = document.replace("/", "")
        kinds = (("a", "assistant_message"), ("b", "tool_use"), ("c", "tool_result"))
        expected = [(kind, f"{name}{turn}{part}", agent) for turn in range(turns) for part, kind in kinds]
        assert documents[document] == expected
    results = [trace for trace in traces if trace_type(trace) == "tool_result"]
    assert {trace.name for trace in results} == {"Bash"}
    assert {trace.output for trace in results} == {f"日本語 {turn}\n" for turn in range(turns)}
    assert source.report.malformed == {} and source.report.noted == {}
    assert sorted(delays)[len(delays) // 2] < 2.0, "the median delay is too long, even for a busy machine"


def test_no_file_of_the_user_is_copied_or_changed(projects, tmp_path):
    shutil.copytree(SESSIONS, projects, dirs_exist_ok=True)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with open_source("live", follow=False) as source:
        list(source)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert before == after
    assert not (tmp_path / ".claude" / "history-backup").exists()


@pytest.mark.parametrize("spec", ["live", "claude"])
def test_an_interrupted_run_resumes(projects, spec):
    shutil.copytree(SESSIONS, projects, dirs_exist_ok=True)
    with open_source("live", follow=False) as source:
        whole = list(source)
    with open_source("live", follow=False) as source:
        first = [next(source) for _ in range(57)]
        cursor = json.loads(json.dumps(source.cursor))
    with open_source(spec, follow=False, cursor=cursor) as source:
        rest = list(source)
    assert first + rest == whole


def test_the_watcher_ends_with_the_source(projects):
    with open_source("live", idle_timeout=0.5) as source:
        assert list(source) == []
    if os.path.isdir("/proc"):
        mine = f"\0{projects}\0".encode()
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                assert mine not in b"\0" + process.read_bytes()
            except OSError:
                continue
