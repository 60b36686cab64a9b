"""Variants of the model through the commands: weights in codes, ghost rows, inner steps, RWKV-6, RWKV-5.2."""

import json

import pytest

from sttx_train import RecurrentState, load_model


@pytest.mark.parametrize(
    "variant", ["stored", "inner steps", "momentum", "RWKV-6", "RWKV-5.2"], indirect=True
)
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
    for name in ("architecture", "forms", "inner_steps", "sizes"):
        assert reports[0].get(name) == reports[1].get(name)


@pytest.fixture
def inner(tiny_model, sttx, sessions, tmp_path):
    """Return a model that learned inner steps with momentum, and what `sttx pretrain` said."""
    out, line = (
        tmp_path / "out",
        ("pretrain", sessions, "--start-from", tiny_model, "--batch", 1, "--ctx", 16),
    )
    line += ("--out", out, "--steps", 1, "--validation", 0, "--threads", 1)
    trained = sttx(*line, "--inner-steps", 2, "--inner-momentum", 0.5, "--inner-batch", 3)
    assert trained.code == 0, trained.err
    return out, trained.err


def test_a_state_is_tuned_for_a_model_with_inner_steps(inner, sttx, tmp_path):
    pairs, out = tmp_path / "pairs.jsonl", tmp_path / "tuned"
    rows = [{"prompt": f"What is {n}?", "completion": "meow " * 3} for n in range(8)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sizes = ("--batch", 4, "--epochs", 2, "--warmup", 0, "--lr", 0.3, "--no-bf16", "--threads", 1)
    tuned = sttx("tune", pairs, "--model", inner[0], "--out", out, *sizes, "--json")
    assert tuned.code == 0, tuned.err
    assert tuned.json["validation"]["after"]["bpb"] < tuned.json["validation"]["before"]["bpb"]
    text = ("--model", inner[0], "--experts", "off", "--temperature", 0, "--max-tokens", 5, "--json")
    by_run = sttx("generate", "User: What", "--checkpoint", out, *text)
    by_file = sttx("generate", "User: What", "--state", out / "state.pth", *text)
    assert by_run.code == 0 and by_run.json == by_file.json, by_run.err


def test_inner_steps_are_learned_and_named(inner, sttx, tiny_model, tmp_path):
    out, said = inner
    plain, own = (sttx("inspect", model, "--json").json for model in (tiny_model, out))
    sizes = own["sizes"]
    matrices = sizes["num_layers"] * sizes["hidden_size"] * sizes["head_size"]
    recent = 2 * 3 * sizes["num_layers"] * sizes["hidden_size"]  # keys, directions and values of two tokens
    assert own["state"]["numbers"] == plain["state"]["numbers"] + matrices + recent
    assert own["state"]["bytes"] == RecurrentState.zeros(load_model(out).model.config).nbytes
    assert f"{own['state']['numbers']:,} numbers a document" in sttx("inspect", out).out
    assert "kernel: chunked (cpu: it computes inner steps with a momentum or a batch)" in said
    words = "2 extra steps of gradient descent a token, on the last 3 tokens, momentum 0.5"
    assert words in " ".join(sttx("inspect", out).out.split())
    small = sttx("compress-model", out, "--out", tmp_path / "small", "--bits", 8, "--threads", 1)
    assert small.code == 0, small.err
    assert words in sttx("inspect", tmp_path / "small", "--json").json["inner_steps"]


def test_inner_steps_are_refused_where_they_cannot_be(inner, sttx, sessions, tmp_path):
    out, new, no_effect = inner[0], tmp_path / "new.gguf", "would have no effect: --inner-steps is 0"
    refused = {
        ("pretrain", sessions, "--out", new, "--inner-lr", 0.1): no_effect,
        ("pretrain", sessions, "--out", new, "--inner-momentum", 0.5): no_effect,
        ("pretrain", sessions, "--out", new, "--inner-batch", 2): no_effect,
        ("export", "--model", out, "--to", "huggingface", "--out", new): "which 'huggingface' cannot hold",
        ("export", "--model", out, "--to", "gguf", "--out", new): "which llama.cpp does not compute",
        ("compress", sessions, "--level", "network", "--model", out, "--out", new): "which coding does not",
        ("generate", "--model", out, "--kernel", "compiled", "hello"): "cannot compute inner steps",
    }
    for command, message in refused.items():
        result = sttx(*command)
        assert result.code != 0 and message in " ".join(result.err.split()), result.err
    assert not new.exists()
