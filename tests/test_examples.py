"""The examples run unchanged, on the model that ships with sttx and on another one."""

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sttx_core import ByteTokenizer
from sttx_train import RWKV7, CheckpointStore, RWKV7Config, initialize, load_model, save_model

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model = initialize(RWKV7(RWKV7Config(vocab_size=257, hidden_size=64, num_layers=2)), seed=1)
    with torch.no_grad():
        for block in model.blocks:  # zero outputs would let no gradient reach S0
            block.att.output.weight.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    save_model(model, folder, tokenizer=ByteTokenizer())
    return folder


@pytest.fixture
def example(monkeypatch, capfd) -> Callable[..., str]:
    """Return a function that runs an example as a program, in this process, and returns what it printed."""

    def run(name: str, *options: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", [str(EXAMPLES / name), *map(str, options)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        printed = capfd.readouterr()
        assert printed.err == ""
        return printed.out

    return run


def value(printed: str, name: str) -> str:
    return re.findall(rf"^{name}: (.+)$", printed, re.MULTILINE)[0]


def logits(printed: str) -> list[float]:
    return [float(text) for text in re.findall(r"^ +(-?\d+\.\d{3})  ", printed, re.MULTILINE)]


def test_every_example_is_tested():
    examples = {path.name for path in EXAMPLES.glob("*.py")}
    assert examples == set(re.findall(r'example\("(\w+\.py)"', Path(__file__).read_text()))


def test_load_the_embedded_model(example):
    printed = example("smoke_load.py")
    assert value(printed, "model") == "goose-mini"
    assert value(printed, "vocabulary") == str(load_model().model.config.vocab_size)
    assert len(set(logits(printed))) == 5


def test_load_prints_the_logits_of_a_named_model(example, tiny_model):
    printed = example("smoke_load.py", "--model", tiny_model, "--text", "ab")
    assert (value(printed, "model"), value(printed, "vocabulary")) == ("tiny", "257")
    with torch.no_grad():
        expected, _ = load_model(tiny_model).model(torch.tensor([[0, *ByteTokenizer().encode("ab")]]))
    assert logits(printed) == pytest.approx(expected[0, -1].topk(5).values.tolist(), abs=1e-3)


def test_train_for_five_steps(example, tiny_model, tmp_path):
    folder = tmp_path / "run"
    printed = example("smoke_train.py", "--model", tiny_model, "--checkpoint-dir", folder)
    losses = [float(loss) for loss in value(printed, "losses").split()]
    assert (value(printed, "steps"), len(losses)) == ("5", 5)
    assert int(value(printed, "merges")) > 0
    assert int(value(printed, "promotions")) > 0
    saved = CheckpointStore(folder).load()
    assert (saved.step, str(saved.path)) == (5, value(printed, "checkpoint"))
    assert saved.documents["report"]["phrases"]["merges"] == int(value(printed, "merges"))


def test_train_the_embedded_model_in_a_temporary_folder(example):
    printed = example("smoke_train.py")
    losses = [float(loss) for loss in value(printed, "losses").split()]
    assert value(printed, "steps") == "5" and losses[-1] < 0.8 * losses[0]
    assert not Path(value(printed, "checkpoint")).exists()
