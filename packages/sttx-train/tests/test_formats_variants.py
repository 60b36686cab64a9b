"""Models as other programs publish and save them: packed, wrapped, prefixed, tied, without biases."""

import json
from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from sttx_core.errors import ModelError
from sttx_train.formats import load_model
from sttx_train.formats.pth import read_pth
from sttx_train.inspect.model import inspect_model

MIXES = "rwkvag"


@pytest.fixture(scope="module")
def published(make_model, tmp_path_factory):
    """Return the tensors of one model in both namings, and its logits."""
    from sttx_train.formats.blinkdl import to_pth
    from sttx_train.formats.huggingface import to_huggingface

    model = make_model(num_layers=2)
    ids = torch.arange(5).unsqueeze(0)
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    config = {"model_type": "rwkv7", "hidden_size": 32, "norm_eps": 1e-5}
    return SimpleNamespace(
        huggingface={name: tensor.contiguous() for name, tensor in to_huggingface(tensors).items()},
        blinkdl=to_pth(tensors),
        config=config,
        logits=lambda other: other(ids)[0],
        expected=model(ids)[0],
    )


@pytest.fixture
def folder(published, tmp_path):
    """Return a function that writes a folder of Hugging Face's, with changed tensors and config."""

    def write(change=lambda tensors: None, **config):
        tensors = dict(published.huggingface)
        change(tensors)
        save_file(tensors, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text(json.dumps(published.config | config))
        return tmp_path

    return write


def pack(shape):
    """Return a function that packs the six vectors of each layer, in the order of fla's first version."""

    def packed(tensors):
        for layer in ("model.layers.0.attn.", "model.layers.1.attn."):
            vectors = [tensors.pop(f"{layer}x_{c}").flatten() for c in MIXES]
            tensors[f"{layer}x_x"] = torch.stack(vectors).view(shape)

    return packed


class TestPacked:
    @pytest.mark.parametrize("shape", [(6, 32), (6, 1, 1, 32)], ids=str)
    def test_packed_vectors_give_the_same_logits(self, folder, published, shape):
        loaded = load_model(folder(pack(shape)))
        assert torch.equal(published.logits(loaded.model), published.expected)
        assert inspect_model(folder(pack(shape)))["sizes"] == loaded.model.config.to_dict()

    @pytest.mark.parametrize("shape", [(3, 64), (6, 2, 16), (192,)], ids=str)
    def test_other_shapes_are_refused_by_name(self, folder, shape):
        with pytest.raises(ModelError, match=r"has 'model\.layers\.0\.attn\.x_x'"):
            load_model(folder(pack(shape)))

    def test_both_at_once_are_refused(self, folder):
        def both(tensors):
            tensors["model.layers.1.attn.x_x"] = torch.zeros(6, 32)

        with pytest.raises(ModelError, match=r"has 'model\.layers\.1\.attn\.x_x'"):
            load_model(folder(both))


PREFIXES = [
    "_orig_mod.",
    "module.",
    "_forward_module.",
    "module._orig_mod.",
    "_forward_module.module._orig_mod.",
]


class TestWrapped:
    @pytest.mark.parametrize("prefix", [*PREFIXES, "model.", "lit.student."])
    @pytest.mark.parametrize("naming", ["huggingface", "blinkdl"])
    def test_prefixes_are_taken_off_and_said(self, published, tmp_path, naming, prefix):
        tensors = getattr(published, naming)
        torch.save({prefix + name: tensor for name, tensor in tensors.items()}, tmp_path / "m.pth")
        loaded = load_model(tmp_path / "m.pth")
        assert torch.equal(published.logits(loaded.model), published.expected)
        parts = [part for part in prefix.split(".") if part] if prefix in PREFIXES else [prefix.rstrip(".")]
        assert all(f"'{part}.'" in loaded.notes[0] for part in parts)
        assert inspect_model(tmp_path / "m.pth")["notes"] == list(loaded.notes)

    def test_wrapped_blocks_inside_a_model_load_too(self, published, tmp_path):
        renamed = {
            name.replace("blocks.1.", "blocks.1._checkpoint_wrapped_module.module."): tensor
            for name, tensor in published.blinkdl.items()
        }
        torch.save(renamed | {"n_averaged": torch.tensor(3)}, tmp_path / "m.pth")
        loaded = load_model(tmp_path / "m.pth")
        assert torch.equal(published.logits(loaded.model), published.expected)
        assert "not used: 'n_averaged'" in loaded.notes

    @pytest.mark.parametrize("protocol", [3, 4, 5])
    def test_each_protocol_of_pickle_loads(self, published, tmp_path, protocol):
        torch.save(OrderedDict(published.blinkdl), tmp_path / "m.pth", pickle_protocol=protocol)
        assert torch.equal(published.logits(load_model(tmp_path / "m.pth").model), published.expected)

    @pytest.mark.parametrize("entry", ["state_dict", "model", "model_state_dict", "module"])
    @pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
    def test_a_wrapping_dictionary_is_taken_off_and_said(self, published, tmp_path, entry, legacy):
        content = OrderedDict({f"module.{name}": value for name, value in published.blinkdl.items()})
        moments = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3}]}
        torch.save(
            {"epoch": 3, entry: content, "optimizer": moments},
            tmp_path / "m.pth",
            _use_new_zipfile_serialization=not legacy,
        )
        loaded = load_model(tmp_path / "m.pth")
        assert torch.equal(published.logits(loaded.model), published.expected)
        assert (
            loaded.notes[0]
            == f"the tensors are those of the entry '{entry}' of the file; not used: 'epoch', 'optimizer'"
        )
        assert "'module.'" in loaded.notes[1]

    def test_wrapped_parameters_and_nested_wrappers_load(self, published, tmp_path):
        content = {name: torch.nn.Parameter(value) for name, value in published.blinkdl.items()}
        torch.save({"state_dict": {"model": content}}, tmp_path / "m.pth")
        loaded = load_model(tmp_path / "m.pth")
        assert torch.equal(published.logits(loaded.model), published.expected)
        assert loaded.notes == ("the tensors are those of the entry 'state_dict.model' of the file",)

    def test_two_models_in_a_file_are_refused(self, published, tmp_path):
        torch.save(
            {"model": dict(published.blinkdl), "state_dict": dict(published.blinkdl)}, tmp_path / "m.pth"
        )
        with pytest.raises(ModelError, match="holds 'state_dict' and 'model', and either may be the model"):
            load_model(tmp_path / "m.pth")

    def test_two_tensors_of_one_name_are_refused(self, published, tmp_path):
        doubled = dict(published.blinkdl) | {"module.emb.weight": published.blinkdl["emb.weight"] + 1}
        torch.save(doubled, tmp_path / "m.pth")
        with pytest.raises(ModelError, match=r"has two tensors 'emb\.weight'"):
            load_model(tmp_path / "m.pth")

    def test_a_plain_file_has_no_notes(self, published, tmp_path):
        torch.save(published.blinkdl, tmp_path / "m.pth")
        assert load_model(tmp_path / "m.pth").notes == ()

    def test_views_of_one_storage_load_as_torch_loads_them(self, published, tmp_path):
        tensors = dict(published.blinkdl)
        both = torch.stack([tensors["emb.weight"], tensors["head.weight"]])
        tensors |= {"emb.weight": both[0], "head.weight": both[1]}
        tensors["blocks.0.att.w1"] = tensors["blocks.0.att.w1"].t().contiguous().t()
        torch.save(tensors, tmp_path / "m.pth")
        assert torch.equal(published.logits(load_model(tmp_path / "m.pth").model), published.expected)


class TestTied:
    @pytest.mark.parametrize("missing", ["lm_head.weight", "model.embeddings.weight"])
    def test_a_tied_head_is_the_embedding(self, folder, published, missing):
        loaded = load_model(folder(lambda tensors: tensors.pop(missing), tie_word_embeddings=True))
        model = loaded.model
        assert torch.equal(model.head.weight, model.emb.weight) and "are one" in loaded.notes[0]
        kept = ({"lm_head.weight", "model.embeddings.weight"} - {missing}).pop()
        assert torch.equal(model.head.weight, published.huggingface[kept])
        model.emb.weight[0] += 1  # two parameters, not one
        assert not torch.equal(model.head.weight, model.emb.weight)

    def test_a_head_in_the_file_is_used(self, folder, published):
        loaded = load_model(folder(tie_word_embeddings=True))
        assert torch.equal(published.logits(loaded.model), published.expected) and loaded.notes == ()

    @pytest.mark.parametrize("tied", [None, False])
    def test_without_a_head_or_a_word_about_it_the_file_is_incomplete(self, folder, tied):
        with pytest.raises(ModelError, match=r"lacks 'head\.weight'"):
            load_model(folder(lambda tensors: tensors.pop("lm_head.weight"), tie_word_embeddings=tied))

    def test_the_bare_model_lacks_its_head_by_name(self, folder):
        def bare(tensors):
            del tensors["lm_head.weight"]
            for name in list(tensors):
                tensors[name.removeprefix("model.")] = tensors.pop(name)

        with pytest.raises(ModelError, match=r"it lacks 'head\.weight'$"):
            load_model(folder(bare))
        assert torch.equal(
            *(
                load_model(folder(bare, tie_word_embeddings=True)).model.get_parameter(f"{name}.weight")
                for name in ("head", "emb")
            )
        )


def without_biases(tensors):
    for name in [name for name in tensors if "norm.bias" in name and "g_norm" not in name]:
        del tensors[name]


class TestNormBias:
    def test_without_biases_it_computes_the_same_as_with_zeros(self, folder, published):
        def zeroed(tensors):
            for name in tensors:
                if name.endswith("norm.bias") and "g_norm" not in name:
                    tensors[name] = torch.zeros(32)

        expected = published.logits(load_model(folder(zeroed)).model)
        loaded = load_model(folder(without_biases, norm_bias=False))
        assert torch.equal(published.logits(loaded.model), expected)
        assert loaded.notes == ("its LayerNorms have no bias (norm_bias): zeros stand for them",)
        assert inspect_model(folder(without_biases, norm_bias=False))["notes"] == list(loaded.notes)

    def test_biases_against_the_config_are_refused(self, folder):
        with pytest.raises(ModelError, match=r"says norm_bias = False, but its tensors have 'blocks\.0\.ln"):
            load_model(folder(norm_bias=False))

    def test_biases_that_no_config_explains_are_missing(self, folder):
        with pytest.raises(ModelError, match=r"lacks 'blocks\.0\.ln0\.bias'"):
            load_model(folder(without_biases))


class TestOtherKinds:
    @pytest.mark.parametrize(
        ("key", "value"),
        [("norm_first", False), ("hidden_act", "relu"), ("attn", {"layers": [1]}), ("model_type", "rwkv6")],
    )
    def test_what_computes_something_else_is_refused_by_its_key(self, folder, key, value):
        with pytest.raises(ModelError, match=f"says {key} = "):
            load_model(folder(**{key: value}))

    @pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.complex64], ids=str)
    def test_numbers_that_are_not_floats_are_refused(self, published, tmp_path, dtype):
        tensors = dict(published.blinkdl)
        tensors["blocks.1.ffn.key.weight"] = tensors["blocks.1.ffn.key.weight"].to(dtype)
        torch.save(tensors, tmp_path / "m.pth")
        with pytest.raises(ModelError, match=rf"holds 'blocks\.1\.ffn\.key\.weight' in {str(dtype)[6:]}"):
            load_model(tmp_path / "m.pth")

    def test_every_vector_may_be_flat_or_not(self, published, tmp_path):
        tensors = dict(published.huggingface)
        for name in tensors:
            if name.endswith(("k_k", "k_a", "ffn.x_k", "lora.2.bias")):
                tensors[name] = tensors[name].view(1, 1, -1)
        save_file(tensors, tmp_path / "m.safetensors")
        assert torch.equal(published.logits(load_model(tmp_path / "m.safetensors").model), published.expected)
        assert set(load_file(tmp_path / "m.safetensors")) == set(tensors)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_pth_is_read_as_torch_reads_it(tmp_path, legacy):
    """Views, strides, parameters, empty and zero-dimensional tensors, every dtype: the same tensors."""
    whole = torch.arange(24.0).view(4, 6)
    dtypes = [
        torch.float64,
        torch.bfloat16,
        torch.int64,
        torch.int16,
        torch.uint8,
        torch.bool,
        torch.complex64,
    ]
    newer = (
        [] if legacy else [torch.float8_e4m3fn, torch.uint16]
    )  # torch cannot read back the old format of these
    tensors = {str(dtype): whole.to(dtype) for dtype in [*dtypes, *newer]}
    tensors |= {"whole": whole, "row": whole[2], "column": whole[:, 3], "steps": whole[1::2, ::3]}
    tensors |= {"turned": whole.t(), "number": torch.tensor(3.0), "none": torch.zeros(0, 5)}
    tensors |= {"parameter": torch.nn.Parameter(whole + 1), "odd": torch.arange(3, dtype=torch.int8)}
    torch.save(tensors, tmp_path / "m.pth", _use_new_zipfile_serialization=not legacy)
    found, expected = read_pth(tmp_path / "m.pth").tensors, torch.load(tmp_path / "m.pth", weights_only=True)
    assert list(found) == list(expected)
    for name, tensor in found.items():
        assert (tensor.dtype, tensor.stride()) == (expected[name].dtype, expected[name].stride()), name
        assert tensor.tolist() == expected[name].tolist(), name
