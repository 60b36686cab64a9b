"""The recipe's mean of weights: exact, hypernetworks too, priced as shipped, and refused where senseless."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from sttx_core.hypernet import HyperNetwork
from sttx_core.tokenizers import TrieTokenizer, create_vocab_file
from sttx_train.formats import load_model, save_model

TEXT = "The file was read again, and the test passed: 'é'.\n"


@pytest.fixture
def folders(tmp_path: Path, make_model) -> list[Path]:
    """Two model folders with hypernetworks and one vocabulary, and a third without a hypernetwork."""
    tokens = [*(bytes([i]) for i in range(256)), b"the "]
    create_vocab_file(tokens, tmp_path / "vocab.txt")
    made = []
    for seed in range(3):
        model = make_model(seed=seed, vocab_size=258)
        torch.manual_seed(seed)
        hypernet = HyperNetwork(model.config.hidden_size)
        for weight in hypernet.parameters():
            weight.data.normal_()
        made.append(tmp_path / f"model-{seed}")
        tokenizer = TrieTokenizer(tmp_path / "vocab.txt")
        save_model(model, made[-1], tokenizer=tokenizer, hypernet=hypernet if seed < 2 else None)
    return made


def run(recipe: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["average.py", *map(str, arguments)])
    recipe["average"].main()


def test_every_weight_is_the_mean_and_ship_accepts_it(
    recipe: dict[str, ModuleType], folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(recipe, monkeypatch, tmp_path / "mean", f"0.25={folders[0]}", f"0.75={folders[1]}")
    ends, mean = [load_model(folder) for folder in folders[:2]], load_model(tmp_path / "mean")
    for kind in ("model", "hypernet"):
        first, second, found = (getattr(model, kind).state_dict() for model in (*ends, mean))
        assert set(found) == set(first)
        for name, weight in found.items():
            wanted = 0.25 * first[name].double() + 0.75 * second[name].double()
            assert torch.equal(weight, wanted.float()), name
    assert mean.tokenizer.sha256 == ends[0].tokenizer.sha256
    model, hypernet, run_report = importlib.import_module("ship").weights_of(tmp_path / "mean")
    assert torch.equal(model.emb.weight, mean.model.emb.weight) and hypernet is not None
    assert run_report == {}, "a mean has no steps of its own"


def test_the_price_is_that_of_the_rounded_mean_on_the_first_bytes(
    recipe: dict[str, ModuleType],
    folders: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    validation = tmp_path / "validation"
    validation.mkdir()
    (validation / "prose.txt").write_text(TEXT * 4)
    (validation / "transcripts.txt").write_text("User: Hi.\n\nAssistant: Yes?\n\n")
    parts = [f"0.5={folders[0]}", f"0.5={folders[1]}"]
    run(recipe, monkeypatch, tmp_path / "mean", *parts, "--validation", validation, "--bytes", 48)
    report = json.loads(capsys.readouterr().out)
    mean = load_model(tmp_path / "mean")
    rounded = mean.model.to(torch.bfloat16).float()
    (validation / "prose.txt").write_bytes(TEXT.encode()[:47])  # byte 48 is half of a letter
    prices = recipe["pricing"].price_kinds(rounded, validation, mean.tokenizer)
    assert prices["prose"].bytes == 47
    bits = {kind: round(price.bits_per_byte, 4) for kind, price in prices.items()}
    assert report == {"mean": round(sum(bits.values()) / 2, 4), "kinds": bits}


def test_what_has_no_mean_is_refused(
    recipe: dict[str, ModuleType],
    folders: list[Path],
    tmp_path: Path,
    make_model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other, words = tmp_path / "other", tmp_path / "other.txt"
    create_vocab_file([*(bytes([i]) for i in range(256)), b"and "], words)
    hypernet = HyperNetwork(32)
    save_model(make_model(vocab_size=258), other, tokenizer=TrieTokenizer(words), hypernet=hypernet)
    deep = tmp_path / "deep"
    model = make_model(vocab_size=258, num_layers=2)
    save_model(model, deep, tokenizer=load_model(folders[0]).tokenizer, hypernet=hypernet)
    for first, second, complaint in (
        (f"0.5={folders[0]}", f"0.6={folders[1]}", "add up to 1.1"),
        (f"0.5={folders[0]}", f"0.5={folders[2]}", "hypernetwork"),
        (f"0.5={folders[0]}", f"0.5={other}", "vocabularies"),
        (f"0.5={folders[0]}", f"0.5={deep}", "different shapes"),
    ):
        with pytest.raises(SystemExit, match=complaint):
            run(recipe, monkeypatch, tmp_path / "mean", first, second)
        assert not (tmp_path / "mean").exists()


def test_a_folder_without_validation_text_is_refused(
    recipe: dict[str, ModuleType], folders: list[Path]
) -> None:
    model = load_model(folders[0])
    with pytest.raises(SystemExit, match=r"no \.txt files"):
        recipe["pricing"].price_kinds(model.model, folders[0] / "nowhere", model.tokenizer)
