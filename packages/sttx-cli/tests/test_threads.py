"""How many threads are taken, how they wait, and when a run lowers its priority."""

import os
import subprocess
import sys

import click
import pytest

from sttx_cli import environment, threads
from sttx_cli.threads import (
    SMALL_STEP,
    choose_threads,
    follows_live,
    free_cores,
    threads_before,
    useful_threads,
)
from sttx_core.errors import CheckpointError


@pytest.fixture
def four_cores(monkeypatch):
    """A machine of four cores, one of them busy, with nothing set in the environment."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "cores", lambda: 4)
    monkeypatch.setattr(threads, "load", lambda: 1.2)


def test_a_large_step_takes_the_free_cores(four_cores):
    assert choose_threads() == (3, "4 cores, 1 of them busy")
    assert choose_threads(most=useful_threads(SMALL_STEP + 1, follows=True)).threads == 3


def test_a_small_step_takes_two_threads_and_one_beside_live_work(four_cores, monkeypatch):
    assert choose_threads(most=useful_threads(SMALL_STEP, follows=False)).threads == 2
    assert choose_threads(most=useful_threads(SMALL_STEP, follows=True)).threads == 1
    monkeypatch.setattr(threads, "load", lambda: 9.0)
    assert choose_threads(most=2) == (1, "4 cores, all of them busy")


def test_the_option_comes_first(four_cores, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert choose_threads(7, before=2, most=1) == (7, "asked for")


def test_omp_num_threads_comes_before_a_choice(four_cores, monkeypatch):
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert choose_threads(before=2) == (torch.get_num_threads(), "OMP_NUM_THREADS is set")


def test_a_resumed_run_keeps_its_threads(four_cores):
    assert choose_threads(before=2, most=1).threads == 2


@pytest.mark.parametrize(
    ("cores", "load", "threads"),
    [(1, 0.0, 1), (2, 0.4, 2), (2, 0.6, 1), (2, 30.0, 1), (64, 3.0, 61), (8, None, 8)],
)
def test_there_is_always_a_thread_and_never_more_than_cores(cores, load, threads):
    assert free_cores(cores, load).threads == threads


def test_this_machine_has_cores():
    assert threads.cores() >= 1
    assert (threads.load() or 0.0) >= 0.0


@pytest.mark.parametrize(("value", "number"), [("auto", 0), ("0", 0), ("2", 2), (0, 0)])
def test_a_number_of_threads_is_read(value, number):
    assert threads.Threads().convert(value, None, None) == number


@pytest.mark.parametrize("value", ["-1", "two", "1.5", "", "100000"])
def test_anything_else_is_refused(value):
    with pytest.raises(click.BadParameter, match="not auto or a whole number"):
        threads.Threads().convert(value, None, None)


def test_the_threads_are_set_and_said(monkeypatch):
    import torch

    taken, said = [], []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    more = torch.get_num_threads() + 1
    threads.use_threads(threads.ThreadChoice(more, "asked for"), said.append)
    assert taken == [more]
    assert said == [f"threads: {more} (asked for; idle ones sleep)"]


@pytest.mark.parametrize(
    ("before", "notes"),
    [(None, []), (2, []), (1, ["the saved run used 1 thread; with 2 the last bits may differ"])],
)
def test_resuming_with_another_number_of_threads_is_said(monkeypatch, before, notes):
    import torch

    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    said = []
    threads.use_threads(threads.ThreadChoice(2, "asked for"), said.append, before=before)
    assert said[0].startswith("threads: 2 (asked for") and said[1:] == notes


@pytest.mark.parametrize(
    ("sources", "follow", "follows"),
    [
        (["claude"], None, True),
        (["live"], None, True),
        (["claude"], False, False),
        (["folder"], None, False),
        (["folder"], True, True),
        (["folder", "codex"], None, True),
        (["-"], None, False),
    ],
)
def test_which_runs_follow_live_work(sources, follow, follows):
    assert follows_live(sources, follow) is follows


def python(code, **variables):
    """Run code in a process of its own, which may change its priority and environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=kept | variables, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(not hasattr(os, "nice"), reason="the system has no nice values")
def test_a_run_steps_aside_once():
    code = """
import os
from sttx_cli.threads import NICE, lower_priority
before = os.nice(0)
print(lower_priority() == (f"nice {NICE}" if before < NICE else None), lower_priority(), os.nice(0) >= NICE)
"""
    assert python(code).split() == ["True", "None", "True"]


def test_idle_threads_sleep_unless_the_person_says_otherwise():
    code = """
import sys
from sttx_cli import app, environment
before = environment.wait_policy()
sys.argv = ["sttx", "--version"]
try:
    app.main()
finally:
    print(repr(before), environment.wait_policy())
"""
    assert python(code).split()[-2:] == ["''", "passive"]
    assert python(code, OMP_WAIT_POLICY="ACTIVE").split()[-2:] == ["'active'", "active"]


@pytest.mark.parametrize(
    ("policy", "way"),
    [("PASSIVE", "sleep"), ("active", "spin"), ("", "spin for a while"), ("odd", "wait by 'odd'")],
)
def test_the_way_of_waiting_in_words(monkeypatch, policy, way):
    monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    assert threads.wait_mode() == way
    assert environment.wait_policy() == policy.lower()


def test_the_threads_of_an_earlier_run(tmp_path):
    from sttx_train import CheckpointStore

    with pytest.raises(CheckpointError, match="no checkpoint"):
        threads_before(tmp_path)
    for step, manifest in enumerate([{}, {"torch_threads": "all"}, {"torch_threads": 3}]):
        CheckpointStore(tmp_path).save(step, tensors={}, documents={}, manifest=manifest)
        assert threads_before(tmp_path) == (3 if step == 2 else None)
