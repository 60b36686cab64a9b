"""What learning does has not changed: one loss curve, held in git. golden.py says how to write it anew."""

import importlib.util
import json
from pathlib import Path

import pytest

TOLERANCE = 1e-4  # relative; the same machine agrees to 1e-12


@pytest.fixture(scope="module")
def golden():
    spec = importlib.util.spec_from_file_location("golden", Path(__file__).with_name("golden.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def curve(golden):
    return golden.curve()


def test_every_step_costs_what_it_did(golden, curve):
    expected = json.loads(golden.CURVE.read_text())
    assert len(curve) == len(expected) == golden.STEPS
    for step, (found, wanted) in enumerate(zip(curve, expected, strict=True), 1):
        assert found == pytest.approx(wanted, rel=TOLERANCE), f"step {step}"


def test_the_curve_is_one_of_learning(curve):
    first, last = curve[:6], curve[-6:]
    saved = [
        sum(row["bits"] for row in rows) / sum(row["frozen_bits"] for row in rows) for rows in (first, last)
    ]
    assert saved[1] < 0.9 * saved[0], "what was learned lowers the price"
    assert sum(row["model_steps"] for row in last) < sum(row["model_steps"] for row in first)
