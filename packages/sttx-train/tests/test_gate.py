"""The gate: phrases are kept only while they cost no bits, measured in turns."""

import json

import pytest

from sttx_core.errors import CheckpointError, UsageError
from sttx_train.online.gate import AGAIN, FIRST, MEMORY, SETTLE, TURN, UNMEASURED, PhraseGate

DECIDED = len(FIRST) * TURN


def follow(gate, steps, with_phrases, without, settling=0.0, reference=100.0):
    """Run a gate for some steps; the first ones of a turn cost ``settling`` more. Return the modes."""
    modes = []
    for _ in range(steps):
        modes.append(gate.on)
        extra = settling if gate.steps % TURN < SETTLE else 0.0
        gate.observe((with_phrases if gate.on else without) + extra, reference)
    return modes


def test_on_and_off_never_change():
    for mode, on in (("on", True), ("off", False)):
        gate = PhraseGate(mode)
        assert set(follow(gate, 2 * AGAIN * TURN, 200.0 if on else 100.0, 150.0)) == {on}
        assert gate.kept is on


def test_both_modes_take_turns_before_it_decides():
    modes = follow(PhraseGate("auto"), DECIDED, 100.0, 100.0)
    assert modes == [mode for mode in FIRST for _ in range(TURN)]
    assert FIRST[UNMEASURED:].count(True) == FIRST[UNMEASURED:].count(False)


def test_a_trend_does_not_decide():
    gate = PhraseGate("auto")
    for step in range(DECIDED):
        gate.observe((1000.0 if step < TURN else 400.0) - step + (0.1 if gate.on else 0.0), 500.0)
    assert not gate.kept
    gate = PhraseGate("auto")
    for step in range(DECIDED):
        gate.observe((1000.0 if step < TURN else 400.0) - step - (1.0 if gate.on else 0.0), 500.0)
    assert gate.kept


@pytest.mark.parametrize("settling", [0.0, 500.0])
@pytest.mark.parametrize(("with_phrases", "on"), [(90.0, True), (100.0, True), (101.0, False)])
def test_the_cheaper_mode_is_kept_and_a_tie_keeps_phrases(with_phrases, on, settling):
    gate = PhraseGate("auto")
    follow(gate, DECIDED, with_phrases, 100.0, settling)
    assert gate.kept is gate.on is on


def test_text_that_is_hard_to_predict_does_not_count_against_a_mode():
    gate = PhraseGate("auto")
    for _ in range(DECIDED):
        hard = 3.0 if gate.on else 1.0  # the text is harder while phrases are on
        gate.observe((90.0 if gate.on else 100.0) * hard, 120.0 * hard)
    assert gate.kept


@pytest.mark.parametrize("better", [True, False])
def test_the_rejected_mode_is_tried_again_now_and_then(better):
    gate = PhraseGate("auto")
    prices = 90.0 if better else 110.0, 100.0
    follow(gate, DECIDED, *prices)
    modes = follow(gate, 4 * AGAIN * TURN, *prices)
    tried = [turn for turn in range(4 * AGAIN) if modes[turn * TURN] != better]
    assert [turn + len(FIRST) for turn in tried] == [AGAIN, 2 * AGAIN, 4 * AGAIN]
    assert modes.count(not better) == 3 * TURN and gate.kept is better


def test_rejected_phrases_return_when_they_are_cheaper():
    gate = PhraseGate("auto")
    follow(gate, DECIDED, 102.0, 100.0)
    assert not gate.kept
    follow(gate, 8 * AGAIN * TURN, 80.0, 100.0)
    assert gate.kept


def test_old_measurements_decay():
    gate = PhraseGate("auto")
    follow(gate, UNMEASURED * TURN + SETTLE, 50.0, 100.0)
    assert gate.without == [0.0, 0.0], "nothing is measured yet"
    gate.observe(10.0, 20.0)
    gate.observe(1.0, 2.0)
    assert gate.without == [MEMORY * 10 + 1, MEMORY * 20 + 2] and gate.with_phrases == [0.0, 0.0]


@pytest.mark.parametrize("at", [0, SETTLE + 3, TURN, DECIDED - 1, DECIDED, AGAIN * TURN + 1])
def test_loaded_it_continues_exactly(at):
    straight, saved = PhraseGate("auto"), PhraseGate("auto")
    for gate in (straight, saved):
        follow(gate, at, 101.0, 100.0, 7.0)
    state = json.loads(json.dumps(saved.state_dict()))
    loaded = PhraseGate("auto")
    loaded.load_state_dict(state)
    assert follow(straight, 2 * AGAIN * TURN, 101.0, 100.0) == follow(loaded, 2 * AGAIN * TURN, 101.0, 100.0)
    assert straight.state_dict() == loaded.state_dict()


def test_nothing_is_decided_before_both_modes_were_tried():
    gate = PhraseGate("auto")
    assert (gate.decided, gate.kept) == (False, gate.on)
    follow(gate, DECIDED - 1, 100.0, 100.0)
    assert not gate.decided
    follow(gate, 1, 100.0, 100.0)
    assert gate.decided


def test_a_price_that_is_not_finite_is_ignored():
    gate = PhraseGate("auto")
    follow(gate, DECIDED, 101.0, 100.0)
    follow(gate, TURN, 101.0, 100.0, reference=float("nan"))
    assert not gate.kept and json.dumps(gate.state_dict(), allow_nan=False)


def test_a_state_of_an_earlier_version_is_refused():
    with pytest.raises(CheckpointError, match="an earlier sttx made the checkpoint"):
        PhraseGate("auto").load_state_dict({"on": True, "probes": 3, "windows": 24})


def test_an_unknown_mode_is_refused():
    with pytest.raises(UsageError, match="--phrases must be auto, on or off, not 'perhaps'"):
        PhraseGate("perhaps")
