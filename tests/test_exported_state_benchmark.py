"""The benchmark of exported states: what it measures adds up, and a tuned state beats its controls."""

import json

import pytest

from sttx_core.traces import AssistantMessage, Meta, UserMessage
from sttx_train import load_model

TUNING = {"ctx": 64, "warmup": 1, "patience": 0, "batch": 4, "epochs": 2, "lr": 1.0, "bf16": False}


@pytest.fixture
def state(benchmark, monkeypatch):
    """Return the benchmark, for short texts."""
    module = benchmark("exported_state")
    for name, value in {"SIZES": (8, 32), "PIECE": 80, "PIECES": 3, "PAIRS": 3}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setitem(module.TUNING, "ctx", 64)
    return module


@pytest.fixture
def talks():
    """Return the traces of three sessions."""
    sessions = []
    for name in "abc":
        meta = Meta(session=name, origin=name)
        turns = [(f"Is {number} even?", f"{number} is fine, meow.") for number in range(4)]
        sessions.append(
            [
                t
                for ask, say in turns
                for t in (UserMessage(meta=meta, text=ask), AssistantMessage(meta=meta, text=say))
            ]
        )
    return sessions


@pytest.mark.filterwarnings("ignore::sttx_core.errors.SttxWarning")
def test_openings_are_priced_with_each_state(state, talks, tiny_model, tmp_path):
    report = state.openings(load_model(tiny_model), talks[:2], talks[2:], TUNING, 3, tmp_path)
    assert report["sessions"] == 1
    bpb = report["bpb"]
    assert list(bpb) == ["none", "injected, once", "injected, at every window", "tuned, once"]
    assert all(list(row) == [8, 32] and min(row.values()) > 0 for row in bpb.values())
    assert bpb["tuned, once"][32] < bpb["none"][32]
    assert bpb["injected, once"][8] != bpb["none"][8]


def test_pairs_are_priced_with_a_state_and_its_controls(state, talks, tiny_model, tmp_path):
    loaded = load_model(tiny_model)
    path = state.write_pairs(talks, tmp_path / "pairs")
    assert json.loads(path.read_text().splitlines()[0]) == {
        "prompt": "Is 0 even?",
        "completion": "0 is fine, meow.",
    }
    report = state.of_pairs(loaded, path, path, TUNING | {"seed": 0}, 0, tmp_path)
    assert report["examples"] == [9, 9]
    assert report["zero"] == report["none"]
    assert report["tuned"] < min(report[name] for name in ("none", "shuffled", "random", "transposed"))
