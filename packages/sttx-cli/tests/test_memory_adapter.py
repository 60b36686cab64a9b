"""`sttx memory export`, `inspect`, `materialize` and `compare`: a round trip, and what is refused."""

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM

from sttx_train.memory import MemoryConfig, attach
from sttx_train.memory.adapter import SavedAdapter, write_run

SIZES = {
    "vocab_size": 16,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Return the folder of a tiny random base."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(1)
    LlamaForCausalLM(LlamaConfig(**SIZES)).save_pretrained(folder)
    Tokenizer(models.BPE(vocab={"a": 0}, merges=[])).save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def run(base, tmp_path_factory):
    """Return the folder of a run with an adapter for the base."""
    memory = attach(LlamaForCausalLM.from_pretrained(base), MemoryConfig(rank=2, layers=(1,)))
    folder = tmp_path_factory.mktemp("adapters") / "run"
    write_run(SavedAdapter.of(memory, step=3), folder)
    return folder


@pytest.fixture(scope="module")
def sidecar(run, sttx):
    path = run.with_name("one.gguf")
    result = sttx("memory", "export", run, "--out", path, "--json")
    assert result.code == 0, result.err
    assert (result.json["out"], result.json["bytes"]) == (str(path), path.stat().st_size)
    assert result.json["step"] == 3 and result.json["config"]["layers"] == [1]
    return path


def test_the_round_trip_is_equal_in_every_bit(run, sidecar, sttx, tmp_path):
    result = sttx("memory", "materialize", sidecar, "--out", tmp_path / "back")
    assert result.code == 0, result.err
    for other in (sidecar, tmp_path / "back", result.out.strip()):
        compared = sttx("memory", "compare", run, other, "--json")
        assert compared.code == 0, compared.err
        assert compared.json["equal"] is True and compared.json["equal_tensors"] == 11
    again = sttx("memory", "export", tmp_path / "back", "--out", tmp_path / "two.gguf")
    assert again.code == 0 and (tmp_path / "two.gguf").read_bytes() == sidecar.read_bytes()


def test_compare_names_what_differs(run, base, sidecar, sttx, tmp_path):
    memory = attach(LlamaForCausalLM.from_pretrained(base), MemoryConfig(rank=2, layers=(1,), slots=4))
    with torch.no_grad():
        memory.adapter(1).delta_q[0, 0] = 0.5
    write_run(SavedAdapter.of(memory, step=3), tmp_path / "other")
    result = sttx("memory", "compare", sidecar, tmp_path / "other")
    assert result.code == 1
    assert result.out.splitlines() == [
        "10 tensors equal in every bit",
        "the config differs",
        "layers.1.delta_q: differs by up to 5.00e-01",
        "the adapters differ",
    ]


def test_inspect_checks_the_base(base, sidecar, sttx, tmp_path):
    result = sttx("memory", "inspect", sidecar, "--base", base, "--json")
    assert result.code == 0, result.err
    assert result.json["base"] == str(base) and len(result.json["tensors"]) == 11
    torch.manual_seed(2)
    LlamaForCausalLM(LlamaConfig(**SIZES)).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((base / "tokenizer.json").read_bytes())
    refused = sttx("memory", "inspect", sidecar, "--base", tmp_path)
    assert refused.code == 1 and "give the same base" in refused.err
    shown = sttx("memory", "inspect", sidecar)
    assert shown.code == 0 and "11 tensors" in shown.out and result.json["base_sha256"] in shown.out


def test_what_exists_or_is_named_otherwise_is_not_written(run, sidecar, sttx, tmp_path):
    for out, reason in ((sidecar, "exists already"), (tmp_path / "one.bin", "must end in '.gguf'")):
        result = sttx("memory", "export", run, "--out", out)
        assert result.code == 2 and reason in result.err
    result = sttx("memory", "materialize", sidecar, "--out", run)
    assert result.code == 2 and "already holds a run" in result.err


def test_a_damaged_sidecar_is_one_sentence(sidecar, sttx, tmp_path):
    (tmp_path / "short.gguf").write_bytes(sidecar.read_bytes()[:-100])
    result = sttx("memory", "inspect", tmp_path / "short.gguf")
    assert result.code == 1 and "it ends too early" in result.err
    assert len(result.err.strip().splitlines()) == 1
