"""Forged runs, a few of each kind, through every command that reads runs: the short form of a benchmark."""

import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from sttx_cli.app import run
from sttx_core.errors import UsageError
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
