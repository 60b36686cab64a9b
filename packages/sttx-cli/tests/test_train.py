"""`sttx train`: what it reports, what it refuses without loss, and how it is stopped and resumed."""

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
    """Return what was logged of each step, but for what a clock said."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIME_FIELDS} for line in lines]


def rendered_bytes(sessions) -> int:
    with open_source(sessions) as source:
        return sum(len(render(trace).encode()) for trace in source)


# --- what it says


def test_the_json_contract(sttx, base, tiny_model, sessions, tmp_path):
    result = sttx(*base, "--checkpoint-dir", tmp_path / "run")
    told = result.json
    assert result.code == 0
    assert (told["steps"], told["steps_wanted"], told["steps_this_run"], told["ended"]) == (8, 8, 8, "steps")
    assert told["tokens"] == 8 * 64
    assert told["bytes"] == told["tokens"], "a byte is a token here"
    assert told["bpb"].keys() == {"paid", "frozen"}
    assert all(value > 0 for value in told["bpb"].values())
    assert {"live", "merges", "promotions", "evictions", "steps_saved"} <= told["phrases"].keys()
    assert all(isinstance(told["phrases"][name], int) for name in ("live", "merges", "steps_saved"))
    assert told["replay"] == {"size": 8, "draws": 7}
    assert told["trainable_parameters"] == 2 * 64 * 64 + sum(
        parameter.numel() for parameter in _hypernet_of(64)
    )
    model = told["model"]
    assert (model["id"], model["hidden_size"], model["num_layers"], model["vocab_size"]) == (
        "tiny",
        64,
        2,
        257,
    )
    assert len(model["sha256"]) == 64
    assert (told["device"], told["kernel"]) == ("cpu", "chunked")
    assert told["checkpoint"] == str(tmp_path / "run" / "step-00000008")
    assert told["source"]["traces"]["tool_use"] > 0
    assert told["bpb"]["paid"] == metrics(tmp_path / "run")[-1]["bpb"]["paid"]


def _hypernet_of(size: int):
    from sttx_core.hypernet import HyperNetwork

    return HyperNetwork(size, seed=0).parameters()


def test_every_choice_is_said_with_its_reason_and_apart_from_the_data(sttx, base, tmp_path):
    result = sttx(*base, "--checkpoint-dir", tmp_path / "run")
    for line in (
        "model: tiny (asked for;",
        "device: cpu (asked for)",
        "dtype: float32 (exact",
        "source: file ",
    ):
        assert line in result.err
    assert "kernel: chunked (cpu: " in result.err
    assert "step 1/8 · bpb " in result.err and "step 8/8 · " in result.err
    assert "8 steps over 512 bytes" in result.err


def test_without_json_the_summary_is_the_data(sttx, base, tmp_path):
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


def test_without_a_history_the_sample_is_read_and_said(sttx, base, tmp_path):
    result = sttx("train", *base[3:], "--checkpoint-dir", tmp_path / "run")
    assert result.code == 0
    assert "the sample that comes with sttx" in result.err
    assert "sample" in result.json["source"]["description"]


def test_several_sources_are_read_one_after_the_other(sttx, base, sessions, tmp_path):
    again = tmp_path / "again.ndjson"
    again.write_text('{"prompt": "What is it?", "completion": "A test, and nothing else."}\n')
    line = [*base, "--steps", 0, "--ccsniff-from", again, "--checkpoint-dir", tmp_path / "run"]
    traces = sttx(*line).json["source"]["traces"]
    assert (traces["user_message"], traces["pair"]) == (24, 1)


def test_a_stream_is_paid_for_to_its_last_byte(sttx, base, sessions, tmp_path):
    told = sttx(*base, "--steps", 0, "--checkpoint-dir", tmp_path / "run").json
    assert (told["ended"], told["bytes"]) == ("end of stream", rendered_bytes(sessions))


def test_a_short_stream_is_said_to_be_short(sttx, base, tmp_path):
    result = sttx(*base, "--steps", 5000, "--checkpoint-dir", tmp_path / "run")
    assert "The stream ended before step 5,000." in result.err
    assert (result.code, result.json["ended"]) == (0, "end of stream")


def test_api_pairs_pay_for_completions_only(sttx, base, sessions, tmp_path):
    told = sttx(*base, "--steps", 0, "--api-pairs", "--checkpoint-dir", tmp_path / "run").json
    with open_source(sessions) as source:
        parts = [part for trace in to_pairs(source) for part in render_parts(trace)]
    paid = sum(len(part.text.encode()) for part in parts if part.paid)
    assert 0 < paid < sum(len(part.text.encode()) for part in parts)
    assert told["bytes"] == paid


# --- what it refuses


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--steps", "-1"], "--steps must be at least 0, not -1"),
        (["--window", "0"], "--window must be at least 1, not 0"),
        (["--keep", "0"], "--keep must be at least 1, not 0"),
        (["--scope", "state,nonsense"], "unknown scope 'nonsense'"),
        (["--scope", ""], "unknown scope ''"),
        (["--lr-state", "-1"], "--lr-state must not be negative"),
        (["--lr-state", "nan"], "--lr-state must not be negative"),
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
        (["--ccsniff-from", "/no/such/thing"], "no such source: '/no/such/thing'"),
        (["--steps", "many"], "'many' is not a valid integer"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_callers_mistakes_end_with_2_and_write_nothing(sttx, base, tmp_path, options, said):
    result = sttx(*base, *options, "--checkpoint-dir", tmp_path / "run")
    assert (result.code, result.out) == (2, "")
    assert said in result.err and "Traceback" not in result.err
    assert not (tmp_path / "run").exists()


def test_a_gpu_that_is_not_there(sttx, base, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = sttx(*base, "--device", "cuda", "--checkpoint-dir", tmp_path / "run")
    assert (result.code, result.err.splitlines()[-1]) == (
        2,
        "sttx: --device cuda: torch sees no CUDA device here; use --device cpu",
    )


@pytest.mark.parametrize("content", [b"", b"\n\n", b"no json\n", b'{"type": "summary", "summary": "x"}\n'])
def test_an_empty_source_is_a_failure_that_writes_nothing(sttx, base, tmp_path, content):
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(content)
    result = sttx("train", *base[3:], "--ccsniff-from", empty, "--checkpoint-dir", tmp_path / "run")
    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines()[-1].startswith(f"sttx: no trace in file {empty}: ")
    assert not (tmp_path / "run").exists()


def test_an_empty_folder_is_a_failure(sttx, base, tmp_path):
    (tmp_path / "none").mkdir()
    result = sttx(
        "train", *base[3:], "--ccsniff-from", tmp_path / "none", "--checkpoint-dir", tmp_path / "run"
    )
    assert result.code == 1
    assert "no session files" in result.err


@pytest.mark.parametrize("name", ["/no/such/model", "nobody"])
def test_a_model_that_is_not_there(sttx, base, tmp_path, name):
    result = sttx(*base, "--model", name, "--checkpoint-dir", tmp_path / "run")
    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines()[-1].startswith(f"sttx: no model at '{name}'")


def test_a_folder_that_holds_a_run_is_left_as_it_is(sttx, base, finished, unchanged):
    with unchanged(finished):
        result = sttx(*base, "--checkpoint-dir", finished)
    assert result.code == 2
    (told,) = result.err.splitlines()  # nothing was loaded first
    assert "already holds a run; continue it with --resume" in told


def test_a_checkpoint_folder_that_is_a_file(sttx, base, tmp_path):
    (tmp_path / "run").write_text("mine")
    result = sttx(*base, "--checkpoint-dir", tmp_path / "run")
    assert (result.code, (tmp_path / "run").read_text()) == (2, "mine")


# --- going on


def test_a_resumed_run_is_the_uninterrupted_one(sttx, base, finished, tmp_path):
    line = [*base, "--phrases", "on", "--checkpoint-dir", tmp_path / "run"]
    assert sttx(*line, "--steps", 3).code == 0
    result = sttx(*line, "--resume")
    assert result.code == 0
    assert "resumed: at step 3 of " in result.err and "step 4/8 · " in result.err
    assert (result.json["steps"], result.json["steps_this_run"]) == (8, 5)
    assert metrics(tmp_path / "run") == metrics(finished)


def test_resuming_what_is_done_changes_nothing(sttx, base, finished, unchanged):
    with unchanged(finished):
        result = sttx(*base, "--phrases", "on", "--checkpoint-dir", finished, "--resume")
    assert (result.code, result.json["steps_this_run"]) == (0, 0)


def test_resuming_where_nothing_is(sttx, base, tmp_path):
    result = sttx(*base, "--checkpoint-dir", tmp_path / "run", "--resume")
    assert (result.code, result.out) == (1, "")
    assert "start without resuming" in result.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--window", "32"], "has --window "),
        (["--scope", "bias"], "has --scope ['state'] and"),
        (["--phrases", "off"], "has --phrases 'on' and"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_run_is_resumed_as_it_was_begun(sttx, base, finished, unchanged, options, said):
    with unchanged(finished):
        result = sttx(*base, "--phrases", "on", *options, "--checkpoint-dir", finished, "--resume")
    assert (result.code, result.out) == (1, "")
    assert said in result.err and "start anew in another folder" in result.err


def test_another_base_model_is_refused(sttx, base, finished, other_model, unchanged):
    with unchanged(finished):
        line = [*base, "--phrases", "on", "--model", other_model, "--checkpoint-dir", finished, "--resume"]
        result = sttx(*line)
    assert (result.code, result.out) == (1, "")
    assert "has a --model of SHA-256 " in result.err and "resume with what it was made with" in result.err


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
    line = ["train", "--ccsniff-from", "-", "--model", tiny_model, "--device", "cpu", "--window", 32]
    with start(*line, "--checkpoint-dir", folder, "--json") as process:
        process.stdin.write(sessions.read_text())
        process.stdin.flush()  # and stays open: the stream has no end
        deadline = time.monotonic() + 200
        while not (folder / "metrics.jsonl").exists() or len(metrics(folder)) < 3:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        code = process.wait(60)
        out, err = process.stdout.read(), process.stderr.read()
    assert code == 0, err
    told = json.loads(out)
    assert told["ended"] == "interrupted"
    assert "finishing this step, then saving" in err and "Interrupted." in err and "Traceback" not in err
    saved = CheckpointStore(folder).load()
    assert saved.step == told["steps"] == len(metrics(folder))
