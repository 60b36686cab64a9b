"""The parts of an evaluation: arms, the stream's text, intervals, controls, and the processes of workers."""

import operator
import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sttx_core.errors import DataError, UsageError
from sttx_core.render import render
from sttx_core.tokenizers import ByteTokenizer
from sttx_core.traces import AssistantMessage, Meta, Pair, SessionEnd, ToolResult, ToolUse, UserMessage
from sttx_train.evaluate import ARMS, DEFAULT_ARMS, check_arms, parse_arms
from sttx_train.evaluate.controls import beats, shuffled
from sttx_train.evaluate.intervals import interval
from sttx_train.evaluate.stream_text import cut_stream
from sttx_train.evaluate.workers import run_all
from sttx_train.stream import TraceWindows

ONE, TWO = Meta(session="one"), Meta(session="two", subagent="helper")
TRACES = [
    UserMessage(meta=ONE, text="Count the apples in the garden behind the house."),
    UserMessage(meta=TWO, text="How many are there?"),
    ToolUse(meta=ONE, name="Bash", input={"command": "wc -l apples.txt"}),
    AssistantMessage(meta=TWO, text="I will look at the list."),
    SessionEnd(meta=TWO),
    ToolResult(meta=ONE, name="Bash", output="17 apples.txt"),
    Pair(meta=ONE, prompt="So?", completion="Seventeen."),
]


def test_arms_are_a_list_without_repeats():
    assert parse_arms("paid,scope:bias, paid") == ("paid", "scope:bias")
    assert set(DEFAULT_ARMS) < set(ARMS) and {"phrases", "no-replay", "scope:vectors"} < set(ARMS)


@pytest.mark.parametrize("text", ["frozn", "paid,scope:neck", "", ","])
def test_an_unknown_arm_is_refused_with_the_list(text):
    with pytest.raises(UsageError, match=r"unknown arm .*choose among frozen, network, .*no-replay"):
        parse_arms(text)


def test_arms_that_learn_otherwise_do_not_fit_to_what_was_learned():
    check_arms(("paid", "phrases"), learned=None)
    check_arms(DEFAULT_ARMS, learned="--checkpoint")
    with pytest.raises(UsageError, match="'phrases' learns from the start of the stream, and --checkpoint"):
        check_arms(("paid", "phrases"), learned="--checkpoint")


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_every_token_is_of_its_trace(size):
    """Windows cross the ends of traces; the bytes of each session and kind are those of its traces."""
    tokenizer = ByteTokenizer()
    text = cut_stream(TRACES, tokenizer, window=size)
    assert text.sessions == ("one", "two")
    assert text.kinds[1] == ("tool_use", "Bash") and ("pair", "") in text.kinds
    paid = dict.fromkeys(text.kinds, 0)
    for trace, kind in zip(TRACES, [0, 0, 1, 2, None, 3, 4], strict=True):
        if kind is not None:
            unpaid = len("User: So?\n\nAssistant:") if isinstance(trace, Pair) else 0
            paid[text.kinds[kind]] += len(render(trace).encode()) - unpaid
    assert np.bincount(text.kind_T, text.bytes_T).tolist() == list(paid.values())
    of_two = sum(len(render(trace).encode()) for trace in TRACES if trace.meta.session == "two")
    assert np.bincount(text.session_T, text.bytes_T)[1] == of_two
    windows = TraceWindows(tokenizer, size=size)
    expected = []
    for trace in TRACES:
        windows.add(trace)
        while batch := windows.take():
            expected += batch
    while batch := windows.flush():
        expected += batch
    assert list(text.windows) == expected
    assert sum(len(window.ids) for window in text.of_sessions(1, 2)) == (text.session_T == 1).sum()
    assert text.sessions_of({"two/helper"}) == {1}


def test_an_interval_covers_the_mean_as_often_as_it_says():
    generator = np.random.default_rng(5)
    hits = 0
    for _ in range(100):
        sizes = generator.integers(1000, 5000, size=40)
        found = interval(sizes * generator.normal(2.0, 0.3, size=40), sizes)
        assert found is not None and 0 < found[1] - found[0] < 0.5
        hits += found[0] <= 2.0 <= found[1]
    assert 85 <= hits <= 99


def test_an_interval_takes_two_sessions_with_text_and_is_the_same_every_time():
    assert interval(np.array([3.0, 0.0]), np.array([2, 0])) is None
    bits, sizes = np.array([3.0, 8.0, 1.0]), np.array([2, 4, 1])
    assert interval(bits, sizes) == interval(bits, sizes)
    assert interval(2.0 * sizes, sizes) == [2.0, 2.0]


@pytest.mark.parametrize("layers", [2, 3, 12])
def test_no_layer_of_a_shuffled_state_has_its_own_matrices(layers):
    state = np.random.default_rng(1).normal(size=(layers, 2, 4, 4))
    other = shuffled(state)
    assert not any(np.array_equal(one, two) for one, two in zip(state, other, strict=True))
    assert np.array_equal(np.sort(state, axis=None), np.sort(other, axis=None))


def test_a_control_is_beaten_only_with_the_whole_interval():
    leads = {"clear": [0.01, 0.02], "unclear": [-0.01, 0.3], "worse": [-0.2, -0.1], "unknown": None}
    controls = {name: {"paid": {"interval": lead}} for name, lead in leads.items()}
    assert beats(controls, "paid") == ["clear"]


# --- workers


class Deadly:
    """A job that ends the process which unpickles it, as the system does when memory runs out."""

    name = "paid"

    def __reduce__(self):
        return os._exit, (9,)


def test_a_worker_that_dies_is_one_sentence():
    with pytest.raises(
        DataError, match=r"worker of 'paid' ended without a result \(exit code 9\).*--workers"
    ):
        run_all(operator.is_not, [Deadly()], workers=2, advance=print)


def test_a_worker_that_fails_is_one_sentence():
    job: Any = SimpleNamespace(name="frozen")
    with pytest.raises(DataError, match=r"worker of 'frozen' failed \(TypeError: .*--workers 1 shows where"):
        run_all(operator.add, [job, job], workers=2, advance=print)
