import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sttx_ccsniff import open_source
from sttx_ccsniff.claude_code.identity import identity_of
from sttx_ccsniff.claude_code.kinds import BOOK_KEEPING, recognizes
from sttx_ccsniff.claude_code.parser import SessionParser
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.render import render
from sttx_core.traces import AssistantMessage, Other, Thinking, ToolResult, ToolUse, UserMessage, trace_type


class Reader:
    """A parser with its report that takes records instead of bytes."""

    def __init__(self, origin="/projects/slug/file.jsonl", report=None, seen=None):
        self.report = SourceReport() if report is None else report
        self.parser = SessionParser(origin, self.report, Seen() if seen is None else seen)

    def __call__(self, *records):
        return [trace for record in records for trace in self.parser.feed(json.dumps(record).encode())]

    @property
    def counted(self):
        return {**self.report.skipped, **self.report.malformed}


@pytest.fixture
def read():
    return Reader()


def text(words):
    return {"type": "text", "text": words}


def use(call, name="Bash", **given):
    return {"type": "tool_use", "id": call, "name": name, "input": given}


def result(call, content="ok", **fields):
    return {"type": "tool_result", "tool_use_id": call, "content": content, **fields}


# Meta


def test_the_meta_of_a_trace(read, record):
    [trace] = read(record(content="Hi"))
    assert trace == UserMessage(meta=trace.meta, text="Hi")
    meta = trace.meta
    assert (meta.session, meta.project, meta.uid) == ("s", "orchard", "uuid-1")
    assert (meta.origin, meta.subagent, meta.parent, meta.segment) == ("/projects/slug/file.jsonl", "", "", 0)
    assert meta.time == 1770022800.5


def test_the_project_is_the_first_working_folder(read, record):
    traces = read(record(content="a"), record(content="b", cwd="/home/ada/orchard/src"))
    assert {trace.meta.project for trace in traces} == {"orchard"}


@pytest.mark.parametrize(
    ("cwd", "project"),
    [("C:\\work\\shop\\", "shop"), ("/", "slug"), ("", "slug"), (7, "slug"), (None, "slug")],
)
def test_projects_of_unusual_folders(read, record, cwd, project):
    assert read(record(content="a", cwd=cwd))[0].meta.project == project


@pytest.mark.parametrize(
    ("stamp", "time"),
    [
        ("2026-02-02T09:00:00Z", 1770022800.0),
        ("2026-02-02T10:00:00+01:00", 1770022800.0),
        ("2026-02-02T09:00:00", 1770022800.0),
        ("yesterday, about noon", 0.0),
        ("2026-99-99T00:00:00Z", 0.0),
        ("", 0.0),
        (1770022800, 1770022800.0),
        (1770022800250, 1770022800.25),
        (-5, 0.0),
        (True, 0.0),
        ([], 0.0),
    ],
)
def test_times_are_utc_seconds_and_unparsable_ones_are_noted(read, record, stamp, time):
    assert read(record(content="a", timestamp=stamp))[0].meta.time == time
    assert read.report.noted["unparsable timestamp"] == (time == 0.0)


def test_a_record_without_uuid_gets_a_stable_uid(record):
    bare = {"type": "user", "message": {"content": "a"}}
    first, second = (Reader()(bare, bare) for _ in range(2))
    assert [trace.meta.uid for trace in first] == ["file:1", "file:2"]
    assert first == second


def test_blocks_of_one_record_have_distinct_uids(read, record):
    traces = read(record("assistant", [text("a"), use("1"), use("2")]))
    assert [trace.meta.uid for trace in traces] == ["uuid-1", "uuid-1#1", "uuid-1#2"]


# Messages


def test_a_message_on_several_lines_loses_nothing(read, record):
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "x"},
        text("I'll look."),
        use("1", "Read", file_path="a"),
        use("2", "Grep", pattern="b"),
    ]
    lines = [record("assistant", [block]) for block in blocks]
    for line in lines:
        line["message"]["id"] = "msg_1"
    traces = read(*lines, record(content=[result("2")]), record(content=[result("1")]))
    assert [trace_type(trace) for trace in traces] == [
        *("thinking", "assistant_message", "tool_use", "tool_use", "tool_result", "tool_result")
    ]
    assert [trace.name for trace in traces[2:]] == ["Read", "Grep", "Grep", "Read"]


def test_a_tool_call_keeps_input_and_id(read, record):
    [trace] = read(record("assistant", [use("t1", "Edit", old_string="a\n\n", count=2)]))
    assert trace == ToolUse(meta=trace.meta, name="Edit", input={"old_string": "a\n\n", "count": 2}, id="t1")


def test_a_failed_result_in_blocks_ignores_the_second_copy(read, record):
    answer = record(
        content=[result("t1", [text("one"), text("two")], is_error=True)], toolUseResult={"x": "SECRET"}
    )
    _, trace = read(record("assistant", [use("t1")]), answer)
    assert trace == ToolResult(meta=trace.meta, name="Bash", output="one\ntwo", is_error=True, id="t1")
    assert "SECRET" not in repr(trace)


def test_a_result_without_its_call_is_kept_and_noted(read, record):
    [trace] = read(record(content=[result("nobody")]))
    assert (trace.name, trace.output) == ("", "ok")
    assert read.report.noted["tool result without its tool use"] == 1


def test_server_tools_are_tools(read, record):
    results = {
        "type": "web_search_tool_result",
        "tool_use_id": "w",
        "content": [{"type": "web_search_result"}],
    }
    search = {"type": "server_tool_use", "id": "w", "name": "web_search", "input": {"query": "q"}}
    call, answer = read(record("assistant", [search, results]))
    assert (call.name, call.input) == ("web_search", {"query": "q"})
    assert (answer.name, answer.output) == ("web_search", "[web_search_result]")


def test_a_persons_pictures_and_text_are_one_message(read, record):
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    [trace] = read(record(content=[text("look"), {"type": "image", "source": source}]))
    assert trace == UserMessage(meta=trace.meta, text="look\n[image image/png 3 bytes]")


def test_results_and_text_keep_their_order(read, record):
    traces = read(record(content=[text("a"), result("1"), text("b"), text("c")]))
    assert [trace_type(trace) for trace in traces] == ["user_message", "tool_result", "user_message"]
    assert traces[2].text == "b\nc"


def test_content_may_be_a_string_in_both_roles(read, record):
    user, assistant = read(record(content="a"), record("assistant", "b"))
    assert (type(user), type(assistant)) == (UserMessage, AssistantMessage)


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ({"type": "thinking", "thinking": "", "signature": "x"}, "empty thinking"),
        ({"type": "thinking"}, "empty thinking"),
        ({"type": "redacted_thinking", "data": "xyz"}, "redacted thinking"),
        (text(" \n"), "empty text"),
    ],
)
def test_empty_blocks_are_counted(read, record, block, reason):
    assert read(record("assistant", [block])) == []
    assert read.counted == {reason: 1}


def test_thinking_is_kept(read, record):
    [trace] = read(record("assistant", [{"type": "thinking", "thinking": "hm"}]))
    assert trace == Thinking(meta=trace.meta, text="hm")


def test_api_errors_and_synthetic_messages_are_not_talk(read, record):
    synthetic = record("assistant", [text("No response requested.")])
    synthetic["message"]["model"] = "<synthetic>"
    assert read(record("assistant", [text("API Error")], isApiErrorMessage=True), synthetic) == []
    assert read.counted == {"API error": 1, "synthetic message": 1}


# Text in the user's role that the person did not type


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"isMeta": True}, "meta message"), ({"isCompactSummary": True}, "compaction summary")],
)
def test_text_that_the_program_adds_for_the_user_is_counted(read, record, fields, reason):
    assert read(record(content="Caveat", **fields), record(content=[text("Caveat")], **fields)) == []
    assert read.counted == {reason: 2}


def test_a_tool_result_in_a_meta_record_is_still_a_result(read, record):
    assert [trace_type(t) for t in read(record(content=[result("1"), text("x")], isMeta=True))] == [
        "tool_result"
    ]


def test_commands_are_kept_as_typed_or_counted(read, record):
    bare = "<command-name>/clear</command-name><command-args></command-args>"
    full = "<command-name>/review</command-name><command-args>a.py</command-args>"
    [trace] = read(record(content=bare), record(content=full))
    assert trace.text == "/review a.py"
    assert read.counted == {"command": 1}


def test_a_queued_prompt_is_a_user_message(read, record):
    queued = {"type": "queued_command", "prompt": "and then?", "commandMode": "prompt"}
    blocks = {"type": "queued_command", "prompt": [text("in"), text("blocks")]}
    notice = {"type": "queued_command", "prompt": "done", "commandMode": "task-notification"}
    traces = read(*(record("attachment", attachment=one) for one in (queued, blocks, notice)))
    assert [trace.text for trace in traces] == ["and then?", "in\nblocks"]
    assert all(isinstance(trace, UserMessage) for trace in traces)
    assert read.counted == {"task notification": 1}


def test_other_attachments_are_counted_by_type(read, record):
    assert read(record("attachment", attachment={"type": "todo_reminder"}), record("attachment")) == []
    assert read.counted == {"attachment: todo_reminder": 1, "attachment without content": 1}


# Book-keeping and unknown records


@pytest.mark.parametrize("kind", sorted(BOOK_KEEPING))
def test_book_keeping_is_counted_by_type(read, record, kind):
    assert read(record(kind, message={"content": [use("1")]})) == []
    assert read.counted == {kind: 1}


def test_unknown_types_are_kept_unchanged(read, record):
    new = record("quantum-entanglement", payload=[1])
    [trace] = read(new)
    assert trace == Other(meta=trace.meta, kind="quantum-entanglement", raw=new)
    assert render(trace) == ""


def test_unknown_blocks_are_kept(read, record):
    [trace] = read(record("assistant", [{"type": "hologram", "x": 1}]))
    assert (trace.kind, trace.raw) == ("block hologram", {"type": "hologram", "x": 1})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"[1, 2]", "not an object"),
        (b'"text"', "not an object"),
        (b'{"type":"user"}', "record without a message"),
        (b'{"type":"assistant","message":"hello"}', "record without a message"),
        (b'{"type":"user","message":{"content":[]}}', "empty message"),
        (b'{"type":"user","message":{}}', "empty text"),
        (b'{"type":"us', "cut short"),
        (b"hello", "not JSON"),
    ],
)
def test_unreadable_lines_are_counted_with_their_reason(read, line, reason):
    assert read.parser.feed(line) == []
    assert read.counted == {reason: 1}


@pytest.mark.parametrize("kind", [None, 5, ["user"], {"a": 1}])
def test_a_record_without_a_type_is_kept(read, kind):
    [trace] = read({"type": kind, "x": 1})
    assert (trace.kind, trace.meta.session) == ("untyped", "file")


# Repeats


def test_a_repeated_uuid_is_delivered_once_and_counted(read, record):
    one = record(content="Hi")
    assert len(read(one, one, record(content="Hi"))) == 2
    assert read.counted == {"duplicate uuid": 1}


def test_a_resumed_file_delivers_only_new_records_and_knows_its_tools(record):
    report, seen = SourceReport(), Seen()
    call = record("assistant", [use("t1", "Read")])
    first, second = (Reader(f"/p/{name}.jsonl", report, seen) for name in "ab")
    assert len(first(record(content="a"), call)) == 2
    [answer] = second(call, record(content=[result("t1")]))
    assert answer.name == "Read"
    assert report.skipped == {"duplicate uuid": 1}


def test_a_result_whose_call_is_only_in_a_repeated_record_knows_its_tool(record):
    call = record("assistant", [use("t1", "Read")])
    seen = Seen()
    assert seen.first_time(call["uuid"])
    [answer] = Reader(seen=seen)(call, record(content=[result("t1")]))
    assert answer.name == "Read"


# Branches and interruptions


def test_a_branch_stays_in_file_order_and_counts_as_a_rewind(read, record):
    traces = read(
        record(content="a", parentUuid=None),
        record("assistant", "b", parentUuid="uuid-1"),
        record(content="c", parentUuid="uuid-2"),
        record("assistant", "d", parentUuid="uuid-3"),
        record(content="instead of c", parentUuid="uuid-2"),
        record(content="instead of that", parentUuid="uuid-2"),
    )
    assert [trace.text for trace in traces] == ["a", "b", "c", "d", "instead of c", "instead of that"]
    assert read.report.noted == {"rewind": 2}


def test_parallel_tools_and_repeats_are_not_rewinds(read, record):
    calls = [record("assistant", [use(call)], parentUuid="uuid-0") for call in "12"]
    results = [record(content=[result(call)], parentUuid="uuid-1") for call in "12"]
    prompt = record(content="next", parentUuid="uuid-4")
    assert len(read(*calls, *results, prompt, prompt)) == 5
    assert read.report.noted == {}


def test_talk_before_an_interruption_is_kept(read, record):
    traces = read(
        record("assistant", [text("I was going to")]),
        record(content=[text("[Request interrupted by user]")]),
        record(content=[result("1", is_error=True), text("[Request interrupted by user for tool use]")]),
        record("system", subtype="api_error"),
    )
    assert [trace_type(trace) for trace in traces] == ["assistant_message", "tool_result"]
    assert read.counted == {"interruption": 2, "system: api_error": 1}


# Compaction


def test_a_compaction_starts_a_new_segment(read, record):
    boundary = record("system", subtype="compact_boundary")
    summary = record(content="This session is being continued", isCompactSummary=True)
    traces = read(record(content="a"), boundary, summary, record(content="b"), boundary | {"uuid": "other"})
    traces += read(record(content="c"))
    assert [trace.document for trace in traces] == ["s", "s#1", "s#2"]


def test_a_summary_without_a_boundary_starts_a_new_segment(read, record):
    summary = record(content="This session is being continued", isCompactSummary=True)
    traces = read(record(content="a"), summary, record(content="b"))
    assert [trace.document for trace in traces] == ["s", "s#1"]


def test_other_system_messages_start_no_segment(read, record):
    traces = read(record(content="a"), record("system", subtype="turn_duration"), record(content="b"))
    assert {trace.document for trace in traces} == {"s"}
    assert read.counted == {"system: turn_duration": 1}


# Sub-agents


@pytest.mark.parametrize("origin", ["/p/slug/parent/subagents/agent-a1.jsonl", "/p/slug/agent-a1.jsonl"])
def test_a_subagent_is_a_separate_document_of_its_session(record, origin):
    read = Reader(origin)
    spoken = record(content="Look", sessionId="parent", agentId="a1", isSidechain=True)
    [trace] = read(spoken)
    assert (trace.meta.session, trace.meta.subagent, trace.meta.parent) == ("parent", "a1", "parent")
    assert trace.document == "parent/a1"


def test_a_subagent_without_an_id_gets_it_from_its_file():
    [trace] = Reader("/p/slug/parent/subagents/agent-a1.jsonl")({"type": "user", "message": {"content": "x"}})
    assert (trace.document, trace.meta.parent) == ("parent/a1", "parent")
    assert identity_of("/p/slug/agent-b2.jsonl") == ("", "b2")


def test_a_subagent_in_its_parents_file_is_separate(read, record):
    traces = read(
        record(content="mine"), record(content="its", isSidechain=True), record(content="mine again")
    )
    assert [trace.document for trace in traces] == ["s", "s/sidechain-uuid-2", "s"]


def test_a_compaction_of_the_parent_does_not_affect_the_subagent(read, record):
    aside = {"isSidechain": True, "agentId": "a1"}
    traces = read(
        record(content="its", **aside),
        record("system", subtype="compact_boundary"),
        record(content="its", **aside),
        record(content="mine"),
    )
    assert [trace.document for trace in traces] == ["s/a1", "s/a1", "s#1"]


# Any input

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
KEYS = (
    "type",
    "uuid",
    "sessionId",
    "message",
    "timestamp",
    "cwd",
    "agentId",
    "isMeta",
    "attachment",
    "subtype",
    "parentUuid",
    "isSidechain",
    "toolUseResult",
)
MESSAGE_KEYS = ("id", "model", "usage", "content", "role")
BLOCK_KEYS = ("type", "text", "thinking", "id", "name", "input", "tool_use_id", "content", "source")
BLOCK_TYPES = ("text", "thinking", "tool_use", "tool_result", "image", "redacted_thinking", "new")


@settings(max_examples=150)
@given(
    st.dictionaries(st.sampled_from(KEYS), json_values),
    st.none() | st.dictionaries(st.sampled_from(MESSAGE_KEYS), json_values),
    st.sampled_from(["user", "assistant", "system", "x"]),
)
def test_wrong_types_in_any_field_never_crash_and_are_counted(fields, message, kind):
    read = Reader()
    fields = {**fields, "type": kind} if message is None else {**fields, "type": kind, "message": message}
    traces = read.parser.feed(json.dumps(fields).encode())
    json.dumps([read.parser.state_dict(), read.report.as_dict()])
    read.parser.load_state_dict(read.parser.state_dict())
    for trace in traces:
        render(trace).encode()
    assert traces or read.counted


@settings(max_examples=150)
@given(
    st.dictionaries(st.sampled_from(BLOCK_KEYS), json_values),
    st.sampled_from(BLOCK_TYPES),
    st.sampled_from(["user", "assistant"]),
)
def test_wrong_types_in_any_field_of_a_block_lose_no_tool_call(block, kind, role):
    read = Reader()
    block = {**block, "type": kind}
    traces = read({"type": role, "uuid": "u", "message": {"content": [block]}})
    for trace in traces:
        render(trace).encode()
    assert traces or read.counted
    found = [trace_type(trace) for trace in traces]
    assert found.count("tool_use") == (kind == "tool_use")
    assert found.count("tool_result") == (kind == "tool_result")


def test_rows_are_not_recognized_as_session_records():
    assert recognizes({"type": "user", "message": {}})
    assert recognizes({"type": "system", "sessionId": "s"}) and recognizes({"type": "tag", "session_id": "s"})
    assert not recognizes({"type": "brand-new", "sessionId": "s"})
    assert not recognizes({"type": "tag"}) and not recognizes({"type": "user", "uuid": "u"})
    assert not recognizes({"type": "text", "sid": "s", "role": "user"})
    assert not recognizes({"prompt": "a"})


def test_content_may_be_one_block(session_file, record):
    block = {"type": "text", "text": "Hi"}
    path = session_file("upper.JSONL", record(content=block), record("assistant", content=block))
    with open_source(path.parent) as source:
        assert [trace.text for trace in source] == ["Hi", "Hi"]
