"""A run in plain sentences, whatever became of it."""

import pytest

from sttx_cli.summary import gain, run_summary

PHRASES = {
    "mode": "auto",
    "on": True,
    "decided": True,
    "live": 256,
    "promotions": 1489,
    "steps_saved": 3200,
}


def report(**changes):
    told = {
        "steps": 50,
        "steps_this_run": 50,
        "steps_wanted": 50,
        "bytes": 35131,
        "tokens": 12800,
        "seconds": 61.25,
        "ended": "steps",
        "bpb": {"paid": 1.6, "frozen": 2.0},
        "phrases": PHRASES,
        "trainable_parameters": 229376,
        "scope": ["state", "bias"],
        "skipped_steps": 0,
        "model": {"id": "goose-mini"},
        "device": "cpu",
        "kernel": "chunked",
        "checkpoint": "ckpt/step-00000050",
    }
    return told | changes


def test_a_whole_run():
    assert run_summary(report()).splitlines() == [
        "50 steps over 35,131 bytes (12,800 tokens) in 61.2 s.",
        "Paid 1.600 bits per byte, each window before it was learned from; the frozen model would have paid "
        "2.000: 20.0% gained by learning.",
        "Phrases: 256 live, 1,489 found in all; they saved 25.0% of the model's steps (3,200 of 12,800).",
        "229,376 numbers learned (scope state,bias); model goose-mini on cpu, kernel chunked.",
        "Checkpoint: ckpt/step-00000050",
        "Look at it with `sttx inspect ckpt` and `sttx merge-stats ckpt`; go on with the same command and "
        "--resume, and more --steps.",
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ended": "interrupted"}, "Interrupted. 50 steps over"),
        ({"ended": "end of stream", "steps_wanted": 80}, "The stream ended before step 80. 50 steps over"),
        ({"ended": "end of stream"}, "--resume, once there are more sessions."),
        ({"ended": "interrupted"}, "--resume, from where it was saved."),
        ({"steps_this_run": 0}, "Nothing was left to learn from: still 50 steps over"),
        ({"steps_this_run": 0, "ended": "interrupted"}, "Interrupted. 50 steps over"),
        ({"steps_this_run": 20}, "tokens), 20 of them now in 61.2 s."),
        ({"bpb": {"paid": None, "frozen": None}}, "Nothing was paid for yet: no window was full."),
        ({"bpb": {"paid": 1.6, "frozen": None}}, "each window before it was learned from.\n"),
        ({"bpb": {"paid": 2.2, "frozen": 2.0}}, "10.0% lost by learning."),
        ({"phrases": {"mode": "off"}}, "Phrases were off.\n"),
        (
            {"phrases": PHRASES | {"on": False, "decided": True}},
            "They are off for now, since they cost bits.",
        ),
        (
            {"phrases": PHRASES | {"on": False, "decided": False}},
            "Whether they cost bits is not known yet.",
        ),
        ({"skipped_steps": 3}, "; 3 steps changed nothing, since their gradient was not finite;"),
    ],
)
def test_what_is_said_of_other_runs(changes, said):
    assert said in run_summary(report(**changes))


def test_an_end_that_nobody_set_is_no_early_end():
    assert run_summary(report(ended="end of stream", steps_wanted=0)).startswith("50 steps")


def test_nothing_read_and_nothing_kept():
    told = run_summary(report(tokens=0, steps=0, steps_this_run=0, checkpoint=None))
    assert "they saved 0.0%" in told and "Checkpoint" not in told


def test_gains():
    assert gain(1.5, 2.0) == "25.0% gained by learning"
    assert gain(None, 2.0) == gain(1.5, None) == ""
