"""A copy of a session starts with the same records; the original keeps them, whatever its file's name."""

import gzip
import json
from pathlib import Path

import pytest

from sttx_ccsniff import open_source
from sttx_ccsniff.follow.folders import first_timestamp, in_time_order


def talk(session, texts, **fields):
    return [
        {
            "type": "user",
            "uuid": text,
            "sessionId": session,
            "timestamp": "2026-02-02T09:00:00Z",
            "message": {"content": text},
            **fields,
        }
        for text in texts
    ]


def texts_by_session(folder):
    found = {}
    with open_source(folder) as source:
        for trace in source:
            found.setdefault(trace.meta.subagent or trace.meta.session, []).append(trace.text)
    return found


@pytest.mark.parametrize("names", [("aa", "zz"), ("zz", "aa")])
@pytest.mark.parametrize(
    "mark",
    [
        {"sessionKind": "bg"},
        {"forkedFrom": {"sessionId": "x", "messageUuid": "one"}},
        {},
    ],
)
def test_the_original_keeps_its_records(session_file, names, mark):
    original, copy = names
    more = ["three", "four"] if mark else []
    session_file(f"{original}.jsonl", *talk(original, ["one", "two", *more]))
    path = session_file(f"{copy}.jsonl", *talk(copy, ["one", "two", "new"], **mark))
    assert texts_by_session(path.parent) == {original: ["one", "two", *more], copy: ["new"]}


@pytest.mark.parametrize("names", [("aa", "zz"), ("zz", "aa")])
def test_a_copy_that_keeps_the_sessions_name_comes_second(session_file, names):
    original, copy = names
    session_file(f"{original}.jsonl", *talk(original, ["one", "two", "three", "four"]))
    path = session_file(f"{copy}.jsonl", *talk(original, ["one"]), *talk(copy, ["new"]))
    assert texts_by_session(path.parent) == {original: ["one", "two", "three", "four"], copy: ["new"]}


def test_a_forked_sub_agent_has_only_what_is_new(session_file):
    session_file("s.jsonl", *talk("s", ["one", "two", "three"]))
    fork = [*talk("s", ["one", "two"]), *talk("s", ["new"])]
    path = session_file("s/subagents/agent-a1.jsonl", *(line | {"agentId": "a1"} for line in fork))
    (path.parent / "agent-a1.meta.json").write_text('{"agentType":"fork","isFork":true}')
    assert texts_by_session(path.parents[2]) == {"s": ["one", "two", "three"], "a1": ["new"]}


@pytest.mark.parametrize("names", [("aa", "zz"), ("zz", "aa")])
def test_a_copy_of_a_codex_thread_comes_second(session_file, names):
    def rollout(thread, texts, **meta):
        payloads = [{"id": thread, **meta}]
        payloads += [{"type": "message", "role": "assistant", "content": [{"text": text}]} for text in texts]
        kinds = ["session_meta"] + ["response_item"] * len(texts)
        return [
            {"timestamp": 1770022800.5, "type": kind, "payload": one}
            for kind, one in zip(kinds, payloads, strict=True)
        ]

    session_file(f"{names[0]}.jsonl", *rollout("first", ["one", "two", "three", "four"]))
    path = session_file(f"{names[1]}.jsonl", *rollout("second", ["one", "new"], forked_from_id="first"))
    with open_source(path.parent) as source:
        texts = [(Path(trace.meta.origin).stem, trace.text) for trace in source]
    assert texts == [*((names[0], text) for text in ("one", "two", "three", "four")), (names[1], "new")]


def test_marks_in_a_message_are_no_signs_of_a_copy(session_file):
    text = json.dumps({"sessionKind": "bg", "forkedFrom": {"sessionId": "x"}})
    paths = [
        session_file("a.jsonl", *talk("a", [text])),
        session_file("b.jsonl", *talk("b", ["one"], sessionKind="bg")),
        session_file(
            "c.jsonl", *talk("c", ["one"], sessionKind="interactive", forkedFrom=None, isFork=False)
        ),
    ]
    ordered = [path.name for path in in_time_order(paths)]
    assert ordered.index("b.jsonl") == 2


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        (b'{"timestamp": 1770022800.25, "type": "session_meta"}', 1770022800.25),
        (b'{"timestamp":1770022800250,"type":"session_meta"}', 1770022800.25),
        (b'{"type":"user","_audit_timestamp":"2026-02-02T09:00:00.250Z"}', 1770022800.25),
        (b'{"info": {"id": "ses_1", "time": {"created": 1770022800250, "updated": 1}}', 1770022800.25),
    ],
)
def test_the_first_time_in_a_file(tmp_path, line, seconds):
    path = tmp_path / "a.jsonl"
    for content in (line, gzip.compress(line), line.decode().encode("utf-16")):
        path.write_bytes(content)
        assert first_timestamp(path) == seconds
