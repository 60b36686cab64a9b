"""Files of other agents through `open_source`: recognized by content, resumed; registered formats."""

import itertools
import json
import random
from typing import Any

import pytest

from sttx_ccsniff import open_source
from sttx_ccsniff.environment import codex_sessions, opencode_stores
from sttx_ccsniff.exports.pairs import PairParser
from sttx_ccsniff.read import formats
from sttx_ccsniff.read.formats import AutoParser, register
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.checks import check_source
from sttx_core.errors import UsageError
from sttx_core.traces import UserMessage

META = {
    "timestamp": "2026-01-02T03:04:05Z",
    "type": "session_meta",
    "payload": {"id": "t", "cwd": "/x/orchard"},
}


def item(kind: str, **fields: Any) -> dict[str, Any]:
    return {"timestamp": "2026-01-02T03:04:06Z", "type": "response_item", "payload": {"type": kind, **fields}}


ROLLOUT = [META]
for number in range(20):
    said = {"type": "input_text", "text": f"tree {number}"}
    ROLLOUT.append(item("message", role="user", content=[said]))
    ROLLOUT.append(item("function_call", name="shell", arguments="{}", call_id=f"c{number}"))
    ROLLOUT.append(item("function_call_output", call_id=f"c{number}", output="done"))


@pytest.fixture
def known_formats():
    before = list(formats.FORMATS)
    yield
    formats.FORMATS[:] = before


class Upper(PairParser):
    name = "upper"


class Lower(PairParser):
    name = "upper"


def test_a_rollout_is_recognized_by_its_content(session_file):
    path = session_file("any.jsonl", *ROLLOUT)
    with open_source(path) as source:
        traces = list(source)
    assert source.report.formats == {"codex": 1}
    assert len(traces) == 60
    assert {trace.meta.session for trace in traces} == {"t"}


def test_a_rollout_passes_the_source_check(session_file):
    path = session_file("sessions/2026/01/02/rollout.jsonl", *ROLLOUT)
    check_source(lambda cursor: open_source(path, cursor=cursor))
    check_source(lambda cursor: open_source(path.parents[3], cursor=cursor, capacity=1))


def test_a_rollout_next_to_claude_codes_sessions(session_file, record):
    session_file("b.jsonl", record(content="Hi"), record("assistant", "Hello"))
    folder = session_file("a.jsonl", *ROLLOUT).parent
    with open_source(folder) as source:
        traces = list(source)
    assert source.report.formats == {"codex": 1, "claude-code": 1}
    assert len(traces) == 62


@pytest.mark.parametrize("seed", range(5))
def test_runs_interrupted_anywhere_deliver_each_item_once(tmp_path, seed):
    rng = random.Random(seed)
    fork = [{**META, "payload": {"id": "f", "forked_from_id": "t"}}, META, *ROLLOUT[1:20]]
    fork += [item("function_call", name="shell", arguments="{}", call_id=f"f{number}") for number in range(9)]
    contents = [b"".join(json.dumps(line).encode() + b"\n" for line in lines) for lines in (ROLLOUT, fork)]
    taken, cursor = [], None
    for number, content in enumerate(contents):
        path = tmp_path / f"{number}.jsonl"
        at = 0
        while at < len(content):
            more = rng.randrange(1, 2500)
            with path.open("ab") as file:
                file.write(content[at : at + more])
            at += more
            with open_source(tmp_path, cursor=cursor) as source:
                taken += itertools.islice(source, rng.randrange(12))
                cursor = json.loads(json.dumps(source.cursor))
    with open_source(tmp_path, cursor=cursor) as source:
        taken += source
    assert [trace.meta.uid for trace in taken if trace.meta.session == "t"] == [
        f"t:{n}" for n in range(2, 62)
    ]
    assert [trace.meta.uid for trace in taken if trace.meta.session == "f"] == [
        f"f:{n}" for n in range(22, 31)
    ]


def test_a_registered_format_is_tried_first(known_formats):
    register(lambda record: "shout" in record, Upper)
    register(lambda record: "shout" in record, Upper)
    assert [kind.parser.name for kind in formats.FORMATS].count("upper") == 1
    parser = AutoParser("x", SourceReport(), Seen())
    parser.feed(b'{"shout":1,"prompt":"a","completion":"b"}')
    assert parser.name == "upper"
    again = AutoParser("x", SourceReport(), Seen())
    again.load_state_dict(json.loads(json.dumps(parser.state_dict())))
    assert again.name == "upper"


def test_a_duplicate_name_is_refused(known_formats):
    register(lambda record: "shout" in record, Upper)
    with pytest.raises(UsageError, match="'upper' exists already"):
        register(lambda record: "shout" in record, Lower)


def test_a_state_of_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match="state"):
        AutoParser("x", SourceReport(), Seen()).load_state_dict(["upper", [1]])


def test_the_stores_of_other_agents(monkeypatch, tmp_path):
    for name in ("CODEX_HOME", "XDG_DATA_HOME", "OPENCODE_DB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    assert codex_sessions() == tmp_path / ".codex" / "sessions"
    folder = tmp_path / ".local" / "share" / "opencode"
    assert opencode_stores() == [folder / "opencode.db"]
    folder.mkdir(parents=True)
    for name in ("opencode-dev.db", "opencode.db", "opencode.db-wal", "notes.db"):
        (folder / name).touch()
    assert opencode_stores() == [folder / "opencode.db", folder / "opencode-dev.db"]
    monkeypatch.setenv("OPENCODE_DB", "mine.db")
    assert opencode_stores()[-1] == folder / "mine.db"
    monkeypatch.delenv("OPENCODE_DB")
    monkeypatch.setenv("CODEX_HOME", "/c")
    monkeypatch.setenv("XDG_DATA_HOME", "/d")
    assert codex_sessions().as_posix() == "/c/sessions"
    assert [path.as_posix() for path in opencode_stores()] == ["/d/opencode/opencode.db"]


def test_a_typed_prompt_is_a_user_message(session_file):
    with open_source(session_file("any.jsonl", *ROLLOUT)) as source:
        assert isinstance(next(source), UserMessage)
