"""Runs that an earlier version saved (test-data/old-run) resume here, to the metrics that it went on to."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch

from sttx_ccsniff import open_source
from sttx_core.phrases import PhraseConfig
from sttx_core.traces import SessionEnd
from sttx_train.checkpoint.folder import _digest
from sttx_train.files import sha256_of
from sttx_train.formats import load_model
from sttx_train.online import LearnerConfig
from sttx_train.run_folder import METRICS, current_metric
from sttx_train.stream import StreamConfig, StreamTrainer
from sttx_train.stream.trainer import TIME_FIELDS

DATA = Path(__file__).parents[1] / "test-data"
TOLERANCE = 1e-4  # relative; on the machine that saved the runs, the numbers are equal
BF16_TOLERANCE = 1e-2  # processors round products in bfloat16 differently, by up to 2^-8 each
MADE_IN = "/old-run"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_old_run", DATA / "make_old_run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def moved(tmp_path, monkeypatch):
    """Copy the runs and make the copy the current folder; the cursor holds absolute paths, which move too."""
    shutil.copytree(DATA / "old-run", tmp_path / "test-data" / "old-run")
    (checkpoint,) = (tmp_path / "test-data" / "old-run" / "stream").glob("step-*")
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    for name in ("source.json", "stream.json"):
        path = checkpoint / name
        path.write_text(
            path.read_text().replace(f"{MADE_IN}/test-data", str(tmp_path.resolve() / "test-data"))
        )
        manifest["files"][name] = {"sha256": sha256_of([path]), "bytes": path.stat().st_size}
    manifest["sha256"] = _digest(manifest)
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "test-data" / "old-run"


def specs(script):
    return [f"{script.HERE}/input/{name}" for name in script.FILES]


def resumed(script, steps=0):
    """Return a trainer that continues the saved stream run, with the options that made it."""
    return StreamTrainer(
        load_model(f"{script.HERE}/model", kernel="chunked"),
        LearnerConfig(phrases="on", replay_rows=1, max_documents=16),
        StreamConfig(experts="off", window=64, batch=2, keep=1, steps=steps),
        directory=Path(script.HERE) / "stream",
        phrase_config=PhraseConfig(capacity=32),
        resume=True,
    )


def rows(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{current_metric(name): row[name] for name in row if name not in TIME_FIELDS} for row in lines]


def assert_close(one, other, tolerance):
    """Check that numbers, at any depth, differ by the tolerance at most, and that all else is equal."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_close(one[name], other[name], tolerance)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=tolerance)
    else:
        assert one == other


def assert_equal_metrics(folder, expected, steps, tolerance=TOLERANCE):
    got, wanted = rows(folder / METRICS), rows(expected)
    assert [row["step"] for row in got] == list(range(1, steps + 1)) == [row["step"] for row in wanted]
    for one, other in zip(got, wanted, strict=True):
        if "bpb" in one:  # of prices, those that the old version measured too
            one["bpb"] = {name: one["bpb"][name] for name in other["bpb"]}
        assert_close(one, other, tolerance)


def test_the_input_is_what_its_script_writes(script, tmp_path):
    script.main(tmp_path)
    for path in (DATA / "old-run" / "input").iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_a_stream_run_resumes_to_the_old_metrics(script, moved):
    torch.set_num_threads(1)
    trainer = resumed(script)
    assert trainer.totals.steps == script.STOPPED
    parsers = [entry["place"][-1][0] for entry in trainer.cursor["origins"].values()]
    assert parsers == ["claude-code", "ccsniff-rows", "pairs", "codex", "sttx-traces"]
    with open_source(specs(script), cursor=trainer.cursor, say=lambda text: None) as source:
        trainer.run(source, cursor=lambda: source.cursor)
    expected = moved / "stream-metrics.jsonl"
    assert_equal_metrics(moved / "stream", expected, len(rows(expected)))


def uids_by_origin(script, cursor=None):
    """Return the uids of all traces but ends of sessions, by origin."""
    uids = {}
    with open_source(specs(script), cursor=cursor, say=lambda text: None) as source:
        for trace in source:
            if not isinstance(trace, SessionEnd):
                uids.setdefault(trace.meta.origin, []).append(trace.meta.uid)
    return uids


@pytest.mark.parametrize("more", [0, 3])
def test_every_record_is_taken_exactly_once(script, moved, more):
    for name in script.FILES:
        with (moved / "input" / name).open("a", encoding="utf-8") as file:
            for row in script.lines(name, script.LINES, script.LINES + more):
                file.write(json.dumps(row) + "\n")
    trainer = resumed(script)
    rest, everything = uids_by_origin(script, trainer.cursor), uids_by_origin(script)
    assert len(everything) == len(script.FILES)
    for origin, uids in everything.items():
        assert len(set(uids)) == len(uids) and trainer.taken[origin] < len(uids) + (not more)
        assert uids[trainer.taken[origin] :] == rest.get(origin, []), origin
    with open_source(specs(script), cursor=trainer.cursor, say=lambda text: None) as source:
        trainer.run(source, cursor=lambda: source.cursor)
    with open_source(specs(script), say=lambda text: None) as source:
        assert sum(trainer.taken.values()) == sum(1 for _ in source)


def test_a_pretraining_run_resumes_to_the_old_metrics(script, moved):
    from sttx_core.tokenizers import IntegerTokenizer
    from sttx_train.data import open_data
    from sttx_train.pretrain import PretrainConfig, Pretrainer

    torch.set_num_threads(1)
    tokenizer = IntegerTokenizer(11)
    config = PretrainConfig(
        layers=1,
        hidden_size=16,
        head_size=8,
        ctx=24,
        batch=4,
        warmup=2,
        lr=0.01,
        validation=0.2,
        schedule="constant",
        eval_every=3,
        phrase_prob=0.5,
        steps=script.PRETRAIN_STEPS,
        bf16=True,
    )
    pretrainer = Pretrainer(config, moved / "pretrain", tokenizer=tokenizer, device="cpu", resume=True)
    data = open_data([moved / "input" / "numbers.jsonl"], tokenizer)
    report = pretrainer.fit(data)
    assert report.steps == script.PRETRAIN_STEPS
    saved = moved / "pretrain-metrics.jsonl"
    assert_equal_metrics(moved / "pretrain", saved, script.PRETRAIN_STEPS, BF16_TOLERANCE)
