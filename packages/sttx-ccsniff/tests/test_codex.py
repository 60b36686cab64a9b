"""The traces of each kind of line in Codex rollouts, old and new; wrong lines break nothing."""

import json
from collections import Counter
from typing import Any

import pytest

from sttx_ccsniff import open_source
from sttx_ccsniff.claude_code import kinds
from sttx_ccsniff.codex.parser import RolloutParser, recognizes
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.traces import AssistantMessage, Other, Thinking, ToolResult, ToolUse, UserMessage

THREAD = "0199aaaa-0000-7000-8000-000000000001"
FILE = f"/home/ada/.codex/sessions/2026/01/02/rollout-2026-01-02T03-04-05-{THREAD}.jsonl"


def line(kind: str, payload: Any, **more: Any) -> dict[str, Any]:
    return {"timestamp": "2026-01-02T03:04:06.500Z", "type": kind, "payload": payload, **more}


def item(kind: str, **fields: Any) -> dict[str, Any]:
    return line("response_item", {"type": kind, **fields})


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return line("event_msg", {"type": kind, **fields})


def message(role: str, *texts: str) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    return item("message", role=role, content=[{"type": kind, "text": text} for text in texts])


META = line(
    "session_meta",
    {"id": THREAD, "timestamp": "2026-01-02T03:04:05.000Z", "cwd": "/home/ada/orchard", "source": "cli"},
)

NEW = [
    META,
    message("developer", "<permissions instructions>ask</permissions instructions>"),
    message("user", "# AGENTS.md instructions for /home/ada/orchard\n\n<INSTRUCTIONS>be kind</INSTRUCTIONS>"),
    message("user", "<environment_context>\n  <cwd>/home/ada/orchard</cwd>\n</environment_context>"),
    line("turn_context", {"cwd": "/home/ada/orchard", "model": "some-model"}),
    event("task_started"),
    message("user", "Count the trees"),
    event("user_message", message="Count the trees"),
    event("agent_reasoning", text="**Counting**"),
    item("reasoning", summary=[{"type": "summary_text", "text": "**Counting**"}], encrypted_content="gAAA"),
    item("reasoning", summary=[], content=None, encrypted_content="gAAA"),
    item("function_call", name="shell", arguments='{"command":["ls"]}', call_id="call_1"),
    item(
        "function_call_output",
        call_id="call_1",
        output='{"output":"a\\nb\\n","metadata":{"exit_code":1,"duration_seconds":0.1}}',
    ),
    item(
        "custom_tool_call", status="completed", call_id="call_2", name="apply_patch", input="*** Begin Patch"
    ),
    event("patch_apply_end", call_id="call_2", success=True),
    item(
        "custom_tool_call_output",
        call_id="call_2",
        output="Exit code: 0\nWall time: 0.1 seconds\nOutput:\nok",
    ),
    item(
        "local_shell_call", call_id="call_3", status="completed", action={"type": "exec", "command": ["pwd"]}
    ),
    item("function_call_output", call_id="call_3", output={"content": "no such folder", "success": False}),
    item("web_search_call", status="completed", action={"type": "search", "query": "trees"}),
    item("function_call", namespace="mcp__orchard", name="count", arguments="{not json", call_id="call_4"),
    item(
        "function_call_output",
        call_id="call_4",
        output=[
            {"type": "input_text", "text": "two"},
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
        ],
    ),
    item("ghost_snapshot", ghost_commit={"id": "abc"}),
    event("thread_rolled_back", num_turns=1),
    item("invented", field=1),
    event("agent_message", message="Two trees."),
    message("assistant", "Two trees."),
    event("token_count", info=None, rate_limits={}),
    line("compacted", {"message": "They counted trees."}),
    event("context_compacted"),
    message("user", "And the bushes?"),
    line("newly_invented", {"a": 1}),
]

OLD = [
    {"id": THREAD, "timestamp": "2025-05-01T03:04:05.000Z", "instructions": None, "git": {"branch": "main"}},
    {"record_type": "state"},
    NEW[6]["payload"],
    {**NEW[9]["payload"], "id": "rs_1"},
    {**NEW[11]["payload"], "id": "fc_1"},
    {"record_type": "state"},
    NEW[12]["payload"],
    NEW[25]["payload"],
]


def read(
    records: list[Any], *, seen: Seen | None = None, origin: str = FILE
) -> tuple[list[Any], SourceReport]:
    report = SourceReport(say=lambda message: None)
    parser = RolloutParser(origin, report, Seen() if seen is None else seen)
    lines = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in records]
    traces = [trace for one in lines for trace in parser.feed(one)]
    return traces + parser.finish(b""), report


def brief(trace: Any) -> Any:
    match trace:
        case UserMessage(text=text):
            return f"user: {text}"
        case AssistantMessage(text=text):
            return f"agent: {text}"
        case Thinking(text=text):
            return f"thinks: {text}"
        case ToolUse():
            return (trace.name, trace.input, trace.id)
        case ToolResult():
            return (trace.name, trace.output, trace.id, trace.is_error)
        case Other():
            return trace.kind


def test_each_kind_of_line():
    traces, report = read(NEW)
    assert [brief(trace) for trace in traces] == [
        "user: Count the trees",
        "thinks: **Counting**",
        ("shell", {"command": ["ls"]}, "call_1"),
        ("shell", "a\nb\n", "call_1", True),
        ("apply_patch", "*** Begin Patch", "call_2"),
        ("apply_patch", "Exit code: 0\nWall time: 0.1 seconds\nOutput:\nok", "call_2", False),
        ("local_shell", {"type": "exec", "command": ["pwd"]}, "call_3"),
        ("local_shell", "no such folder", "call_3", True),
        ("web_search", {"type": "search", "query": "trees"}, ""),
        ("mcp__orchard__count", "{not json", "call_4"),
        ("mcp__orchard__count", "two\n[image image/png 3 bytes]", "call_4", False),
        "item invented",
        "agent: Two trees.",
        "user: And the bushes?",
        "newly_invented",
    ]
    assert report.records == len(NEW)
    assert report.malformed == {}
    assert report.skipped == {
        "session_meta": 1,
        "turn_context": 1,
        "developer message": 1,
        "user instructions": 1,
        "environment context": 1,
        "encrypted thinking": 1,
        "ghost snapshot": 1,
        "compaction summary": 1,
        "event: task_started": 1,
        "event: user_message": 1,
        "event: agent_reasoning": 1,
        "event: patch_apply_end": 1,
        "event: agent_message": 1,
        "event: thread_rolled_back": 1,
        "event: token_count": 1,
        "event: context_compacted": 1,
    }
    assert len(traces) + report.skipped.total() == len(NEW)


def test_the_meta_of_each_trace():
    traces, _ = read(NEW)
    assert {trace.meta.session for trace in traces} == {THREAD}
    assert {trace.meta.project for trace in traces} == {"orchard"}
    assert {trace.meta.origin for trace in traces} == {FILE}
    assert {trace.meta.time for trace in traces} == {1767323046.5}
    assert {trace.meta.subagent for trace in traces} == {""}
    assert [trace.meta.segment for trace in traces] == [0] * 13 + [1] * 2
    assert len({trace.meta.uid for trace in traces}) == len(traces)


def test_the_first_versions():
    traces, report = read(OLD, origin="/home/ada/old.jsonl")
    assert [brief(trace) for trace in traces] == [
        "user: Count the trees",
        "thinks: **Counting**",
        ("shell", {"command": ["ls"]}, "call_1"),
        ("shell", "a\nb\n", "call_1", True),
        "agent: Two trees.",
    ]
    assert report.skipped == {"session_meta": 1, "state": 2}
    assert {trace.meta.session for trace in traces} == {THREAD}


@pytest.mark.parametrize(
    ("text", "kept", "reason"),
    [
        ("<user_instructions>\n\nbe kind\n\n</user_instructions>", "", "user instructions"),
        ("<turn_aborted>\nThe user interrupted\n</turn_aborted>", "", "interruption"),
        ("<user_shell_command>\n<command>ls</command>\n</user_shell_command>", "", "command"),
        ("<skill>\n<name>x</name>\n</skill>", "", "skill"),
        ("<subagent_notification>\n{}\n</subagent_notification>", "", "subagent notification"),
        ("Another language model started to solve this problem and so on", "", "compaction summary"),
        ("<image name=[Image #1]>", "", "image label"),
        ("</image>", "", "image label"),
        ("   ", "", "empty text"),
        ("<div>what is this?</div>", "<div>what is this?</div>", ""),
        ("<skills> are what?", "<skills> are what?", ""),
        ("What is <environment_context>?", "What is <environment_context>?", ""),
        ("# Context from my IDE setup:\n\n- a.py\n\n## My request for Codex:\nFix it\n", "Fix it", ""),
        ("# Context from my IDE setup: what is that?", "# Context from my IDE setup: what is that?", ""),
    ],
)
def test_only_typed_text_is_kept(text, kept, reason):
    traces, report = read([META, message("user", text)])
    assert [trace.text for trace in traces] == ([kept] if kept else [])
    assert report.skipped == Counter(["session_meta", reason] if reason else ["session_meta"])


def test_a_message_may_have_typed_and_added_text():
    traces, report = read(
        [META, message("user", "<environment_context>x</environment_context>", "Hi", "there")]
    )
    assert [trace.text for trace in traces] == ["Hi\nthere"]
    assert report.skipped["environment context"] == 1


def test_no_call_is_lost():
    calls = [
        item("function_call", name="f", arguments="{}", call_id=""),
        item("function_call", name="f", arguments=None, call_id=None),
        item("function_call"),
        item("tool_search_call", call_id="s", execution="client", arguments={"query": "q"}),
        item("image_generation_call", id="ig", status="completed", revised_prompt="a tree", result="AAAA"),
        item("mcp_tool_call", call_id="m", input={"a": 1}),
    ]
    outputs = [
        item("tool_search_output", call_id="s", status="completed", tools=[{"name": "t"}]),
        item("function_call_output", call_id="lost", output="x"),
        item("function_call_output"),
        item("custom_tool_call_output", call_id="m", name="other", output=[]),
    ]
    traces, report = read([META, *calls, *calls, *outputs, *outputs])
    kinds = Counter(type(trace).__name__ for trace in traces)
    assert kinds == {"ToolUse": 2 * len(calls), "ToolResult": 2 * len(outputs)}
    assert report.noted["tool result without its tool use"] == 4
    assert [trace.name for trace in traces if isinstance(trace, ToolResult)][:4] == [
        "tool_search",
        "",
        "",
        "mcp_tool",
    ]
    uses = [trace for trace in traces if isinstance(trace, ToolUse)]
    assert uses[3].input == {"query": "q"} and uses[4].input == {"revised_prompt": "a tree"}


@pytest.mark.parametrize(
    ("output", "failed"),
    [
        ("Exit code: 1\nWall time: 1 seconds\nOutput:\nno", True),
        ("Chunk ID: a1\nWall time: 0.1 seconds\nProcess exited with code 2\nOutput:\nno", True),
        ("Chunk ID: a1\nWall time: 0.1 seconds\nProcess exited with code 0\nOutput:\nExit code: 1", False),
        ("Process running with session ID 7\nOutput:\n", False),
        ('{"output":"no","metadata":{"exit_code":0}}', False),
        ('{"output":"no","metadata":{"exit_code":-1}}', True),
        ('{"output":"no","metadata":[]}', False),
        ('{"output":', False),
        ({"content": "no", "success": False}, True),
        ({"content": "yes", "success": True}, False),
        ([{"type": "input_text", "text": "Exit code: 3\nOutput:\n"}], True),
        (None, False),
        (7, False),
    ],
)
def test_failed_tools(output, failed):
    traces, _ = read([META, item("function_call_output", call_id="c", output=output)])
    assert traces[0].is_error is failed


def test_each_compaction_starts_one_segment():
    compaction = [
        item("compaction", encrypted_content="gAAA"),
        line("compacted", {"message": "", "replacement_history": []}),
        event("context_compacted"),
    ]
    traces, report = read(
        [META, message("user", "a"), *compaction, message("user", "b"), *compaction, message("user", "c")]
    )
    assert [trace.meta.segment for trace in traces] == [0, 1, 2]
    assert report.skipped["compaction summary"] == 4


def test_events_are_read_if_there_are_no_items():
    events = [
        META,
        event("user_message", message="One"),
        event("agent_reasoning", text="hm"),
        event("agent_message", message="ok"),
        event("agent_message", message="ok"),
    ]
    traces, report = read(events)
    assert [brief(trace) for trace in traces] == ["user: One", "thinks: hm", "agent: ok", "agent: ok"]
    assert report.noted["rollout of events alone"] == 1
    more = [*events, event("user_message", message="Two"), event("agent_message", message="yes")]
    assert [brief(trace) for trace in read(more)[0]][4:] == ["user: Two", "agent: yes"]
    assert len({trace.meta.uid for trace in read(more)[0]}) == 6
    early = [
        META,
        event("user_message", message="One"),
        message("user", "One"),
        event("agent_message", message="a"),
    ]
    assert [brief(trace) for trace in read(early)[0]] == ["user: One"]
    assert read([META, event("user_message", message="One")])[0] == []


def test_tokens_count_once_although_waiting_lines_are_read_again(tmp_path):
    def tokens(total):
        usage = {"input_tokens": total, "output_tokens": total}
        return line("event_msg", {"type": "token_count", "info": {"total_token_usage": usage}})

    words = [line("event_msg", {"type": "agent_message", "message": f"word {n}"}) for n in range(3)]
    prompt = line("event_msg", {"type": "user_message", "message": "hi"})
    lines = [META, line("not_invented_yet", {}), tokens(100), prompt, tokens(200)]
    for number, word in enumerate(words):
        lines += [word, tokens(300 + 100 * number)]
    path, counted, cursor = tmp_path / "rollout-1.jsonl", Counter(), None
    for one in lines:
        with path.open("a") as file:
            file.write(json.dumps(one) + "\n")
        with open_source(path, follow=True, idle_timeout=0.2, cursor=cursor, say=print) as source:
            list(source)
            cursor = source.cursor
            for usage in source.report.usage.values():
                counted += usage
    with open_source(path, cursor=cursor) as source:
        list(source)
        for usage in source.report.usage.values():
            counted += usage
    assert (counted["input_tokens"], counted["output_tokens"]) == (500, 500)


def test_tokens_count_once():
    def tokens(given, cached, output, last=None):
        kinds = ("input_tokens", "cached_input_tokens", "output_tokens")
        info = {"total_token_usage": dict(zip(kinds, (given, cached, output), strict=True))}
        if last:
            info["last_token_usage"] = dict(zip(kinds, last, strict=True))
        return event("token_count", info=info)

    context = line("turn_context", {"model": "some-model"})
    _, report = read([META, context, tokens(10, 4, 2), tokens(10, 4, 2), tokens(30, 14, 5)])
    assert report.usage == {
        "some-model": {
            "input_tokens": 16,
            "cache_read_input_tokens": 14,
            "cache_creation_input_tokens": 0,
            "output_tokens": 5,
        }
    }
    forked = line("session_meta", {"id": "fork", "history_base": {"thread_id": THREAD}})
    _, report = read([forked, context, tokens(110, 4, 2, (10, 4, 2)), tokens(130, 14, 5)])
    assert report.usage["some-model"]["input_tokens"] == 16


@pytest.mark.parametrize("records", [NEW, OLD])
def test_resuming_after_any_line_changes_nothing(records):
    lines = [json.dumps(record).encode() for record in records]
    whole, whole_report = read(lines)
    for cut in range(len(lines) + 1):
        report, seen = SourceReport(say=lambda message: None), Seen()
        first = RolloutParser(FILE, report, seen)
        traces = [trace for one in lines[:cut] for trace in first.feed(one)]
        state = first.state_dict()
        kept = json.dumps(state)
        second = RolloutParser(FILE, report, seen)
        second.load_state_dict(json.loads(kept))
        traces += [trace for one in lines[cut:] for trace in second.feed(one)]
        traces += second.finish(b"")
        assert traces == whole
        assert report.as_dict() == whole_report.as_dict()
        assert json.dumps(state) == kept


@pytest.mark.parametrize("state", [None, [], {}, 7, [[], [], [], None, []], [1, 2, 3, 4, 5]])
def test_an_invalid_state_is_refused(state):
    parser = RolloutParser(FILE, SourceReport(), Seen())
    with pytest.raises(ValueError, match="Codex"):
        parser.load_state_dict(state)


WRONG = [
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    "",
    "x",
    [],
    [None],
    [[]],
    {},
    {"a": 1},
    {"type": 1},
    [{"text": 1}],
    "\ud800",
]


def variants(value: Any) -> list[Any]:
    """Return copies of a value, each with one inner value replaced by a wrong one or left out."""
    made = list(WRONG)
    if isinstance(value, dict):
        for key, inner in value.items():
            made += [{**value, key: one} for one in variants(inner)]
            made.append({other: kept for other, kept in value.items() if other != key})
    if isinstance(value, list):
        for at, inner in enumerate(value):
            made += [[*value[:at], one, *value[at + 1 :]] for one in variants(inner)]
    return made


@pytest.mark.parametrize("at", range(len(NEW)))
def test_wrong_types_in_any_field_break_nothing(at):
    for wrong in variants(NEW[at]):
        traces, report = read([*NEW[:at], wrong, *NEW[at + 1 :]])
        records = report.records + report.malformed["not an object"]
        assert records == len(NEW)
        for trace in traces:
            for field in ("text", "name", "output", "id"):
                assert isinstance(getattr(trace, field, ""), str)
            json.dumps(getattr(trace, "input", None))
            assert isinstance(trace.meta.session, str) and trace.meta.session


@pytest.mark.parametrize("at", range(len(OLD)))
def test_wrong_types_in_the_first_versions(at):
    for wrong in variants(OLD[at]):
        read([*OLD[:at], wrong, *OLD[at + 1 :]])


def test_damaged_lines_are_counted():
    lines = [
        json.dumps(META).encode(),
        b"\xff\xfe{",
        b'{"timestamp":"2026',
        b"[1]",
        json.dumps(NEW[6]).encode(),
    ]
    traces, report = read(lines)
    assert [trace.text for trace in traces] == ["Count the trees"]
    assert report.malformed.total() == 3


def test_not_confused_with_claude_code(sessions):
    for record in [*NEW[:-1], *OLD]:
        if record["payload"]["type"] != "invented" if record.get("type") == "response_item" else True:
            assert recognizes(record), record
    for path in sorted(sessions.rglob("*.jsonl")):
        for one in path.read_bytes().splitlines():
            try:
                record = json.loads(one)
            except ValueError:
                continue
            assert not isinstance(record, dict) or not recognizes(record)
            known = isinstance(record, dict) and record.get("type") != "quantum-entanglement"
            assert not known or "type" not in record or kinds.recognizes(record)


def test_no_place_contains_waiting_text(tmp_path):
    """Places go to disk, and waiting text is not redacted yet."""
    secret = "ghp_" + "0123456789abcdefghijABCDEFGHIJ012345"
    prompt = line("event_msg", {"type": "user_message", "message": f"it is {secret}"})
    answer = line("event_msg", {"type": "agent_message", "message": "thanks"})
    unknown = line("not_invented_yet", {"a": 1})
    lines = [json.dumps(one).encode() + b"\n" for one in (META, prompt, unknown, answer, prompt, answer)]
    path, texts, cursor = tmp_path / "rollout-1.jsonl", [], None
    for one in lines:
        with path.open("ab") as file:
            file.write(one)
        with open_source(path, follow=True, idle_timeout=0.3, cursor=cursor) as source:
            texts += [getattr(trace, "text", "unknown") for trace in source]
            cursor = json.loads(json.dumps(source.cursor))
        assert secret not in json.dumps(cursor)
    assert [text.partition(" [")[0] for text in texts] == ["unknown", "it is", "thanks", "it is", "thanks"]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_whole_session_in_one_object(tmp_path, indent):
    content = [{"type": "input_text", "text": "fix it"}]
    items = [
        {"type": "message", "role": "user", "content": content},
        {"type": "function_call", "name": "shell", "arguments": "{}", "call_id": "c1"},
        {"type": "function_call_output", "call_id": "c1", "output": "done"},
    ]
    session = {"id": "t0", "timestamp": "2025-04-20T00:00:00Z", "instructions": ""}
    path = tmp_path / "rollout-2025-04-20-t0.json"
    path.write_text(json.dumps({"session": session, "items": items}, indent=indent))
    with open_source(tmp_path) as source:
        found = [(type(trace).__name__, trace.meta.session, trace.meta.uid) for trace in source]
    kinds = ["UserMessage", "ToolUse", "ToolResult"]
    assert found == [(kind, "t0", f"t0:{number}") for number, kind in enumerate(kinds, 2)]
    assert source.report.records == 4 and source.report.formats == {"codex": 1}
