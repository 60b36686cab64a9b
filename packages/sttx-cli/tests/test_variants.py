"""Variants of the model through the commands: weights in codes, ghost rows, RWKV-6 and RWKV-5.2."""

import json

import pytest


@pytest.mark.parametrize("variant", ["stored", "RWKV-6", "RWKV-5.2"], indirect=True)
def test_a_variant_learns_is_priced_and_writes(variant, sttx, sessions, tmp_path):
    run, short = tmp_path / "run", ("--threads", 1)
    learned = sttx("train", sessions, "--model", variant, "--checkpoint-dir", run, "--steps", 2, *short)
    assert learned.code == 0, learned.err
    line = ("score", sessions, "--model", variant, "--checkpoint", run, "--experts", "off", "--json", *short)
    scored = sttx(*line)
    rows = [json.loads(row) for row in scored.out.splitlines()]
    assert scored.code == 0 and rows, scored.err
    assert sum(row["bits"] for row in rows) != sum(row["frozen_bits"] for row in rows)
    evaluated = sttx("eval", sessions, "--model", variant, "--arms", "frozen,paid", "--json", *short)
    assert evaluated.code == 0, evaluated.err
    arms = evaluated.json["arms"]
    assert arms["frozen"]["bits"] == pytest.approx(sum(row["frozen_bits"] for row in rows), rel=1e-4)
    assert arms["paid"]["bits"] != arms["frozen"]["bits"]
    written = sttx("generate", "--model", variant, "--checkpoint", run, "--max-tokens", 4, "hello")
    assert written.code == 0 and written.out, written.err
    trained = tmp_path / "trained"
    line = ("pretrain", sessions, "--start-from", variant, "--out", trained, "--steps", 1, "--batch", 1)
    started = sttx(*line, "--ctx", 16, "--validation", 0, *short)
    assert started.code == 0, started.err
    reports = [sttx("inspect", folder, "--json").json for folder in (variant, trained)]
    for name in ("architecture", "forms", "sizes"):
        assert reports[0].get(name) == reports[1].get(name)
