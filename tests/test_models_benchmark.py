"""The benchmark of large models: its works run on a tiny one, and it starts none that does not fit."""

import sys

import pytest

from sttx_train import load_model


@pytest.fixture
def models(benchmark, monkeypatch):
    module = benchmark("models")
    for name, value in {"STEPS": 4, "TOKENS": 3, "CONTEXT": 20}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setitem(module.SIZES, "tiny", {"num_layers": 2, "hidden_size": 64})
    monkeypatch.setitem(module.OLDER, "old", {"architecture": "x060", "num_layers": 2, "hidden_size": 64})
    monkeypatch.setattr("torch.set_num_threads", lambda count: None)
    return module


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
@pytest.mark.parametrize(("size", "suffix"), [("tiny", "safetensors"), ("old", "pth")])
def test_every_work_is_measured(models, tmp_path, size, suffix):
    file = tmp_path / f"model.{suffix}"
    models.measure("write", size, file, "bfloat16")
    assert sum(p.numel() for p in load_model(file).model.parameters()) == models.parameters(size)
    for work in ("load", "train", "tune", "generate"):
        found = models.measure(work, size, file, "bfloat16")
        assert found["cpu_seconds"] > 0 and found["peak_gb"] >= found["anonymous_gb"] > 0
        assert (0 < found["bpb"] < 8) if work == "train" else "bpb" not in found


def test_a_model_that_does_not_fit_is_left_out(models, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "_available", lambda: 10**9)
    found = models._measured("load", "1.5B", tmp_path / "missing.pth", "float32")
    assert found["skipped"] == "needs 9.3 GB, 1.0 GB are available"
