"""The benchmark of decoding: every way makes as many tokens as it says, next to the plain step."""

from pathlib import Path

import pytest
import torch

from sttx_core.tokenizers import ByteTokenizer
from sttx_train import RWKV7, Predictor, RWKV7Config, load_model, save_model


def test_every_way_is_measured(benchmark, tiny_model, monkeypatch):
    decode = benchmark("decode")
    made = []
    monkeypatch.setattr(decode, "timed", lambda work: made.append(work()) or {"cpu": 2.0, "clock": 4.0})
    monkeypatch.setattr(decode, "PROMPT", "hi")
    report = decode.measure(load_model(tiny_model), 2, 3, 1)
    ways = ["plain step", "compiled step", "one text", "3 texts"]
    ways += ["one text, with experts", "3 texts, with experts"]
    assert list(report["cpu"]) == list(report["clock"]) == ways
    assert made == [2, 2, 2, 6, 2, 6] * 2, "a round to warm up, and one that counts"
    assert report["clock"]["3 texts"] == {"rate": 4.0, "of plain": 1.0}


def test_a_plain_step_and_a_text_are_timed(benchmark, tiny_model, monkeypatch):
    decode = benchmark("decode")
    monkeypatch.setattr(decode, "PROMPT", "hi")
    loaded = load_model(tiny_model, dtype=torch.float32)
    for rates in (decode.plain(loaded, 2), decode.together(Predictor(loaded, experts=False), 2, 1)):
        assert rates.keys() == {"cpu", "clock"} and min(rates.values()) > 0


def test_llama_makes_as_many_tokens(benchmark, monkeypatch, tmp_path):
    pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    decode, made = benchmark("decode"), []
    monkeypatch.setattr(decode, "timed", lambda work: made.append(work()) or {"cpu": 2.0, "clock": 4.0})
    sizes = {"vocab_size": 257, "hidden_size": 64, "num_layers": 1}
    save_model(RWKV7(RWKV7Config(**sizes), seed=0), tmp_path / "model", tokenizer=ByteTokenizer())
    with decode.llama(load_model(tmp_path / "model"), 3, 2) as way:
        assert way() == {"cpu": 2.0, "clock": 4.0}
    assert made == [6]
