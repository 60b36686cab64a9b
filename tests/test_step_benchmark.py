"""The benchmark of training steps: every kernel takes the same steps."""

import pytest

from sttx_ccsniff import sample_folder


def test_both_steps_are_measured(benchmark, tiny_model, monkeypatch):
    step = benchmark("step")
    monkeypatch.setattr(step, "WARM_UP", 1)
    found = step.online(str(tiny_model), str(sample_folder()), ["compiled", "chunked"], 2)
    assert found["compiled"]["bits"] == pytest.approx(found["chunked"]["bits"], rel=1e-5)
    assert all(row["cpu_ms"] > 0 and row["ms"] > 0 for row in found.values())
    ratio = found["chunked"]["cpu_ms"] / found["compiled"]["cpu_ms"]
    assert found["compiled"]["times_faster"] == ratio and found["chunked"]["times_faster"] == 1
    row = step.pretraining(str(tiny_model), ["compiled", "chunked"], False, 1)
    assert row["compiled"]["loss"] == pytest.approx(row["chunked"]["loss"], rel=1e-5)
    assert row["compiled"]["share_of_matrix_rate"] > 0 < row["matrix_gflops"]


def test_the_operations_of_a_step_are_listed(benchmark, tiny_model, monkeypatch):
    step = benchmark("step")
    monkeypatch.setattr(step, "WARM_UP", 1)
    monkeypatch.setattr(step, "PROFILED", 1)
    rows = step.operations(str(tiny_model), str(sample_folder()), "compiled")
    assert len(rows) == step.SHOWN and "aten::mm" in {row["name"] for row in rows}
