"""Learning has not changed: two loss curves equal those in git. See golden.py for how to update them."""

import importlib.util
import json
from pathlib import Path

import pytest

TOLERANCE = {"golden_curve.json": 1e-4, "golden_pretraining.json": 1e-3}  # relative


@pytest.fixture(scope="module")
def golden():
    spec = importlib.util.spec_from_file_location("golden", Path(__file__).with_name("golden.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def curves(golden):
    assert golden.CURVES.keys() == TOLERANCE.keys()
    return {name: make() for name, make in golden.CURVES.items()}


@pytest.mark.parametrize("name", TOLERANCE)
def test_every_step_equals_the_golden_curve(golden, curves, name):
    expected = json.loads((golden.FOLDER / name).read_text())
    assert len(curves[name]) == len(expected) == golden.STEPS
    for step, (row, golden_row) in enumerate(zip(curves[name], expected, strict=True), 1):
        assert row == pytest.approx(golden_row, rel=TOLERANCE[name]), f"step {step}"


def test_learning_lowers_the_price(curves):
    curve = curves["golden_curve.json"]
    first, last = curve[:6], curve[-6:]
    saved = [
        sum(row["bits"] for row in rows) / sum(row["frozen_bits"] for row in rows) for rows in (first, last)
    ]
    assert saved[1] < 0.9 * saved[0]
    assert sum(row["model_steps"] for row in last) < sum(row["model_steps"] for row in first)


def test_pretraining_lowers_the_training_and_the_validation_loss(curves):
    curve = curves["golden_pretraining.json"]
    first, last = ([row["loss"] for row in rows] for rows in (curve[:6], curve[-6:]))
    assert sum(last) < 0.9 * sum(first)
    measured = [row for row in curve if "validation_loss" in row]
    assert len(measured) == 3 and measured[-1]["validation_loss"] < measured[0]["validation_loss"]
