"""The recipe's last step: a run's rounded weights become a model folder with scores."""

import json
import lzma
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sttx_core.tokenizers import TrieTokenizer, create_vocab_file
from sttx_train.data.documents import Packed
from sttx_train.formats import load_model
from sttx_train.pretrain import PretrainConfig, validation_bits
from sttx_train.pretrain.start import TrainingData
from sttx_train.pretrain.trainer import Trainer
from sttx_train.run_folder import RunFolder

SHIP = Path(__file__).parents[1] / "recipes" / "goose_mini" / "ship.py"
VALIDATION = {
    "prose": "The file was read again, and the test passed.\n" * 4,
    "code": "def f(x):\n    return x\n",
    "transcripts": "User: Read the file.\n\nAssistant: I return it.\n\nUser: Is that the file?\n\n" * 3,
}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A run of no steps with random weights, shipped by the script in a process of its own."""
    work = tmp_path_factory.mktemp("ship")
    create_vocab_file(
        [*(bytes([i]) for i in range(256)), b"the ", b"return", b".\n\nAssistant: I "], work / "vocab.txt"
    )
    sizes = {"vocab_size": 260, "hidden_size": 32, "layers": 2, "head_size": 16}
    config = PretrainConfig(**sizes, ctx=8, batch=3, steps=1)
    trainer = Trainer(
        config,
        TrainingData(train=Packed(np.array([0, 1, 2]))),
        folder=RunFolder(work / "run", kind="pretrain", keep=2),
    )
    generator = torch.Generator().manual_seed(0)
    for weight in trainer.model.parameters():
        weight.data.add_(0.1 * torch.randn(weight.shape, generator=generator))
    trainer.step, trainer.tokens, trainer.seconds = 7, 168, 90.0
    trainer.save()
    (work / "validation").mkdir()
    for name, text in VALIDATION.items():
        (work / "validation" / f"{name}.txt").write_text(text)
    command = [sys.executable, SHIP, work / "run", work / "vocab.txt", work / "validation", work / "model"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return trainer, work, json.loads(done.stdout)


def test_the_model_is_the_runs_rounded_to_bfloat16(shipped):
    trainer, work, _ = shipped
    model = load_model(work / "model").model
    for name, weight in trainer.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight.to(torch.bfloat16).float()), name
    assert not torch.equal(model.emb.weight, trainer.model.emb.weight), "the test's weights need rounding"


def test_the_vocabulary_is_in_the_folder(shipped):
    _, work, _ = shipped
    assert load_model(work / "model").tokenizer.sha256 == TrieTokenizer(work / "vocab.txt").sha256


def test_scores_are_those_of_the_shipped_weights(shipped):
    _, work, report = shipped
    loaded = load_model(work / "model")
    assert (report["step"], report["tokens"], report["minutes"]) == (7, 7 * 3 * 8, 1.5)
    assert set(report["validation"]) == set(VALIDATION)
    for name, text in VALIDATION.items():
        score, size = report["validation"][name], len(text.encode())
        parts = re.split("(?<=\n\n)", text) if name == "transcripts" else [text]
        ids = [0, *(token for part in parts for token in loaded.tokenizer.encode(part))]
        bits = validation_bits(loaded.model, np.array(ids))
        assert score["bytes"] == size and score["bpb"] == pytest.approx(bits / size, abs=1e-3)
        packed = lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME)
        assert score["xz"] == round(8 * len(packed) / size, 3)


def test_ten_texts_are_sampled_and_all_are_shown(shipped):
    _, _, report = shipped
    assert len(report["samples"]) == 10 and all(isinstance(text, str) for text in report["samples"])
    assert len(set(report["samples"])) > 5
