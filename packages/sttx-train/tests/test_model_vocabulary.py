"""Vocabularies of a model on disk in other formats than RWKV's: numbers, and Hugging Face's."""

import json

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, trainers

from sttx_core.errors import DataError, ModelError, UsageError
from sttx_core.tokenizers import AngleTokenizer, ByteTokenizer, IntegerTokenizer, tokenizer_from_spec
from sttx_train.formats import load_model, save_model, tokenizer_for
from sttx_train.formats.tokenizer_json import HuggingFaceTokenizer
from sttx_train.inspect.model import inspect_model
from sttx_train.stream.trainer import StreamTrainer

FORMATS = ["sttx", "huggingface", "blinkdl"]
ROWS = 370


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory) -> HuggingFaceTokenizer:
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(["the cat returns the hat"] * 9, trainer)
    path = tmp_path_factory.mktemp("hf") / "t.json"
    backend.save(str(path))
    return HuggingFaceTokenizer(path)


@pytest.fixture(params=["integer", "angle", "hf", "bytes"])
def tokenizer(request, hugging_face):
    return {
        "integer": IntegerTokenizer(96),
        "angle": AngleTokenizer(),
        "hf": hugging_face,
        "bytes": ByteTokenizer(),
    }[request.param]


@pytest.fixture
def model(make_model):
    return make_model(vocab_size=ROWS)


@pytest.mark.parametrize("format", FORMATS)
def test_every_tokenizer_comes_back_with_the_model(model, tmp_path, tokenizer, format):
    save_model(model, tmp_path / "m.pth", format=format, tokenizer=tokenizer)
    loaded = load_model(tmp_path / "m.pth")
    assert type(loaded.vocabulary) is type(tokenizer)
    assert loaded.vocabulary.sha256 == tokenizer.sha256
    assert inspect_model(tmp_path / "m.pth")["vocabulary"]["entries"] == tokenizer.vocab_size


@pytest.mark.parametrize("format", FORMATS)
def test_a_newer_vocabulary_replaces_an_older_one(model, tmp_path, hugging_face, format):
    for tokenizer in (ByteTokenizer(), hugging_face, IntegerTokenizer(9), ByteTokenizer()):
        save_model(model, tmp_path / "m.pth", format=format, tokenizer=tokenizer)
        assert load_model(tmp_path / "m.pth").vocabulary.sha256 == tokenizer.sha256


def test_a_tokenizer_of_numbers_is_refused_where_text_is_needed(model, tmp_path, hugging_face):
    save_model(model, tmp_path / "text", tokenizer=hugging_face)
    assert load_model(tmp_path / "text").tokenizer.encode("the") == hugging_face.encode("the")
    save_model(model, tmp_path / "numbers", tokenizer=IntegerTokenizer(96))
    with pytest.raises(UsageError, match=r"'numbers' reads numbers \(integer:96\), but this needs text"):
        _ = load_model(tmp_path / "numbers").tokenizer


def test_online_training_refuses_a_model_of_numbers(model, tmp_path):
    save_model(model, tmp_path / "numbers", tokenizer=AngleTokenizer())
    with pytest.raises(UsageError, match=r"'numbers' reads numbers \(angle\), but this needs text: choose"):
        StreamTrainer(load_model(tmp_path / "numbers"))


def test_a_model_may_be_moved_with_its_files(model, tmp_path, hugging_face):
    save_model(model, tmp_path / "m.pth", format="blinkdl", tokenizer=hugging_face)
    for path in tmp_path.glob("m.*"):
        path.rename(tmp_path / f"other{path.name.removeprefix('m')}")
    assert load_model(tmp_path / "other.pth").vocabulary.sha256 == hugging_face.sha256


def test_a_published_tokenizer_json_is_a_vocabulary_with_its_own_ids(tmp_path, hugging_face):
    hugging_face.save(tmp_path / "tokenizer.json")
    of_file = Backend.from_file(str(tmp_path / "tokenizer.json")).encode("the hat").ids
    assert tokenizer_for(tmp_path, rows=hugging_face.vocab_size).encode("the hat") == of_file
    rows = hugging_face.vocab_size - 1
    with pytest.raises(ModelError, match=f"but the model has {rows} rows"):
        tokenizer_for(tmp_path, rows=rows)
    (tmp_path / "m.pth").touch()
    with pytest.raises(ModelError, match="without a vocabulary"):  # it may be another model's
        tokenizer_for(tmp_path / "m.pth")


def test_a_model_that_was_saved_with_ids_from_1_keeps_them(tmp_path, hugging_face):
    earlier = hugging_face.shifted()
    assert earlier.encode("the") == [token_id + 1 for token_id in hugging_face.encode("the")]
    hugging_face.save(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.sttx.json").write_text(naming("hf", earlier.sha256))
    loaded = tokenizer_for(tmp_path)
    assert (loaded.sha256, loaded.eot_id) == (earlier.sha256, 0)
    assert loaded.encode("the hat") == earlier.encode("the hat")


def test_a_vocabulary_that_is_too_large_is_refused(model, tmp_path):
    save_model(model, tmp_path / "m", tokenizer=IntegerTokenizer(ROWS - 1))
    with pytest.raises(ModelError, match=f"go up to {ROWS}, but the model has {ROWS} rows"):
        _ = load_model(tmp_path / "m").vocabulary


class Odd(IntegerTokenizer):
    def encode(self, values):
        return super().encode(2 * value + 1 for value in values)


@pytest.mark.parametrize("format", FORMATS)
def test_an_unknown_tokenizer_is_refused_before_writing(model, tmp_path, format):
    with pytest.raises(UsageError, match="tokenizer 'Odd' cannot be saved with a model"):
        save_model(model, tmp_path / "m.pth", format=format, tokenizer=Odd(9))
    assert list(tmp_path.iterdir()) == []


def naming(tokenizer, sha256=None):
    return json.dumps({"tokenizer": tokenizer, "sha256": sha256 or "0" * 64})


@pytest.mark.parametrize(
    ("content", "error", "complaint"),
    [
        ("{", DataError, "is damaged: "),
        ("[]", DataError, "names no tokenizer: save"),
        ('{"tokenizer": "angle"}', DataError, "names no tokenizer: save"),
        (naming("integer:x"), DataError, "is damaged: 'integer:x' does not name the largest value"),
        (naming("trie:../secret.txt"), DataError, "names the unknown tokenizer 'trie:../secret.txt'"),
        (naming("hf"), DataError, "cannot read the tokenizer '.*/tokenizer.json'"),
        (naming("integer:96"), ModelError, "names 'integer:96', but that tokenizer was changed after saving"),
    ],
)
def test_a_damaged_name_is_refused(tmp_path, content, error, complaint):
    (tmp_path / "tokenizer.sttx.json").write_text(content)
    with pytest.raises(error, match=complaint):
        tokenizer_for(tmp_path)


def test_a_tokenizer_json_of_another_vocabulary_is_refused(model, tmp_path, hugging_face):
    save_model(model, tmp_path / "m", tokenizer=hugging_face)
    content = json.loads((tmp_path / "m" / "tokenizer.json").read_text())
    content["added_tokens"].append(
        {"id": 300, "content": "<new>", "special": True, "normalized": False}
        | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    )
    (tmp_path / "m" / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="names 'hf', but that tokenizer was changed after saving"):
        _ = load_model(tmp_path / "m").vocabulary


def test_the_saved_spec_loads():
    for tokenizer in (IntegerTokenizer(70_000), AngleTokenizer()):
        assert tokenizer_from_spec(tokenizer.spec).sha256 == tokenizer.sha256
