"""Every model format is read and written, with its vocabulary."""

import hashlib
import json
import os
import subprocess
import sys
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from sttx_core.errors import DataError, ModelError, UsageError
from sttx_core.tokenizers import ByteTokenizer, TrieTokenizer, create_vocab_file
from sttx_train.formats import (
    detect_config,
    detect_version,
    huggingface,
    load_model,
    save_model,
    tokenizer_for,
)
from sttx_train.rwkv7 import RWKV7, RWKV7Config

FORMATS = ["sttx", "huggingface", "blinkdl"]


def assert_same_weights(model, expected):
    found, wanted = model.state_dict(), expected.state_dict()
    assert list(found) == list(wanted)
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []


class TestRoundTrip:
    @pytest.mark.parametrize("format", FORMATS)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_weights_come_back_exactly(self, make_model, tmp_path, format, dtype):
        model = make_model(dtype=dtype, ffn_size=48, gate_rank=24, decay_rank=12)
        save_model(model, tmp_path / "m.pth", format=format)
        loaded = load_model(tmp_path / "m.pth", dtype=dtype)
        assert_same_weights(loaded.model, model)
        assert loaded.model.config == model.config
        assert (loaded.format, loaded.model.dtype) == (format, dtype)

    @pytest.mark.parametrize("first", FORMATS)
    @pytest.mark.parametrize("second", FORMATS)
    def test_any_format_turns_into_any_other(self, make_model, tmp_path, first, second):
        model = make_model()
        save_model(model, tmp_path / "a.pth", format=first)
        save_model(load_model(tmp_path / "a.pth").model, tmp_path / "b.pth", format=second)
        assert_same_weights(load_model(tmp_path / "b.pth").model, model)

    @pytest.mark.parametrize("format", FORMATS)
    def test_a_single_layer_has_no_value_residual(self, make_model, tmp_path, format):
        model = make_model(num_layers=1)
        save_model(model, tmp_path / "m.pth", format=format)
        assert_same_weights(load_model(tmp_path / "m.pth").model, model)

    @pytest.mark.parametrize("format", FORMATS)
    def test_bf16_on_disk_becomes_float32_in_memory(self, make_model, tmp_path, format):
        model = make_model()
        save_model(model, tmp_path / "m.pth", format=format, dtype=torch.bfloat16)
        loaded = load_model(tmp_path / "m.pth").model
        assert {p.dtype for p in loaded.parameters()} == {torch.float32}
        assert_same_weights(loaded, model.to(torch.bfloat16).to(torch.float32))

    def test_a_loaded_model_is_ready_and_described(self, saved):
        path = saved("sttx")
        loaded = load_model(path)
        assert not loaded.model.training
        assert not any(p.requires_grad for p in loaded.model.parameters())
        assert (loaded.id, loaded.path, loaded.format) == ("sttx", path, "sttx")
        assert loaded.kernel.backend == loaded.model.backend == "compiled"
        assert load_model(path, kernel="recurrent").kernel == ("recurrent", "asked for")

    def test_the_hash_is_of_the_weights_bytes(self, saved):
        path = saved("sttx")
        assert (
            load_model(path).sha256 == hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
        )

    @pytest.mark.parametrize("format", FORMATS)
    def test_the_same_model_is_the_same_bytes(self, make_model, tmp_path, format):
        for name in ("a.pth", "b.pth"):
            save_model(make_model(), tmp_path / name, format=format)
        assert load_model(tmp_path / "a.pth").sha256 == load_model(tmp_path / "b.pth").sha256

    def test_our_epsilon_stays(self, make_model, tmp_path):
        model = make_model(layer_norm_eps=1e-3)
        save_model(model, tmp_path / "m")
        assert load_model(tmp_path / "m").model.config.layer_norm_eps == 1e-3
        for format in ("huggingface", "blinkdl"):
            with pytest.raises(UsageError, match=r"cannot hold layer_norm_eps 0\.001"):
                save_model(model, tmp_path / "x", format=format)
        assert not (tmp_path / "x").exists()


class TestPublishedShapes:
    def test_pth_has_the_published_names_and_shapes(self, saved, make_model):
        tensors = torch.load(saved("blinkdl"), weights_only=True)
        assert tensors["blocks.1.att.x_r"].shape == tensors["blocks.1.att.w0"].shape == (1, 1, 32)
        assert tensors["blocks.1.ffn.x_k"].shape == tensors["blocks.0.att.k_a"].shape == (1, 1, 32)
        assert tensors["blocks.2.att.w1"].shape == (32, 32)
        assert tensors["blocks.1.att.v2"].shape == (8, 32)
        assert tensors["blocks.1.att.r_k"].shape == (2, 16)
        assert tensors["blocks.0.ln0.weight"].shape == (32,)
        for i in range(3):
            assert torch.equal(tensors[f"blocks.0.att.v{i}"], tensors[f"blocks.0.att.a{i}"])

    def test_pth_without_the_unused_tensors_loads(self, saved, make_model, edit_tensors):
        path = saved("blinkdl")
        edit_tensors(path, lambda tensors: [tensors.pop(f"blocks.0.att.v{i}") for i in range(3)])
        assert_same_weights(load_model(path).model, make_model())

    def test_huggingface_names_and_shapes_are_flas(self, saved, make_model):
        ours = make_model(decay_rank=12, gate_rank=24, ffn_size=48)
        folder = saved("huggingface", decay_rank=12, gate_rank=24, ffn_size=48)
        tensors = load_file(folder / "model.safetensors")
        att = ours.blocks[1].att
        assert torch.equal(tensors["model.layers.1.attn.w_lora.lora.0.weight"], att.w1.T)
        assert torch.equal(tensors["model.layers.1.attn.w_lora.lora.2.weight"], att.w2.T)
        assert torch.equal(tensors["model.layers.1.attn.v_lora.lora.2.bias"], att.v0)
        assert torch.equal(tensors["model.layers.1.attn.x_w"], att.x_w.view(1, 1, -1))
        assert torch.equal(tensors["model.layers.1.attn.o_proj.weight"], att.output.weight)
        assert torch.equal(tensors["model.layers.1.ffn.x_k"], ours.blocks[1].ffn.x_k)
        assert torch.equal(tensors["model.layers.0.pre_norm.bias"], ours.blocks[0].ln0.bias)
        assert torch.equal(tensors["model.norm.weight"], ours.ln_out.weight)
        assert "model.layers.0.attn.v_lora.lora.0.weight" not in tensors
        assert "model.layers.1.attn.g_lora.lora.2.bias" not in tensors

    def test_older_repositories_keep_vectors_flat(self, saved, make_model, edit_tensors):
        path = saved("huggingface")

        def flatten(tensors):
            for name in tensors:
                if ".attn.x_" in name:
                    tensors[name] = tensors[name].flatten()

        edit_tensors(path, flatten)
        assert_same_weights(load_model(path).model, make_model())

    def test_pth_tensors_in_a_safetensors_file_load(self, saved, make_model, tmp_path):
        save_file(torch.load(saved("blinkdl"), weights_only=True), tmp_path / "m.safetensors")
        loaded = load_model(tmp_path / "m.safetensors")
        assert_same_weights(loaded.model, make_model())
        assert (loaded.format, loaded.id) == ("blinkdl", "m")

    def test_an_id_of_the_hub_is_downloaded(self, monkeypatch, saved, make_model):
        import huggingface_hub

        folder = saved("huggingface")
        monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **kwargs: str(folder))
        loaded = load_model("RWKV/Goose")
        assert loaded.id == "RWKV/Goose"
        assert_same_weights(loaded.model, make_model())

    def test_a_file_of_the_hub_is_downloaded(self, monkeypatch, saved, make_model):
        import huggingface_hub

        file, asked = saved("blinkdl"), []

        def download(name, *, allow_patterns):
            asked.append((name, allow_patterns))
            return str(file.parent)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        loaded = load_model("BlinkDL/rwkv-7-world/model.pth")
        assert loaded.id == "BlinkDL/rwkv-7-world/model.pth"
        assert asked == [("BlinkDL/rwkv-7-world", ["model.pth", "*.json", "*.txt"])]
        assert_same_weights(loaded.model, make_model())
        with pytest.raises(ModelError, match=r"'BlinkDL/rwkv-7-world' has no file 'other.pth'"):
            load_model("BlinkDL/rwkv-7-world/other.pth")
        with pytest.raises(ModelError, match=r"has no .safetensors .* BlinkDL/rwkv-7-world/NAME.pth"):
            load_model("BlinkDL/rwkv-7-world")


class TestShards:
    @pytest.fixture
    def sharded(self, saved):
        folder = saved("huggingface")
        tensors = {name: t.clone() for name, t in load_file(folder / "model.safetensors").items()}
        (folder / "model.safetensors").unlink()
        names = sorted(tensors)
        shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
        for file, held in shards.items():
            save_file({name: tensors[name] for name in held}, folder / file)
        weight_map = {name: file for file, held in shards.items() for name in held}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        return folder

    def test_shards_join(self, sharded, make_model):
        assert_same_weights(load_model(sharded).model, make_model())

    def test_the_hash_covers_every_shard(self, sharded):
        before = load_model(sharded).sha256

        def nudge(folder):
            tensors = {name: t.clone() for name, t in load_file(folder / "model-2.safetensors").items()}
            next(iter(tensors.values())).add_(1.0)
            save_file(tensors, folder / "model-2.safetensors")

        nudge(sharded)
        assert load_model(sharded).sha256 != before

    def test_a_missing_shard_is_named(self, sharded):
        (sharded / "model-2.safetensors").unlink()
        with pytest.raises(ModelError, match=r"lacks 'model-2\.safetensors', which its index names"):
            load_model(sharded)

    def test_a_shard_that_disagrees_with_the_index_is_refused(self, sharded):
        index = json.loads((sharded / "model.safetensors.index.json").read_text())
        del index["weight_map"]["lm_head.weight"]
        (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(ModelError, match=r"differ in 'lm_head\.weight'"):
            load_model(sharded)

    def test_an_index_cannot_point_outside(self, sharded):
        index = {"weight_map": {"a": "../secrets.safetensors"}}
        (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(ModelError, match="no 'weight_map' from tensors to files in its folder"):
            load_model(sharded)


class TestDetection:
    OLDER = {
        "x040": {"blocks.0.att.time_decay": (8,), "blocks.0.att.time_first": (8,)},
        "x050": {"blocks.0.att.time_decay": (2, 1), "blocks.0.att.ln_x.weight": (8,)},
        "x051": {
            "blocks.0.att.time_decay": (2, 1),
            "blocks.0.att.ln_x.weight": (8,),
            "blocks.0.att.gate.weight": (8, 8),
        },
        "x052": {
            "blocks.0.att.time_decay": (2, 4),
            "blocks.0.att.time_faaaa": (2, 4),
            "blocks.0.att.gate.weight": (8, 8),
        },
        "x060": {"blocks.0.att.time_maa_x": (1, 1, 8), "blocks.0.att.time_decay": (1, 1, 8)},
    }
    IN_HUGGINGFACE_NAMES = {
        "x052": {"rwkv.blocks.0.attention.time_decay": (2, 4), "rwkv.blocks.0.attention.gate.weight": (8, 8)},
        "x060": {"rwkv.blocks.0.attention.time_maa_x": (1, 1, 8), "rwkv.blocks.0.attention.time_decay": (8,)},
    }

    @pytest.mark.parametrize("version", OLDER)
    def test_older_architectures_are_recognized(self, version):
        assert detect_version({"emb.weight": (10, 8)} | self.OLDER[version]) == version

    @pytest.mark.parametrize("version", ["x040", "x050", "x051"])
    def test_the_oldest_architectures_are_refused(self, version, tmp_path):
        shapes = {"emb.weight": (10, 8)} | self.OLDER[version]
        torch.save({name: torch.zeros(shape) for name, shape in shapes.items()}, tmp_path / "old.pth")
        runs = (
            rf"architecture {version}; only RWKV-7 \(x070\), RWKV-6 \(x060\) and RWKV-5.2 \(x052\) run here"
        )
        with pytest.raises(ModelError, match=runs):
            load_model(tmp_path / "old.pth")

    @pytest.mark.parametrize("version", ["x052", "x060"])
    def test_an_incomplete_older_model_is_refused(self, version, tmp_path):
        shapes = {"emb.weight": (10, 8)} | self.OLDER[version]
        torch.save({name: torch.zeros(shape) for name, shape in shapes.items()}, tmp_path / "old.pth")
        with pytest.raises(ModelError, match="is incomplete: it has no matrix"):
            load_model(tmp_path / "old.pth")

    @pytest.mark.parametrize("version", IN_HUGGINGFACE_NAMES)
    def test_older_architectures_under_other_names(self, version):
        assert detect_version(self.IN_HUGGINGFACE_NAMES[version]) == version

    def test_flas_sixth_version_is_recognized(self):
        names = ["model.layers.0.attn.bonus", "model.layers.0.attn.x_proj.0.weight"]
        assert detect_version(dict.fromkeys(names, (8, 8))) == "x060"

    def test_other_tensors_have_no_version(self):
        assert detect_version({"transformer.h.0.attn.c_attn.weight": (8, 24)}) is None

    @pytest.mark.parametrize(
        "sizes",
        [
            {"vocab_size": 9, "hidden_size": 64, "num_layers": 2, "head_size": 32, "ffn_size": 96},
            {
                "vocab_size": 30,
                "hidden_size": 16,
                "num_layers": 4,
                "head_size": 8,
                "decay_rank": 3,
                "a_rank": 5,
            },
            {
                "vocab_size": 7,
                "hidden_size": 8,
                "num_layers": 12,
                "head_size": 8,
                "v_rank": 2,
                "gate_rank": 11,
            },
        ],
    )
    def test_every_size_comes_from_the_tensors(self, sizes):
        config = RWKV7Config(**sizes)
        model = RWKV7(config)
        assert detect_config({name: t.shape for name, t in model.state_dict().items()}) == config


class TestWriting:
    def test_a_model_folder_is_replaced_whole(self, make_model, tmp_path):
        save_model(make_model(0), tmp_path / "m", tokenizer=ByteTokenizer())
        save_model(make_model(1, num_layers=2), tmp_path / "m")
        assert_same_weights(load_model(tmp_path / "m").model, make_model(1, num_layers=2))
        assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["config.json", "model.safetensors"]
        assert [p.name for p in tmp_path.iterdir()] == ["m"]

    def test_a_folder_with_anything_else_is_left_alone(self, make_model, tmp_path):
        (tmp_path / "thesis.txt").write_text("years of work")
        with pytest.raises(UsageError, match=r"holds 'thesis\.txt'"):
            save_model(make_model(), tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]

    @pytest.mark.parametrize("format", FORMATS)
    def test_a_write_that_fails_leaves_the_old_model(self, make_model, tmp_path, monkeypatch, format):
        path = tmp_path / "m.pth"
        save_model(make_model(0), path, format=format, tokenizer=ByteTokenizer())
        before = sorted(p.name for p in tmp_path.iterdir())

        def full(*args, **kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("sttx_train.files.os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            save_model(make_model(1), path, format=format, tokenizer=ByteTokenizer())
        monkeypatch.undo()
        assert_same_weights(load_model(path).model, make_model(0))
        assert sorted(p.name for p in tmp_path.iterdir()) == before

    def test_permissions_follow_the_umask(self, make_model, tmp_path):
        old = os.umask(0o022)
        try:
            save_model(make_model(), tmp_path / "m", tokenizer=ByteTokenizer())
            save_model(make_model(), tmp_path / "m.pth", format="blinkdl")
        finally:
            os.umask(old)
        files = [*(tmp_path / "m").iterdir(), tmp_path / "m.pth"]
        assert {oct(p.stat().st_mode & 0o777) for p in files} == {"0o644"}

    def test_a_file_and_a_folder_are_not_mixed_up(self, make_model, tmp_path):
        (tmp_path / "folder").mkdir()
        with pytest.raises(UsageError, match="is a folder, but 'blinkdl' is a file"):
            save_model(make_model(), tmp_path / "folder", format="blinkdl")
        (tmp_path / "file").touch()
        with pytest.raises(UsageError, match="is a file, not a folder"):
            save_model(make_model(), tmp_path / "file")

    def test_an_unknown_format_is_refused(self, make_model, tmp_path):
        with pytest.raises(UsageError, match="unknown model format 'gguf'"):
            save_model(make_model(), tmp_path / "m", format="gguf")

    def test_loading_imports_no_compiler(self, saved):
        script = "import sys; from sttx_train.formats import load_model; load_model(sys.argv[1]); "
        script += (
            "sys.exit(sorted({'torch._inductor', 'sympy', 'transformers', 'fla'} & set(sys.modules)) or 0)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(saved("sttx"))], capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")

    def test_a_model_outlives_its_file(self, saved, make_model, draw_ids):
        path = saved("blinkdl")
        loaded = load_model(path).model
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
        assert_same_weights(loaded, make_model())


class TestVocabulary:
    @pytest.fixture
    def trie(self, tmp_path):
        create_vocab_file([*(bytes([i]) for i in range(256)), b"the", " été".encode()], tmp_path / "trie.txt")
        return TrieTokenizer(tmp_path / "trie.txt")

    @pytest.mark.parametrize("format", FORMATS)
    def test_the_vocabulary_comes_back_with_the_model(self, make_model, tmp_path, trie, format):
        save_model(make_model(vocab_size=300), tmp_path / "m.pth", format=format, tokenizer=trie)
        tokenizer = load_model(tmp_path / "m.pth").tokenizer
        assert tokenizer.sha256 == trie.sha256
        assert tokenizer.encode("the été") == trie.encode("the été")

    @pytest.mark.parametrize("format", FORMATS)
    def test_bytes_come_back_as_bytes(self, make_model, tmp_path, format):
        save_model(make_model(vocab_size=257), tmp_path / "m.pth", format=format, tokenizer=ByteTokenizer())
        assert isinstance(load_model(tmp_path / "m.pth").tokenizer, ByteTokenizer)

    def test_a_model_without_a_vocabulary_still_predicts(self, make_model, tmp_path, draw_ids):
        save_model(make_model(), tmp_path / "m")
        loaded = load_model(tmp_path / "m")
        assert loaded.model(draw_ids(1, 3))[0].shape == (1, 3, 61)
        with pytest.raises(ModelError, match=r"without a vocabulary: put .* at '.*m/vocab\.txt'"):
            _ = loaded.tokenizer

    def test_world_models_ask_for_the_world_vocabulary(self, tmp_path):
        with pytest.raises(ModelError, match=r"put the World vocabulary at '.*/rwkv_vocab_v20230424\.txt'"):
            tokenizer_for(tmp_path, rows=65536)

    def test_the_world_vocabulary_is_found_under_its_own_name(self, tmp_path, trie):
        trie.save(tmp_path / "rwkv_vocab_v20230424.txt")
        assert tokenizer_for(tmp_path).sha256 == trie.sha256
        assert tokenizer_for(tmp_path / "model.pth").sha256 == trie.sha256

    def test_a_files_own_vocabulary_comes_first(self, tmp_path, trie):
        trie.save(tmp_path / "vocab.txt")
        create_vocab_file([bytes([i]) for i in range(256)], tmp_path / "mine.vocab.txt")
        assert tokenizer_for(tmp_path / "mine.pth").vocab_size == 257
        assert tokenizer_for(tmp_path / "other.pth").vocab_size == 259

    def test_a_vocabulary_that_is_too_large_is_refused(self, make_model, tmp_path, trie):
        save_model(make_model(vocab_size=258), tmp_path / "m", tokenizer=trie)
        with pytest.raises(
            ModelError, match="another model: its ids go up to 258, but the model has 258 rows"
        ):
            _ = load_model(tmp_path / "m").tokenizer

    def test_a_damaged_vocabulary_is_refused(self, tmp_path):
        (tmp_path / "vocab.txt").write_text("hello\n")
        with pytest.raises(DataError, match=r"vocab\.txt"):
            tokenizer_for(tmp_path)


@pytest.mark.slow
def test_a_huggingface_folder_fits_flas_own_class(saved):
    folder = saved("huggingface", decay_rank=12, gate_rank=24, ffn_size=48)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fla warns that there is no GPU, and about its own code
        fla = pytest.importorskip("fla.models.rwkv7", reason="fla is not on this platform")
        config = fla.RWKV7Config(**json.loads((folder / "config.json").read_text()))
        with torch.device("meta"):
            model = fla.RWKV7ForCausalLM(config)
        theirs = model.state_dict()
        packed = {"model.layers.0.attn.x_x": torch.arange(6.0).view(6, 1, 1, 1)}
        model.model.load_state_dict(packed, strict=False)  # adds the unpacked ones to what it is given
    ours = load_file(folder / "model.safetensors")
    assert {name: t.shape for name, t in ours.items()} == {name: t.shape for name, t in theirs.items()}
    unpacked = huggingface.to_model({"model.layers.0.attn.x_x": torch.arange(6.0).view(6, 1)})
    assert [int(packed[f"model.layers.0.attn.x_{c}"]) for c in "rwkvag"] == [0, 1, 2, 3, 4, 5]
    assert [int(unpacked[f"blocks.0.att.x_{c}"]) for c in "rwkvag"] == [0, 1, 2, 3, 4, 5]
