"""Models whose matrices have forms: on disk, in use, in training, and forged."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from sttx_core.errors import ModelError, UsageError
from sttx_core.tokenizers import ByteTokenizer
from sttx_train import RWKV7, RecurrentState, RWKV7Config, load_model, save_model
from sttx_train.coding.networks import load_networks
from sttx_train.export import export_model, model_to_export
from sttx_train.inspect import inspect_model
from sttx_train.online.scope import s0_cannot_learn, weights_in_scope
from sttx_train.pretrain import PretrainConfig, Pretrainer
from sttx_train.rwkv7.config import counts, forms_of, parameter_shapes, stored_tensors
from sttx_train.rwkv7.stored import dense_model, model_at_rest, model_in_training

SIZES = {"vocab_size": 257, "hidden_size": 32, "num_layers": 2, "head_size": 16}
FORMS = {
    "emb.weight": "int8",
    "head.weight": "low-rank:8+int8",
    "blocks.0.att.key.weight": "sparse:300",
    "blocks.0.att.value.weight": "ghost:16:4",
    "blocks.0.att.w1": "int8",
    "blocks.1.att.output.weight": "int4:16",
    "blocks.1.ffn.key.weight": "2:4",
    "blocks.1.ffn.value.weight": "low-rank:6",
}
TEXT = (b"the quick brown fox jumps over the lazy dog, and then it does so again. " * 40)[:2000]


@pytest.fixture(scope="module")
def model():
    """A model in which every form is used, with outputs that are not zero."""
    made = RWKV7(RWKV7Config(**SIZES, forms=FORMS), seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return made.eval().requires_grad_(False)


@pytest.fixture
def folder(model, tmp_path):
    save_model(model, tmp_path / "m", tokenizer=ByteTokenizer())
    return tmp_path / "m"


def logits(model):
    return model(torch.tensor([list(TEXT[:20]), list(TEXT[20:40])]))[0]


def test_a_model_with_forms_is_the_dense_model_that_it_expands_to(model):
    dense = dense_model(model)
    assert not dense.config.forms and dense_model(dense) is dense
    assert {name: tuple(w.shape) for name, w in dense.state_dict().items()} == parameter_shapes(dense.config)
    assert torch.allclose(logits(dense), logits(model), atol=1e-4)
    stored = {name: tensor.shape for name, tensor in stored_tensors(model.config).items()}
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == stored


def test_token_by_token_equals_the_sequence_and_the_compiled_step_follows_changes(model):
    model = copy.deepcopy(model)
    assert "expanded" in model.step_choice.reason
    for _ in range(2):
        with torch.inference_mode():
            state = RecurrentState.zeros(model.config)
            for token in TEXT[:10]:
                stepped, state = model.step(torch.tensor([token]), state)
        expected, _ = model(torch.tensor([list(TEXT[:10])]))
        assert torch.allclose(stepped[0], expected[0, -1], atol=1e-4)
        model.get_submodule("blocks.1.ffn.value").get_parameter("left").mul_(2)


def test_a_saved_model_loads_as_it_was(model, folder):
    loaded = load_model(folder)
    assert torch.equal(logits(loaded.model), logits(model)) and loaded.model.config == model.config
    assert "stored dense: 1 as int8" in " ".join(loaded.notes).replace("2 as int8", "1 as int8")
    assert json.loads((folder / "config.json").read_text())["version"] == 2
    half = load_model(folder, dtype=torch.bfloat16).model
    assert half.dtype == torch.bfloat16 and half.state_dict()["emb.full_codes"].dtype == torch.int8
    assert (logits(half).float() - logits(model)).abs().max() < 0.5


def test_dense_folders_are_written_as_before(tmp_path):
    save_model(RWKV7(RWKV7Config(**SIZES), seed=0), tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["version"] == 1 and not {"forms", "ghost_ratio"} & config["model"].keys()


def test_inspect_counts_what_is_stored(model, folder):
    report, found = inspect_model(folder), counts(model.config)
    assert report["parameters"] == found.numbers < found.dense == report["dense_parameters"]
    assert report["multiplications"] == found.multiplications
    assert report["forms"] == forms_of(model.config) and sum(report["forms"].values()) == len(FORMS)
    assert report["problems"] == [] and report["uses"] and "forms" not in report["sizes"]
    values = {"float32": 4, "int8": 1, "uint8": 1, "int32": 4}
    stored = sum(values[dtype] * count for dtype, count in report["dtypes"].items())
    assert 0 < report["bytes"] - stored < 20_000  # the header


def test_other_formats_get_expanded_matrices(model, folder, tmp_path):
    merged = model_to_export(load_model(folder))
    assert "expanded" in merged.notes[-1]
    export_model(merged, tmp_path / "x.pth", "blinkdl", "float32")
    other = load_model(tmp_path / "x.pth").model
    assert not other.config.forms and torch.allclose(logits(other), logits(model), atol=1e-4)


def test_archives_are_coded_with_the_expanded_matrices(model, folder):
    coded = load_networks(str(folder), None).frozen.parameters
    assert coded.keys() == parameter_shapes(model.config).keys()
    assert all(torch.equal(coded[name], weight) for name, weight in dense_model(model).state_dict().items())


def test_scopes_name_parts_and_refuse_codes(model):
    def with_forms(**forms):
        return RWKV7(
            RWKV7Config(**SIZES, forms={name.replace("__", "."): f for name, f in forms.items()}), seed=0
        )

    factors = with_forms(head__weight="low-rank:8")
    assert weights_in_scope(factors, ["head"]).keys() == {"head.left", "head.right"}
    assert len(weights_in_scope(factors, ["all"])) == len(list(factors.parameters()))
    for scope in ("head", "all"):
        with pytest.raises(UsageError, match="which is stored in codes"):
            weights_in_scope(model, [scope])
    assert not weights_in_scope(model, ["state"])
    assert (
        weights_in_scope(model, ["vectors"]).keys()
        == weights_in_scope(dense_model(model), ["vectors"]).keys()
    )
    assert not s0_cannot_learn(model, ["state"], inject=True)
    assert s0_cannot_learn(factors, ["state"], inject=True)  # new outputs are zero


def test_gradients_reach_the_state_through_codes(model):
    state = RecurrentState.zeros(model.config)
    start = state.wkv.clone().requires_grad_(True)
    out, _ = model(torch.tensor([list(TEXT[:12])]), replace(state, wkv=start))
    out.logsumexp(-1).sum().backward()
    dense = state.wkv.clone().requires_grad_(True)
    out, _ = dense_model(model)(torch.tensor([list(TEXT[:12])]), replace(state, wkv=dense))
    out.logsumexp(-1).sum().backward()
    assert start.grad.abs().sum() > 0 and torch.allclose(start.grad, dense.grad, rtol=1e-3, atol=1e-4)


def documents():
    from sttx_train.data.documents import Packed

    ids = torch.tensor([0, *TEXT[:700], 0, *TEXT[700:1400], 0, *TEXT[1400:]])
    return Packed(ids.numpy())


def pretrained(folder, out, *, steps, resume=False, **options):
    config = PretrainConfig(
        steps=steps, ctx=32, batch=2, validation=0.3, warmup=1, lr=3e-3, schedule="constant", **options
    )
    pretrainer = Pretrainer(config, out, start=folder, device="cpu", resume=resume)
    pretrainer.fit(documents())
    return pretrainer


def test_training_keeps_the_forms_and_resumes_bit_for_bit(model, folder, tmp_path):
    whole = pretrained(folder, tmp_path / "whole", steps=4)
    parts = pretrained(folder, tmp_path / "parts", steps=2, checkpoint_every=1)
    parts = pretrained(folder, tmp_path / "parts", steps=4, resume=True, checkpoint_every=1)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, parts.model.state_dict()[name]), name
    whole.save_model(tmp_path / "healed")
    healed = load_model(tmp_path / "healed").model
    assert healed.config == model.config  # codes again
    mask = "blocks.0.att.key.mask"
    assert torch.equal(healed.state_dict()[mask], model.state_dict()[mask])
    for name in FORMS:
        place = name.removesuffix(".weight")
        before, after = model.get_submodule(place).weight, healed.get_submodule(place).weight
        assert not torch.equal(before, after), name
    best = whole.folder.load_best().tensors["model"]
    assert set(best) == set(model_in_training(model).state_dict())


def test_a_checkpoint_with_impossible_places_is_refused(folder, tmp_path):
    run = pretrained(folder, tmp_path / "run", steps=1)
    model, tensors = run.model, dict(run.model.state_dict())
    tensors["blocks.0.att.value.order"] = tensors["blocks.0.att.value.order"] + 2**30
    model.load_state_dict(tensors)
    run.save()  # with hashes that are right
    with pytest.raises(ModelError, match="places of 'blocks.0.att.value.weight' are impossible"):
        pretrained(folder, tmp_path / "run", steps=2, resume=True)


def test_what_is_trained_for_codes_predicts_as_what_is_written(model):
    trained = model_in_training(model)
    assert all("training" in text for _, text in trained.config.forms if "int" in text)
    assert torch.allclose(logits(trained), logits(model), atol=1e-4)
    assert torch.equal(logits(model_at_rest(trained)), logits(model)) and model_at_rest(model) is model


def test_a_ghost_ratio_makes_smaller_models_that_train_and_load(tmp_path):
    config = PretrainConfig(
        hidden_size=32, layers=1, head_size=16, steps=3, ctx=16, batch=2, validation=0.3, ghost_ratio=0.5
    )
    pretrainer = Pretrainer(config, tokenizer=ByteTokenizer(), device="cpu")
    pretrainer.fit(documents())
    pretrainer.save_model(tmp_path / "m")
    loaded = load_model(tmp_path / "m").model
    assert forms_of(loaded.config) == {"ghost": 6} and loaded.config.ghost_ratio == 0.5
    found = counts(loaded.config)
    assert found.numbers < found.dense and found.numbers == sum(w.numel() for w in loaded.parameters())
    before = RWKV7(loaded.config, seed=0).get_submodule("blocks.0.ffn.key").get_parameter("up")
    assert not torch.equal(before, loaded.get_submodule("blocks.0.ffn.key").get_parameter("up"))


def test_cheap_rows_of_a_new_ghost_matrix_are_as_large_as_the_others():
    layer = RWKV7(RWKV7Config(**SIZES, ghost_ratio=0.5), seed=0).get_submodule("blocks.0.ffn.key")
    sizes = layer.weight.detach().norm(dim=1)
    assert sizes[64:].mean() == pytest.approx(float(sizes[:64].mean()), rel=0.5)


@pytest.mark.parametrize("ratio", [-0.1, 1.0, float("nan"), "0.5", True])
def test_impossible_ghost_ratios_are_refused(ratio):
    with pytest.raises(UsageError, match="ghost_ratio must be a share"):
        RWKV7Config(**SIZES, ghost_ratio=ratio)


def damaged(folder, *, tensors=lambda tensors: None, config=lambda config: None):
    content = json.loads((folder / "config.json").read_text())
    config(content)
    (folder / "config.json").write_text(json.dumps(content))
    stored = load_file(folder / "model.safetensors")
    tensors(stored)
    save_file({name: tensor.contiguous() for name, tensor in stored.items()}, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(forms={"head.weight": "int7"}), "is not a form of a matrix"),
        (lambda m: m.update(forms={"head.weight": 5}), "is not a form of a matrix"),
        (lambda m: m.update(forms=["head.weight"]), "forms must be texts"),
        (lambda m: m.update(forms={}), "names forms that no model has"),
        (lambda m: m["forms"].update({"ln_out.weight": "int8"}), "has no such matrix"),
        (lambda m: m["forms"].update({"blocks.0.att.r_k": "int8"}), "has no such matrix"),
        (lambda m: m["forms"].update({"blocks.9.att.w1": "int8"}), "has no such matrix"),
        (lambda m: m["forms"].update({"head.weight": "low-rank:33"}), "no matrix of 257 x 32"),
        (lambda m: m["forms"].update({"head.weight": "low-rank:9999999999"}), "no matrix of 257 x 32"),
        (lambda m: m["forms"].update({"head.weight": "low-rank:9"}), "is read from"),
        (lambda m: m["forms"].update({"blocks.1.ffn.value.weight": "low-rank:7"}), "does not fit"),
        (lambda m: m["forms"].pop("head.weight"), "is read from"),
        (lambda m: m.update(num_layers=10**9), "num_layers"),
        (lambda m: m.update(num_layers=10**9, forms={}, ghost_ratio=0.5), "num_layers"),
        (lambda m: m.update(num_layers="2"), "num_layers"),
        (lambda m: m.update(hidden_size=2**40), "does not fit|multiple|impossible|no matrix"),
        (lambda m: m.update(architecture="x060"), "damaged"),
        (lambda m: m.update(surprise=1), "damaged"),
    ],
)
def test_forged_configs_are_refused(change, message, folder):
    damaged(folder, config=lambda content: change(content["model"]))
    with pytest.raises(ModelError, match=message):
        load_model(folder)
    assert inspect_model(folder)["problems"]


@pytest.mark.parametrize("version", [1, 3, None])
def test_another_version_with_forms_is_refused(version, folder):
    damaged(folder, config=lambda content: content.update(version=version))
    with pytest.raises(ModelError, match="its forms need 2"):
        load_model(folder)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("blocks.0.att.value.order", lambda t: t * 0, "places of 'blocks.0.att.value.weight' are impossible"),
        ("blocks.0.att.value.order", lambda t: t + 2**30, "impossible"),
        ("blocks.0.att.key.mask", lambda t: t * 0, "impossible"),
        ("blocks.1.ffn.key.places", lambda t: t * 0, "impossible"),
        ("blocks.0.att.value.order", lambda t: t.long(), "but its form has int32"),
        ("emb.full_codes", lambda t: t.float(), "but its form has int8"),
        ("emb.full_scales", lambda t: t.to(torch.int8), "but a model is read from"),
        ("emb.full_codes", lambda t: t[:-1], "does not fit"),
        ("blocks.1.att.output.full_codes", lambda t: t[:, :-1], "does not fit"),
        ("blocks.1.ffn.value.left", lambda t: t.t(), "does not fit"),
    ],
)
def test_forged_tensors_are_refused(name, change, message, folder):
    damaged(folder, tensors=lambda tensors: tensors.update({name: change(tensors[name])}))
    with pytest.raises(ModelError, match=message):
        load_model(folder)
