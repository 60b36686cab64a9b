"""Facts are planted as their recipe says, and the benchmark of reports counts what is read before each."""

import argparse
import importlib.util
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sttx_core.render import render
from sttx_core.tokenizers import ByteTokenizer
from sttx_core.traces import AssistantMessage, Meta, ToolResult, ToolUse, UserMessage
from sttx_train.evaluate import ScoredTrace
from sttx_train.predict import Prices

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")


@pytest.fixture(scope="module")
def facts():
    sys.path.insert(0, BENCHMARKS)
    import planted_facts

    yield planted_facts
    sys.path.remove(BENCHMARKS)


@pytest.fixture(scope="module")
def measure(facts):
    spec = importlib.util.spec_from_file_location("report_benchmark", f"{BENCHMARKS}/report.py")
    module = sys.modules["report_benchmark"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["report_benchmark"]


def session(turns=40):
    meta = Meta(session="s")
    for turn in range(turns):
        yield UserMessage(meta=meta, text=f"Please do step {turn} of the plan.\nThen report.")
        yield ToolUse(meta=meta, name="Bash", input={"command": f"make step-{turn}"})
        yield ToolResult(meta=meta, name="Bash", output=f"step {turn}\nok\ndone in 2 s")
        yield AssistantMessage(meta=meta, text=f"Step {turn} is done.")


@pytest.mark.parametrize("half", ["CHOOSE", "TEST"])
@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_planted_is_there_and_used_later(facts, half, seed):
    traces = list(session())
    changed, planted = facts.plant(traces, getattr(facts, half), facts=8, decoys=8, seed=seed)
    texts = [render(trace) for trace in changed]
    assert Counter(each.kind for each in planted if not each.kind.startswith("decoy")) == {
        kind.name: 2 for kind in getattr(facts, half)
    }
    assert len(planted) == 16
    for each in planted:
        assert each.said in texts[each.trace]
        assert all(use > each.trace for use in each.uses)
        if each.kind == "decoy":
            assert sum(max(each.said.split(), key=len) in text for text in texts) == 1
        elif each.kind != "decoy again":
            assert 1 <= len(each.uses) <= 3
            later = "".join(texts[each.trace + 1 :])
            assert any(value in later for value in each.values)
            assert not any(value in render(trace) for trace in traces for value in each.values)


def test_the_same_seed_plants_the_same(facts):
    traces = list(session())
    plant = [facts.plant(traces, facts.CHOOSE, facts=4, decoys=4, seed=seed) for seed in (3, 3, 4)]
    assert plant[0] == plant[1] and plant[0] != plant[2]


def test_nothing_else_changes(facts):
    traces = list(session())
    changed, _ = facts.plant(traces, facts.TEST, facts=0, decoys=0, seed=0)
    assert changed == traces
    changed, planted = facts.plant(traces, facts.TEST, facts=8, decoys=0, seed=0)
    own = [line for trace in traces for line in render(trace).splitlines()]
    left = Counter(line for trace in changed for line in render(trace).splitlines())
    assert sum((Counter(own) - left).values()) <= 3 * len(planted), "at most the first lines of some traces"


def test_the_halves_share_no_kind(facts):
    names = [kind.name for kind in facts.CHOOSE + facts.TEST]
    said = [text for kind in facts.CHOOSE + facts.TEST for text in kind.said + kind.used]
    assert len(set(names)) == len(names) and len(set(said)) == len(said)


class Loaded:
    tokenizer = ByteTokenizer()


def priced(measure, facts, seed=0):
    changed, planted = facts.plant(list(session()), facts.CHOOSE, facts=8, decoys=8, seed=seed)
    seen, scored = set(), []
    for trace in changed:
        text = render(trace).encode()
        costs = np.full(len(text), 0.1)
        frozen = np.full(len(text), 0.1)
        at = 0
        for word in text.split(b" "):
            new = word not in seen
            seen.add(word)
            costs[at : at + len(word)] = 4 if new else 0.1
            frozen[at : at + len(word)] = 4
            at += len(word) + 1
        scored.append(
            ScoredTrace(
                trace=trace,
                ids=tuple(ByteTokenizer().encode(text.decode())),
                paid=np.ones(len(text), bool),
                prices=Prices(bits=costs, network=frozen, frozen=frozen),
                bytes=len(text),
            )
        )
    return measure.Priced("s", scored, planted)


def test_every_way_reads_every_fact_in_the_end(measure, facts):
    costs = measure.read(priced(measure, facts), Loaded())
    assert costs.keys() == measure.RANKERS.keys()
    for name, each in costs.items():
        assert len(each["decoy"]) + len(each["decoy again"]) == 8, name
        assert all(0 < share <= 1 for kind in each.values() for share in kind), name
    assert np.mean(costs["report"]["fact"]) < np.mean(costs["random"]["fact"])


def test_a_summary_counts_over_sessions(measure, facts):
    found = {
        name: [{"fact": [0.01, 0.5], "decoy": [0.3]}, {"fact": [0.04], "decoy again": [0.1]}]
        for name in measure.RANKERS
    }
    found["random"] = [{"fact": [1.0, 1.0]}, {"fact": [1.0]}]
    args = argparse.Namespace(folder=Path("x"), half="choose", seeds="0")
    report = measure.summarize(found, args)
    assert report["planted"] == {"fact": 3, "decoy": 1, "decoy again": 1} and report["sessions"] == 2
    ours = report["ways"]["report"]
    assert [share for share, *_ in ours["fact"]] == [0.333, 0.667, 0.667, 0.667]
    assert [share for share, *_ in report["ways"]["random"]["ours_less_this"]] == [0.333, 0.667, 0.667, 0.667]
    assert all(low <= share <= high for share, low, high in ours["fact"])
