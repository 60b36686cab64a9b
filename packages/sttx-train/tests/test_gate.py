"""The gate: phrases stay only while they cost no bits, measured now and then."""

import json
import math

import pytest

from sttx_core.errors import UsageError
from sttx_train.online.gate import MEMORY, PATIENCE, PROBE_EVERY, PhraseGate


def test_on_and_off_never_probe_and_never_change():
    for mode, on in (("on", True), ("off", False)):
        gate = PhraseGate(mode)
        assert not any(gate.wants_probe() for _ in range(4 * PROBE_EVERY))
        for _ in range(4 * PATIENCE):
            gate.observe(200.0 if on else 100.0, 100.0 if on else 200.0)
        assert gate.on is on


def test_auto_starts_on_and_probes_every_few_windows():
    gate = PhraseGate("auto")
    assert gate.on
    probed = [number for number in range(1, 4 * PROBE_EVERY + 1) if gate.wants_probe()]
    assert probed == [PROBE_EVERY, 2 * PROBE_EVERY, 3 * PROBE_EVERY, 4 * PROBE_EVERY]


@pytest.mark.parametrize(
    ("paid", "other", "on"), [(90.0, 100.0, True), (100.0, 100.0, True), (101.0, 100.0, False)]
)
def test_it_decides_after_a_few_comparisons_and_a_tie_keeps_phrases(paid, other, on):
    gate = PhraseGate("auto")
    for _ in range(PATIENCE - 1):
        gate.observe(paid, other)
        assert gate.on
    gate.observe(paid, other)
    assert gate.on is on


def test_while_off_the_other_way_is_with_phrases():
    gate = PhraseGate("auto")
    for _ in range(PATIENCE):
        gate.observe(120.0, 100.0)
    assert not gate.on
    for _ in range(30):
        gate.observe(100.0, 80.0)  # paid without, and phrases would have been cheaper
        if gate.on:
            break
    assert gate.on
    assert gate.with_phrases <= gate.without


def test_the_past_fades():
    gate = PhraseGate("auto")
    gate.observe(10.0, 20.0)
    gate.observe(1.0, 2.0)
    assert (gate.with_phrases, gate.without) == (MEMORY * 10 + 1, MEMORY * 20 + 2)


@pytest.mark.parametrize("prices", [(math.nan, 1.0), (1.0, math.inf)])
def test_a_price_that_is_not_finite_says_nothing(prices):
    gate = PhraseGate("auto")
    before = gate.state_dict()
    gate.observe(*prices)
    assert gate.state_dict() == before


@pytest.mark.parametrize("at", range(0, 40, 7))
def test_saved_and_loaded_it_goes_on_the_same(at):
    straight, saved = PhraseGate("auto"), PhraseGate("auto")
    decisions = []
    for number in range(40):
        if number == at:
            state = json.loads(json.dumps(saved.state_dict()))
            saved = PhraseGate("auto")
            saved.load_state_dict(state)
        for gate in (straight, saved):
            if gate.wants_probe():
                gate.observe(100.0 + number % 3, 101.0)
        decisions.append((straight.on, saved.on))
        assert straight.state_dict() == saved.state_dict()
    assert all(one == other for one, other in decisions)


def test_an_unknown_mode_is_refused():
    with pytest.raises(UsageError, match="--phrases must be auto, on or off, not 'perhaps'"):
        PhraseGate("perhaps")
