"""The watcher with a tiny model: planted loops raise the alarm once, and memory is the session's own."""

import random
from dataclasses import replace

import numpy as np
import pytest

from sttx_core.traces import Meta, SessionEnd, ToolResult, ToolUse, UserMessage
from sttx_train.evaluate import score_traces
from sttx_train.online import LearnerConfig
from sttx_train.predict import Predictor
from sttx_train.stream import StreamConfig, StreamTrainer
from sttx_train.watch import AlarmConfig, Pricer, Watcher

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def words(dice, count):
    return " ".join("".join(dice.choices(LETTERS, k=dice.randint(3, 8))) for _ in range(count))


def work(count, *, session="s", seed=0):
    """Return rounds that are all different."""
    dice = random.Random(seed)
    traces = []
    for number in range(count):
        meta = Meta(session=session, uid=f"{session}-{seed}-{number}")
        name = f"{session} {seed} {number}"
        traces.append(ToolUse(meta=meta, name="Bash", input={"command": words(dice, 5)}, id=name))
        traces.append(ToolResult(meta=meta, name="Bash", output=words(dice, 12), id=name))
    return traces


def again(traces, times):
    """Return rounds repeated, each time with ids of their own."""
    return [replace(one, id=f"{one.id} {turn}") for turn in range(times) for one in traces]


def watched(watcher, traces):
    return [one for trace in traces for one in watcher.add(trace)] + watcher.end()


@pytest.mark.parametrize("cycle", [1, 2])
def test_a_loop_raises_the_alarm_once_and_work_never(tiny, cycle):
    before, after = work(6), work(12, seed=1)
    rounds = watched(Watcher(tiny()), [*before, *again(before[-2 * cycle :], 8), *after])
    alarms = [one.round.number for one in rounds if one.verdict.fires]
    assert len(alarms) == 1 and 6 < alarms[0] <= 6 + 8 * cycle
    assert not rounds[-1].verdict.looping
    assert [one.round.number for one in rounds] == list(range(1, 19 + 8 * cycle))


def test_what_another_session_did_is_no_repeat(tiny):
    first, second = work(6), [replace(one, meta=Meta(session="t")) for one in work(6)]
    rounds = watched(Watcher(tiny()), [*first, *second])
    mine, yours = ([one.round.bits for one in rounds if one.round.session == name] for name in "st")
    assert yours == pytest.approx(mine)


def test_what_a_run_has_read_is_no_repeat(tiny, tmp_path):
    traces = work(4)
    learning = LearnerConfig(phrases="off", lr_state=0.05)
    StreamTrainer(tiny(), learning, StreamConfig(window=32), directory=tmp_path / "run").run(traces)
    pricer = Pricer(tiny(), tmp_path / "run")
    assert pricer.predictor.has_learned
    priced = [pricer.price(trace) for trace in traces]
    known = list(score_traces(Predictor(tiny(), tmp_path / "run"), traces))
    assert sum(one.bits for one in known) < 0.5 * sum(one.bits for one in priced)
    assert sum(one.network_bits for one in known) == pytest.approx(
        sum(one.network_bits for one in priced), rel=1e-3
    )


def test_a_trace_costs_the_same_with_others_between(tiny):
    traces, others = work(3), work(3, session="t", seed=5)
    alone, between = Pricer(tiny()), Pricer(tiny())
    for trace, other in zip(traces, others, strict=True):
        between.price(other)
        np.testing.assert_allclose(
            between.price(trace).prices.bits, alone.price(trace).prices.bits, atol=1e-4
        )


def test_only_the_start_and_the_end_of_long_traces_are_priced(tiny):
    long = UserMessage(meta=Meta(session="s"), text="word " * 1000)
    assert Pricer(tiny(), most=100).price(long).bytes < 120
    assert Watcher(tiny(), most=100).pricer.most == 100


def test_states_are_kept_of_few_documents(tiny):
    pricer = Pricer(tiny(), documents=1)
    for trace in (*work(1), *work(1, session="t")):
        pricer.price(trace)
    assert pricer.reader("s") is None and pricer.reader("t") is not None


def test_ends_and_traces_without_text(tiny):
    watcher = Watcher(tiny(), alarm=AlarmConfig(threshold=3.0))
    assert watcher.alarm.config.threshold == 3.0
    meta = Meta(session="s")
    assert watcher.add(UserMessage(meta=meta, text="")) == [] and watcher.traces == 0
    assert watcher.add(ToolUse(meta=meta, name="Bash", input={"command": "ls"}, id="1")) == []
    (ended,) = watcher.add(SessionEnd(meta=meta))
    assert not ended.round.answered and watcher.traces == 1
