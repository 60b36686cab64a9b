"""Bases from the disk: what is refused before anything is trained beside it."""

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from sttx_core.errors import ModelError, UsageError
from sttx_train.memory.base import load_base

from .memory_models import VOCABULARY, a_model


def a_base(folder: Path, ids: int = VOCABULARY) -> Path:
    a_model().save_pretrained(folder)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())[: ids - 1]
    names = [*letters, *(f"more{number}" for number in range(ids - len(letters)))]
    tokenizer = Tokenizer(models.BPE(vocab={name: at for at, name in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_a_whole_base_is_loaded(tmp_path):
    base = load_base(str(a_base(tmp_path / "base")), tmp_path)
    assert base.vocabulary.size == VOCABULARY and not base.model.training


def test_weights_that_are_missing_or_unknown_are_refused(tmp_path):
    """Transformers would make up the missing ones, and say so only in a log that is switched off here."""
    folder = a_base(tmp_path / "base")
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    without = {key: one for key, one in weights.items() if key != name}
    save_file(without, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=f"it lacks '{name}'"):
        load_base(str(folder), tmp_path)
    renamed = weights | {"model.layers.7.mlp.up_proj.weight": weights[name].clone()}
    save_file(renamed, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"has the unknown 'model\.layers\.7"):
        load_base(str(folder), tmp_path)


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    folder = a_base(tmp_path / "base", VOCABULARY + 1)
    with pytest.raises(ModelError, match="tokenizer with 65 ids and a model with 64"):
        load_base(str(folder), tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", "\x00", '{"model_type": "llama", "vocab_size": "many"}'])
def test_a_config_that_is_none_is_refused(tmp_path, content: str):
    folder = a_base(tmp_path / "base")
    (folder / "config.json").write_text(content)
    with pytest.raises(ModelError, match="cannot be read as a model of Transformers"):
        load_base(str(folder), tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is not a folder with a model"):
        load_base(str(tmp_path), tmp_path)
