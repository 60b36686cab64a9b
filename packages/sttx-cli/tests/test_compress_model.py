"""`sttx compress-model`: a smaller model, its price, and where it can be used."""

import json

import pytest

from sttx_train import load_model


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Return a folder of eight texts."""
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(8):
        (folder / f"{number}.txt").write_text(f"Text number {number} says the same as the others. " * 8)
    return folder


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    """Return a very small model of the texts."""
    from sttx_cli.app import cli

    out = tmp_path_factory.mktemp("models") / "base"
    sizes = ["--hidden-size", 64, "--layers", 2, "--ctx", 32, "--batch", 4, "--no-bf16", "--warmup", 0]
    steps = ["--steps", 40, "--validation", 0.2, "--lr", 0.01]
    line = ["pretrain", corpus, "--out", out, "--tokenizer", "bytes", *sizes, *steps]
    cli.main([str(word) for word in line], standalone_mode=False)
    return out


def bits(result):
    return result.json["bpb"]


def test_codes_take_half_the_bytes_and_cost_next_to_nothing(sttx, trained, corpus, tmp_path):
    line = ["compress-model", trained, corpus, "--out", tmp_path / "small", "--bits", 8, "--validation", 0.3]
    result = sttx(*line, "--json")
    assert result.code == 0, result.err
    report = result.json
    size = (tmp_path / "small" / "model.safetensors").stat().st_size
    assert report["bytes"]["after"] == size < 0.4 * report["bytes"]["before"]  # the original is in float32
    assert bits(result)["after"] == pytest.approx(bits(result)["before"], rel=0.01)
    assert set(report["forms"]) == {"int8"} and report["healed_steps"] == 0
    assert max(report["errors"].values()) < 0.02 and report["out"] == str(tmp_path / "small")
    shown = sttx("inspect", tmp_path / "small")
    assert "matrices: int8" in shown.out and "if all were dense" in shown.out


def test_healing_lowers_the_price_that_zeros_raised(sttx, trained, corpus, tmp_path):
    line = ["compress-model", trained, corpus, "--out", tmp_path / "small", "--zeros", 0.8, "--bits", 4]
    result = sttx(*line, "--heal-minutes", 0.02, "--heal-lr", 0.003, "--validation", 0.3, "--json")
    assert result.code == 0, result.err
    prices = bits(result)
    assert prices["before"] < prices["healed"] < prices["after"] and result.json["healed_steps"] > 0
    assert {"sparse+int4", "int4"} == set(result.json["forms"])
    assert (load_model(tmp_path / "small").model.head.weight == 0).float().mean() > 0.75


def test_a_size_is_kept(sttx, trained, corpus, tmp_path):
    line = ["compress-model", trained, corpus, "--out", tmp_path / "small", "--bits", 8]
    result = sttx(*line, "--size", 130_000, "--json")
    assert result.code == 0, result.err
    size = (tmp_path / "small" / "model.safetensors").stat().st_size
    assert 100_000 < size <= 130_000 and "low-rank+int8" in result.json["forms"]
    assert sttx(*line, "--size", 1000).code == 2


@pytest.fixture(scope="module")
def small(trained, corpus, tmp_path_factory):
    from sttx_cli.app import cli

    out = tmp_path_factory.mktemp("models") / "small"
    cli.main(
        ["compress-model", str(trained), str(corpus), "--out", str(out), "--bits", "4"], standalone_mode=False
    )
    return out


def test_the_smaller_model_is_taken_wherever_a_model_is(sttx, small, sessions, tmp_path, corpus):
    train = ["train", "--from", sessions, "--model", small, "--window", 32, "--steps", 2]
    train += ["--device", "cpu", "--checkpoint-dir", tmp_path / "run"]
    assert sttx(*train).code == 0
    for line in (
        ["generate", "Text number", "--model", small, "--max-tokens", 3],
        ["score", sessions, "--model", small, "--checkpoint", tmp_path / "run", "--experts", "off"],
        ["export", "--model", small, "--to", "blinkdl", "--out", tmp_path / "x.pth"],
        [
            "pretrain",
            corpus,
            "--start-from",
            small,
            "--out",
            tmp_path / "more",
            "--steps",
            1,
            "--validation",
            0,
        ],
    ):
        result = sttx(*line)
        assert result.code == 0, (line[0], result.err)
    refused = sttx(*train[:-1], tmp_path / "other", "--scope", "all")
    assert refused.code == 2 and "stored in codes (int4:32)" in refused.err


def test_pretraining_can_end_with_codes(sttx, corpus, tmp_path):
    sizes = ["--hidden-size", 64, "--layers", 1, "--ctx", 16, "--batch", 2, "--no-bf16", "--warmup", 0]
    line = ["pretrain", corpus, "--tokenizer", "bytes", *sizes, "--steps", 2, "--validation", 0.2]
    result = sttx(*line, "--ghost-ratio", 0.5, "--out", tmp_path / "m", "--store", "int4")
    assert result.code == 0, result.err
    assert "stored as int4: " in result.err and "nats per token before" in result.err
    config = json.loads((tmp_path / "m" / "config.json").read_text())["model"]
    assert config["ghost_ratio"] == 0.5 and config["forms"]["blocks.0.ffn.key.weight"].endswith("+int4:32")
    again = sttx(
        *line[:4], "--start-from", tmp_path / "m", "--out", tmp_path / "n", "--steps", 1, "--store", "int8"
    )
    assert again.code == 2 and "stored in codes already" in again.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing would become smaller"),
        (["--bits", 8, "--zeros", 0.5, "--two-of-four"], "--zeros and --two-of-four cannot be combined"),
        (["--energy", 0.9, "--ghost", 0.5], "--energy and --ghost cannot be combined"),
        (["--zeros", 0.5, "--group", 32], "--group would have no effect"),
        (["--energy", 1.5], "--energy must be a share"),
        (["--bits", 8, "--heal-minutes", 1], "--heal-minutes would have no effect without DATA"),
        (["--bits", 8, "--calibration", 5], "--calibration would have no effect without DATA"),
    ],
)
def test_what_makes_no_sense_is_refused(sttx, tmp_path, options, message):
    result = sttx("compress-model", "goose-mini", "--out", tmp_path / "small", *options)
    assert result.code == 2 and message in result.err and not (tmp_path / "small").exists()


def test_codes_are_not_coded_again(sttx, small, tmp_path):
    result = sttx("compress-model", small, "--out", tmp_path / "x", "--bits", 8)
    assert result.code == 2 and "stored in codes already" in result.err
