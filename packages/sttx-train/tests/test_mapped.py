"""Large weights stay in their file, or are converted one by one: memory never holds all of them twice."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from sttx_core.errors import ModelError
from sttx_core.tokenizers import ByteTokenizer
from sttx_train import LearnerConfig, Predictor, StreamConfig, StreamTrainer
from sttx_train.formats import load_model, save_model, store

FORMATS = ["sttx", "huggingface", "blinkdl"]
SIZES = {"vocab_size": 257, "hidden_size": 64, "num_layers": 2, "head_size": 32}
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")

LARGE = {
    "vocab_size": 65536,
    "hidden_size": 384,
    "num_layers": 1,
    "head_size": 64,
}  # 52 million numbers, nearly all in two tables
CHILD = """
import json, pathlib, sys
import torch
from sttx_train import load_model
torch.set_num_threads(1)
load_model()  # so that all code is loaded

def memory(field):
    return int(pathlib.Path("/proc/self/status").read_text().split(field + ":")[1].split()[0]) * 1024

before = memory("VmRSS")
pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
loaded = load_model(sys.argv[1], dtype=getattr(torch, sys.argv[2]))
finite = all(bool(weight.sum().isfinite()) for weight in loaded.model.parameters())  # reads all of them
print(json.dumps({"peak": memory("VmHWM") - before, "finite": finite}))
"""


@pytest.fixture
def always_mapped(monkeypatch):
    monkeypatch.setattr(store, "_MAPPED_FROM", 0)


@pytest.fixture
def stored(make_model, tmp_path):
    """Return a function that saves a tiny model in bfloat16; it returns the model and the file of weights."""

    def save(format):
        path = tmp_path / ("model.pth" if format == "blinkdl" else format)
        save_model(make_model(dtype=torch.bfloat16, **SIZES), path, format=format, tokenizer=ByteTokenizer())
        return path, path if path.is_file() else path / "model.safetensors"

    return save


def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def places_of(file):
    """Return the addresses where a file is mapped."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    spans = [line.split()[0].split("-") for line in lines if line.endswith(str(file))]
    return [range(int(start, 16), int(end, 16)) for start, end in spans]


def in_file(model, file):
    places = places_of(file)
    return {
        name for name, value in model.named_parameters() if any(value.data_ptr() in each for each in places)
    }


class TestMapping:
    @linux
    @pytest.mark.parametrize("format", FORMATS)
    def test_weights_stay_in_the_file(self, always_mapped, stored, make_model, format):
        path, file = stored(format)
        model = load_model(path, dtype=torch.bfloat16).model
        names = {name for name, _ in model.named_parameters()}
        copied = names - in_file(model, file)
        assert all(name[-2:] in {f"{c}{i}" for c in "wavg" for i in "12"} for name in copied)
        assert bool(copied) == (format == "huggingface")  # which stores these transposed
        expected = make_model(dtype=torch.bfloat16, **SIZES).state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())

    @linux
    @pytest.mark.parametrize("format", FORMATS)
    def test_other_dtypes_are_copied_and_the_file_is_let_go(self, always_mapped, stored, format):
        path, file = stored(format)
        loaded = load_model(path)
        assert loaded.model.dtype == torch.float32
        assert places_of(file) == []

    @linux
    def test_small_weights_are_copied(self, stored):
        path, file = stored("sttx")
        loaded = load_model(path, dtype=torch.bfloat16)
        assert loaded.model.dtype == torch.bfloat16
        assert places_of(file) == []

    @pytest.mark.parametrize("format", FORMATS)
    def test_learning_leaves_the_file_as_it_is(self, always_mapped, stored, talk, format):
        path, file = stored(format)
        before, loaded = digest(file), load_model(path, dtype=torch.bfloat16)
        was = {name: value.clone() for name, value in loaded.model.named_parameters()}
        learning = LearnerConfig(scope=("all",), lr_weights=0.01)
        StreamTrainer(loaded, learning, StreamConfig(steps=3, window=16, experts="off")).run(talk(40))
        assert any(not torch.equal(value, was[name]) for name, value in loaded.model.named_parameters())
        assert digest(file) == before
        again = load_model(path, dtype=torch.bfloat16).model
        assert all(torch.equal(value, was[name]) for name, value in again.named_parameters())

    def test_tied_tables_do_not_share_their_numbers(self, always_mapped, stored):
        path, file = stored("blinkdl")
        tensors = torch.load(file, weights_only=True)
        tensors["head.weight"] = tensors["emb.weight"]
        torch.save(tensors, file)
        model = load_model(path, dtype=torch.bfloat16).model
        assert torch.equal(model.head.weight, model.emb.weight)
        model.head.weight.zero_()
        assert model.emb.weight.any()

    def test_a_part_of_a_storage_is_copied(self, always_mapped, stored):
        path, file = stored("blinkdl")
        tensors = torch.load(file, weights_only=True)
        both = torch.stack([tensors["emb.weight"], tensors["head.weight"]])
        tensors["emb.weight"], tensors["head.weight"] = both.unbind()
        torch.save(tensors, file)
        model = load_model(path, dtype=torch.bfloat16).model
        model.head.weight.zero_()
        assert torch.equal(model.emb.weight, both[0])


class TestMemory:
    @linux
    @pytest.mark.parametrize(("format", "dtype"), [("sttx", "float32"), ("blinkdl", "bfloat16")])
    def test_the_peak_is_little_more_than_the_weights(self, make_model, tmp_path, format, dtype):
        path = tmp_path / "model.pth"
        save_model(make_model(dtype=torch.bfloat16, **LARGE), path, format=format)
        weights = (path if path.is_file() else path / "model.safetensors").stat().st_size
        assert weights > 100e6
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(path), dtype],
            capture_output=True,
            text=True,
            timeout=300,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["finite"]
        assert found["peak"] < 1.3 * weights * (2 if dtype == "float32" else 1)

    def test_weights_that_do_not_fit_are_refused(self, stored, monkeypatch):
        path, _ = stored("sttx")
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
        with pytest.raises(
            ModelError, match=r"GB in float32, and .* --dtype bfloat16 reads them from the file"
        ):
            load_model(path)

    def test_mapped_weights_need_no_memory(self, always_mapped, stored, monkeypatch):
        path, _ = stored("sttx")
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=0))
        assert load_model(path, dtype=torch.bfloat16).model.dtype == torch.bfloat16


class TestRemarks:
    def test_mapped_weights_are_mentioned(self, always_mapped, stored):
        path, _ = stored("sttx")
        (remark,) = load_model(path, dtype=torch.bfloat16).notes
        assert remark == "0.0 GB of weights stay in their file: replace it, but do not write into it"

    def test_large_converted_weights_are_mentioned(self, stored, monkeypatch):
        path, _ = stored("sttx")
        assert load_model(path).notes == ()
        monkeypatch.setattr(store, "_MENTIONED_FROM", 0)
        (remark,) = load_model(path).notes
        assert remark.startswith("its weights take 0.0 GB in float32; in bfloat16, as on disk, 0.0 GB would")
        assert load_model(path, dtype=torch.bfloat16).notes == ()


class TestBfloat16:
    @pytest.mark.parametrize("experts", ["off", "on"])
    def test_a_mapped_model_learns_about_the_same_as_in_float32(self, always_mapped, stored, talk, experts):
        path, _ = stored("blinkdl")
        paid = []
        for dtype in (torch.bfloat16, torch.float32):
            loaded = load_model(path, dtype=dtype)
            trainer = StreamTrainer(loaded, config=StreamConfig(steps=6, window=16, experts=experts))
            trainer.run(talk(40))
            assert trainer.learner.s0.dtype == torch.float32
            assert trainer.learner.s0.any()
            paid.append(trainer.totals.bpb_paid)
        assert paid[0] == pytest.approx(paid[1], rel=0.02)

    def test_a_mapped_model_generates(self, always_mapped, stored):
        path, _ = stored("blinkdl")
        predictor = Predictor(load_model(path, dtype=torch.bfloat16))
        text = predictor.generate("User: hello", max_tokens=5)
        tokens = list(text)
        assert tokens
        reader = predictor.read("document")
        assert float(np.exp(reader.log_probs()).sum()) == pytest.approx(1, abs=1e-3)
