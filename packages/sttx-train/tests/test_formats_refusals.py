"""A damaged or wrong model file is refused by name, and no code in it is ever run."""

import json
import os
import pickle
import re
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from sttx_core.errors import ModelError, UsageError
from sttx_train.formats import (
    load_model,
    save_state,
)

FORMATS = ["sttx", "huggingface", "blinkdl"]


class TestRefusals:
    @pytest.mark.parametrize("format", FORMATS)
    def test_a_missing_tensor_is_named(self, saved, format, edit_tensors):
        path = saved(format)
        names = {"huggingface": "model.layers.2.attn.k_proj.weight"}
        edit_tensors(path, lambda tensors: tensors.pop(names.get(format, "blocks.2.att.key.weight")))
        with pytest.raises(ModelError, match=r"lacks 'blocks\.2\.att\.key\.weight'"):
            load_model(path)

    @pytest.mark.parametrize("format", FORMATS)
    def test_an_unexpected_tensor_is_named(self, saved, format, edit_tensors):
        path = saved(format)
        edit_tensors(path, lambda tensors: tensors.update({"blocks.1.ffn.s_emb.weight": torch.zeros(2)}))
        with pytest.raises(
            ModelError, match=r"has 'blocks\.1\.ffn\.s_emb\.weight', which RWKV-7 does not have"
        ):
            load_model(path)

    def test_a_wrong_shape_is_named(self, saved, edit_tensors):
        path = saved("blinkdl")
        edit_tensors(path, lambda tensors: tensors.update({"blocks.1.att.key.weight": torch.zeros(32, 31)}))
        with pytest.raises(ModelError, match=r"'blocks\.1\.att\.key\.weight' is \[32, 31\], not \[32, 32\]"):
            load_model(path)

    def test_a_layer_in_the_middle_that_is_missing_is_named(self, saved, edit_tensors):
        path = saved("blinkdl")

        def drop(tensors):
            for name in [name for name in tensors if name.startswith("blocks.1.")]:
                del tensors[name]

        edit_tensors(path, drop)
        with pytest.raises(ModelError, match="no tensors of layer 1"):
            load_model(path)

    @pytest.mark.parametrize("format", FORMATS)
    @pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
    def test_a_truncated_file_is_refused(self, saved, format, keep):
        path = saved(format)
        file = path if format == "blinkdl" else path / "model.safetensors"
        data = file.read_bytes()
        file.write_bytes(data[: int(len(data) * keep)])
        said = "is empty: download it again" if format == "blinkdl" and not keep else "damaged"
        with pytest.raises(ModelError, match=said):
            load_model(path)

    def test_an_interrupted_download_is_recognized(self, saved):
        path = saved("blinkdl")
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(
            ModelError, match="its end is missing, as after an interrupted download: download it"
        ):
            load_model(path)

    @pytest.mark.parametrize("name", ["x.pth", "x.safetensors", "x.bin"])
    def test_text_is_refused(self, tmp_path, name):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\n" * 5)
        with pytest.raises(ModelError, match="damaged"):
            load_model(tmp_path / name)

    def test_a_file_that_is_not_a_pth_is_described_by_its_first_bytes(self, tmp_path):
        reasons = {b"hello world": "not a .pth: it starts with b'hello wo'", b"": "is empty"}
        for content, reason in reasons.items():
            (tmp_path / "a.pth").write_bytes(content)
            with pytest.raises(ModelError, match=f"{re.escape(reason)}: download it again$"):
                load_model(tmp_path / "a.pth")

    def test_pickled_code_never_runs(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "ran"),)

        with zipfile.ZipFile(tmp_path / "evil.pth", "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps({"emb.weight": Evil()}, protocol=2))
            archive.writestr("archive/version", "3")
        (tmp_path / "legacy.pth").write_bytes(pickle.dumps(Evil()))
        for name in ("evil.pth", "legacy.pth"):
            with pytest.raises(
                ModelError, match=r"more than tensors, which sttx does not load: download it again$"
            ):
                load_model(tmp_path / name)
        assert not (tmp_path / "ran").exists()

    def test_a_nested_checkpoint_is_refused(self, tmp_path):
        torch.save({"weights": {"emb.weight": torch.zeros(2, 2)}, "step": 3}, tmp_path / "x.pth")
        with pytest.raises(ModelError, match="not a dictionary of tensors"):
            load_model(tmp_path / "x.pth")

    def test_a_tuned_state_is_not_a_model(self, tmp_path):
        for name in ("s.pth", "s.safetensors"):
            save_state(torch.zeros(2, 1, 4, 4), tmp_path / name)
            with pytest.raises(ModelError, match="is a tuned state, not a model"):
                load_model(tmp_path / name)

    def test_other_models_are_refused(self, tmp_path):
        save_file({"model.embed_tokens.weight": torch.zeros(2, 2)}, tmp_path / "x.safetensors")
        with pytest.raises(ModelError, match="is not an RWKV model"):
            load_model(tmp_path / "x.safetensors")
        save_file({}, tmp_path / "empty.safetensors")
        with pytest.raises(ModelError, match="holds no tensors"):
            load_model(tmp_path / "empty.safetensors")

    def test_a_folder_without_weights_is_refused(self, tmp_path):
        with pytest.raises(ModelError, match=r"neither 'model\.safetensors' nor"):
            load_model(tmp_path)

    @pytest.mark.parametrize("format", ["sttx", "huggingface"])
    def test_a_config_of_another_model_is_refused(self, saved, format):
        path = saved(format)
        config = json.loads((path / "config.json").read_text())
        config.get("model", config)["hidden_size"] = 64
        (path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError, match="says hidden_size = 64"):
            load_model(path)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("{", "not valid JSON"),
            ("[]", "holds a list"),
            ('{"format": "sttx", "version": 2}', "format version 2"),
        ],
    )
    def test_a_damaged_config_is_refused(self, saved, text, said):
        path = saved("sttx")
        (path / "config.json").write_text(text)
        with pytest.raises(ModelError, match=said):
            load_model(path)

    def test_another_epsilon_is_refused(self, saved):
        path = saved("huggingface")
        config = json.loads((path / "config.json").read_text()) | {"norm_eps": 1e-6}
        (path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError, match="norm_eps = 1e-06"):
            load_model(path)

    def test_an_unknown_name_is_refused(self):
        with pytest.raises(UsageError, match="no model at 'nowhere'"):
            load_model("nowhere")

    def test_an_unreachable_hub_is_reported(self, monkeypatch):
        import huggingface_hub

        def offline(*args, **kwargs):
            raise ConnectionError("no route to host")

        monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
        with pytest.raises(ModelError, match=r"'RWKV/Goose'.*no route to host.*give a local folder"):
            load_model("RWKV/Goose")
        with pytest.raises(ModelError, match=r"no model at 'RWKV/Goose/a.pth' here"):
            load_model("RWKV/Goose/a.pth")

    @pytest.mark.parametrize("name", ["RWKV/Goose/../a.pth", "RWKV/Goose/a.bin", "/RWKV/Goose/a.pth"])
    def test_other_paths_are_not_of_the_hub(self, name):
        with pytest.raises(UsageError, match="no model at"):
            load_model(name)

    def test_a_kernel_that_cannot_run_is_refused_first(self):
        with pytest.raises(UsageError, match="'fla' needs a CUDA device"):
            load_model("nowhere", kernel="fla")
