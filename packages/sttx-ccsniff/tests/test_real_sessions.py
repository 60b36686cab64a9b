"""Real sessions, which some machines have next to a checkout and which are never part of it.

These checks hold for any session. The invented sessions in `test-data` are checked the same way elsewhere.
"""

import json
from collections import Counter

import pytest

from sttx_ccsniff import dump_trace, load_trace, open_source
from sttx_ccsniff.claude_code.parser import SessionParser
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.render import render
from sttx_core.traces import Other, trace_type


@pytest.fixture(scope="module")
def real(real_sessions):
    """Return their files."""
    return sorted(real_sessions.rglob("*.jsonl"))


def objects(line):
    """Yield the JSON objects on a line, with the standard library alone."""
    text, decoder = line.decode("utf-8", "replace").strip(), json.JSONDecoder(strict=False)
    while text:
        value, end = decoder.raw_decode(text)
        yield value
        text = text[end:].strip()


def blocks_on_disk(path):
    """Count the blocks of each type, each uuid once."""
    seen, count = set(), Counter()
    for line in path.read_bytes().split(b"\n"):
        for one in objects(line):
            if one.get("uuid") and one["uuid"] in seen:
                continue
            seen.add(one.get("uuid"))
            content = (one.get("message") or {}).get("content")
            count.update(block["type"] for block in (content if isinstance(content, list) else ()))
    return count


def test_no_tool_call_and_no_thinking_is_lost(real):
    for path in real:
        count = blocks_on_disk(path)
        with open_source(path, follow=False, redact=False) as source:
            types = Counter(trace_type(trace) for trace in source)
        assert types["tool_use"] == count["tool_use"] + count["server_tool_use"], path.name
        assert types["tool_result"] == count["tool_result"], path.name
        assert types["thinking"] + source.report.skipped["empty thinking"] == count["thinking"], path.name
        assert not source.report.malformed, path.name


def test_every_record_is_known(real):
    with open_source([str(path) for path in real], follow=False, redact=False) as source:
        assert [trace.kind for trace in source if isinstance(trace, Other)] == []


def test_each_message_is_billed_once(real):
    """The largest usage of each message is counted, by model."""
    most = {}
    for path in real:
        for line in path.read_bytes().split(b"\n"):
            for one in objects(line):
                message = one.get("message") or {}
                if one["type"] == "assistant" and "usage" in message and message["model"] != "<synthetic>":
                    key = (message["model"], message["id"])
                    most[key] = max(most.get(key, 0), message["usage"]["output_tokens"])
    wanted = Counter()
    for (model, _), tokens in most.items():
        wanted[model] += tokens
    with open_source([str(path) for path in real], follow=False, redact=False) as source:
        list(source)
    assert {model: tokens["output_tokens"] for model, tokens in source.report.usage.items()} == wanted


def test_traces_are_unchanged_by_json(real):
    with open_source([str(path) for path in real], follow=False) as source:
        for trace in source:
            assert load_trace(dump_trace(trace)) == trace


def test_a_new_parser_may_continue_after_any_line(real):
    for path in real:
        lines, report = path.read_bytes().split(b"\n"), SourceReport()
        whole, seen = SessionParser(str(path), report, Seen()), Seen()
        state = SessionParser(str(path), report, seen).state_dict()
        for line in lines:
            parser = SessionParser(str(path), report, seen)
            parser.load_state_dict(json.loads(json.dumps(state)))
            wanted = whole.feed(line)
            assert parser.feed(line) == wanted
            state = parser.state_dict()
        assert json.dumps(state) == json.dumps(whole.state_dict())


def documents_on_disk(path):
    """Return the session and sub-agent of each record by its uuid, with the standard library alone."""
    speakers = {}
    for raw in path.read_bytes().splitlines():
        try:
            one = json.loads(raw)
        except ValueError:
            continue
        if isinstance(one, dict) and one.get("uuid"):
            side = one.get("isSidechain") is True
            speakers.setdefault(one["uuid"], (one.get("sessionId"), one.get("agentId") or side))
    return speakers


def test_every_trace_has_its_session_and_subagent(real):
    spoken = 0
    for path in real:
        speakers = documents_on_disk(path)
        with open_source(path, follow=False, say=lambda message: None) as source:
            for trace in source:
                if not render(trace):
                    continue
                session, subagent = speakers[trace.meta.uid.partition("#")[0]]
                assert trace.meta.session == session
                named = trace.meta.subagent if isinstance(subagent, str) else bool(trace.meta.subagent)
                assert named == subagent, path.name
                assert trace.meta.parent == (session if subagent else "")
                spoken += bool(subagent)
    assert spoken > 500


def test_each_first_sidechain_record_makes_a_subagent(real):
    for path in real:
        records = [json.loads(raw) for raw in path.read_bytes().splitlines() if b'"isSidechain":true' in raw]
        early = [one for one in records if not one.get("agentId")]
        roots = [one for one in early if not one.get("parentUuid")]
        with open_source(path, follow=False, say=lambda message: None) as source:
            subagents = {
                trace.meta.subagent for trace in source if trace.meta.subagent.startswith("sidechain")
            }
        assert subagents == {f"sidechain-{one['uuid'][:8]}" for one in roots}, path.name
