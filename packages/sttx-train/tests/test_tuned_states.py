"""Tuned states survive saving, in the format of other programs too; wrong files are refused."""

import json

import pytest
import torch

from sttx_core.errors import ModelError, UsageError
from sttx_train.formats import (
    load_state,
    save_state,
)

FORMATS = ["sttx", "huggingface", "blinkdl"]


class TestTunedStates:
    @pytest.fixture
    def s0(self):
        return torch.randn(3, 2, 16, 16, generator=torch.Generator().manual_seed(0))

    @pytest.mark.parametrize("name", ["s.pth", "s.safetensors"])
    def test_a_state_survives_saving_in_float32(self, tmp_path, s0, name, make_model):
        save_state(s0, tmp_path / name, metadata={"model": "goose"})
        loaded = load_state(tmp_path / name, config=make_model().config)
        assert torch.equal(loaded.s0, s0)
        assert loaded.metadata == {"model": "goose"}
        save_state(s0.to(torch.bfloat16), tmp_path / name)
        assert torch.equal(load_state(tmp_path / name).s0, s0.to(torch.bfloat16).float())

    def test_pth_has_exactly_the_entries_that_programs_accept(self, tmp_path, s0):
        save_state(s0, tmp_path / "s.pth", metadata={"model": "goose"})
        entries = torch.load(tmp_path / "s.pth", weights_only=True)
        assert sorted(entries) == [f"blocks.{i}.att.time_state" for i in range(3)]
        for i in range(3):
            entry = entries[f"blocks.{i}.att.time_state"]
            assert (entry.dtype, entry.shape) == (torch.float32, (2, 16, 16))
            assert torch.equal(entry, s0[i])
            assert entry.untyped_storage().nbytes() == entry.nbytes
        assert json.loads((tmp_path / "s.pth.json").read_text()) == {"model": "goose"}

    def test_the_format_is_detected_by_content(self, tmp_path, s0):
        save_state(s0, tmp_path / "s.safetensors")
        (tmp_path / "s.safetensors").rename(tmp_path / "s.pth")
        assert torch.equal(load_state(tmp_path / "s.pth").s0, s0)

    def test_another_models_state_is_refused(self, tmp_path, s0, make_model):
        save_state(s0, tmp_path / "s.pth")
        with pytest.raises(ModelError, match=r"shape \[3, 2, 16, 16\], for another model"):
            load_state(tmp_path / "s.pth", config=make_model(num_layers=2).config)

    @pytest.mark.parametrize(
        ("entries", "said"),
        [
            ({"blocks.0.att.time_state": (2, 4, 4), "note": (1,)}, "it has an entry 'note'"),
            ({"blocks.1.att.time_state": (2, 4, 4)}, "does not hold the states of layers 0 to 0"),
            ({"blocks.0.att.time_state": (2, 4, 5)}, "its shape is"),
            ({f"blocks.{i}.att.time_state": (2, 4 + i, 4 + i) for i in range(2)}, "mixes states"),
            ({}, "is incomplete"),
        ],
    )
    def test_a_wrong_pth_is_refused(self, tmp_path, entries, said):
        torch.save({name: torch.zeros(shape) for name, shape in entries.items()}, tmp_path / "s.pth")
        with pytest.raises(ModelError, match=said):
            load_state(tmp_path / "s.pth")

    def test_a_model_is_not_a_tuned_state(self, saved):
        with pytest.raises(ModelError, match="is not a tuned state"):
            load_state(saved("blinkdl"))
        with pytest.raises(ModelError, match="is not a tuned state"):
            load_state(saved("sttx") / "model.safetensors")

    def test_a_damaged_or_missing_file_is_refused(self, tmp_path):
        (tmp_path / "s.pth").write_bytes(b"PK\x03\x04 and then nothing")
        with pytest.raises(ModelError, match="damaged"):
            load_state(tmp_path / "s.pth")
        with pytest.raises(ModelError, match="cannot read"):
            load_state(tmp_path / "gone.pth")

    def test_wrong_calls_are_refused(self, tmp_path, s0):
        with pytest.raises(UsageError, match=r"must end in '\.safetensors', '\.pth' or '\.st'"):
            save_state(s0, tmp_path / "s.bin")
        with pytest.raises(UsageError, match="layers, heads, N, N"):
            save_state(s0[0], tmp_path / "s.pth")
