"""`sttx generate`: the JSON contract, streaming, options, chats, and what their text may do to a terminal."""

import io
import json
import os
import signal
import sys
from contextlib import nullcontext

import pytest

from sttx_cli import chat, loading
from sttx_cli.commands import generate as generate_command
from sttx_cli.plain import visible
from sttx_core import experts
from sttx_train.generate import Conversation, Generation

HOSTILE = "caf\u00e9 \x1b]0;title\x07\x1b[2J\u202e\r\n"


@pytest.fixture
def run(sttx, tiny_model):
    """Return a function that generates without experts, with further arguments."""
    line = ["generate", "--model", tiny_model, "--experts", "off", "--threads", 1]
    return lambda *arguments: sttx(*line, *arguments)


@pytest.fixture
def typed(monkeypatch):
    """Return a function that types lines; an exception among them is raised as the terminal would."""

    def type_lines(*lines):
        left = iter(lines)

        def answer(_):
            line = next(left, None)
            if line is None:
                raise EOFError
            if isinstance(line, BaseException):
                raise line
            return line

        monkeypatch.setattr("builtins.input", answer)

    return type_lines


@pytest.fixture
def answers(monkeypatch):
    """Return a function that fixes the text of every generation, as pieces."""

    def fix(*pieces):
        def step(self):
            at = getattr(self, "at", 0)
            if at == len(pieces):
                self.finish_reason = "stop"
                raise StopIteration
            self.at = at + 1
            self.text += pieces[at]
            return pieces[at]

        monkeypatch.setattr(Generation, "__next__", step)

    return fix


def test_the_json_contract(run):
    result = run("User: hi", "--max-tokens", 8, "--temperature", 0, "--json")
    assert result.code == 0, result.err
    assert result.json.keys() == {"text", "tokens", "finish_reason"}
    assert (result.json["tokens"], result.json["finish_reason"]) == (8, "length")
    assert result.json == run("User: hi", "--max-tokens", 8, "--temperature", 0, "--json").json
    recurrent = run("User: hi", "--max-tokens", 8, "--temperature", 0, "--json", "--kernel", "recurrent")
    assert recurrent.json == result.json and "kernel: recurrent" in recurrent.err


def test_text_streams_and_is_the_same_as_in_json(run):
    options = ("--max-tokens", 12, "--seed", 5)
    text = run("ab", *options, "--json").json["text"]
    streamed = run("ab", *options)
    assert streamed.code == 0
    assert streamed.out == visible(text) + ("" if text.endswith("\n") else "\n")
    assert "12 tokens: ended at --max-tokens" in streamed.err


@pytest.mark.parametrize(
    "options",
    [
        ["--seed", 2],
        ["--temperature", 0.2],
        ["--top-k", 2],
        ["--top-p", 0.1],
        ["--min-p", 0.5],
        ["--typical-p", 0.1],
        ["--repetition-penalty", 3],
        ["--presence-penalty", 9],
        ["--frequency-penalty", 9],
        ["--logit-bias", "66:99", "--logit-bias", "67:98.9"],
        ["--experts", "on"],
    ],
    ids=lambda options: options[0],
)
def test_every_option_has_an_effect(run, options):
    line = ["aaaa", "--max-tokens", 24, "--json"]
    assert run(*line, *options).json["text"] != run(*line).json["text"]


def test_decayed_counts_have_an_effect(run):
    line = ["aaaa", "--max-tokens", 24, "--json", "--frequency-penalty", 9]
    assert run(*line, "--penalty-decay", 0.1).json["text"] != run(*line).json["text"]


def test_a_stop_ends_the_text_and_is_not_printed(run):
    line = ["aaaa", "--max-tokens", 24, "--json", "--logit-bias", "66:99"]  # id 66 is the byte A
    assert run(*line).json["text"] == "A" * 24
    stopped = run(*line, "--stop", "xyz", "--stop", "AAA").json
    assert stopped == {"text": "", "tokens": 3, "finish_reason": "stop"}
    ended = run("aaaa", "--json", "--logit-bias", "0:99").json
    assert ended == {"text": "", "tokens": 1, "finish_reason": "end"}


def test_what_a_run_has_learned_is_used(run, finished):
    line = ["Please run test number ", "--max-tokens", 24, "--json"]
    assert run(*line, "--checkpoint", finished).json["text"] != run(*line).json["text"]


def test_the_prompt_from_standard_input(run, monkeypatch):
    def given(data, encoding="utf-8"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding=encoding))

    line = ["--max-tokens", 6, "--json"]
    for encoding in ("utf-8", "latin-1"):  # it is UTF-8 whatever the locale says
        given("äb\n".encode(), encoding)
        read = run("-", *line)
        assert read.code == 0 and read.json == run("äb\n", *line).json
    assert run(*line).json["tokens"] == 6, "without a prompt the text starts as a document does"
    given(b"")
    empty = run("-", *line)
    assert empty.code == 2 and "standard input is empty" in empty.err
    given(b"\xff\xfe")
    assert "standard input is not UTF-8" in run("-", *line).err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("x --learn", "--learn would have no effect: it goes with --chat"),
        ("x --state-decay 0.5", "--state-decay would have no effect: there is no offset without --state-lr"),
        ("--chat --json", "--json would have no effect with --chat"),
        ("--chat -", "- would have no effect with --chat"),
        ("x --temperature 0 --top-p 0.5", "--top-p would have no effect: at temperature 0"),
        ("x --temperature 0 --seed 1", "--seed would have no effect: at temperature 0"),
        ("x --penalty-decay 0.9", "--penalty-decay would have no effect: there is no frequency penalty"),
        ("x --top-p 0", "--top-p must be above 0"),
        ("x --temperature nan", "--temperature must be"),
        ("x --logit-bias 3", "--logit-bias '3' is not ID:BIAS"),
        ("x --logit-bias 3:inf", "--logit-bias must add a finite number"),
        ("x --max-tokens -1", "--max-tokens"),
        ("x --checkpoint a --state b", "both --checkpoint and --state are given"),
        ("x --model nobody", "no model at 'nobody'"),
    ],
)
def test_mistakes_are_found_before_the_model_is_loaded(sttx, monkeypatch, arguments, message):
    monkeypatch.setattr(generate_command, "load", None)
    result = sttx("generate", *arguments.split())
    assert (result.code, result.out) == (2, "") and message in result.err


def test_outer_steps_change_what_follows(run):
    prompt = "the file was read again " * 6
    texts = [run(prompt, "--max-tokens", 40, "--state-lr", rate).out for rate in (0, 0.5, 0.5)]
    assert texts[0] != texts[1] == texts[2]
    assert run(prompt, "--max-tokens", 40).out == texts[0]


def test_empty_stops_and_prompts_are_refused(sttx, monkeypatch):
    monkeypatch.setattr(generate_command, "load", None)
    assert sttx("generate", "").code == sttx("generate", "x", "--stop", "").code == 2


def test_a_bias_for_a_token_that_is_not_there(run):
    result = run("x", "--logit-bias", "300:1")
    assert result.code == 2 and "--logit-bias names token 300, but the vocabulary ends at 256" in result.err


def test_hostile_text_cannot_reach_the_terminal(run, answers, typed):
    answers("ok\x1b", *HOSTILE)
    result = run("x")
    assert result.out == "ok\\x1bcaf\u00e9 \\x1b]0;title\\x07\\x1b[2J\\u202e\\r\n"
    answer = run("x", "--json")
    assert answer.out.isascii() and "\x1b" not in answer.out and answer.json["text"] == "ok\x1b" + HOSTILE
    typed("hello", f"/{HOSTILE.strip()}")
    talk = run("--chat")
    assert talk.code == 0 and "\x1b" not in talk.out + talk.err and "\u202e" not in talk.out + talk.err


# -- chats -----------------------------------------------------------------------------------------------


def test_a_chat_reads_lines_and_ends_with_the_input(run, typed, answers):
    answers("  Hello", " there.")
    typed("hi", "", "/usr/bin is a path", "/nothing", "/reset", "/reset now")
    result = run("--chat")
    assert result.code == 0, result.err
    assert result.out == "Hello there.\nHello there.\n"
    assert "'/nothing' is not a command: /reset forgets" in result.err
    assert result.err.count("the conversation starts again") == 1
    assert "'/reset now' is not a command" in result.err


def test_a_chat_is_saved_as_a_source(run, typed, answers, sttx, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answers(" Hello there.")
    typed("/save early.jsonl", "hi \x1b[2J", "/save", "/save my talk.jsonl", "/reset", "/save late.jsonl")
    result = run("--chat")
    assert result.code == 0
    assert result.err.count("there is nothing to save yet") == 2
    assert "/save needs the name of a file" in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["my talk.jsonl"]
    traces = sttx("traces", "my talk.jsonl", "--json", "--no-redact").out.splitlines()[1:]
    said = [(json.loads(line)["type"], json.loads(line)["text"]) for line in traces]
    assert said == [("user_message", "hi \x1b[2J"), ("assistant_message", "Hello there.")]
    assert json.loads(traces[0])["meta"]["session"].startswith("chat-")


def test_a_saved_chat_is_private_and_replaces_only_a_saved_chat(run, typed, answers, tmp_path):
    answers("Hello.")
    talk, other = tmp_path / "talk.jsonl", tmp_path / "traces.jsonl"
    header = '{"sttx_traces":1}\n'
    other.write_text(header + '{"type":"user_message","meta":{"session":"work"},"text":"a"}\n')
    talk.write_text(header + '{"type":"user_message","meta":{"session":"chat-1"},"text":"a"}\n')
    before = other.read_text()
    typed("hi", f"/save {other}", f"/save {talk}", "and?", f"/save {talk}")
    result = run("--chat")
    assert result.code == 0 and f"{str(other)!r} exists and is not a saved chat" in result.err
    assert other.read_text() == before and len(talk.read_text().splitlines()) == 5
    if os.name != "nt":
        assert talk.stat().st_mode & 0o777 == 0o600


def test_emoji_of_several_characters_stay_whole(run, monkeypatch, typed):
    pieces = ["👩", "\u200d", "👧", "x", "\u200d", "y"]

    def answer(self):
        yield from pieces

    monkeypatch.setattr(Conversation, "answer", answer)
    typed("hi")
    assert run("--chat").out == "👩\u200d👧x\\u200dy\n"


def test_a_chat_writes_through_no_link(run, typed, answers, tmp_path):
    answers("Hello.")
    (tmp_path / "target").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    typed("hi", f"/save {tmp_path / 'link'}", f"/save {tmp_path}", "still here?")
    result = run("--chat")
    assert result.code == 0 and "is a link" in result.err and "is a folder" in result.err
    assert (tmp_path / "target").read_text() == "kept" and result.out == "Hello.\n" * 2


@pytest.mark.skipif(sys.platform == "win32", reason="raises a Unix signal")
def test_ctrl_c_ends_the_answer_and_not_the_program(run, typed, monkeypatch):
    steps = []

    def interrupted(self):
        steps.append(1)
        if len(steps) == 3:
            signal.raise_signal(signal.SIGINT)
        self.text += "word "
        return "word "

    monkeypatch.setattr(Generation, "__next__", interrupted)
    typed("go on", KeyboardInterrupt(), "/save")
    before = signal.getsignal(signal.SIGINT)
    result = run("--chat")
    assert (result.code, result.out) == (0, "word word word \n")
    assert "stopped" in result.err and "the end of input (Ctrl-D) ends the chat" in result.err
    assert "/save needs the name of a file" in result.err, "the program goes on"
    assert signal.getsignal(signal.SIGINT) is before


def test_a_prompt_is_the_first_line_of_a_chat(run, typed, answers, monkeypatch):
    said = []
    original = Conversation.say
    monkeypatch.setattr(Conversation, "say", lambda self, text: (said.append(text), original(self, text))[1])
    answers("Hello.")
    typed("second")
    assert run("--chat", "first").out == "Hello.\nHello.\n" and said == ["first", "second"]


def test_a_chat_learns_only_if_asked(run, typed, monkeypatch):
    learned = []
    original = chat.run_chat

    def watched(conversation, **options):
        original(conversation, **options)
        predictor = conversation._reader.predictor
        learned.append((predictor.updates, float(predictor.learner.s0.detach().abs().sum())))

    monkeypatch.setattr(generate_command, "run_chat", watched)
    line = "the same words again and again, and the same words again"
    for more in ((), ("--learn",)):
        typed(line, line)
        result = run("--chat", *more, "--max-tokens", 4)
        assert result.code == 0, result.err
    assert learned[0] == (0, 0.0) and learned[1][0] >= 2 and learned[1][1] > 0
    assert "that stays in memory, and ends with the chat" in result.err
    paid = [float(each.split(", ")[1].split()[0]) for each in result.err.splitlines() if "paid " in each]
    assert len(paid) == 2 and paid[1] < paid[0], "the second time it costs less"


def test_a_chat_learns_from_where_a_run_stands(run, typed, finished, unchanged):
    typed("Please run test number 3.")
    with unchanged(finished):
        result = run("--chat", "--learn", "--checkpoint", finished, "--max-tokens", 4)
    assert result.code == 0 and "paid" in result.err


@pytest.mark.skipif(sys.platform == "win32", reason="sends a Unix signal")
def test_a_real_chat_outlives_an_interrupted_answer(start, tiny_model, tmp_path):
    line = ["generate", "--chat", "--model", tiny_model, "--experts", "off", "--threads", 1]
    talk = start(*line, "--max-tokens", 1_000_000, "--logit-bias", "66:99")  # it says A without end
    talk.stdin.write("go on\n")
    talk.stdin.flush()
    assert os.read(talk.stdout.fileno(), 1) == b"A"  # unbuffered: the rest is for `communicate`
    talk.send_signal(signal.SIGINT)
    out, err = talk.communicate(f"/save {tmp_path / 'talk.jsonl'}\n", timeout=300)
    assert talk.returncode == 0, err
    assert set(out) <= {"A", "\n"} and "stopped" in err and "Traceback" not in err
    answer = json.loads((tmp_path / "talk.jsonl").read_text().splitlines()[2])
    assert answer["text"] == f"A{out}".strip()


SCHEMA = {
    "type": "object",
    "properties": {"n": {"enum": [1, 22]}},
    "required": ["n"],
    "additionalProperties": False,
}


def test_constrained_text_is_what_the_option_says(run, tmp_path):
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA))
    for given in (file, json.dumps(SCHEMA)):
        result = run("ab", "--json-schema", given, "--json")
        assert result.code == 0, result.err
        assert json.loads(result.json["text"])["n"] in (1, 22) and result.json["finish_reason"] == "end"
    result = run("ab", "--regex", "[0-9]{3} ok")
    assert result.code == 0 and result.out.strip()[3:] == " ok" and "the constraint is met" in result.err
    result = run("Tool call:", "--tools", json.dumps({"Read": SCHEMA}), "--json")
    assert result.json["text"].startswith(' Read {"n":')
    assert "step: compiled (cpu, float32" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--regex", "(("], "--regex cannot be used: unclosed group"),
        (["--regex", "a", "--tools", "{}"], "--regex and --tools exclude each other"),
        (["--json-schema", "{"], "--json-schema is not JSON"),
        (["--json-schema", "missing.json"], "missing.json"),
        (["--tools", "{}"], "--tools names no tool"),
        (["--chat", "--regex", "a"], "--regex would have no effect with --chat"),
    ],
)
def test_wrong_constraints_are_found_before_the_model_is_loaded(sttx, monkeypatch, arguments, message):
    monkeypatch.setattr(generate_command, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    result = sttx("generate", *arguments)
    assert result.code != 0 and message in result.err


@pytest.mark.parametrize(("ready", "title"), [(True, "preparing"), (False, "compiling")])
def test_that_something_is_compiled_is_said_only_where_it_is(monkeypatch, ready, title):
    titles = []
    monkeypatch.setattr(loading, "progress_bar", lambda title: titles.append(title) or nullcontext())
    for name in ("compile_experts", "compile_choosing"):
        monkeypatch.setattr(experts, name, lambda name=name: titles.append(name))
    monkeypatch.setattr(experts, "experts_are_compiled", lambda choosing: ready)
    loading.prepare_experts(choosing=True)
    assert titles[0].startswith(f"{title} the experts") and ("half a minute" in titles[0]) is not ready
    assert titles[1:] == ["compile_experts", "compile_choosing"]
