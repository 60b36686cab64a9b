"""A model folder contains its hypernetwork, checks it, and the online learner starts from it."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sttx_core.errors import ModelError, UsageError
from sttx_core.hypernet import HyperNetwork
from sttx_core.tokenizers import ByteTokenizer
from sttx_core.traces import Meta, UserMessage
from sttx_train.formats import load_model, save_model
from sttx_train.inspect.model import inspect_model
from sttx_train.online import LearnerConfig, OnlineLearner
from sttx_train.stream.trainer import StreamConfig, StreamTrainer


def hypernetwork(width=32, rank=0, seed=1):
    """Return one that has learned something."""
    made = HyperNetwork(width, rank=rank)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(generator=generator)
    return made


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def folder(make_model, tmp_path):
    """Return a model's folder with a hypernetwork in it."""
    save_model(make_model(vocab_size=257), tmp_path / "m", tokenizer=ByteTokenizer(), hypernet=hypernetwork())
    return tmp_path / "m"


class TestFolder:
    def test_it_survives_saving_whatever_the_models_dtype(self, make_model, tmp_path):
        made = hypernetwork(rank=5)
        save_model(make_model(), tmp_path / "m", hypernet=made, dtype=torch.bfloat16)
        assert same(load_model(tmp_path / "m", dtype=torch.bfloat16).hypernet, made)
        assert json.loads((tmp_path / "m" / "config.json").read_text())["hypernet"] == "hypernet.safetensors"

    def test_it_is_part_of_the_models_identity(self, make_model, folder):
        with_one = load_model(folder).sha256
        report = inspect_model(folder)
        assert report["model"]["sha256"] == with_one and report["hypernetwork"] == {"parameters": 3072}
        save_model(
            make_model(vocab_size=257), folder, tokenizer=ByteTokenizer(), hypernet=hypernetwork(seed=2)
        )
        assert load_model(folder).sha256 != with_one

    def test_a_model_saved_over_it_without_one_has_none(self, make_model, folder):
        save_model(make_model(), folder)
        assert load_model(folder).hypernet is None
        assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
        assert "hypernet" not in json.loads((folder / "config.json").read_text())

    @pytest.mark.parametrize("format", ["huggingface", "blinkdl"])
    def test_other_formats_cannot_hold_one(self, make_model, tmp_path, format):
        with pytest.raises(UsageError, match=f"'{format}' cannot hold the hypernetwork"):
            save_model(make_model(), tmp_path / "m", format=format, hypernet=hypernetwork())
        assert not list(tmp_path.iterdir())

    def test_the_embedded_model_has_one(self):
        assert inspect_model(None)["hypernetwork"] == {"parameters": load_model().hypernet.parameter_count()}


class TestRefusals:
    def test_a_named_but_missing_file_is_refused(self, folder):
        (folder / "hypernet.safetensors").unlink()
        with pytest.raises(ModelError, match="lacks 'hypernet.safetensors', which its config.json names"):
            load_model(folder)

    def test_an_unnamed_file_is_refused(self, folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "hypernet": None}))
        with pytest.raises(
            ModelError, match="has 'hypernet.safetensors', which its config.json does not name"
        ):
            load_model(folder)

    def test_a_file_of_another_name_is_refused(self, folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "hypernet": "../other"}))
        with pytest.raises(ModelError, match=r"names the hypernetwork '\.\./other', not"):
            load_model(folder)

    @pytest.mark.parametrize("spoil", ["width", "missing", "extra", "scalar"])
    def test_the_hypernetwork_of_another_model_is_refused(self, folder, spoil):
        path = folder / "hypernet.safetensors"
        tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
        if spoil == "width":
            tensors = hypernetwork(48).state_dict()
        elif spoil == "missing":
            del tensors["output.2.weight"]
        elif spoil == "extra":
            tensors["output.3.weight"] = torch.zeros(2)
        else:
            tensors["input.0.weight"] = torch.zeros(())
        save_file(dict(tensors), path)
        with pytest.raises(ModelError, match="belongs to another model"):
            load_model(folder)
        report = inspect_model(folder)
        assert "belongs to another model" in report["problems"][0] and not report["uses"]


class TestLearner:
    def test_the_learner_copies_the_models_hypernetwork(self, folder):
        loaded = load_model(folder)
        trainer = StreamTrainer(loaded, LearnerConfig(phrases="on"), StreamConfig(steps=6, window=32))
        assert same(trainer.learner.hypernet, hypernetwork())
        said = UserMessage(meta=Meta(session="demo"), text="and again, " * 40)
        trainer.run([said])
        assert not same(trainer.learner.hypernet, hypernetwork()), "it learned"
        assert same(loaded.hypernet, hypernetwork())

    def test_without_one_the_seed_makes_a_new_one(self, make_model):
        learner = OnlineLearner(make_model(), np.ones(61, dtype=int), LearnerConfig(seed=4))
        assert same(learner.hypernet, HyperNetwork(32, seed=4))
