"""inspect and merge-stats report what a run reported, after verifying its files."""

import json
import subprocess
import sys

import pytest
import torch

from sttx_core.errors import CheckpointError, ModelError, UsageError
from sttx_core.phrases import PhraseConfig
from sttx_train.checkpoint.store import CheckpointStore
from sttx_train.inspect.model import inspect_model
from sttx_train.inspect.run import (
    inspect_checkpoint,
    inspect_path,
    load_checkpoint,
    merge_stats,
)
from sttx_train.online import LearnerConfig
from sttx_train.rwkv7 import RWKV7Config
from sttx_train.stream import StreamConfig, StreamTrainer


@pytest.fixture(scope="module")
def trainer(tiny, talk, tmp_path_factory):
    """A finished run with two checkpoints. Tests that damage it take a copy."""
    trainer = StreamTrainer(
        tiny(),
        LearnerConfig(phrases="on", replay_rows=1),
        StreamConfig(window=48, checkpoint_every=4, steps=6),
        directory=tmp_path_factory.mktemp("runs") / "run",
        phrase_config=PhraseConfig(pair_window=96, capacity=24),
    )
    trainer.run(talk(20))
    return trainer


@pytest.fixture
def folder(trainer):
    return trainer.folder.path


def test_a_run_is_inspected_without_torch(folder):
    code = f"""
import sys
from sttx_train.inspect import inspect_path, merge_stats
assert inspect_path({str(folder)!r})["step"] == 6 and merge_stats({str(folder)!r})["steps"] == 6
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_run_is_reported_as_its_trainer_reports_it(trainer, folder):
    inspected = json.loads(json.dumps(inspect_path(folder), allow_nan=False))
    report = trainer.report()
    assert inspected["kind"] == "stream" and inspected["step"] == inspected["steps"] == 6
    assert {name: inspected[name] for name in report} == report
    assert inspected["taken"] == trainer.taken
    assert inspected["learning"]["replay_rows"] == 1 and inspected["stream"]["window"] == 48
    sizes = {path.name: path.stat().st_size for path in trainer.checkpoint.iterdir()}
    assert inspected["files"] == {name: size for name, size in sizes.items() if name != "manifest.json"}


def test_one_step_of_a_run_is_reported(folder):
    report = inspect_path(folder / "step-00000004")
    assert report["step"] == report["steps"] == 4 and report["checkpoint"].endswith("step-00000004")


def test_a_copy_of_one_step_is_reported_without_its_run(folder, tmp_path):
    import shutil

    shutil.copytree(folder / "step-00000004", tmp_path / "step-00000004")
    assert inspect_path(tmp_path / "step-00000004")["step"] == 4
    assert inspect_path(tmp_path)["step"] == 4


def test_a_model_is_reported(tiny):
    loaded = tiny()
    report = json.loads(json.dumps(inspect_path(loaded.path)))
    assert report["kind"] == "model" and report["model"]["sha256"] == loaded.sha256
    assert report["parameters"] == sum(weight.numel() for weight in loaded.model.parameters())
    assert report["sizes"] == loaded.model.config.to_dict()
    assert report["vocabulary"] == {"entries": 257, "sha256": loaded.tokenizer.sha256, "text": True}
    assert report == inspect_model(loaded.path)


CONFIG = {"layers": 2, "hidden_size": 16}
SIZES = RWKV7Config(vocab_size=7, hidden_size=16, num_layers=2, head_size=8).to_dict()
PROGRESS = {
    "tokens": 256,
    "epochs": 0.5,
    "guard": {"mean": 2.0, "seen": 4, "skipped": 0, "in_a_row": 0},
    "best": None,
}
VALIDATION = dict.fromkeys(("steps_per_byte", "phrases_loss", "phrases_bpb", "phrases_steps_per_byte"))


def pretrained(folder, lines, *, kind="pretrain", fields=None, **documents):
    """Write a checkpoint of step 4 as pretraining does, and its metrics."""
    best = kind == "pretrain-best"
    tensors = {"model": {"w": torch.zeros(3, 2), "b": torch.zeros(2)}}
    manifest = {
        "kind": kind,
        "tokenizer_sha256": None,
        "base_sha256": None,
        "device": "cpu",
        "kernel": "chunked",
        "processes": 1,
        "torch": "2.9",
    }
    given = {"config": CONFIG, "model": SIZES, "data": {"sha256": "0" * 64, "ids": 9, "rows": 2}}
    if best:
        given |= {"validation": None}
    else:
        given |= {"progress": PROGRESS}
        tensors |= {"optimizer": {"m": torch.zeros(9)}, "state": {"s": torch.zeros(1)}}
        manifest |= {"seconds": 2.5}
    store = CheckpointStore(folder)
    store.save(4, tensors=tensors, documents=given | documents, manifest=manifest | (fields or {}))
    if lines is not None:
        (folder / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))
    return folder


def test_a_pretraining_run_is_reported(tmp_path):
    rows = [
        {"step": 1, "loss": 5.0, "tokens": 64},
        {"step": 2, "loss": 4.0, "validation_bpb": 3.0, "validation": {"loss": 2.0}},
        {"step": 3, "loss": None, "validation_bpb": 3.5, "tokens": 192},
        {"step": 5, "loss": 1.0, "validation_bpb": 1.0},
    ]
    lines = [
        *map(json.dumps, rows),
        '{"step": 4, "loss": NaN, "lr": 0.1}',
        "{oops",
        "[1]",
        '{"loss": 2}',
        '{"st',
    ]
    report = inspect_path(pretrained(tmp_path / "run", lines))
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert (report["kind"], report["step"], report["seconds"], report["parameters"]) == (
        "pretrain",
        4,
        2.5,
        8,
    )
    assert (report["config"], report["progress"], report["model"]) == (
        CONFIG,
        PROGRESS,
        SIZES,
    )
    last = {"step": 4, "loss": 4.0, "tokens": 192, "validation_bpb": 3.5, "validation.loss": 2.0, "lr": 0.1}
    assert report["metrics"] == last
    assert report["validation"] == {
        "validation_bpb": {"best": 3.0, "best_step": 2, "last": 3.5},
        "validation.loss": {"best": 2.0, "best_step": 2, "last": 2.0},
    }
    with pytest.raises(UsageError, match="not a checkpoint of `sttx train`: it has no phrases"):
        merge_stats(tmp_path / "run")


@pytest.mark.parametrize("kind", ["pretrain", "pretrain-best"])
@pytest.mark.parametrize("lines", [None, []])
def test_a_pretraining_run_with_little_information_is_reported(tmp_path, lines, kind):
    report = inspect_path(pretrained(tmp_path / "run", lines, kind=kind))
    assert (report["kind"], report["step"], report["config"]) == (kind, 4, CONFIG)
    assert (report["metrics"], report["validation"]) == ({"step": 4}, {})


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ({"fields": {"seconds": -1.0}}, r"damaged 'manifest.json' \(expected `float` >= 0.0 at `\$.seconds`"),
        ({"fields": {"processes": "1"}}, "expected `int`, got `str`"),
        ({"fields": {"more": 1}}, "unknown field `more`"),
        ({"fields": {"kind": "other"}}, "damaged 'manifest.json' .`kind` is 'other', which this sttx"),
        ({"fields": {"kind": ["stream"]}}, "`kind` is .'stream'., which"),
        ({"progress": PROGRESS | {"tokens": -1}}, "damaged 'progress.json' .expected `int` >= 0"),
        ({"progress": PROGRESS | {"more": {}}}, "damaged 'progress.json' .object contains unknown field"),
        ({"progress": [PROGRESS]}, "expected `object`, got `array`"),
        ({"config": {"lr": {}}}, "damaged 'config.json'"),
        ({"config": {"lr": 1e301}}, "damaged 'config.json'"),
        ({"config": {"x" * 5000: 1}}, "damaged 'config.json'"),
        (
            {"config": {"hidden_size": 0}},
            "damaged 'config.json' .`config`: expected `int` >= 1 at `..hidden_",
        ),
        ({"config": {"schedule": "slow"}}, "invalid enum value 'slow' at `..schedule`"),
        ({"config": {"phrase_prob": 2}}, "expected `float` <= 1.0"),
        ({"config": {"more": 2**60}}, "`more` is above every number of a run"),
        ({"config": {"phrase_prob": 0.5}}, "damaged 'phrases.json' .it is missing"),
        ({"phrases": []}, "damaged 'phrases.json' .it is of another run"),
        ({"model": SIZES | {"num_layers": 0}}, "damaged 'model.json' .expected `int` >= 1"),
        ({"model": SIZES | {"head_size": 7}}, "hidden_size 16 must be a multiple of head_size 7"),
        ({"model": {"num_layers": 2}}, "damaged 'model.json' .a size is missing or unknown"),
        ({"model": SIZES | {"ffn_size": 10**18}}, "expected `int` <= 9007"),
        (
            {"progress": PROGRESS | {"guard": {"mean": "2"}}},
            r"expected `float`, got `str` at `\$.guard.mean`",
        ),
        ({"data": {"sha256": "0" * 63, "ids": 9, "rows": 2}}, "damaged 'data.json'"),
        ({"unknown": {}}, "damaged 'unknown.json' .this sttx does not know it"),
        ({"kind": "pretrain-best", "validation": {"loss": 1.0}}, "damaged 'validation.json' .object missing"),
    ],
    ids=str,
)
def test_a_forged_document_is_refused(tmp_path, documents, message):
    with pytest.raises(CheckpointError, match=f"{message}.*: restore it from a copy, or give the folder of"):
        inspect_path(pretrained(tmp_path / "run", None, **documents))


def test_options_of_an_older_run_have_their_names_of_today(tmp_path):
    old = {"phrases": 0, "held_out": 0.2, "lr": 0.1}
    report = inspect_path(pretrained(tmp_path / "run", None, config=old))
    assert report["config"] == {"phrase_prob": 0, "validation": 0.2, "lr": 0.1}


def test_the_best_checkpoint_is_reported(tmp_path):
    best = {"loss": 1.5, "bpb": None, "tokens": 300, **VALIDATION}
    report = inspect_path(pretrained(tmp_path / "best", None, kind="pretrain-best", validation=best))
    assert report["validation"]["validation.loss"] == {"best": 1.5, "best_step": 4, "last": 1.5}
    assert "validation.bpb" not in report["validation"]


def test_merge_stats_match_the_phrase_table(trainer, folder):
    merged = merge_stats(folder)
    stats, report = trainer.learner.table.stats, trainer.report()
    assert merged["shown"] == len(merged["phrases"]) == len(trainer.learner.table) > 3
    assert merged["totals"] == report["phrases"] and merged["tokens"] == report["tokens"]
    assert merged["totals"]["promotions"] == stats.promotions
    assert merged["totals"]["promotions"] - merged["totals"]["evictions"] == merged["totals"]["live"]


@pytest.mark.parametrize("top", [1, 3, 10_000])
def test_merge_stats_shows_as_many_as_asked(folder, top):
    everything = merge_stats(folder)["phrases"]
    report = merge_stats(folder, top=top)
    assert report["phrases"] == everything[:top] and report["shown"] == len(everything[:top])


@pytest.mark.parametrize("top", [0, -1])
def test_fewer_than_one_is_refused(folder, top):
    with pytest.raises(UsageError, match="--top must be at least 1"):
        merge_stats(folder, top=top)


@pytest.mark.parametrize("tell", [inspect_path, inspect_checkpoint, merge_stats, load_checkpoint])
def test_a_damaged_checkpoint_is_refused_by_each(folder, tmp_path, tell):
    import shutil

    shutil.copytree(folder, tmp_path / "run")
    file = tmp_path / "run" / "step-00000006" / "learned.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"damaged 'learned\.safetensors'.*to resume from step 4"):
        tell(tmp_path / "run")


def test_a_path_that_is_neither_run_nor_model_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError):
        inspect_path(tmp_path / "empty")
    with pytest.raises(UsageError, match="no checkpoint at"):
        merge_stats(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        merge_stats(tmp_path / "empty")
