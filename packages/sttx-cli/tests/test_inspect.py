"""`sttx inspect`: a run, one checkpoint or a model, verified and explained."""

import json
import re
import shutil

import pytest
import torch

from sttx_cli.commands.inspect import _phrases
from sttx_train import CheckpointStore, save_state


def test_the_json_contract(sttx, finished, tiny_model):
    report = sttx("inspect", finished, "--json").json
    assert (report["kind"], report["steps"], report["bytes"], report["tokens"]) == ("stream", 8, 512, 512)
    assert report["bpb"].keys() == {"paid", "network", "frozen"}
    phrases = {"live", "merges", "promotions", "evictions", "steps_saved"}
    assert phrases <= report["phrases"].keys() and report["phrases"]["promotions"] > 0
    assert report["replay"] == {"size": 8, "draws": 7}
    assert report["trainable_parameters"] > 0
    assert {"id", "sha256", "hidden_size", "num_layers", "vocab_size"} <= report["model"].keys()
    assert (report["device"], report["kernel"]) == ("cpu", "compiled")
    assert report["checkpoint"] == str(finished / "step-00000008")


def test_the_numbers_are_those_of_the_runs_report(sttx, base, tmp_path):
    printed = sttx(*base, "--checkpoint-dir", tmp_path / "run").json
    report = sttx("inspect", tmp_path / "run", "--json").json
    for name in ("steps", "bytes", "tokens", "bpb", "phrases", "replay", "trainable_parameters", "model"):
        assert report[name] == printed[name], name


def test_the_table_has_the_same_numbers(sttx, finished, sessions):
    report = sttx("inspect", finished, "--json").json
    result = sttx("inspect", finished)
    assert (result.code, result.err) == (0, "")
    rows = dict(line.split("  ", 1) for line in result.out.splitlines()[1:] if "  " in line.strip())
    rows = {name: text.strip() for name, text in rows.items()}
    assert result.out.splitlines()[0] == f"{finished}: a run of `sttx train`; every file as it was saved"
    assert rows["steps"] == "8 (512 tokens, 512 bytes)"
    assert rows["bits per byte paid"] == f"{report['bpb']['paid']:.3f}"
    assert rows["of the frozen model"].startswith(f"{report['bpb']['frozen']:.3f}  ")
    assert rows["replay"] == "8 windows, drawn 7 times"
    assert rows["learned"].endswith("(scope state)") and rows["policy"] == "always learns"
    phrases = report["phrases"]
    assert rows["phrases"].startswith(f"{phrases['live']} live ({phrases['promotions']} found so far, ")
    assert rows["phrases"].endswith("removed again); always used, as asked")
    assert rows["positions saved"].startswith(f"{phrases['steps_saved']} (")
    assert rows["norm of S0"] == f"{report['norm_s0']:.3f}"
    assert rows["documents carried"] == f"{report['sessions']['carried']}"
    assert rows["model"].startswith("tiny: 2 layers of 64, 257 tokens, sha256 ")
    assert f"of {sessions}" in result.out.replace("\n", "").replace(" " * 21, "")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "2 live (3 found so far, 1 removed again); used, because they do not raise the bits per byte"),
        ({"on": False}, "not used, because they raise the bits per byte"),
        ({"decided": False}, "too few steps to tell whether they help"),
        ({"mode": "off"}, "off"),
    ],
)
def test_phrases_in_words(changes, text):
    phrases = {"mode": "auto", "on": True, "decided": True, "live": 2, "promotions": 3, "evictions": 1}
    assert _phrases(phrases | changes).endswith(text)


@pytest.mark.parametrize(
    "way", ["--checkpoint RUN", "--checkpoint RUN/latest", "RUN/latest", "RUN/step-00000008"]
)
def test_a_run_may_be_named_by_an_option_and_by_its_pointer(sttx, finished, way):
    words = way.replace("RUN", str(finished)).split()
    assert sttx("inspect", *words, "--json").json == sttx("inspect", finished, "--json").json


def test_one_checkpoint_of_a_run(sttx, base, tmp_path):
    assert sttx(*base, "--checkpoint-every", 3, "--checkpoint-dir", tmp_path / "run").code == 0
    assert sttx("inspect", tmp_path / "run" / "step-00000003", "--json").json["steps"] == 3
    assert sttx("inspect", tmp_path / "run", "--json").json["steps"] == 8


def test_a_model(sttx, tiny_model):
    report = sttx("inspect", tiny_model, "--json").json
    assert (report["kind"], report["format"], report["path"]) == ("model", "sttx", str(tiny_model))
    assert report["sizes"]["hidden_size"] == report["model"]["hidden_size"] == 64
    result = sttx("inspect", tiny_model)
    assert result.code == 0
    assert result.out.splitlines()[0] == f"{tiny_model}: a model of architecture RWKV-7 (x070)"
    rows = {line[:18].strip(): line[18:] for line in result.out.splitlines()[1:]}
    assert rows["parameters"] == f"{report['parameters']:,}"
    assert rows["size"] == f"{report['bytes']:,} bytes" and rows["dtype"] == "float32"
    assert rows["what sttx can do"] == f"learn from sessions: sttx train --model {tiny_model}"
    assert "2 of 64, heads of 64, channel mix 256" in result.out
    assert "257 ids for 257 rows" in result.out


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["table", "json"])
@pytest.mark.parametrize("name", ["manifest.json", "report.json"])
def test_damage_is_found(sttx, finished, tmp_path, unchanged, name, form):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    path = folder / "step-00000008" / name
    path.write_bytes(path.read_bytes().replace(b"8", b"9", 1))
    with unchanged(folder):
        result = sttx("inspect", folder, *form)
    assert (result.code, result.out) == (1, "")
    assert name in result.err and "start again in another folder" in result.err
    assert len(result.err.splitlines()) == 1


def test_a_model_of_the_hub_is_downloaded(sttx, tiny_model, monkeypatch):
    asked = []

    def download(hub_id, **options):
        asked.append(hub_id)
        return str(tiny_model)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    report = sttx("inspect", "somebody/some-model", "--json").json
    assert asked == ["somebody/some-model"]
    assert (report["kind"], report["model"]["id"]) == ("model", "somebody/some-model")


@pytest.mark.parametrize("path", ["/no/such/thing", "nobody"])
def test_a_missing_path(sttx, path):
    result = sttx("inspect", path)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"sttx: no run or model at {path!r}: give its folder")


def test_a_path_that_is_neither_run_nor_model(sttx, tmp_path, sessions):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", sessions):
        result = sttx("inspect", path)
        assert (result.code, result.out, len(result.err.splitlines())) == (1, "", 1), result


def rows_of(result):
    """Return the lines of each row of the table by its name."""
    name, rows = "", {}
    for line in result.out.splitlines()[1:]:
        first, value = re.split(" {2,}", line, maxsplit=1)
        name = first or name
        rows.setdefault(name, []).append(value)
    return rows


def test_an_older_model_is_explained(sttx, tmp_path):
    version = "x051"
    layers = {f"blocks.{i}.att.time_decay": torch.zeros(2, 1) for i in range(3)}
    layers |= {f"blocks.{i}.att.time_faaaa": torch.zeros(2, 4) for i in range(3)}
    gate = {"blocks.0.att.gate.weight": torch.zeros(8, 8)}
    torch.save({"emb.weight": torch.zeros(9, 8), **layers, **gate}, tmp_path / "old.pth")
    report = sttx("inspect", tmp_path / "old.pth", "--json").json
    assert (report["version"], report["sizes"]["head_size"], report["uses"]) == (version, 4, [])
    result = sttx("inspect", tmp_path / "old.pth")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[0] == f"{tmp_path / 'old.pth'}: {report['what']}"
    rows = rows_of(result)
    assert rows["layers"] == ["3 of 8, heads of 4"] and rows["vocabulary"] == ["9 rows"]
    assert rows["what sttx can do"] == ["nothing with it"] and rows["dtype"] == ["float32"]
    assert rows["advice"][0].startswith("only RWKV-7 (x070), RWKV-6 (x060) and RWKV-5.2 (x052) run here")


def test_a_damaged_model_is_explained(sttx, tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    result = sttx("inspect", tmp_path / "m")
    rows = rows_of(result)
    (problem,) = sttx("inspect", tmp_path / "m", "--json").json["problems"]
    assert (result.code, result.err) == (1, f"sttx: {problem}\n")
    assert "is damaged" in rows["problem"][0] and rows["what sttx can do"] == ["nothing with it"]
    assert rows["layers"] == ["2 of 64, heads of 64, channel mix 256"]


def test_a_tuned_state_is_explained(sttx, tmp_path):
    save_state(torch.zeros(3, 2, 8, 8), tmp_path / "s.pth", metadata={"for": "\x1b[31mgoose"})
    rows = rows_of(sttx("inspect", tmp_path / "s.pth"))
    assert rows["layers"] == ["3 of 16, heads of 8"] and rows["metadata"] == ["for: \\x1b[31mgoose"]


def test_the_commands_that_it_names_exist(sttx, tiny_model):
    uses = sttx("inspect", tiny_model, "--json").json["uses"]
    named = [use.split("sttx ", 1)[1].split() for use in uses if ": sttx " in use]
    assert [command for command, *_ in named] == ["train", "pretrain"]
    for command, *words in named:
        options = {word for word in words if word.startswith("--")}
        assert options and options <= set(sttx(command, "--help").out.split())


def test_a_model_without_a_vocabulary_is_trained_as_is_said(sttx, tiny_model, tmp_path):
    """The words of the table are run, with a name for what stands for one."""
    (tmp_path / "m.safetensors").write_bytes((tiny_model / "model.safetensors").read_bytes())
    (tmp_path / "data.txt").write_text("some words " * 20)
    uses = sttx("inspect", tmp_path / "m.safetensors", "--json").json["uses"]
    (words,) = [use.split(": sttx ", 1)[1].split() for use in uses if ": sttx pretrain" in use]
    given = {"DATA": tmp_path / "data.txt", "FOLDER": tmp_path / "out", "SPEC": "bytes"}
    small = ("--steps", 1, "--batch", 1, "--ctx", 16)
    result = sttx(*(given.get(word, word) for word in words), *small)
    assert (result.code, (tmp_path / "out").is_dir()) == (0, True), result.err


def test_a_run_of_pretraining(sttx, tmp_path):
    guard = {"mean": 0.0, "seen": 8, "skipped": 0, "in_a_row": 0}
    documents = {
        "config": {"layers": 2, "hidden_size": 16, "lr": 0.1},
        "progress": {"tokens": 4096, "epochs": 0.25, "guard": guard, "best": None},
        "model": {"vocab_size": 7, "num_layers": 2, "hidden_size": 16, "head_size": 8},
        "data": {"sha256": "0" * 64, "ids": 9, "rows": 2},
    }
    tensors = {"model": {"w": torch.zeros(3, 5)}, "optimizer": {}, "state": {}}
    names = ("tokenizer_sha256", "base_sha256", "device", "kernel", "torch", "processes", "seconds")
    fields = dict(zip(names, (None, None, "cpu", "compiled", "2.9", 1, 12.0), strict=True))
    store = CheckpointStore(tmp_path / "run")
    store.save(8, tensors=tensors, documents=documents, manifest={"kind": "pretrain", **fields})
    lines = [
        {"step": 4, "validation_bpb": 2.0, "validation_loss": 3.0},
        {"step": 8, "loss": 1.5, "validation_bpb": 2.5},
    ]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = rows_of(sttx("inspect", tmp_path / "run"))
    assert rows["steps"] == ["8, 4,096 tokens, 0.25 epochs, 12 seconds"]
    assert rows["loss"] == ["1.500 nats per token"]
    assert rows["validation"] == [
        "2.500 bits per byte, best 2.000 at step 4",
        "3.000 nats per token, best 3.000 at step 4",
    ]
    assert rows["model"] == ["2 layers of 16, 15 parameters"]
    assert rows["settings"] == ["layers 2, hidden_size 16, lr 0.1"]


@pytest.mark.parametrize("kind", ["pretrain", "pretrain-best", "of-tomorrow"])
def test_a_checkpoint_that_says_little_is_refused(sttx, tmp_path, kind):
    CheckpointStore(tmp_path / "run").save(3, tensors={}, documents={}, manifest={"kind": kind})
    result = sttx("inspect", tmp_path / "run")
    assert (result.code, result.out) == (1, "")
    assert "has a damaged 'manifest.json'" in result.err and result.err.count("\n") == 1
