"""`sttx tune`: from JSON lines to a state that other commands and programs start from."""

import json

import pytest
import torch


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Return a file of JSON lines of every kind, one of them damaged."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = [{"prompt": f"What is {n}?", "completion": "meow " * (1 + n % 4)} for n in range(10)]
    rows += [
        {"text": "meow meow"},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")
    return path


@pytest.fixture(scope="module")
def common(pairs, tiny_model):
    """Return the arguments that all runs share; the caller adds the folder."""
    sizes = ["--batch", "4", "--epochs", "2", "--warmup", "1", "--lr", "1", "--no-bf16"]
    return ["tune", pairs, "--model", tiny_model, "--device", "cpu", *sizes]


@pytest.fixture(scope="module")
def tuned(sttx, common, tmp_path_factory):
    """Return the folder of a finished run and what it printed."""
    out = tmp_path_factory.mktemp("tuned") / "run"
    result = sttx(*common, "--out", out, "--json")
    assert result.code == 0, result.err
    return out, result


def test_the_object_of_a_run(tuned):
    out, result = tuned
    report = result.json
    assert (report["epochs"], report["steps"], report["ended"]) == (2.0, 6, "done")
    assert report["validation"]["after"]["bpb"] <= report["validation"]["before"]["bpb"]
    assert report["state"] == str(out / "state.pth")
    assert sorted(torch.load(out / "state.pth", weights_only=True)) == [
        f"blocks.{layer}.att.time_state" for layer in range(2)
    ]
    assert json.loads((out / "state.pth.json").read_text())["inject"] == "start"
    assert "1 lines left out" in result.err


def test_its_state_is_used_by_other_commands(sttx, tuned, tiny_model, tmp_path):
    out, _ = tuned
    text = ["--model", tiny_model, "--experts", "off", "--temperature", "0", "--max-tokens", "5", "--json"]
    by_run = sttx("generate", "User: What", "--checkpoint", out, *text)
    by_file = sttx("generate", "User: What", "--state", out / "state.pth", *text)
    assert by_run.code == 0, by_run.err
    assert by_run.json == by_file.json
    assert "start state" not in by_file.err
    assert "a run of `sttx tune`" in sttx("inspect", out).out
    assert sttx("export", out, "--to", "state-st", "--out", tmp_path / "s.st").code == 0
    assert sttx("plot", out, "--out", tmp_path / "curves.svg").code == 0
    assert sttx("merge-stats", out).code == 2


def test_resuming_an_interrupted_run_and_a_file_to_measure(sttx, common, pairs, tmp_path):
    whole = [*common, "--validation", pairs, "--out"]
    first = sttx(*whole, tmp_path / "run", "--steps", "2", "--to", "state-st")
    assert first.code == 0, first.err
    assert (tmp_path / "run" / "state.st").exists()
    refused = sttx(*whole, tmp_path / "run", "--resume")
    assert refused.code == 2 and "made with --steps 2" in refused.err
    again = sttx(*whole, tmp_path / "run", "--steps", "2", "--resume")
    assert again.code == 0 and "resumed: at step 2 of 2" in again.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--validation", "1.5"], "--validation must be a share"),
        (["--validation", "gone.jsonl"], "no file at 'gone.jsonl'"),
        (["--validation", "0", "--patience", "2"], "--patience would have no effect"),
        (["--schedule", "constant", "--final", "0.5"], "--final would have no effect"),
        (["--state", "gone.pth"], "no tuned state at"),
        (["--resume"], "no checkpoint in"),
        (["--lr", "0"], "--lr must be above 0"),
    ],
)
def test_mistakes_are_one_sentence(sttx, common, tmp_path, arguments, said):
    result = sttx(*common, "--out", tmp_path / "run", *arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("damaged", ["data", "validation"])
def test_data_is_read_before_a_model_is_loaded(sttx, common, pairs, tmp_path, monkeypatch, damaged):
    def load(*_):
        raise AssertionError("a model is loaded")

    monkeypatch.setattr("sttx_cli.commands.tune.load", load)
    (tmp_path / "bad.jsonl").write_text('{"question": "a"}\n')
    arguments = [*common, "--out", tmp_path / "run"]
    if damaged == "data":
        arguments[1] = tmp_path / "bad.jsonl"
    else:
        arguments += ["--validation", tmp_path / "bad.jsonl"]
    result = sttx(*arguments)
    assert result.code != 0 and "line 1 is the first that holds none" in result.err
    assert not (tmp_path / "run").exists()
