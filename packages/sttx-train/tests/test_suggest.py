"""Suggestions: what a call's first bytes say, what usually follows, blends, and how they are shown."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttx_core.render import render
from sttx_core.traces import AssistantMessage, Meta, ToolUse
from sttx_train.suggest import COMMON, NEW, WAYS, Blend, CallHabits, Habits, begin, shell_command
from sttx_train.suggest.calls import LONGEST_COMMAND, LONGEST_NAME, read_beginning
from sttx_train.suggest.guesses import (
    WHOLE,
    Command,
    Found,
    Suggestions,
    _ranked,
    next_texts,
    suggest_by_habits,
)
from sttx_train.suggest.suggest import usual_calls


def call(name, value, session="s"):
    return ToolUse(meta=Meta(session=session), name=name, input=value)


COMMANDS = ["git log", 'echo "a  b" \\ c', "cat <<E\nüber\tall\nE", "  ls  ", "x" * 40, "a\x07b \u2028 c"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_call_is_understood_wherever_its_text_is_cut(command):
    text = render(call("Bash", {"command": command, "timeout": 5})).encode()
    words, before = command.split(), read_beginning(b"", COMMON)
    for end in range(1, len(text)):
        said = read_beginning(text[:end], COMMON)
        assert said.is_call == (end >= len(b"Tool call: "))
        assert said.complete >= before.complete and said.ended >= before.ended
        assert (said.name == "Bash") == (end > len(b"Tool call: Bash"))
        if said.command is not None:
            assert begin(said.command, said.complete).split() == words[: said.complete]
        assert said.open != said.ended, "all else leads on"
        before = said
    assert before.ended and before.command == command and before.complete == len(words)


@given(st.text(max_size=40))
def test_any_command_comes_back(command):
    parsed = shell_command(call("Bash", {"command": command}))
    if not command.split():
        assert parsed is None
        return
    text = render(call("Bash", {"command": command})).encode()
    assert parsed is not None and parsed.opening == b'{"command":"'
    assert read_beginning(text, COMMON).command == command.encode(errors="replace").decode()


@given(st.binary(max_size=60))
def test_any_bytes_can_be_read(data):
    said = read_beginning(b'Tool call: Bash {"command":"' + data, COMMON)
    assert said.name == "Bash" and said.command is not None
    read_beginning(b"Tool call: " + data, COMMON)


def test_what_is_not_followed():
    assert not read_beginning(b"User: ", COMMON).open
    assert not read_beginning(b"Tool call: Read ", COMMON).open
    assert not read_beginning(b"Tool call: Bash\n", COMMON).open, "a call without input"
    assert not read_beginning(b'Tool call: Bash {"timeout', COMMON).open
    assert not read_beginning(b"Tool call: " + b"x" * LONGEST_NAME, COMMON).open
    long = b'Tool call: Bash {"command":"' + b"y" * LONGEST_COMMAND
    assert read_beginning(long[:-1], COMMON).open and not read_beginning(long, COMMON).open


@pytest.mark.parametrize(
    ("value", "text", "opening"),
    [
        ({"description": "ls", "command": "ls"}, "ls", b'{"description":"ls","command":"'),
        ({"command": "command"}, "command", b'{"command":"'),
        ({"command": ["sh", "-c", "sh"]}, "sh", b'{"command":["sh","-c","'),
        ({"command": "ls"}, "ls", b'{"command":"'),
        ({"description": "List", "command": "ls"}, "ls", b'{"description":"List","command":"'),
        ({"command": ["bash", "-lc", "ls -a"]}, "ls -a", b'{"command":["bash","-lc","'),
        ({"cmd": "ls"}, "ls", b'{"cmd":"'),
        ({"command": "a\ud800"}, "a\ud800", b""),
    ],
)
def test_where_commands_stand(value, text, opening):
    parsed = shell_command(call("t", value))
    assert parsed is not None and (parsed.text, parsed.opening) == (text, opening)


@pytest.mark.parametrize("value", [None, [], "ls", {"command": 3}, {"command": " "}, {"command": []}, {}])
def test_calls_without_a_command(value):
    assert shell_command(call("t", value)) is None


def test_habits_are_shares_of_what_was_seen():
    habits = Habits()
    for session, item, after in [("a", "x", None), ("a", "y", "x"), ("a", "x", "y"), ("b", "z", "x")]:
        habits.add(session, item, after)
    said = habits.predict("a", "x")
    assert tuple(said) == WAYS
    assert said["session"] == {"x": 2 / 3, "y": 1 / 3}
    assert said["all"] == {"x": 0.5, "y": 0.25, "z": 0.25}
    assert said["session after"] == {"y": 1.0}
    assert said["all after"] == {"y": 0.5, "z": 0.5}
    assert said["recency"] == pytest.approx({"x": 2 / 3, "y": 1 / 3})
    assert habits.predict("new")["session"] == habits.predict("new", "q")["all after"] == {}


def test_a_blend_learns_whom_to_trust():
    blend = Blend({"good": 1, "bad": 1, "silent": 2})
    assert blend.weights == {"good": 0.25, "bad": 0.25, "silent": 0.5}
    said = {"good": {"x": 0.9, "y": 0.1}, "bad": {"y": 1.0}, "silent": {}}
    assert blend.mix(said) == pytest.approx({"x": 0.45, "y": 0.55})
    for _ in range(200):
        blend.learn(said, "x")
    assert blend.weights["good"] > 0.4 > 0.1 > blend.weights["bad"] and blend.weights["silent"] == 0.5
    assert sum(blend.weights.values()) == pytest.approx(1)
    before = dict(blend.weights)
    blend.learn(said, "never thought of")
    assert blend.weights == before


def test_a_blend_learns_how_often_something_new_comes():
    blend = Blend({"a": 1, NEW: 1})
    assert blend.mix({"a": {}}) == {} and blend.mix({"a": {"x": 1.0}}) == {"x": 0.5}
    for number in range(300):
        blend.learn({"a": {"x": 1.0}}, "x" if number % 4 else f"never before {number}")
    assert 0.2 < blend.weights[NEW] < 0.3
    assert sum(blend.weights.values()) == pytest.approx(1)


def test_the_habits_of_calls():
    habits = CallHabits()
    for name, value in [
        ("Read", {"file_path": "/a"}),
        ("Bash", {"command": "git status"}),
        ("Read", {"file_path": "/b"}),
        ("Bash", {"command": "git log"}),
        ("my  shell", {"description": "d", "command": "ls"}),
    ]:
        habits.add(call(name, value))
    habits.add(AssistantMessage(meta=Meta(session="s"), text="Done."))
    assert habits.next_tools("s")["session"] == {"Read": 0.4, "Bash": 0.4, "my shell": 0.2}
    assert habits.next_commands("s")["session after"] == {}, "nothing came after ls"
    assert set(habits.next_commands("s")["all"]) == {"git status", "git log", "ls"}
    assert habits.openings["my shell"] == (b'{"description":"d","command":"',)
    assert habits.openings["Bash"] == COMMON["Bash"]
    for number in range(9):
        habits.add(call("Bash", {"description": str(number), "command": "ls"}))
    assert len(habits.openings["Bash"]) == 4


def test_what_is_said_of_commands_adds_up():
    habits = CallHabits()
    for command in ("git status", "git log -3", "ls"):
        habits.add(call("Bash", {"command": command}))
    found = Found(call=0.5)
    found.names.update({"Bash": 0.25, "Read": 0.25})
    found.texts.update({(1, "git"): 0.2, (2, "git log"): 0.1, (WHOLE, "ls"): 0.05})
    texts = next_texts(found, habits, "s")
    assert texts[1]["predictor"] == {"git": 0.8} and texts[2]["predictor"] == {"git log": 0.4}
    assert texts[1]["session"] == pytest.approx({"git": 2 / 3, "ls": 1 / 3})
    assert texts[WHOLE]["predictor"] == {"ls": 0.2}
    for length in (1, 2, 4):
        assert sum(texts[length]["recency"].values()) == pytest.approx(1)


def test_a_shorter_beginning_is_left_out_where_a_longer_one_says_as_much():
    mixed = {1: {"git": 0.6, "ls": 0.3}, 2: {"git log": 0.5, "ls": 0.1}, WHOLE: {"ls": 0.1}}
    assert _ranked(mixed, 0.5) == (
        Command(text="git log", p=0.25),
        Command(text="ls", p=0.15),
        Command(text="ls", p=0.05, whole=True),
    )


def test_only_what_is_sure_enough():
    commands = (Command(text="ls", p=0.5), Command(text="pwd", p=0.2))
    every = Suggestions(call=0.5, tools=(("Bash", 0.6), ("Read", 0.3)), commands=commands)
    assert every.sure(0.25, 5).tools == every.tools and every.sure(0.25, 5).commands == commands[:1]
    assert every.sure(0.0, 1).tools == every.tools[:1]
    nothing = every.sure(0.9, 5)
    assert not nothing.tools and not nothing.commands and nothing.call == 0.5
    assert json.dumps([each.p for each in commands]) == "[0.5, 0.2]"


def test_the_usual_calls_are_looked_at():
    habits = CallHabits()
    assert usual_calls(habits, "s") == []
    for command in ("ls", 'echo "é" one two three four', "ls", "bad\ud800", "two\nlines"):
        habits.add(call("Bash", {"command": command}))
    habits.add(call("Read", {}))
    habits.add(call("no\x1bname", {}))
    usual = usual_calls(habits, "s")
    assert set(usual) == {
        b"Tool call: Bash ",
        b"Tool call: Read ",
        b'Tool call: Bash {"command":"ls"',
        'Tool call: Bash {"command":"echo \\"é\\" one two"'.encode(),
        b'Tool call: Bash {"command":"two lines"',
    }


def test_habits_alone():
    habits = CallHabits()
    for command in ("git status", "ls", "git status"):
        habits.add(call("Bash", {"command": command}))
    habits.add(call("Read", {}))
    said = suggest_by_habits(habits, "s")
    assert said.call is None and said.asked == 0 and said.left == 0.0
    assert [name for name, _ in said.tools] == ["Bash", "Read"]
    assert 0.8 < sum(p for _, p in said.tools) < 1, "something is left for a tool that never came"
    assert {each.text for each in said.commands if each.whole} == {"git status", "ls"}
    elsewhere = suggest_by_habits(habits, "another session")
    assert elsewhere.tools[0][0] == "Bash"
    assert suggest_by_habits(CallHabits(), "s").tools == ()


def test_many_commands_are_no_trouble():
    habits = CallHabits()
    for number in range(3000):
        habits.add(call("Bash", {"command": f"make target-{number} with a long line"}))
    assert suggest_by_habits(habits, "s").commands[0].text.startswith("make")
