"""`sttx next`: which session is continued, what is shown, and when nothing is."""

import io
import json

import pytest

from sttx_cli.commands import next as next_command
from sttx_cli.tails import Tail, Tails
from sttx_core.errors import UsageError
from sttx_core.render import render
from sttx_core.traces import Meta, SessionEnd, ToolResult, UserMessage
from sttx_train.suggest import Command, Suggestions

KEYS = {"session", "document", "call", "left", "tools", "commands"}


@pytest.fixture
def run(sttx, sessions, tiny_model):
    """Return a function that asks for what comes next in the sessions, with further arguments."""
    return lambda *arguments: sttx("next", sessions, "--model", tiny_model, *arguments)


@pytest.fixture
def found(monkeypatch):
    """Return a function that fixes what the predictor suggests."""

    def fix(**suggestions):
        every = {"call": 0.5, "tools": (), "commands": (), "left": 0.1, "asked": 9} | suggestions
        monkeypatch.setattr("sttx_train.suggest.suggest.suggest_next", lambda *_, **__: Suggestions(**every))

    return fix


def test_the_json_contract(run):
    result = run("--json", "--min-confidence", 0)
    assert result.code == 0, result.err
    answer = result.json
    assert answer.keys() == KEYS and answer["session"] == answer["document"] == "two"
    assert answer["tools"][0]["name"] == "Bash" and len(answer["commands"]) == 5
    for row in answer["tools"]:
        assert row.keys() == {"name", "p"} and 0 < row["p"] <= 1
    for row in answer["commands"]:
        assert row.keys() == {"text", "p", "whole"} and 0 < row["p"] <= 1
    chances = [row["p"] for row in answer["commands"]]
    assert chances == sorted(chances, reverse=True)
    assert answer["commands"][0]["text"] == "pytest -k", "all commands of the sessions begin so"
    assert 0 <= answer["call"] <= 1


def test_the_table(run):
    result = run("--top", 1, "--predictor", "on")
    lines = result.out.splitlines()
    assert lines[0].startswith("next tool, if one is called (probability 0.")
    assert lines[1].endswith("  Bash") and lines[3].endswith("pytest -k …") and len(lines) == 4
    assert lines[2] == "next shell command, if a tool is called"
    assert "session 'two'" in result.err and "its last trace: assistant message" in result.err


def test_without_the_predictor_no_model_is_loaded(sttx, sessions, monkeypatch):
    monkeypatch.setattr(next_command, "load", None)
    answer = sttx("next", sessions, "--json")
    assert answer.code == 0, answer.err
    assert "predictor: off (what usually follows is about as good" in answer.err
    assert answer.json["call"] is None and answer.json["tools"][0]["name"] == "Bash"
    assert answer.json["commands"][0]["text"] == "pytest -k"
    table = sttx("next", sessions, "--predictor", "off")
    assert table.out.splitlines()[0] == "next tool, if one is called"


def test_where_no_call_is_known_the_predictor_is_asked(sttx, tmp_path, monkeypatch, tiny_model):
    message = {"role": "user", "content": "Hello."}
    record = {"type": "user", "uuid": "1", "sessionId": "s", "message": message}
    (tmp_path / "s.jsonl").write_text(json.dumps(record))
    monkeypatch.setattr(next_command, "load", lambda _: __import__("sttx_train").load_model(tiny_model))
    result = sttx("next", tmp_path / "s.jsonl", "--json")
    assert (result.code, "predictor: on (no call is known" in result.err) == (0, True), result.err
    assert result.json["call"] is not None


def test_a_session_can_be_chosen(run):
    result = run("--session", "on", "--json")
    assert (result.code, result.json["session"]) == (0, "one")
    missing = run("--session", "three")
    assert (missing.code, missing.out) == (2, "")
    assert "no session's identity starts with 'three'" in missing.err


def test_only_the_end_of_a_long_session_is_read(run):
    whole, short = run("--json"), run("--json", "--context", 40)
    assert "read whole" in whole.err and "its last 40 bytes are read" in short.err
    assert whole.json["call"] != short.json["call"]


def test_silence_when_unsure(run, found):
    found(tools=(("Bash", 0.31), ("Read", 0.2)), commands=(Command(text="ls", p=0.05),))
    quiet = run("--min-confidence", 0.5)
    assert (quiet.code, quiet.out) == (0, "")
    assert "unsure: the likeliest tool, Bash, has probability 0.31" in quiet.err
    as_json = run("--min-confidence", 0.5, "--json").json
    assert as_json["tools"] == as_json["commands"] == []
    assert run("--min-confidence", 0.25).out.splitlines()[1:] == ["0.310  Bash"]
    found()
    assert "unsure: no tool call was found" in run().err


def test_hostile_names_and_commands_cannot_reach_the_terminal(run, found):
    name, text = "Ba\x1b]0;x\x07sh\nBash", "rm \x1b[2J\u202e" + "y" * 200
    found(tools=((name, 0.9),), commands=(Command(text=text, p=0.9, whole=True),))
    result = run()
    assert "\x1b" not in result.out + result.err and "\u202e" not in result.out
    assert len(result.out.splitlines()) == 4 and "more characters" in result.out
    answer = run("--json")
    assert "\x1b" not in answer.out and answer.json["tools"] == [{"name": name, "p": 0.9}]
    assert answer.json["commands"][0]["text"] == text
    quiet = run("--min-confidence", 0.95)
    assert "\x1b" not in quiet.err and quiet.out == ""


def typed(monkeypatch, data):
    """Put bytes on standard input."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.mark.parametrize("off", [False, True])
def test_text_from_standard_input(sttx, tiny_model, monkeypatch, off):
    secret = "ghp_" + "a1B2c3D4e5F6" * 3
    typed(monkeypatch, f"the token is {secret}\nplease run the tests \xff\n".encode("latin-1"))
    seen = []
    original = Tails.add
    monkeypatch.setattr(Tails, "add", lambda self, trace: (seen.append(trace), original(self, trace)))
    line = ["next", "-", "--model", tiny_model, "--experts", "off", "--threads", 1, "--json"]
    result = sttx(*line, *(["--no-redact"] if off else []))
    assert result.code == 0, result.err
    assert result.json["session"] == "standard input"
    assert "predictor: on (no call is known that something usually follows)" in result.err
    [trace] = seen
    assert isinstance(trace, UserMessage) and (secret in trace.text) is off
    assert ("redaction is off" in result.err) is off


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" \n", "standard input is empty"),
        ('{"type": "user"}\n{}', "standard input holds records, and - reads plain text"),
    ],
)
def test_standard_input_that_is_no_text(sttx, monkeypatch, text, message):
    typed(monkeypatch, text.encode())
    monkeypatch.setattr(next_command, "load", None)
    result = sttx("next", "-")
    assert (result.code, result.out) == (2, "") and message in result.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("- SESSIONS", 2, "- is text from standard input, in place of a source: name one of the two"),
        ("- --session one", 2, "--session would have no effect with -"),
        ("SESSIONS --checkpoint RUN --state STATE", 2, "both --checkpoint and --state are given"),
        ("SESSIONS --predictor off --context 9", 2, "--context would have no effect with --predictor off"),
        ("- --predictor off", 2, "nothing is known of a text with --predictor off"),
        ("SESSIONS --top 0", 2, "--top"),
        ("SESSIONS --min-confidence 1.5", 2, "--min-confidence"),
        ("SESSIONS --context 0", 2, "--context"),
        ("MODEL", 2, "is a model, not a source of sessions: use --model"),
        ("MISSING", 2, "no such source"),
        ("EMPTY", 1, "no record in"),
    ],
)
def test_mistakes_are_found_before_the_model_is_loaded(
    sttx, sessions, finished, tiny_model, tmp_path, monkeypatch, arguments, code, message
):
    monkeypatch.setattr(next_command, "load", None)
    (tmp_path / "empty.jsonl").write_text("")
    places = {"RUN": finished, "MODEL": tiny_model, "SESSIONS": sessions, "MISSING": tmp_path / "no"}
    places["EMPTY"] = tmp_path / "empty.jsonl"
    result = sttx("next", *(str(places.get(word, word)) for word in arguments.split()))
    assert (result.code, result.out) == (code, ""), result.err
    assert message in result.err.splitlines()[-1] and "Traceback" not in result.err


def test_with_what_a_run_has_learned(run, finished, unchanged):
    with unchanged(finished):
        learned = run("--checkpoint", finished / "latest", "--json")
    assert learned.code == 0 and learned.json["call"] != run("--json").json["call"]


# -- the end of a session ----------------------------------------------------------------------------------


def message(text, *, session="s", at=0.0, subagent=""):
    return UserMessage(meta=Meta(session=session, time=at, subagent=subagent), text=text)


def tails(traces, most=1000, session=None):
    result = Tails(most, session)
    for trace in traces:
        result.add(trace)
    return result


def test_the_latest_by_time_else_the_last():
    timed = [message("a", session="new", at=9.0), message("b", session="old", at=3.0)]
    assert tails(timed).latest().session == "new"
    untimed = [message("a", session="x"), message("b", session="y")]
    assert tails(untimed).latest().session == "y"
    both = [message("a", at=1.0), message("b", subagent="z", at=2.0)]
    assert tails(both).latest().document == "s/z" and "document 's/z'" in tails(both).latest().description()
    ended = [message("a"), SessionEnd(meta=Meta(session="other", time=5.0))]
    assert tails(ended).latest().session == "s" and tails([]).latest() is None


def test_a_prefix_must_be_of_one_session():
    traces = [message("a", session="ab"), message("b", session="abc"), message("c", session="abd")]
    assert tails(traces, session="ab").latest().session == "ab", "the whole name"
    assert tails(traces, session="abd").latest().session == "abd"
    with pytest.raises(UsageError, match="2 sessions start with 'abc?'|2 sessions start"):
        tails(traces[1:], session="ab").latest()
    with pytest.raises(UsageError, match="no session's identity"):
        tails(traces, session="q").latest()


def test_the_end_is_cut_to_its_bytes():
    traces = [message("é" * number) for number in range(1, 12)]
    whole = "".join(map(render, traces)).encode()
    assert tails(traces).latest().part() == "it is read whole"
    assert tails(traces, 30).latest().part() == "its last 30 bytes are read"
    for most in (1, 2, 30, 31, 32, 100, len(whole), len(whole) + 5):
        tail = tails(traces, most).latest()
        kept = "".join(tail.texts).encode()
        assert whole.endswith(kept) and most - 1 <= len(kept) + max(0, most - len(whole)) <= most
        assert tail.bytes == len(whole) and len(tail.texts) <= 12


def test_memory_is_bounded():
    many = [message("x" * 500, session=str(number), at=float(number)) for number in range(200)]
    result = tails(many, most=100)
    assert len(result._tails) == 64 and result.latest().session == "199"


def test_a_document_that_was_forgotten_is_not_read_whole():
    others = [message("x", session=str(number), at=float(number + 2)) for number in range(64)]
    first, again = message("once", session="back", at=1.0), message("again", session="back", at=99.0)
    tail = tails([first, *others, again]).latest()
    size = len(render(again).encode())
    assert tail.session == "back" and tail.bytes == size + len(render(first).encode())
    assert tail.part() == f"its last {size} bytes are read"


def test_a_description_is_one_safe_line():
    result = ToolResult(meta=Meta(session="s\n\x1b[2J", project="p\x07", time=1e9), name="Ba\nsh", output="")
    text = tails([result]).latest().description()
    assert text.isprintable() and "tool result of Ba sh at 2001-09-09 01:46 UTC" in text
    assert Tail("d", "d").description() == "session 'd'"
    assert Tail("d", "d\x07").description() == r"session 'd\x07', document 'd'", "escaped once"
    for at in (1e18, 1e300, -1e18):
        assert " at " not in tails([message("a", at=at)]).latest().description()
    assert json.dumps(text)
