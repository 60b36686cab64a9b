"""`sttx export`: from a run to files of other programs, and back through `--state`."""

import sys

import pytest
import torch
from safetensors.torch import load_file

from sttx_train import load_model
from sttx_train.export import export_state
from sttx_train.formats import TunedState


@pytest.fixture(scope="module")
def exported(sttx, finished, tmp_path_factory):
    """Return the state of the finished run as a file for RWKV programs."""
    out = tmp_path_factory.mktemp("exported") / "mine.pth"
    result = sttx("export", finished, "--to", "state-pth", "--out", out)
    assert result.code == 0, result.err
    assert f"{out}: " in result.out
    assert "learned by injection at every window" in result.err
    return out


def test_the_state_of_a_run(sttx, exported, tmp_path):
    entries = torch.load(exported, weights_only=True)
    assert sorted(entries) == ["blocks.0.att.time_state", "blocks.1.att.time_state"]
    result = sttx("export", "--state", exported, "--to", "state-st", "--out", tmp_path / "mine.st", "--json")
    assert result.json["identity"]["inject"] == "every"
    assert list(result.json["files"]) == [str(tmp_path / "mine.st")]


@pytest.mark.filterwarnings("always::sttx_core.errors.SttxWarning")
def test_a_state_is_scored_as_its_run_is(sttx, exported, finished, sessions, tiny_model, tmp_path):
    sttx("export", "--state", exported, "--to", "state-st", "--out", tmp_path / "mine.st")
    common = ["score", sessions, "--model", tiny_model, "--experts", "off", "--json"]

    def bits(*named):
        result = sttx(*common, *named)
        assert result.code == 0, result.err
        return [line.split('"bits"')[1][:12] for line in result.out.splitlines()], result.err

    of_run, _ = bits("--checkpoint", finished)
    of_state, said = bits("--state", exported)
    assert of_state == of_run
    assert "no start state for other programs" in said
    assert bits("--state", tmp_path / "mine.st")[0] != bits()[0]


def test_training_starts_from_a_state(sttx, base, exported, tmp_path):
    result = sttx(*base, "--phrases", "off", "--state", exported, "--checkpoint-dir", tmp_path / "run")
    assert result.code == 0, result.err
    assert result.json["norm_s0"] > 0


def test_mistakes_are_one_sentence(sttx, exported, finished, tmp_path):
    new = tmp_path / "new.pth"
    for arguments, said in (
        ([], "one of the two"),
        ([finished, "--state", exported], "one of the two"),
        ([finished, "--dtype", "float16"], "--dtype would have no effect"),
        ([finished, "--model", "goose-mini"], "--model would have no effect"),
        ([finished, "--slot", exported], "--slot FILE goes with --to llama-slot"),
        ([tmp_path / "gone"], "no checkpoint at"),
        (["--state", tmp_path / "gone.pth"], "no tuned state at"),
        (["--state", tmp_path / "gone.bin"], "must end in '.safetensors', '.pth' or '.st'"),
    ):
        result = sttx("export", *arguments, "--to", "state-pth", "--out", new)
        assert (result.code, result.out) == (2, "")
        assert said in result.err
    result = sttx("export", finished, "--to", "state-pth", "--out", exported)
    assert result.code == 2 and "exists already" in result.err
    result = sttx("export", finished, "--to", "state-st", "--out", new)
    assert result.code == 2 and "must end in '.st'" in result.err


def test_a_slot_for_another_model_is_refused(sttx, tiny_model, tmp_path):
    state, slot = tmp_path / "s.st", tmp_path / "slot"
    slot.write_bytes(b"saved")
    metadata = {"vocabulary_sha256": "0" * 64}
    export_state(TunedState(s0=torch.ones(2, 2, 16, 16), metadata=metadata), state, "state-st")
    named = ["--state", state, "--model", tiny_model, "--slot", slot]
    result = sttx("export", *named, "--to", "llama-slot", "--out", tmp_path / "new")
    assert result.code == 2 and "learned with another vocabulary" in result.err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("kind", "name"), [("huggingface", "model"), ("blinkdl", "m.pth"), ("gguf", "m.gguf")]
)
def test_a_model_with_what_a_run_learned(sttx, base, tiny_model, tmp_path, kind, name):
    run, out = tmp_path / "run", tmp_path / name
    trained = sttx(*base, "--scope", "all,bias", "--checkpoint-dir", run, "--phrases", "off")
    assert trained.code == 0, trained.err
    result = sttx(
        "export", run, "--model", tiny_model, "--to", kind, "--out", out, "--dtype", "float32", "--json"
    )
    assert result.code == 0, result.err
    assert "output bias" in result.err
    assert result.json["identity"]["scope"] == "bias,all"
    if kind == "gguf":
        assert out.read_bytes().startswith(b"GGUF")
        return
    learned = load_file(next(run.glob("step-*")) / "learned.safetensors")
    written, base_model = load_model(out).model.state_dict(), load_model(tiny_model).model.state_dict()
    for tensor, value in written.items():
        assert torch.equal(value, learned[tensor])
    assert not torch.equal(written["head.weight"], base_model["head.weight"])
    assert load_model(out).tokenizer.sha256 == load_model(tiny_model).tokenizer.sha256


def test_a_model_alone_and_its_mistakes(sttx, exported, finished, tiny_model, tmp_path):
    out = tmp_path / "m.gguf"
    result = sttx("export", "--model", tiny_model, "--to", "gguf", "--out", out, "--dtype", "q8_0")
    assert result.code == 0, result.err
    assert result.out.startswith(f"{out}: ")
    named = ["--to", "gguf", "--out", tmp_path / "n.gguf"]
    for arguments, said in (
        ([], "which model?"),
        ([finished, "--model", tiny_model], "has no learned weights"),
        (["--model", tiny_model, "--state", exported], "--state would have no effect"),
        (["--model", tiny_model, "--dtype", "bfloat16"], "--dtype bfloat16 is none of gguf"),
    ):
        result = sttx("export", *arguments, *named)
        assert (result.code, result.out) == (2, ""), said
        assert said in result.err


def test_without_the_package_for_gguf(sttx, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = sttx("export", "--model", tiny_model, "--to", "gguf", "--out", tmp_path / "m.gguf")
    assert result.code == 2
    assert "pip install 'sttx-train[gguf]'" in result.err
