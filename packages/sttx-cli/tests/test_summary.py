"""A run in plain sentences, however it ended."""

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
    result = {
        "steps": 50,
        "steps_this_run": 50,
        "steps_wanted": 50,
        "bytes": 35131,
        "tokens": 12800,
        "seconds": 61.25,
        "ended": "steps",
        "bpb": {"paid": 0.8, "network": 1.6, "frozen": 2.0},
        "phrases": PHRASES,
        "trainable_parameters": 229376,
        "scope": ["state", "bias"],
        "skipped_steps": 0,
        "model": {"id": "goose-mini"},
        "device": "cpu",
        "kernel": "chunked",
        "checkpoint": "ckpt/step-00000050",
    }
    return result | changes


def test_a_whole_run():
    assert run_summary(report()).splitlines() == [
        "50 steps over 35,131 bytes (12,800 tokens) in 61.2 s.",
        "Paid 0.800 bits per byte, each window before it was learned from. Without experts the network would "
        "have paid 1.600, and had it learned nothing 2.000: 20.0% gained by learning.",
        "Phrases: 1,489 found, 256 live; with them the model read 3,200 fewer positions than there were "
        "tokens (25.0%).",
        "229,376 parameters learned (scope state,bias); model goose-mini on cpu, kernel chunked.",
        "Checkpoint: ckpt/step-00000050",
        "See `sttx inspect ckpt` and `sttx merge-stats ckpt`; continue with the same command and --resume, "
        "and more --steps.",
    ]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"ended": "interrupted"}, "Interrupted. 50 steps over"),
        ({"ended": "end of stream", "steps_wanted": 80}, "The stream ended before step 80. 50 steps over"),
        ({"ended": "end of stream"}, "--resume, once there are more sessions."),
        ({"ended": "interrupted"}, "continue with the same command and --resume."),
        ({"steps_this_run": 0}, "Already at step 50 of --steps 50: give more --steps.\n"),
        (
            {"steps_this_run": 0, "steps_wanted": 80, "ended": "end of stream"},
            "Nothing new to learn from: still 50 steps over",
        ),
        (
            {"steps_this_run": 0, "steps": 0, "ended": "end of stream"},
            "Nothing to learn from: no trace that was read has any text.",
        ),
        ({"steps_this_run": 0, "ended": "interrupted"}, "Interrupted. 50 steps over"),
        ({"steps_this_run": 20}, "tokens), 20 of them now in 61.2 s."),
        ({"bpb": {"paid": None, "frozen": None}}, "Nothing was paid for yet: no window was full."),
        ({"bpb": {"paid": 1.6, "frozen": None}}, "each window before it was learned from.\n"),
        ({"bpb": {"paid": 2.2, "frozen": 2.0}}, "10.0% lost by learning."),
        ({"phrases": {"mode": "off"}}, "Phrases were off.\n"),
        (
            {"phrases": PHRASES | {"on": False, "decided": True}},
            "They are not used now, because they raise the bits per byte.",
        ),
        (
            {"phrases": PHRASES | {"on": False, "decided": False}},
            "Too few steps to tell whether phrases help.",
        ),
        ({"skipped_steps": 3}, "; 3 steps were skipped, because their gradient was not finite;"),
    ],
)
def test_other_runs(changes, text):
    assert text in run_summary(report(**changes))


def test_without_steps_the_end_of_the_stream_is_not_early():
    assert run_summary(report(ended="end of stream", steps_wanted=0)).startswith("50 steps")


def test_a_run_without_tokens_or_checkpoint():
    text = run_summary(report(tokens=0, steps=0, steps_this_run=0, checkpoint=None))
    assert "(0.0%)" in text and "Checkpoint" not in text


def test_phrases_that_are_not_decided_and_saved_nothing_are_not_mentioned():
    undecided = PHRASES | {"decided": False, "on": False}
    assert "Phrases:" in run_summary(report(phrases=undecided))
    assert "hrases" not in run_summary(report(phrases=undecided | {"steps_saved": 0}))


def test_redacted_counts_are_of_this_run():
    text = run_summary(report(source={"redacted": {"email": 1, "npm-token": 2}}))
    assert "\nRedacted in this run: 3 (npm-token 2, email 1).\n" in text


def test_gains():
    assert gain(1.5, 2.0) == "25.0% gained by learning"
    assert gain(None, 2.0) == gain(1.5, None) == ""
