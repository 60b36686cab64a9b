"""Forged runs, a few of each kind, through every command that reads runs: the short form of a benchmark."""

import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from sttx_cli.app import run
from sttx_core.errors import SttxError, UsageError
from sttx_core.tokenizers import create_vocab_file

ROOT = Path(__file__).parents[1]
FORGERIES = 24


@pytest.fixture(scope="module")
def fuzz(benchmark):
    folder = str(ROOT / "benchmarks")  # where it finds `fuzz`
    sys.path.insert(0, folder)
    try:
        return benchmark("fuzz_checkpoints")
    finally:
        sys.path.remove(folder)


@pytest.fixture(scope="module")
def runs(fuzz, tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield fuzz.Runs(tmp_path_factory.mktemp("runs"))
    torch.set_num_threads(threads)


def test_forged_runs_end_in_one_sentence(fuzz, runs):
    counts = Counter()
    for number in range(1, FORGERIES + 1):
        failure = fuzz.forge_and_use(runs, number, seed=3, seconds=60, counts=counts)
        assert not failure, f"--seed 3 --first {number}: {failure}"
    assert counts["stream refused"] > 5 and counts["pretrain refused"] > 2, "else nothing was forged"


def test_what_was_not_forged_is_accepted(fuzz, runs, tmp_path):
    for kind in ("stream", "pretrain"):
        shutil.copytree(runs.folder / kind, tmp_path / kind)
        counts = Counter()
        fuzz.use_all(runs, kind, tmp_path / kind, fuzz.THROUGH_ALL, counts)
        assert counts == {f"{kind} read": 1}


STREAM = (
    *(("source", "cursor", "origins", 0, "place", place) for place in (10**18, -(2**70), [[]], "", 1.0)),
    *(("source", "cursor", "origins", 0, "place", 2, offset) for offset in (10**18, -1, True, 1.0)),
    ("source", "cursor", "origins", 0, "place", 3, 10**9),
    ("source", "cursor", "origins", 0, "place", 4, 2**32),
    ("source", "cursor", "origins", 0, "place", 5, ["pairs", [-1]]),
    ("source", "cursor", "origins", 0, "place", 5, ["no such format", []]),
    ("source", "cursor", "origins", 0, "traces", -1),
    ("source", "cursor", "seen", "calls", [[["id", 5]], []]),
    ("source", "cursor", "seen", "uuids", ["AAAA", ""]),
    ("source", "cursor", "open", [{"session": 5}]),
    ("source", "cursor", "begun", [7]),
    ("source", "cursor", "more", 1),
    ("stream", "windows", "buffers", [["a", [10**6], [1], False]]),
    ("stream", "windows", "buffers", [["a", [1], [2], False]]),
    ("stream", "totals", "steps", 7),
    ("stream", "totals", "tokens", 10**9),
    ("stream", "pairs", {"prompts": []}),
    ("learner", "gate", "on", False),
    ("learner", "gate", "without", [1.0]),
    ("learner", "replay", "draws", -1),
    ("learner", "replay", "capacity", 17),
    ("learner", "replay", "random", "has_uint32", 2**32),
    ("learner", "sessions", [["a", [257], False, False]]),
    ("phrases", "base_vocab", 256),
    ("phrases", "stats", "merges", 10**9),
    ("phrases", "config", "threshold", 3),
    ("phrases", "free", [0, 0]),
    ("manifest", "learning", "lr_state", -1.0),
    ("manifest", "learning", "scope", ["moon"]),
    ("manifest", "learning", "replay_capacity", 0),
    ("manifest", "phrase_config", "max_length", 1),
    ("manifest", "stream_config", "window", 0),
    ("manifest", "kernel", "magic"),
    ("manifest", "dtype", "int8"),
    ("manifest", "device", "the moon"),
)
PRETRAIN = (
    ("config", "layers", 0),
    ("config", "lr", 0),
    ("config", "phrase_prob", 0),
    ("model", "head_size", 5),
    ("progress", "guard", "seen", -1),
    ("progress", "guard", {}),
    ("phrases", 0, "context", [257]),
    ("phrases", 0, "table", "free", []),
    ("phrases", []),
    ("data", "rows", 3),
)


def forged(fuzz, folder, file, *way_and_value):
    """Set a value in a document of a run, and all hashes again; 0 is also the first key of an object."""
    checkpoint = next(folder.glob("step-*"))
    path = checkpoint / f"{file}.json"
    document = [json.loads(path.read_bytes())]
    inner, (*way, value) = document, (0, *way_and_value)
    for step, key in enumerate(way):
        key = next(iter(inner)) if key == 0 and isinstance(inner, dict) else key
        if step == len(way) - 1:
            inner[key] = value
        inner = inner[key]
    path.write_text(json.dumps(document[0]))
    fuzz.hash_again(checkpoint)


@pytest.mark.parametrize(
    ("kind", "forgery"),
    [*(("stream", one) for one in STREAM), *(("pretrain", one) for one in PRETRAIN)],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value)),
)
def test_a_forged_value_is_refused_alike_by_all_that_read_runs(fuzz, runs, tmp_path, capsys, kind, forgery):
    shutil.copytree(runs.folder / kind, tmp_path / "run")
    forged(fuzz, tmp_path / "run", *forgery)
    resume = runs.stream if kind == "stream" else runs.pretrain
    with pytest.raises(SttxError) as refused:
        resume(tmp_path / "run", fuzz.STEPS + fuzz.MORE, resume=True)
    commands = ("inspect", "merge-stats") if kind == "stream" else ("inspect",)
    for command in commands:
        assert run([command, str(tmp_path / "run")]) == refused.value.exit_code == 1
        printed = capsys.readouterr()
        assert not printed.out and printed.err == f"sttx: {refused.value}\n", command


def test_a_marker_of_another_command_is_refused_alike(fuzz, runs, tmp_path, capsys):
    shutil.copytree(runs.folder / "stream", tmp_path / "run")
    marker = tmp_path / "run" / "sttx-run.json"
    for content in ('{"sttx_run": 1, "kind": "pretrain"}', "{", '{"sttx_run": 2, "kind": "stream"}', None):
        marker.unlink()
        marker.write_text(content) if content else os.mkfifo(marker)
        for command in ("inspect", "merge-stats"):
            assert run([command, str(tmp_path / "run")]) in (1, 2)
            assert repr(str(marker)) in capsys.readouterr().err
        with pytest.raises(SttxError):
            fuzz.RunFolder(tmp_path / "run", kind="stream", keep=1).expect(resume=True)


def test_vocabularies_and_pictures_are_not_written_through_links(tmp_path, capsys):
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / "text.txt").write_text("words and words " * 20)
    for name in ("v.txt", "p.png", "d.bin", "d.idx", "d.sttx.json"):
        (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    text, out = str(tmp_path / "text.txt"), ["--out"]
    commands = (
        ["vocab", text, "--size", "260", *out, str(tmp_path / "v.txt")],
        ["plot", text, *out, str(tmp_path / "p.png")],
        ["data", "build", text, "--tokenizer", "bytes", *out, str(tmp_path / "d")],
    )
    for command in commands:
        assert run(command) == 2, command
        assert "is a link: give the path that it points to" in capsys.readouterr().err
    os.link(tmp_path / "elsewhere", tmp_path / "hard")
    with pytest.raises(UsageError, match="is a link"):
        create_vocab_file([], tmp_path / "v.txt")
    create_vocab_file([], tmp_path / "hard")  # replaced, so that its other name keeps the content
    assert (tmp_path / "hard").stat().st_nlink == 1
    assert (tmp_path / "elsewhere").read_text() == "kept"
