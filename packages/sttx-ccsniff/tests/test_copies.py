"""A copy of a session starts with the same records; the original keeps them, whatever its file's name."""

import gzip
import json
import os
from pathlib import Path

import pytest

from sttx_ccsniff import open_source
from sttx_ccsniff.follow.time_order import first_timestamp, in_time_order


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


def at(minute, uuid, session, **fields):
    [record] = talk(session, [uuid], **fields)
    return record | {"timestamp": f"2026-02-02T09:{minute:02}:00Z"}


def noise(session):
    return {"type": "file-history-snapshot", "sessionId": session, "messageId": "m", "snapshot": {}}


SHARED = ("one", "two", "three")
LATER = {"one": 0, "two": 1, "three": 2}


def shared(session, **fields):
    return [at(LATER[uuid], uuid, session, **fields) for uuid in SHARED]


def unmarked(session, first, count):
    """Return a session that has the shared records, then so many more from a minute."""
    return [*shared(session), *(at(first + n, f"{session}{n}", session) for n in range(count))]


def pruned(session):
    return [record for record in unmarked(session, 3, 1) if record["uuid"] != "two"]


def crowded(session):
    first, *rest = unmarked(session, 20, 2)
    return [first, noise(session), *rest]


PAIRS = {
    "the original went on longer": lambda o, c: (unmarked(o, 3, 9), unmarked(c, 30, 1)),
    "the original went on shorter": lambda o, c: (unmarked(o, 3, 1), unmarked(c, 30, 9)),
    "the original ended": lambda o, c: (shared(o), unmarked(c, 30, 4)),
    "the copy leaves out a record": lambda o, c: (unmarked(o, 9, 5), pruned(c)),
    "the copy leaves out lines without talk": lambda o, c: (crowded(o), unmarked(c, 3, 1)),
    "the copy keeps the name in its records": lambda o, c: (
        unmarked(o, 40, 5),
        [{"type": "mode", "sessionId": c}, *shared(o), at(3, "new", c)],
    ),
    "a mark after a long first record": lambda o, c: (
        [at(0, "one", o, padding="x" * 70_000), *shared(o)[1:], at(40, "more", o)],
        [
            record | {"forkedFrom": {"messageUuid": record["uuid"], "sessionId": o}}
            for record in [at(0, "one", c, padding="x" * 70_000), *shared(c)[1:], at(4, "new", c)]
        ],
    ),
}


@pytest.mark.parametrize("names", [("aa", "zz"), ("zz", "aa")])
@pytest.mark.parametrize("mtimes", [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_the_original_is_known_without_a_mark(session_file, names, mtimes, pair):
    original, copy = names
    for session, records, mtime in zip(names, pair(original, copy), mtimes, strict=True):
        path = session_file(f"{session}.jsonl", *records)
        os.utime(path, (1_700_000_000 + mtime,) * 2)
    texts = texts_by_session(path.parent)
    expected = [record["uuid"] for record in pair(original, copy)[0] if "uuid" in record]
    assert texts[original] == expected and not set(texts.get(copy, [])) & set(SHARED)


@pytest.mark.parametrize("names", [("aa", "mm", "zz"), ("zz", "mm", "aa"), ("mm", "zz", "aa")])
def test_forks_of_forks_come_after_what_they_say_they_were_forked_from(session_file, names):
    first, second, third = names
    for session, parent, minute in ((first, "", 50), (second, first, 40), (third, second, 30)):
        mark = {"forkedFrom": {"messageUuid": "one", "sessionId": parent}} if parent else {}
        path = session_file(f"{session}.jsonl", *shared(session, **mark), at(minute, session, session))
    assert list(texts_by_session(path.parent)) == [first, second, third]


@pytest.mark.parametrize("names", [("aa", "mm", "zz"), ("zz", "mm", "aa"), ("mm", "zz", "aa")])
def test_copies_of_copies_without_marks(session_file, names):
    first, second, third = names
    more = [at(10 + n, f"second{n}", second) for n in range(3)]
    for session, records in ((first, []), (second, more), (third, [*more, at(30, "third", third)])):
        path = session_file(
            f"{session}.jsonl", *shared(session), *(r | {"sessionId": session} for r in records)
        )
    assert texts_by_session(path.parent) == {
        first: list(SHARED),
        second: ["second0", "second1", "second2"],
        third: ["third"],
    }


@pytest.mark.parametrize("name", ["00.jsonl", "yy.jsonl", "old copy.jsonl"])
def test_an_original_may_be_renamed(session_file, name):
    session_file(name, *unmarked("aa", 3, 9))
    path = session_file("mm.jsonl", *unmarked("mm", 40, 2))
    assert texts_by_session(path.parent)["mm"] == ["mm0", "mm1"]


def test_the_first_time_may_follow_a_long_prompt(session_file, tmp_path):
    for name, minute, mtime in (("a", 9, 1), ("b", 5, 2)):
        path = session_file(f"{name}.jsonl", {"padding": "x" * 300_000} | at(minute, name, name))
        os.utime(path, (mtime, mtime))
    assert [path.name for path in in_time_order(sorted(tmp_path.glob("*.jsonl")))] == ["b.jsonl", "a.jsonl"]
