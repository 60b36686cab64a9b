"""`sttx traces`: the sessions of a source, one of them, or all as JSON lines."""

import json
import subprocess

import pytest


@pytest.fixture
def family(tmp_path):
    """Return a folder with two sessions, the newer with a sub-agent in a file of its own."""
    slug = tmp_path / "slug"
    (slug / "beta-1" / "subagents").mkdir(parents=True)

    def write(path, *records):
        path.write_text("".join(json.dumps(one) + "\n" for one in records))

    def spoken(kind, minute, content, session, **fields):
        meta = {"sessionId": session, "cwd": "/home/ada/orchard"}
        meta |= {"timestamp": f"2026-02-02T09:{minute:02}:00Z", "uuid": f"{session}-{minute}{fields}"}
        return {"type": kind, "message": {"role": kind, "content": content}, **meta, **fields}

    write(slug / "alpha-1.jsonl", spoken("user", 0, "Good morning", "alpha-1"))
    task = {"type": "tool_use", "id": "t", "name": "Task", "input": {"prompt": "Look closely"}}
    done = {"type": "tool_result", "tool_use_id": "t", "content": "It is fine"}
    paid = spoken("assistant", 31, [task], "beta-1")
    paid["message"] |= {"id": "m", "model": "wise", "usage": {"input_tokens": 7, "output_tokens": 5}}
    write(
        slug / "beta-1.jsonl",
        spoken("user", 30, "Is it fine?", "beta-1"),
        paid,
        spoken("user", 35, [done], "beta-1", toolUseResult={"agentId": "a1"}),
        spoken("assistant", 36, "Yes\x1b[31m!", "beta-1"),
    )
    write(
        slug / "beta-1" / "subagents" / "agent-a1.jsonl",
        spoken("user", 32, "Look closely", "beta-1", agentId="a1", isSidechain=True),
    )
    return slug


def test_sessions_are_listed_with_their_sub_agents_and_tokens_the_newest_last(sttx, family):
    result = sttx("traces", family)
    assert result.code == 0
    title, heads, *rows = [line.split() for line in result.out.splitlines()]
    names = ["session", "project", "start", "length", "traces", "tools", "tokens", "in", "cached", "out"]
    assert title[:3] == ["2", "sessions", "in"]
    assert heads == names
    alpha, beta, agent, total, model = rows
    assert alpha[:2] == ["alpha-1", "orchard"] and beta[:2] == ["beta-1", "orchard"] and agent[0] == "a1"
    assert beta[4:] == ["6m", "00s", "4", "Task", "1", "7", "0", "5"]
    assert total == ["(total)", "7", "0", "5"]
    assert " ".join(model) == "wise: 7 tokens in, 0 cached, 5 out"
    assert "source: folder" in result.err


@pytest.mark.parametrize("extra", [(), ("--json",)])
def test_a_file_without_sessions_is_refused_in_one_sentence(sttx, tmp_path, extra):
    path = tmp_path / "README.md"
    path.write_text("# Title\n\nNot a session.\n")
    result = sttx("traces", path, *extra)
    assert result.code == 1 and (extra or not result.out)
    assert result.err.splitlines()[1:] == [
        f"sttx: no session in {str(path)!r}: none of its lines is a record of a known agent"
    ]


def test_without_a_history_it_says_what_to_do(sttx):
    result = sttx("traces", "claude")
    assert result.code == 1 and "try codex or opencode, or name a folder" in result.err


def test_a_session_is_shown_with_its_sub_agent_where_it_was_started(sttx, family):
    result = sttx("traces", "show", "beta", family)
    assert result.code == 0
    lines = [line.strip() for line in result.out.splitlines() if line.strip(" │")]
    without_times = [line.split(" ", 1)[1] if line[:1].isdigit() else line for line in lines]
    assert without_times == [
        *("User", "Is it fine?", "Tool: Task", "prompt: Look closely", "│ ── sub-agent a1 ──"),
        *(lines[5], "│ Look closely", "── the session ──", "Result: Task", "It is fine", "Assistant", "Yes!"),
    ]
    assert lines[5].startswith("│ ") and lines[5].endswith(" User")
    assert "Good morning" not in result.out


def test_full_shows_whole_inputs(sttx, tmp_path):
    use = {"type": "tool_use", "id": "t", "name": "Write", "input": {"content": "z" * 400}}
    path = tmp_path / "s.jsonl"
    path.write_text(json.dumps({"type": "assistant", "uuid": "u", "message": {"content": [use]}}))
    assert "z" * 400 not in sttx("traces", "show", "s", path).out
    assert "z" * 400 in sttx("traces", "show", "s", path, "--full").out


def test_json_is_a_stream_and_itself_a_source(sttx, family, tmp_path):
    result = sttx("traces", family, "--json")
    header, *traces = [json.loads(line) for line in result.out.splitlines()]
    assert header == {"sttx_traces": 1}
    assert [trace["type"] for trace in traces].count("user_message") == 3
    path = tmp_path / "stream.jsonl"
    path.write_text(result.out)
    again = [json.loads(line) for line in sttx("traces", path, "--json").out.splitlines()]
    for trace in (*traces, *again[1:]):
        trace["meta"].pop("origin")
    assert again == [header, *traces]


def test_json_of_one_session(sttx, family):
    out = sttx("traces", "show", "alpha-1", family, "--json").out
    header, *traces = [json.loads(line) for line in out.splitlines()]
    assert header == {"sttx_traces": 1}
    assert [(trace["type"], trace["text"]) for trace in traces] == [("user_message", "Good morning")]


def test_a_source_is_named_as_an_argument_or_with_from(sttx, family):
    outputs = [sttx("traces", *way).out for way in ([family], ["--from", family], ["--ccsniff-from", family])]
    assert outputs[0] == outputs[1] == outputs[2]
    shown = sttx("traces", "show", "alpha", "--from", family)
    assert shown.code == 0 and "Good morning" in shown.out


def test_without_a_source_the_default_is_read_and_named(sttx):
    result = sttx("traces")
    assert result.code == 0
    assert "(no source named" in result.err
    assert result.out.splitlines()[0].startswith("3 sessions in")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("show",), "show needs a session"),
        (("show", "nobody"), "no session's identity starts with 'nobody'"),
        (("--full",), "--full would have no effect"),
        (("show", "x", "--full", "--json"), "--full would have no effect"),
        (("no-such-file",), "no such source"),
        (("x", "--from", "y"), "sources are named both as arguments ('x') and with --from ('y')"),
        (("show", ""), "empty"),
    ],
)
def test_mistakes_are_one_sentence(sttx, arguments, sentence):
    result = sttx("traces", *arguments)
    assert (result.code, result.out) == (2, "")
    assert sentence in result.err


def test_a_source_without_records_exits_with_1(sttx, tmp_path):
    notes = tmp_path / "notes.jsonl"
    notes.write_text("nothing of the kind\n")
    result = sttx("traces", notes)
    assert result.code == 1 and "none of its lines is a record of a known agent" in result.err


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_reader_that_closes_the_pipe_is_not_an_error(start, tmp_path, more):
    path = tmp_path / "long.jsonl"
    line = {"type": "user", "message": {"content": "words " * 300}}
    path.write_text((json.dumps(line) + "\n") * 2000)
    with start("traces", *(["show", "long"] if not more else []), path, *more) as process:
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=300) == 0
        assert "Error" not in process.stderr.read()


def test_standard_input(start, family):
    text = (family / "alpha-1.jsonl").read_text()
    with start("traces", "-", "--json", stderr=subprocess.DEVNULL) as process:
        out, _ = process.communicate(text, timeout=300)
    assert process.returncode == 0
    assert json.loads(out.splitlines()[1])["text"] == "Good morning"
