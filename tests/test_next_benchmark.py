"""The benchmark of `sttx next`: no way sees what it is asked for, and the measures are what they say."""

import json
import random

import numpy as np
import pytest

from sttx_core.errors import UsageError

CYCLE = ["Read", "Edit", "Bash"]


@pytest.fixture(scope="module")
def script(benchmark):
    return benchmark("next")


def rows(sessions, predicted):
    """Return sessions of a cycle of calls, and what a predictor says before each of them."""
    for number in range(sessions):
        calls = [
            [name, f"pytest -k {number}" if name == "Bash" else None, f"s{number}"] for name in CYCLE * 4
        ]
        yield {"session": f"s{number}", "calls": calls}
        for at, call in enumerate(calls):
            names, texts = predicted(call)
            yield {"session": f"s{number}", "number": at, "call": 0.5, "names": names, "texts": texts}
        yield {"session": f"s{number}", "number": None, "call": 0.1, "names": [], "texts": []}


def knows(call):
    name, command, _ = call
    texts = [[1, "pytest", 0.4], [2, "pytest -k", 0.4], [4, command, 0.3]] if command else []
    return [[name, 0.4], ["Write", 0.1]], texts


def is_wrong(call):
    return [["Write", 0.5]], []


def test_who_knows_wins_and_the_blend_learns_it(script):
    kinds, other = script.contests(rows(5, knows))
    result = script.summary(kinds["tools"])
    assert result["events"] == 60 and result["sessions"] == 5
    assert result["ways"]["predictor"]["top-1"] == (1.0, 1.0, 1.0)
    assert result["ways"]["bigram"]["top-1"][0] > 0.8 > 0.5 > result["ways"]["frequency"]["top-1"][0]
    assert result["weights"]["blend"]["predictor"] > 0.25
    assert result["differences"]["predictor - predictor off"]["MRR"][0] > 0
    assert script.summary(kinds["2 words"])["ways"]["predictor"]["top-1"][0] == 1.0
    assert len(other["calls"]) == 65 and sum(came for *_, came in other["calls"]) == 60
    assert json.dumps(result)


def test_who_is_wrong_loses_its_weight(script):
    kinds, _ = script.contests(rows(5, is_wrong))
    result = script.summary(kinds["tools"])
    assert result["ways"]["predictor"]["MRR"] == (0.0, 0.0, 0.0)
    assert result["weights"]["blend"]["predictor"] < 0.06
    assert result["ways"]["blend"]["top-1"][0] > 0.7
    [row] = [row for row in result["sure"]["predictor"] if row["least"] == 0.7]
    assert row == {"least": 0.7, "shown": 1.0, "right": 0.0, "p": 1.0}


def test_nothing_is_known_before_the_first_call(script):
    first, event = list(rows(1, is_wrong))[:2]
    kinds, _ = script.contests([first, event])
    for way, [outcome] in kinds["tools"].outcomes.items():
        assert outcome.rank == 0, way


def test_calls_that_are_not_foreseen_are_remembered(script):
    session, *events = rows(1, is_wrong)
    kinds, _ = script.contests([session, events[9]])
    assert kinds["tools"].outcomes["bigram"][0].rank == 1


def test_a_sub_agent_has_habits_of_its_own(script):
    calls = [["Read", None, "s"], ["Bash", "ls", "s/agent"], ["Bash", "ls", "s/agent"], ["Edit", None, "s"]]
    event = {"session": "s", "number": 3, "call": 0.5, "names": [], "texts": []}
    kinds, _ = script.contests([{"session": "s", "calls": calls}, event])
    habits = script.CallHabits()
    script._add(habits, calls[:3])
    assert (
        habits.next_tools("s")["session"].keys() == {"Read"} != habits.next_tools("s/agent")["session"].keys()
    )
    assert kinds["tools"].outcomes["recency"][0].rank == 0


def test_ranks_and_ties(script):
    said = {"a": 0.5, "b": 0.25, "c": 0.25}
    ranks = [script.outcome("s", said, came).rank for came in ("a", "b", "c", "d")]
    assert ranks == [1, 3, 2, 0], "of equal ones what came counts as later, once"
    assert script.outcome("s", {}, "a") == script.Outcome("s", 0, 0.0, 0.02)


def test_an_interval_is_that_of_sessions(script):
    dice = random.Random(0)
    sessions = [f"s{number // 10}" for number in range(200)]
    values = np.array([float(dice.random() < 0.5) for _ in sessions])
    mean, low, high = script.interval(values, sessions)
    assert low < mean < high and high - low < 0.25
    same = script.interval(np.ones(200), sessions)
    assert same == (1.0, 1.0, 1.0)


def test_events_of_real_files(script, tiny_model, tmp_path, monkeypatch):
    from next_events import beginning, events

    (tmp_path / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records(30)))
    traces = beginning(tmp_path / "a.jsonl", 400)
    assert 0 < len(traces) < 90
    options = {"most_bytes": 4000, "per_session": 3, "asked": 12, "seed": 0}
    first, *found = events(tmp_path, model=str(tiny_model), **options)
    assert first["session"] == "a" and set(map(tuple, first["calls"])) <= {
        ("Bash", f"ls {n}", "a") for n in range(30)
    }
    assert [row["number"] is None for row in found].count(False) == 3
    for row in found:
        assert 0 <= row["call"] <= 1 and row["asked"] <= 12
        assert sum(p for _, p in row["names"]) <= row["call"] * 1.001
    cache = tmp_path / "kept"
    kept = script.kept_events(cache, tmp_path, model=str(tiny_model), **options)
    assert kept == [first, *found]
    monkeypatch.setattr("next_events.events", None)
    assert script.kept_events(cache, tmp_path, model=str(tiny_model), **options) == kept
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(UsageError, match="name another file"):
        script.kept_events(cache, tmp_path, model=str(tiny_model), **options)
    with pytest.raises(UsageError, match="'seed': 0}, not .*'seed': 1}: name another file"):
        script.kept_events(cache, tmp_path, model=str(tiny_model), **(options | {"seed": 1}))


def records(turns):
    result = []
    for turn in range(turns):
        call = {"type": "tool_use", "id": f"t{turn}", "name": "Bash", "input": {"command": f"ls {turn}"}}
        answer = {"type": "tool_result", "tool_use_id": f"t{turn}", "content": "a\nb"}
        for kind, content in (("assistant", [call]), ("user", [answer])):
            message = {"role": kind, "content": content}
            fields = {"uuid": f"{turn}-{kind}", "sessionId": "a", "timestamp": "2026-02-02T09:00:00.000Z"}
            result.append({"type": kind, "message": message} | fields)
    return result
