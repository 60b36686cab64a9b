"""`sttx inspect`: a run, one checkpoint or a model, verified and explained."""

import shutil

import pytest


def test_the_json_contract(sttx, finished, tiny_model):
    told = sttx("inspect", finished, "--json").json
    assert (told["kind"], told["steps"], told["bytes"], told["tokens"]) == ("stream", 8, 512, 512)
    assert told["bpb"].keys() == {"paid", "frozen"}
    phrases = {"live", "merges", "promotions", "evictions", "steps_saved"}
    assert phrases <= told["phrases"].keys() and told["phrases"]["promotions"] > 0
    assert told["replay"] == {"size": 8, "draws": 7}
    assert told["trainable_parameters"] > 0
    assert {"id", "sha256", "hidden_size", "num_layers", "vocab_size"} <= told["model"].keys()
    assert (told["device"], told["kernel"]) == ("cpu", "chunked")
    assert told["checkpoint"] == str(finished / "step-00000008")


def test_it_tells_what_the_run_told(sttx, base, tmp_path):
    report = sttx(*base, "--checkpoint-dir", tmp_path / "run").json
    told = sttx("inspect", tmp_path / "run", "--json").json
    for name in ("steps", "bytes", "tokens", "bpb", "phrases", "replay", "trainable_parameters", "model"):
        assert told[name] == report[name], name


def test_a_person_reads_the_same(sttx, finished, sessions):
    told = sttx("inspect", finished, "--json").json
    result = sttx("inspect", finished)
    assert (result.code, result.err) == (0, "")
    rows = dict(line.split("  ", 1) for line in result.out.splitlines()[1:] if "  " in line.strip())
    rows = {name: text.strip() for name, text in rows.items()}
    assert result.out.splitlines()[0] == f"{finished}: a run of `sttx train`; every file as it was saved"
    assert rows["steps"] == "8 (512 tokens, 512 bytes)"
    assert rows["bits per byte paid"] == f"{told['bpb']['paid']:.3f}"
    assert rows["of the frozen model"].startswith(f"{told['bpb']['frozen']:.3f}  ")
    assert rows["replay"] == "8 windows, drawn 7 times"
    assert rows["learned"].endswith("(scope state)")
    assert rows["model"].startswith("tiny: 2 layers of 64, 257 tokens, sha256 ")
    assert f"of {sessions}" in result.out.replace("\n", "").replace(" " * 21, "")


def test_one_checkpoint_of_a_run(sttx, base, tmp_path):
    assert sttx(*base, "--checkpoint-every", 3, "--checkpoint-dir", tmp_path / "run").code == 0
    assert sttx("inspect", tmp_path / "run" / "step-00000003", "--json").json["steps"] == 3
    assert sttx("inspect", tmp_path / "run", "--json").json["steps"] == 8


def test_a_model(sttx, tiny_model):
    told = sttx("inspect", tiny_model, "--json").json
    assert (told["kind"], told["format"], told["path"]) == ("model", "sttx", str(tiny_model))
    assert told["sizes"]["hidden_size"] == told["model"]["hidden_size"] == 64
    result = sttx("inspect", tiny_model)
    assert result.code == 0
    assert result.out.splitlines()[0] == f"{tiny_model}: a model of architecture RWKV-7 (x070)"
    rows = {line[:18].strip(): line[18:] for line in result.out.splitlines()[1:]}
    assert rows["parameters"] == f"{told['parameters']:,}"
    assert rows["size"] == f"{told['bytes']:,} bytes" and rows["number type"] == "float32"
    assert rows["what sttx can do"] == f"learn from sessions: sttx train --model {tiny_model}"
    assert "2 of 64, heads of 64, channel mix 256" in result.out
    assert "257 ids for 257 rows" in result.out


@pytest.mark.parametrize("json", [[], ["--json"]], ids=["table", "json"])
@pytest.mark.parametrize("name", ["manifest.json", "report.json"])
def test_damage_is_found_and_told(sttx, finished, tmp_path, unchanged, name, json):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    path = folder / "step-00000008" / name
    path.write_bytes(path.read_bytes().replace(b"8", b"9", 1))
    with unchanged(folder):
        result = sttx("inspect", folder, *json)
    assert (result.code, result.out) == (1, "")
    assert name in result.err and "start anew in another folder" in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize("path", ["/no/such/thing", "nobody"])
def test_what_is_not_there(sttx, path):
    result = sttx("inspect", path)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"sttx: no model at {path!r}: give a folder")


def test_what_is_neither(sttx, tmp_path, sessions):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", sessions):
        result = sttx("inspect", path)
        assert (result.code, result.out, len(result.err.splitlines())) == (1, "", 1), result
