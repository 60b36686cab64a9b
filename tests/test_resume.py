"""Real commands that are killed at random moments, and resumed, equal uninterrupted runs."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "faults.py"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="the shim is for Linux")
def test_no_fault_of_the_machine_loses_a_run(tmp_path):
    line = [
        sys.executable,
        str(SCRIPT),
        "--faults",
        "6",
        "--seed",
        "1",
        "--unsupervised",
        "--work",
        str(tmp_path),
    ]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "faults: 9 tried, 9 survived, 0 lost" in done.stdout


def test_the_comparison_notices_a_difference(benchmark, tmp_path, monkeypatch):
    faulty_runs = benchmark("faulty_runs")
    run = faulty_runs.Run(tmp_path)
    run.directory.mkdir()
    metrics = run.directory / faulty_runs.METRICS
    metrics.write_text('{"step": 1, "loss": 0.5, "seconds": 3}\n{"step": 2, "loss": 0.25, "seconds": 3}\n')
    run.rows, run.end = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}], {}
    assert run.difference() == ""
    metrics.write_text('{"step": 1, "loss": 0.5, "seconds": 4}\n{"step": 2, "loss": 0.75, "seconds": 3}\n')
    assert run.difference() == "the metrics differ: step 2 in loss"
    metrics.write_text('{"step": 1, "loss": 0.5, "seconds": 3}\n')
    assert run.difference() == "the metrics differ: 1 steps instead of 2"
    run.rows, run.end = run.metrics(), {"learned.safetensors": "a hash"}
    assert run.difference() == "learned.safetensors: None instead of 'a hash'"
