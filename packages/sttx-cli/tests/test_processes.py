"""Commands under `torchrun`: the first process reads, reports and writes, and several do not follow."""

import json
import os
import subprocess
import sys

import pytest

from sttx_ccsniff import sample_folder
from sttx_cli.output import SCREEN, say
from sttx_cli.processes import hush_others, settle_follow
from sttx_core.errors import UsageError


@pytest.fixture
def ranks(monkeypatch):
    """Return a function that sets which of how many processes this one is."""

    def be(rank, count):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(count))

    yield be
    SCREEN.silent = False


def test_only_the_first_process_speaks(ranks, capsys):
    for rank in (0, 1):
        ranks(rank, 2)
        assert hush_others() == (rank == 0)
        say(f"process {rank}")
    assert capsys.readouterr().err == "process 0\n"


def test_one_process_follows_as_asked(ranks):
    ranks(0, 1)
    assert settle_follow(["claude"], None, say) is None
    assert settle_follow(["claude"], True, say) is True


def test_several_processes_read_history(ranks, capsys):
    ranks(0, 2)
    assert settle_follow(["sessions.jsonl"], None, say) is None
    assert settle_follow(["claude"], None, say) is False
    assert "several processes share the work" in capsys.readouterr().err
    with pytest.raises(UsageError, match="leave out --follow"):
        settle_follow(["claude"], True, say)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="gloo between processes is tried on Linux")
def test_train_under_torchrun_writes_and_reports_once(tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = ["--steps", "2", "--checkpoint-dir", str(tmp_path / "run"), "--json"]
    done = subprocess.run(
        [*launch, "-m", "sttx_cli", "train", str(sample_folder()), *options],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert (report["steps"], report["windows"]) == (2, 4)
    assert done.stderr.count("batch: 2 windows a step (a window for each process)") == 1
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2
