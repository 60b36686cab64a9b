"""RWKV-5.2 and RWKV-6 on disk: every format and back, the architecture from the tensors, what is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from sttx_core.errors import ModelError, UsageError
from sttx_core.tokenizers import ByteTokenizer
from sttx_train.architectures import architecture_of
from sttx_train.export import chosen_dtype, export_model, model_to_export
from sttx_train.formats import load_model, load_state, save_model, save_state
from sttx_train.rwkv56 import RWKV56

BOTH = pytest.mark.parametrize("architecture", ["x060", "x052"])
SIZES = {"vocab_size": 257, "hidden_size": 32, "num_layers": 2, "head_size": 16}


@pytest.fixture
def model_of(make_model, tmp_path):
    """Return a function that saves a random model in a format; it gives the model and its path."""

    def save(architecture, format, **sizes):
        model = make_model(architecture=architecture, **(SIZES | sizes))
        path = tmp_path / ("model.pth" if format == "blinkdl" else f"model-{format}")
        save_model(model, path, format=format, tokenizer=ByteTokenizer())
        return model, path

    return save


@BOTH
@pytest.mark.parametrize("format", ["sttx", "huggingface", "blinkdl"])
@pytest.mark.parametrize("layers", [1, 2])
def test_weights_come_back_exactly(model_of, architecture, format, layers):
    model, path = model_of(architecture, format, num_layers=layers)
    loaded = load_model(path)
    assert isinstance(loaded.model, RWKV56) and loaded.format == format
    assert loaded.model.config == model.config and architecture_of(loaded.model.config) == architecture
    assert loaded.tokenizer.vocab_size == 257 and loaded.notes == ()
    weights = loaded.model.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())


@BOTH
def test_the_files_have_the_published_names_and_shapes(model_of, architecture):
    _, path = model_of(architecture, "blinkdl")
    shapes = {name: tuple(t.shape) for name, t in torch.load(path, weights_only=True).items()}
    mixes = "time_maa" if architecture == "x060" else "time_mix"
    assert shapes[f"blocks.1.att.{mixes}_k"] == shapes[f"blocks.0.ffn.{mixes}_r"] == (1, 1, 32)
    assert shapes["blocks.0.att.time_faaaa"] == (2, 16)
    assert shapes["blocks.0.att.time_decay"] == ((1, 1, 32) if architecture == "x060" else (2, 16))
    assert "blocks.0.att.v0" not in shapes
    _, folder = model_of(architecture, "huggingface")
    names, config = load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())
    word = "time_maa_k" if architecture == "x060" else "time_mix_key"
    assert {
        "rwkv.blocks.0.pre_ln.weight",
        f"rwkv.blocks.1.feed_forward.{word}",
        "head.weight",
    } <= names.keys()
    assert config["model_type"] == ("rwkv6" if architecture == "x060" else "rwkv5")
    assert (config["head_size"], config["intermediate_size"]) == (16, 96)


def test_one_head_keeps_its_decay(model_of):
    """A decay of one head is [1, N] in a file, which must not be taken for a vector."""
    for architecture in ("x052", "x060"):
        model, path = model_of(architecture, "blinkdl", head_size=32)
        loaded = load_model(path).model
        assert loaded.config.num_heads == 1
        assert torch.equal(loaded.blocks[0].att.time_decay, model.blocks[0].att.time_decay)


def test_what_a_format_cannot_hold_is_refused(make_model, tmp_path):
    model = make_model(architecture="x060", head_norm_eps=1e-5)
    for format in ("blinkdl", "huggingface"):
        with pytest.raises(UsageError, match=f"'{format}' cannot hold head_norm_eps 1e-05"):
            save_model(model, tmp_path / "model.pth", format=format)
    save_model(model, tmp_path / "ours")
    assert load_model(tmp_path / "ours").model.config.head_norm_eps == 1e-5


def test_a_config_that_disagrees_is_refused(model_of):
    _, folder = model_of("x060", "huggingface")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"head_size_divisor": 4}))
    with pytest.raises(ModelError, match="says head_size_divisor = 4, but its tensors need 8"):
        load_model(folder)
    _, ours = model_of("x060", "sttx")
    saved = json.loads((ours / "config.json").read_text())
    saved["model"]["architecture"] = "x070"
    (ours / "config.json").write_text(json.dumps(saved))
    with pytest.raises(ModelError, match="is damaged"):
        load_model(ours)


def test_missing_and_foreign_tensors_are_named(model_of):
    _, folder = model_of("x060", "sttx")
    tensors = load_file(folder / "model.safetensors")
    del tensors["blocks.1.att.time_decay_w2"]
    tensors["blocks.0.att.k_k"] = torch.zeros(32)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(
        ModelError, match="does not fit the RWKV-6 model: it lacks 'blocks.1.att.time_decay_w2'"
    ) as found:
        load_model(folder)
    assert "it has 'blocks.0.att.k_k', which RWKV-6 does not have" in str(found.value)


def test_flas_rwkv6_is_refused_with_what_to_give(tmp_path):
    names = ("attn.bonus", "attn.x_proj.0.mu", "attn.x_proj.0.linear.weight")
    tensors = {f"model.layers.0.{name}": torch.zeros(2, 2) for name in names}
    save_file(tensors | {"model.embeddings.weight": torch.zeros(9, 2)}, tmp_path / "fla.safetensors")
    with pytest.raises(ModelError, match=r"flash-linear-attention's RWKV-6.*: give a .pth, or a folder"):
        load_model(tmp_path / "fla.safetensors")


@BOTH
@pytest.mark.parametrize("kind", ["huggingface", "blinkdl"])
def test_export(model_of, tmp_path, draw_ids, architecture, kind):
    model, path = model_of(architecture, "sttx")
    out = tmp_path / "out" / ("model.pth" if kind == "blinkdl" else "model")
    export_model(model_to_export(load_model(path)), out, kind, chosen_dtype(kind, "float32"))
    ids = draw_ids(1, 30, vocab_size=257)
    assert torch.equal(load_model(out).model(ids)[0], model(ids)[0])


@BOTH
def test_gguf_and_archives_of_a_network_say_what_works(model_of, tmp_path, architecture):
    _, path = model_of(architecture, "sttx")
    with pytest.raises(UsageError, match=r"GGUF is written of RWKV-7 alone, so export with --to blinkdl"):
        export_model(model_to_export(load_model(path)), tmp_path / "m.gguf", "gguf", "float16")
    from sttx_train.coding.networks import load_networks

    with pytest.raises(UsageError, match="coding runs RWKV-7 alone: give such a model, or --level fast"):
        load_networks(str(path), None)


@pytest.mark.parametrize("suffix", [".pth", ".st", ".safetensors"])
def test_a_tuned_state_comes_back(make_model, tmp_path, suffix):
    config = make_model(architecture="x060", **SIZES).config
    s0 = torch.randn(2, 2, 16, 16).half().float()
    save_state(s0, tmp_path / f"state{suffix}")
    assert torch.equal(load_state(tmp_path / f"state{suffix}", config=config).s0, s0)
