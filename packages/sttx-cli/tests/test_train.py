"""`sttx train`: what it reports, what it refuses, and how it is stopped and resumed."""

import json
import shutil
import signal
import time

import pytest
import torch

from sttx_ccsniff import open_source
from sttx_core.pairs import to_pairs
from sttx_core.render import render, render_parts
from sttx_train import CheckpointStore
from sttx_train.stream.trainer import TIME_FIELDS


def metrics(folder):
    """Return the metrics of each step, without times."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIME_FIELDS} for line in lines]


def rendered_bytes(sessions) -> int:
    with open_source(sessions) as source:
        return sum(len(render(trace).encode()) for trace in source)


# --- what it reports


def test_the_json_contract(sttx, base, tiny_model, sessions, tmp_path):
    result = sttx(*base, "--checkpoint-dir", tmp_path / "run")
    report = result.json
    assert result.code == 0
    assert (report["steps"], report["steps_wanted"], report["steps_this_run"], report["ended"]) == (
        8,
        8,
        8,
        "steps",
    )
    assert report["tokens"] == 8 * 64
    assert report["bytes"] == report["tokens"], "a byte is a token here"
    assert report["bpb"].keys() == {"paid", "network", "frozen"}
    assert all(value > 0 for value in report["bpb"].values())
    assert {"live", "merges", "promotions", "evictions", "steps_saved"} <= report["phrases"].keys()
    assert all(isinstance(report["phrases"][name], int) for name in ("live", "merges", "steps_saved"))
    assert report["replay"] == {"size": 8, "draws": 7}
    assert report["trainable_parameters"] == 2 * 64 * 64 + sum(
        parameter.numel() for parameter in _hypernet_of(64)
    )
    model = report["model"]
    assert (model["id"], model["hidden_size"], model["num_layers"], model["vocab_size"]) == (
        "tiny",
        64,
        2,
        257,
    )
    assert len(model["sha256"]) == 64
    assert (report["device"], report["kernel"]) == ("cpu", "compiled")
    assert report["checkpoint"] == str(tmp_path / "run" / "step-00000008")
    assert report["source"]["traces"]["tool_use"] > 0
    assert report["bpb"]["paid"] == metrics(tmp_path / "run")[-1]["bpb"]["paid"]


def _hypernet_of(size: int):
    from sttx_core.hypernet import HyperNetwork

    return HyperNetwork(size, seed=0).parameters()


def test_every_automatic_choice_is_printed_with_its_reason_on_standard_error(sttx, base, tmp_path):
    result = sttx(*base, "--checkpoint-dir", tmp_path / "run")
    for line in (
        "model: tiny, as asked (",
        "device: cpu (asked for)",
        "dtype: float32 (exact",
        "source: file ",
    ):
        assert line in result.err
    assert "kernel: compiled (cpu: " in result.err
    assert "step 1/8 · bpb " in result.err and "step 8/8 · " in result.err
    assert "8 steps over 512 bytes" in result.err


def test_without_json_the_summary_is_on_standard_output(sttx, base, tmp_path):
    result = sttx(*[one for one in base if one != "--json"], "--checkpoint-dir", tmp_path / "run")
    assert result.out.startswith("8 steps over 512 bytes (512 tokens) in ")
    assert f"`sttx inspect {tmp_path / 'run'}`" in result.out


def test_without_a_source_your_own_history_is_read(sttx, base, sessions, tmp_path, monkeypatch):
    folder = tmp_path / "claude" / "projects" / "-home-ada"
    folder.mkdir(parents=True)
    shutil.copy(sessions, folder / "one.jsonl")
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "claude"))
    result = sttx("train", *base[3:], "--checkpoint-dir", tmp_path / "run")
    assert result.code == 0
    assert "source: 'claude' (no source named; " in result.err and "holds sessions: 1 files)" in result.err
    assert "claude" in result.json["source"]["description"]


def test_without_a_history_the_sample_is_read(sttx, base, tmp_path):
    result = sttx("train", *base[3:], "--checkpoint-dir", tmp_path / "run")
    assert result.code == 0
    assert "the sample that comes with sttx" in result.err
    assert "sample" in result.json["source"]["description"]


def test_several_sources_are_read_one_after_the_other(sttx, base, sessions, tmp_path):
    again = tmp_path / "again.ndjson"
    again.write_text('{"prompt": "What is it?", "completion": "A test, and nothing else."}\n')
    line = [*base, "--steps", 0, "--from", again, "--checkpoint-dir", tmp_path / "run"]
    traces = sttx(*line).json["source"]["traces"]
    assert (traces["user_message"], traces["pair"]) == (24, 1)


def test_every_byte_of_a_stream_is_paid_for(sttx, base, sessions, tmp_path):
    report = sttx(*base, "--steps", 0, "--checkpoint-dir", tmp_path / "run").json
    assert (report["ended"], report["bytes"]) == ("end of stream", rendered_bytes(sessions))


def test_a_stream_that_ends_early_is_reported(sttx, base, tmp_path):
    result = sttx(*base, "--steps", 5000, "--checkpoint-dir", tmp_path / "run")
    assert "The stream ended before step 5,000." in result.err
    assert (result.code, result.json["ended"]) == (0, "end of stream")


def test_api_pairs_pay_for_completions_only(sttx, base, sessions, tmp_path):
    report = sttx(*base, "--steps", 0, "--api-pairs", "--checkpoint-dir", tmp_path / "run").json
    with open_source(sessions) as source:
        parts = [part for trace in to_pairs(source) for part in render_parts(trace)]
    paid = sum(len(part.text.encode()) for part in parts if part.paid)
    assert 0 < paid < sum(len(part.text.encode()) for part in parts)
    assert report["bytes"] == paid


# --- what it refuses


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "-1"], "--steps must be at least 0, not -1"),
        (["--window", "0"], "--window must be at least 1, not 0"),
        (["--keep", "0"], "--keep must be at least 1, not 0"),
        (["--scope", "state,nonsense"], "unknown scope 'nonsense'"),
        (["--scope", ""], "unknown scope ''"),
        (["--lr-state", "-1"], "--lr-state must be a number of 0 or more"),
        (["--lr-state", "nan"], "--lr-state must be a number of 0 or more, not nan"),
        (["--clip", "inf"], "'inf' is not a finite number"),
        (["--clip", "0"], "--clip must be above 0"),
        (["--phrase-max-length", "1"], "--phrase-max-length must be at least 2"),
        (["--kernel", "nonsense"], "'nonsense' is not one of"),
        (["--device", "nonsense"], "'nonsense' is not one of"),
        (["--kernel", "fla"], "kernel 'fla' needs a CUDA device"),
        (["--lr-bias", "1"], "--lr-bias would have no effect: the scope state has no bias"),
        (
            ["--scope", "all", "--inject", "start"],
            "--inject would have no effect: the scope all has no state",
        ),
        (["--replay-rows", "0", "--replay-weight", "1"], "--replay-weight would have no effect: no rows are"),
        (
            ["--phrases", "off", "--phrase-pair-window", "4"],
            "--phrase-pair-window would have no effect: phrases are off",
        ),
        (["--from", "/no/such/thing"], "no such source: '/no/such/thing'"),
        (["--steps", "many"], "'many' is not a valid integer"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_options_exit_with_2_and_write_nothing(sttx, base, tmp_path, options, message):
    result = sttx(*base, *options, "--checkpoint-dir", tmp_path / "run")
    assert (result.code, result.out) == (2, "")
    assert message in result.err and "Traceback" not in result.err
    assert not (tmp_path / "run").exists()


def test_a_missing_gpu(sttx, base, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = sttx(*base, "--device", "cuda", "--checkpoint-dir", tmp_path / "run")
    assert (result.code, result.err.splitlines()[-1]) == (
        2,
        "sttx: --device cuda: torch sees no CUDA device here; use --device cpu",
    )


@pytest.mark.parametrize("content", [b"", b"\n\n", b"no json\n", b'{"type": "summary", "summary": "x"}\n'])
def test_an_empty_source_exits_with_1_and_writes_nothing(sttx, base, tmp_path, content):
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(content)
    result = sttx("train", *base[3:], "--from", empty, "--checkpoint-dir", tmp_path / "run")
    assert (result.code, result.out) == (1, "")
    what = "no trace" if b"summary" in content else "no record"
    assert result.err.splitlines()[-1].startswith(f"sttx: {what} in file {empty}: ")
    assert not (tmp_path / "run").exists()


def test_an_empty_folder_exits_with_1(sttx, base, tmp_path):
    (tmp_path / "none").mkdir()
    result = sttx("train", *base[3:], "--from", tmp_path / "none", "--checkpoint-dir", tmp_path / "run")
    assert result.code == 1
    assert "no session files" in result.err


@pytest.mark.parametrize("name", ["/no/such/model", "nobody"])
def test_a_missing_model(sttx, base, tmp_path, name):
    result = sttx(*base, "--model", name, "--checkpoint-dir", tmp_path / "run")
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[-1].startswith(f"sttx: no model at '{name}'")


def test_a_folder_that_holds_a_run_is_left_as_it_is(sttx, base, finished, unchanged):
    with unchanged(finished):
        result = sttx(*base, "--checkpoint-dir", finished)
    assert result.code == 2
    (line,) = result.err.splitlines()  # nothing was loaded first
    assert "already holds a run; continue it with --resume" in line


def test_metrics_of_something_else_are_found_before_a_model_is_loaded(sttx, base, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text("notes\n")
    result = sttx(*base, "--checkpoint-dir", tmp_path / "run")
    assert result.code == 2
    (line,) = result.err.splitlines()  # nothing was loaded first
    assert "holds 'metrics.jsonl' and no run of sttx: give a new or empty folder" in line
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == "notes\n"


def test_a_checkpoint_folder_that_is_a_file(sttx, base, tmp_path):
    (tmp_path / "run").write_text("mine")
    result = sttx(*base, "--checkpoint-dir", tmp_path / "run")
    assert (result.code, (tmp_path / "run").read_text()) == (2, "mine")


# --- resuming


def test_a_resumed_run_is_the_uninterrupted_one(sttx, base, finished, tmp_path):
    line = [*base, "--phrases", "on", "--checkpoint-dir", tmp_path / "run"]
    assert sttx(*line, "--steps", 3).code == 0
    result = sttx(*line, "--resume")
    assert result.code == 0
    assert "resumed: at step 3 of " in result.err and "step 4/8 · " in result.err
    assert (result.json["steps"], result.json["steps_this_run"]) == (8, 5)
    assert metrics(tmp_path / "run") == metrics(finished)


def test_resuming_a_finished_run_changes_nothing(sttx, base, finished, unchanged):
    with unchanged(finished):
        result = sttx(*base, "--phrases", "on", "--checkpoint-dir", finished, "--resume")
    assert (result.code, result.json["steps_this_run"]) == (0, 0)


def test_resuming_without_a_run(sttx, base, tmp_path):
    result = sttx(*base, "--checkpoint-dir", tmp_path / "run", "--resume")
    assert (result.code, result.out) == (2, "")
    assert "leave out --resume to start there" in result.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--window", "32"], "was made with --window "),
        (["--scope", "bias"], "was made with --scope ['state'], and"),
        (["--phrases", "off"], "was made with --phrases 'on', and"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_run_is_resumed_with_the_same_options(sttx, base, finished, unchanged, options, message):
    with unchanged(finished):
        result = sttx(*base, "--phrases", "on", *options, "--checkpoint-dir", finished, "--resume")
    assert (result.code, result.out) == (2, "")
    assert message in result.err and "start again in another folder" in result.err


def test_another_base_model_is_refused(sttx, base, finished, other_model, unchanged):
    with unchanged(finished):
        line = [*base, "--phrases", "on", "--model", other_model, "--checkpoint-dir", finished, "--resume"]
        result = sttx(*line)
    assert (result.code, result.out) == (2, "")
    assert "was made with a --model of SHA-256 " in result.err and "give the same options" in result.err


@pytest.mark.parametrize("name", ["manifest.json", "stream.json", "latest"])
def test_a_damaged_checkpoint_is_refused(sttx, base, finished, tmp_path, unchanged, name):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    path = folder / name if name == "latest" else folder / "step-00000008" / name
    path.write_bytes(path.read_bytes()[:-7])
    with unchanged(folder):
        result = sttx(*base, "--phrases", "on", "--checkpoint-dir", folder, "--resume", "--steps", 12)
    assert (result.code, result.out) == (1, "")
    assert result.err.count("sttx: ") == 1 and "Traceback" not in result.err


# --- being stopped


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_finishes_the_step_saves_and_ends_with_0(start, tiny_model, sessions, tmp_path, number):
    folder = tmp_path / "run"
    line = ["train", "--from", "-", "--model", tiny_model, "--device", "cpu", "--window", 32]
    with start(*line, "--checkpoint-dir", folder, "--json") as process:
        process.stdin.write(sessions.read_text())
        process.stdin.flush()  # and stays open: the stream has no end
        deadline = time.monotonic() + 200
        while not (folder / "metrics.jsonl").exists() or len(metrics(folder)) < 3:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        code = process.wait(300)
        out, err = process.stdout.read(), process.stderr.read()
    assert code == 0, err
    report = json.loads(out)
    assert report["ended"] == "interrupted"
    assert "finishing this step, then saving" in err and "Interrupted." in err and "Traceback" not in err
    saved = CheckpointStore(folder).load()
    assert saved.step == report["steps"] == len(metrics(folder))
