"""`sttx pretrain`: text in, a model out that `sttx train` takes."""

import json
import os
import signal

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from sttx_cli.commands import pretrain
from sttx_train import load_model


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Return a folder of six texts."""
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(6):
        (folder / f"{number}.txt").write_text(f"Text number {number} says the same as the others. " * 4)
    return folder


@pytest.fixture
def line(corpus, tmp_path):
    """Return a line that trains a very small model in four steps into `out`."""
    sizes = ["--hidden-size", 64, "--layers", 1, "--ctx", 16, "--batch", 2, "--no-bf16", "--warmup", 0]
    steps = ["--steps", 4, "--validation", 0.2, "--lr", 0.01]
    return ["pretrain", corpus, "--out", tmp_path / "out", "--tokenizer", "bytes", *sizes, *steps]


def test_a_model_comes_out(sttx, line, tmp_path, sessions):
    result = sttx(*line, "--json")
    report = result.json
    assert result.code == 0, result.err
    assert (report["ended"], report["steps"], report["tokens"]) == ("done", 4, 4 * 2 * 16)
    assert report["out"] == str(tmp_path / "out")
    assert report["checkpoint"] == str(tmp_path / "out-run")
    assert report["loss"]["train"] > 0 and report["loss"]["validation"] > 0
    assert report["bpb"]["validation"] > 0
    loaded = load_model(tmp_path / "out")
    assert sum(weight.numel() for weight in loaded.model.parameters()) == report["parameters"]
    logged = [json.loads(one) for one in (tmp_path / "out-run" / "metrics.jsonl").read_text().splitlines()]
    assert [one["step"] for one in logged] == [1, 2, 3, 4]
    assert sum(one["loss"] for one in logged) / 4 == pytest.approx(report["loss"]["train"])
    assert logged[-1]["validation_bpb"] == report["bpb"]["validation"]
    assert logged[-1]["loss"] < logged[0]["loss"]
    assert 0 < report["epochs"] < 1 and report["skipped"] == 0 and report["tokens_per_second"] > 0
    train = ["train", "--from", sessions, "--model", tmp_path / "out", "--window", 32, "--steps", 2]
    assert sttx(*train, "--device", "cpu", "--checkpoint-dir", tmp_path / "run").code == 0


def test_the_summary(sttx, line, tmp_path):
    result = sttx(*line)
    out = tmp_path / "out"
    assert result.out.splitlines()[-1] == f"Model: {out}; use it with --model {out}. Run: {out}-run."
    assert "Validation: " in result.out
    assert "model: 1 layer of 64, " in result.err and ", RWKV-7\n" in result.err
    assert "validation at step 4: " in result.err
    assert "step 4 · 100% · loss " in result.err


def test_phrases_are_trained_reported_and_saved_with_the_model(sttx, line, tmp_path, sessions):
    result = sttx(*line, "--phrase-prob", 0.5, "--validation", 0.6, "--json")
    report = result.json
    assert result.code == 0, result.err
    assert report["bpb"]["validation_phrases"] > 0 and report["loss"]["validation_phrases"] > 0
    assert report["steps_per_byte"]["validation_phrases"] < report["steps_per_byte"]["validation"]
    assert result.err.count("; with phrases ") == 2, "at the measurement and at the end"
    assert load_model(tmp_path / "out").hypernet is not None
    assert "bits per byte with phrases" in sttx("inspect", tmp_path / "out-run").out
    train = ["train", "--from", sessions, "--model", tmp_path / "out", "--window", 32, "--steps", 2]
    assert sttx(*train, "--device", "cpu", "--checkpoint-dir", tmp_path / "run").code == 0


def test_files_that_are_not_text_are_counted(sttx, line, tmp_path):
    (tmp_path / "binary").mkdir()
    (tmp_path / "binary" / "a.pyc").write_bytes(b"\0")
    result = sttx(*line, tmp_path / "binary", "--json")
    assert result.json["files_skipped"] == 1
    assert f"skipped (not text): 1 file, such as '{tmp_path / 'binary' / 'a.pyc'}'" in result.err


def test_its_run_can_be_inspected_and_has_no_phrases(sttx, line, tmp_path):
    assert sttx(*line).code == 0
    result = sttx("inspect", tmp_path / "out-run")
    assert result.out.splitlines()[0].endswith("a run of `sttx pretrain`; every file as it was saved")
    assert sttx("inspect", tmp_path / "out-run", "--json").json["config"]["hidden_size"] == 64
    merge_stats = sttx("merge-stats", tmp_path / "out-run")
    assert (merge_stats.code, merge_stats.out) == (2, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_run_resumes_exactly(sttx, line, tmp_path, monkeypatch, number):
    assert sttx(*line, "--out", tmp_path / "whole").code == 0
    show = pretrain._Progress.show

    def interrupt(progress, step):
        show(progress, step)
        if step.step == 2:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(pretrain._Progress, "show", interrupt)
        result = sttx(*line)
    assert (result.code, (tmp_path / "out").exists()) == (0, False)
    assert result.out.startswith("Interrupted. 2 steps, ")
    assert "saving; interrupt again" in result.err
    metrics = tmp_path / "out-run" / "metrics.jsonl"
    with metrics.open("a") as file:
        file.write('{"step": 3}\n{"st')  # as a kill after the checkpoint would leave them
    report = sttx(*line, "--resume", "--json").json
    assert (report["steps"], report["ended"]) == (4, "done")
    assert [json.loads(one)["step"] for one in metrics.read_text().splitlines()] == [1, 2, 3, 4]
    weights = [load_model(tmp_path / name).sha256 for name in ("out", "whole")]
    assert weights[0] == weights[1]


def test_the_numbering_is_said_once_and_is_that_of_the_run(sttx, line, tmp_path, monkeypatch):
    alphabet = {name: number for number, name in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Backend(models.BPE(alphabet, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.save(str(tmp_path / "tokenizer.json"))
    now, earlier = (f"{kind}:{tmp_path / 'tokenizer.json'}" for kind in ("hf", "hf+1"))

    def numberings(*more):
        result = sttx(*line, *more)
        assert result.code == 0, result.err
        return [said for said in result.err.splitlines() if "ids are" in said]

    with monkeypatch.context() as patch:
        patch.setattr(pretrain._Progress, "show", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        before = numberings("--tokenizer", earlier)
    assert len(before) == 1 and "ids are one more" in before[0]
    assert numberings("--tokenizer", now, "--resume") == before
    said = []
    tokenizer = pretrain._tokenizer(now, None, [], tmp_path / "out-run", said.append)
    assert tokenizer is not None and "ids are one more" in tokenizer.numbering and not said


def test_a_folder_that_holds_a_run_is_left_as_it_is(sttx, line, tmp_path, unchanged):
    assert sttx(*line).code == 0
    with unchanged(tmp_path):
        result = sttx(*line)
    assert (result.code, result.out) == (2, "")
    assert "already holds a run; continue it with --resume" in result.err


def test_another_shape_is_not_resumed(sttx, line, tmp_path, unchanged):
    assert sttx(*line).code == 0
    with unchanged(tmp_path):
        result = sttx(*line, "--layers", 2, "--resume", "--steps", 6)
    assert (result.code, result.out) == (2, "")
    assert "was made with --layers 1, and this run has 2" in result.err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--batch", 0], 2, "--batch must be at least 1, not 0"),
        (["--seed", -1], 2, "--seed must not be negative, not -1"),
        (["--lr", "inf"], 2, "'inf' is not a finite number"),
        (["--meta-lr", 0.5], 2, "--meta-lr would have no effect: no step is taken without --meta"),
        (["--meta", "--phrase-prob", 0.5], 2, "--phrase-prob cannot be used with --meta: its windows"),
        (["--decay", 0.5], 2, "--decay would have no effect: --schedule is cosine, not wsd"),
        (["--schedule", "constant", "--final", 0.5], 2, "--final would have no effect: with"),
        (["--validation", 0, "--eval-every", 5], 2, "--eval-every would have no effect: --validation 0"),
        (["--parallel", "fsdp"], 2, "--parallel would have no effect: there is one process"),
        (["--checkpoint-dir", "{tmp}/out"], 2, "give two folders"),
        (["--out", "{corpus}/model"], 2, "is inside the data"),
        (["--checkpoint-dir", "{corpus}/run"], 2, "is inside the data"),
        (["--out", "/dev/null/model"], 2, "cannot be written: a part of the path is a file"),
        (["--hidden-size", 100], 2, "must be a multiple of --head-size 64"),
        (["--validation", 1], 2, "--validation must be a share from 0 to below 1"),
        (["--start-from", "goose-mini"], 2, "no effect: the architecture and sizes are those of --start"),
        (["--no-redact"], 2, "--no-redact would have no effect: there are no sessions in the data"),
        (["--tokenizer", "integer:5"], 2, "holds text, but the tokenizer is one of numbers"),
        (["--resume"], 2, "leave out --resume to start there"),
        (["--tokenizer", "trie:/no/such/vocabulary"], 2, "/no/such/vocabulary"),
        (["/no/such/text"], 2, "'/no/such/text' does not exist"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_mistakes_write_nothing(sttx, line, corpus, tmp_path, options, code, message):
    before = set(tmp_path.iterdir())
    result = sttx(*line, *(str(one).format(tmp=tmp_path, corpus=corpus) for one in options))
    assert (result.code, result.out) == (code, "")
    assert message in result.err and "Traceback" not in result.err
    assert set(tmp_path.iterdir()) == before


def test_without_a_limit_the_data_is_read_once(sttx, line):
    at = line.index("--steps")
    report = sttx(*line[:at], *line[at + 2 :], "--json").json
    assert report["epochs"] == 1.0 and report["steps"] * 32 - 32 < report["tokens"] <= report["steps"] * 32


def test_a_folder_without_text_exits_with_1(sttx, line, tmp_path):
    (tmp_path / "none").mkdir()
    result = sttx("pretrain", tmp_path / "none", *line[2:])
    assert result.code == 1
    assert "there is nothing to read in " in result.err


def test_without_a_tokenizer_that_of_the_embedded_model_is_used(sttx, line, tmp_path):
    at = line.index("--tokenizer")
    result = sttx(*line[:at], *line[at + 2 :], "--json")
    assert result.code == 0, result.err
    assert "tokenizer: that of goose-mini, none named" in result.err
    assert load_model(tmp_path / "out").tokenizer.sha256 == load_model().tokenizer.sha256


def test_an_out_folder_in_use_is_refused_before_training(sttx, line, tmp_path, unchanged):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with unchanged(tmp_path / "out"):
        result = sttx(*line)
    assert result.code == 2
    assert "'thesis.txt'" in result.err and "step" not in result.err
    assert not (tmp_path / "out-run").exists()


@pytest.mark.parametrize("kind", ["array", "lists", "texts", "pair", "flat", "sessions"])
def test_each_kind_of_data_is_trained_on(sttx, line, tmp_path, sessions, kind):
    """Two steps on each input format."""
    tokenizer, values = "bytes", (np.arange(24) + np.arange(20)[:, None]) % 9
    if kind == "array":
        data, tokenizer = tmp_path / "values.npy", "integer:9"
        np.save(data, values)
    elif kind == "lists":
        data, tokenizer = tmp_path / "values.jsonl", "integer:9"
        data.write_text("".join(json.dumps(row.tolist()) + "\n" for row in values))
    elif kind == "texts":
        data = tmp_path / "texts.jsonl"
        data.write_text("".join(json.dumps({"text": f"Text {row}"}) + "\n" for row in values.tolist()))
    elif kind == "pair":
        build = sttx("data", "build", line[1], "--out", tmp_path / "pair", "--tokenizer", "bytes")
        assert build.code == 0, build.err
        data = tmp_path / "pair.bin"
    elif kind == "flat":
        data = tmp_path / "flat.bin"
        np.concatenate([np.zeros((20, 1), int), values + 1], axis=1).astype("<u2").tofile(data)
    else:
        data = sessions
    options = [*line[2:], "--tokenizer", tokenizer, "--steps", 2]
    report = sttx("pretrain", data, *options, "--json")
    assert report.code == 0, report.err
    assert report.json["steps"] == 2 and report.json["loss"]["validation"] > 0
    assert (report.json["bpb"]["validation"] is None) == (tokenizer != "bytes")
    assert (
        load_model(tmp_path / "out").vocabulary.spec.startswith(tokenizer) if tokenizer != "bytes" else True
    )


def test_it_starts_from_a_model_with_its_vocabulary(sttx, line, corpus, tmp_path):
    first = sttx(*line, "--steps", 12, "--json").json
    more = ["--start-from", tmp_path / "out", "--ctx", 16, "--batch", 2, "--no-bf16", "--steps", 1]
    second = sttx("pretrain", corpus, "--out", tmp_path / "next", *more, "--validation", 0.2, "--json")
    assert second.code == 0, second.err
    assert second.json["parameters"] == first["parameters"]
    assert second.json["loss"]["train"] < first["loss"]["train"]
