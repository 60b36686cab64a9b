"""A real `sttx train` process that is killed at random moments and resumed equals an uninterrupted run."""

from pathlib import Path

import pytest

FIXTURE = Path(__file__).parents[1] / "test-data" / "ccsniff-fixture.ndjson"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_killed_three_times_equals_the_uninterrupted_run(benchmark, tiny_model, tmp_path):
    kill_resume = benchmark("kill_resume")
    options = ["--model", str(tiny_model), "--window", "64", "--steps", "24", "--checkpoint-every", "3"]
    options += ["--phrases", "on", "--replay-rows", "2", "--batch", "2", "--kernel", "chunked"]
    result = kill_resume.compare(FIXTURE, tmp_path, 3, 1, options, most=6)
    assert result["kills"] == 3, "every kill hit a running process"
    assert result["steps"] == result["steps_after_kills"] == 24
    assert result["equal"], result


def test_the_comparison_notices_a_difference(benchmark, tmp_path, monkeypatch):
    kill_resume = benchmark("kill_resume")

    def pretend(source, directory, options):
        directory.mkdir(exist_ok=True)
        bits = 1.0 if directory.name == "whole" else 2.0
        lines = [
            '{"step": 1, "loss": 0.5, "seconds": 3}',
            f'{{"step": 2, "loss": {bits}, "seconds": {bits}}}',
        ]
        (directory / kill_resume.METRICS).write_text("\n".join(lines) + "\n")

    monkeypatch.setattr(kill_resume, "finish", pretend)
    monkeypatch.setattr(kill_resume, "kill", lambda *args: True)
    result = kill_resume.compare(FIXTURE, tmp_path, 2, 0, [])
    assert (result["equal"], result["first_different_step"], result["kills"]) == (False, 2, 2)
