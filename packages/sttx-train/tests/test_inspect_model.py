"""Reports on model files: every version, tuned states, damaged files, other programs' files."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sttx_core.errors import ModelError, UsageError
from sttx_core.tokenizers import ByteTokenizer, IntegerTokenizer
from sttx_train.formats import load_model, save_model, save_state
from sttx_train.inspect.model import inspect_model

VERSIONS = ["x040", "x051"]


@pytest.fixture(scope="module")
def published():
    spec = importlib.util.spec_from_file_location("published", Path(__file__).with_name("published.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report_of(path):
    """Tell, through JSON and back: nothing else may be in it."""
    return json.loads(json.dumps(inspect_model(path), allow_nan=False))


@pytest.fixture
def no_loading(monkeypatch):
    """Make reading any number of any tensor fail."""

    def refuse(*args, **kwargs):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("sttx_train.formats.store.read_tensors", refuse)
    monkeypatch.setattr("sttx_train.formats.store.map_folder", refuse)
    monkeypatch.setattr("sttx_train.formats.store._build", refuse)
    monkeypatch.setattr("safetensors.torch.load_file", refuse)


class TestRunnable:
    @pytest.mark.parametrize("format", ["sttx", "huggingface", "blinkdl"])
    def test_every_format_is_reported_without_its_weights(self, saved, make_model, no_loading, format):
        path = saved(format, vocab_size=257)
        model, report = make_model(vocab_size=257), report_of(path)
        assert (report["kind"], report["version"], report["format"]) == ("model", "x070", format)
        assert report["architecture"] == "RWKV-7 (x070)"
        assert report["sizes"] == model.config.to_dict()
        assert report["parameters"] == sum(weight.numel() for weight in model.parameters())
        assert set(report["dtypes"]) == {"float32"}
        assert report["problems"] == [] and report["advice"] is None
        file = path if path.is_file() else path / "model.safetensors"
        assert report["files"] == {file.name: file.stat().st_size} and report["bytes"] == file.stat().st_size
        assert report["uses"][0] == f"learn from sessions: sttx train --model {path}"

    def test_the_report_matches_the_loaded_model(self, tiny):
        loaded = tiny()
        report = report_of(loaded.path)
        assert report["model"] | {"hidden_size": 64, "num_layers": 2} == report["model"]
        assert (report["model"]["id"], report["model"]["sha256"]) == (loaded.id, loaded.sha256)
        assert report["vocabulary"]["sha256"] == loaded.tokenizer.sha256 and report["vocabulary"]["text"]

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_the_dtype_is_that_on_disk(self, make_model, tmp_path, dtype):
        save_model(make_model(), tmp_path / "m", dtype=dtype)
        assert list(report_of(tmp_path / "m")["dtypes"]) == [str(dtype).removeprefix("torch.")]

    def test_shards_are_one_model(self, saved):
        folder = saved("huggingface", vocab_size=257)
        whole = report_of(folder)
        tensors = {name: t.clone() for name, t in load_file(folder / "model.safetensors").items()}
        (folder / "model.safetensors").unlink()
        names = sorted(tensors)
        shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
        for file, held in shards.items():
            save_file({name: tensors[name] for name in held}, folder / file)
        where = {name: file for file, held in shards.items() for name in held}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
        report = report_of(folder)
        assert list(report["files"]) == ["a.safetensors", "b.safetensors"] and report["problems"] == []
        assert (report["sizes"], report["parameters"]) == (whole["sizes"], whole["parameters"])
        assert report["model"]["sha256"] == load_model(folder).sha256
        (folder / "b.safetensors").unlink()
        report = report_of(folder)
        assert report["version"] == "x070" and report["uses"] == []
        lacking = f"lacks 'b.safetensors', which has {len(names) // 2} tensors in the index"
        assert lacking in report["problems"][0]

    def test_without_a_vocabulary_it_says_where_to_put_it(self, make_model, tmp_path):
        save_model(make_model(), tmp_path / "m")
        report = report_of(tmp_path / "m")
        assert report["vocabulary"] is None and "comes without a vocabulary: put" in report["problems"][0]
        train = f"sttx pretrain DATA --start-from {tmp_path / 'm'} --out FOLDER --tokenizer SPEC"
        assert report["uses"] == [
            f"train all of it on data, with a vocabulary that fits: {train}",
            f"in Python: sttx_train.load_model({str(tmp_path / 'm')!r})",
        ]

    def test_a_path_with_spaces_is_quoted(self, make_model, tmp_path):
        save_model(make_model(vocab_size=257), tmp_path / "my model", tokenizer=ByteTokenizer())
        assert f"sttx train --model '{tmp_path / 'my model'}'" in report_of(tmp_path / "my model")["uses"][0]

    def test_a_vocabulary_of_numbers_reads_no_sessions(self, make_model, tmp_path):
        save_model(make_model(vocab_size=98), tmp_path / "m", tokenizer=IntegerTokenizer(96))
        report = report_of(tmp_path / "m")
        assert report["vocabulary"]["entries"] == 98 and not report["vocabulary"]["text"]
        assert (
            report["uses"][0].startswith("train all of it on data: sttx pretrain")
            and len(report["uses"]) == 2
        )


class TestNotRunnable:
    @pytest.mark.parametrize("suffix", ["pth", "safetensors"])
    @pytest.mark.parametrize("version", VERSIONS)
    def test_older_versions_are_reported(self, published, tmp_path, no_loading, version, suffix):
        path, tensors = tmp_path / f"old.{suffix}", published.older(version)
        torch.save(tensors, path) if suffix == "pth" else save_file(tensors, path)
        report = report_of(path)
        assert (report["kind"], report["version"], report["format"]) == ("model", version, "blinkdl")
        assert report["sizes"] == {
            "vocab_size": published.VOCAB,
            "hidden_size": published.WIDTH,
            "num_layers": published.LAYERS,
            "head_size": None if version == "x040" else published.HEAD,
            "ffn_size": 64 if version == "x040" else 56,
        }
        assert report["parameters"] == sum(tensor.numel() for tensor in tensors.values())
        assert report["dtypes"] == {"bfloat16": report["parameters"]}
        assert report["problems"] == report["uses"] == []
        runs = "only RWKV-7 (x070), RWKV-6 (x060) and RWKV-5.2 (x052) run here: "
        assert report["advice"].startswith(f"{runs}run it with the Python package `rwkv`")

    @pytest.mark.parametrize("version", ["x052", "x060"])
    def test_older_versions_that_run_are_reported(self, published, tmp_path, no_loading, version):
        tensors = published.older(version)
        torch.save(tensors, tmp_path / "old.pth")
        report = report_of(tmp_path / "old.pth")
        (problem,) = report["problems"]
        assert (report["version"], report["runs"]) == (version, True) and "without a vocabulary" in problem
        sizes = {"architecture": version, "head_size": published.HEAD, "num_layers": published.LAYERS}
        sizes |= {"mix_rank": published.MIX, "decay_rank": published.DECAY} if version == "x060" else {}
        assert report["sizes"].items() >= sizes.items()
        assert report["parameters"] == sum(tensor.numel() for tensor in tensors.values())
        assert report["uses"][0].startswith("train all of it on data, with a vocabulary that fits")
        assert report["advice"] is None

    @pytest.mark.parametrize("version", VERSIONS)
    def test_older_versions_are_not_run(self, published, tmp_path, version):
        torch.save(published.older(version), tmp_path / "old.pth")
        with pytest.raises(ModelError, match=f"architecture {version}"):
            load_model(tmp_path / "old.pth")

    @pytest.mark.parametrize("version", ["x040", "x052", "x060"])
    def test_older_versions_in_folders_of_hugging_face(self, published, tmp_path, version):
        tensors = published.as_huggingface(published.older(version))
        torch.save(tensors, tmp_path / "pytorch_model.bin")
        report = report_of(tmp_path)
        assert (report["version"], report["container"]) == (version, "pth")
        sizes = (published.VOCAB, published.WIDTH, published.LAYERS)
        assert tuple(report["sizes"][n] for n in ("vocab_size", "hidden_size", "num_layers")) == sizes
        assert report["sizes"]["ffn_size"] == (64 if version == "x040" else 56)

    @pytest.mark.parametrize("version", ["x051", "x052", "x060"])
    def test_the_rule_of_the_published_package_agrees(self, published, version):
        """Of `rwkv`: gate.weight is 5.1, a decay for each channel of a head 5.2, and time_maa 6.0."""
        tensors, found = published.older(version), 5.0
        for name, tensor in tensors.items():
            found = max(found, 5.1) if "gate.weight" in name else found
            wide = "att.time_decay" in name and tensor.ndim == 2 and tensor.shape[1] > 1
            found = max(found, 5.2) if wide and int(found) == 5 else found
            found = max(found, 6.0) if "time_maa" in name else found
        assert f"x0{found * 10:.0f}" == version

    @pytest.mark.parametrize("name", ["state.pth", "state.safetensors"])
    def test_a_tuned_state_is_reported(self, tmp_path, name):
        save_state(torch.zeros(3, 2, 8, 8), tmp_path / name, metadata={"tuned_for": "goose"})
        report = report_of(tmp_path / name)
        assert (report["kind"], report["version"]) == ("state", None)
        assert report["sizes"] == {"num_layers": 3, "hidden_size": 16, "head_size": 8}
        assert report["metadata"] == {"tuned_for": "goose"} and report["parameters"] == 384
        assert report["uses"] == [f"in Python: sttx_train.load_state({str(tmp_path / name)!r})"]

    def test_another_model_is_reported(self, tmp_path):
        save_file({"model.embed_tokens.weight": torch.zeros(2, 3)}, tmp_path / "x.safetensors")
        report = report_of(tmp_path / "x.safetensors")
        assert (report["kind"], report["uses"], report["tensors"]) == ("other", [], 1)
        assert report["what"] == "not an RWKV model: its first tensor is 'model.embed_tokens.weight'"
        save_file({}, tmp_path / "empty.safetensors")
        assert report_of(tmp_path / "empty.safetensors")["what"] == "a file without tensors"

    @pytest.mark.parametrize(
        ("opening", "what", "advice"),
        [
            (b"GGUF\x03\0\0\0", "a GGUF file", "sttx reads .pth and .safetensors"),
            (b"fmgg\x65\0\0\0", "rwkv.cpp", "sttx reads .pth and .safetensors"),
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
                "Git LFS pointer",
                "git lfs pull",
            ),
        ],
    )
    def test_files_of_other_programs_are_reported(self, tmp_path, opening, what, advice):
        (tmp_path / "x.bin").write_bytes(opening + bytes(100))
        report = report_of(tmp_path / "x.bin")
        assert report["kind"] == "other" and what in report["what"] and advice in report["advice"]
        assert report["uses"] == report["problems"] == []

    def test_a_path_without_a_model_is_an_error(self, tmp_path):
        (tmp_path / "x.pth").write_bytes(b"\xffhello")
        for path in (tmp_path / "x.pth", tmp_path):
            with pytest.raises(ModelError):
                inspect_model(path)
        with pytest.raises(UsageError, match="no model at"):
            inspect_model(tmp_path / "nowhere")

    def test_sessions_are_not_a_model_and_another_command_shows_them(self, tmp_path):
        (tmp_path / "my session.jsonl").write_text('{"type": "user", "text": "caf\u00e9"}\n' * 1000)
        with pytest.raises(ModelError, match=r"is a text file, not a model; .*`sttx traces '.*jsonl'` shows"):
            inspect_model(tmp_path / "my session.jsonl")
        with pytest.raises(ModelError, match=r"is not a model folder.*`sttx traces "):
            inspect_model(tmp_path)


class TestDamaged:
    @pytest.mark.parametrize("format", ["sttx", "huggingface", "blinkdl"])
    @pytest.mark.parametrize("keep", [0.9, 0.99])
    def test_a_truncated_file_is_reported_with_its_sizes(self, saved, make_model, format, keep):
        path = saved(format)
        file = path if path.is_file() else path / "model.safetensors"
        file.write_bytes(file.read_bytes()[: int(file.stat().st_size * keep)])
        report, config = report_of(path), make_model().config
        assert (report["version"], report["uses"]) == ("x070", [])
        assert len(report["problems"]) == 1 and "download it again" in report["problems"][0]
        for name in ("vocab_size", "hidden_size", "num_layers", "head_size", "ffn_size"):
            assert report["sizes"][name] == getattr(config, name)

    @pytest.mark.parametrize("format", ["sttx", "blinkdl"])
    def test_a_missing_tensor_is_reported(self, saved, edit_tensors, format):
        path = saved(format)
        edit_tensors(path, lambda tensors: tensors.pop("blocks.2.att.key.weight"))
        report = report_of(path)
        assert "lacks 'blocks.2.att.key.weight'" in report["problems"][0] and report["uses"] == []
        with pytest.raises(ModelError, match=r"lacks 'blocks\.2\.att\.key\.weight'"):
            load_model(path)

    def test_a_variant_of_the_architecture_is_reported(self, saved, edit_tensors):
        path = saved("blinkdl")
        edit_tensors(path, lambda tensors: tensors.update({"blocks.1.ffn.s_emb.weight": torch.zeros(2)}))
        report = report_of(path)
        assert report["version"] == "x070" and "which RWKV-7 does not have" in report["problems"][0]

    def test_a_config_that_disagrees_is_reported(self, saved):
        path = saved("huggingface")
        config = json.loads((path / "config.json").read_text()) | {"hidden_size": 64}
        (path / "config.json").write_text(json.dumps(config))
        report = report_of(path)
        assert "says hidden_size = 64" in report["problems"][0] and report["sizes"]["hidden_size"] == 32

    def test_a_folder_of_pickled_weights_has_to_be_converted(self, saved, tmp_path):
        tensors = load_file(saved("huggingface") / "model.safetensors")
        (tmp_path / "old").mkdir()
        torch.save(tensors, tmp_path / "old" / "pytorch_model.bin")
        report = report_of(tmp_path / "old")
        assert report["version"] == "x070" and "reads only folders of .safetensors" in report["problems"][0]
        assert report["uses"] == [] and report["sizes"]["hidden_size"] == 32
