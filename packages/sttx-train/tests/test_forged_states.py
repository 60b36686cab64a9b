"""Forged states of the learner and of pretraining are refused in one sentence, and nothing is broadcast."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sttx_core.errors import SttxError
from sttx_core.tokenizers import IntegerTokenizer
from sttx_train.checkpoint.folder import _digest
from sttx_train.files import sha256_of
from sttx_train.online import LearnerConfig, OnlineLearner, Window
from sttx_train.pretrain import PretrainConfig, Pretrainer


@pytest.fixture(scope="module")
def state(make_model):
    """A function that makes a learner, and the state of one after some windows of two documents."""

    def make():
        model = make_model(num_layers=2)
        config = LearnerConfig(phrases="on", replay_capacity=8, max_documents=4)
        return OnlineLearner(model, np.ones(61, np.int64), config)

    learner = make()
    dice = np.random.default_rng(1)
    for number in range(6):
        ids = tuple(int(one) for one in dice.integers(1, 9, 12)) * 2
        learner.learn_one(Window(document="ab"[number % 2], ids=ids))
    return make, learner.state_dict()


def tensor(file, name, change):
    """Return a function that changes a tensor of a state, or removes or adds it."""

    def apply(state):
        tensors = state["tensors"][file]
        new = change(tensors.get(name))
        if new is None:
            del tensors[name]
        else:
            tensors[name] = new

    return apply


def document(*way_and_value):
    *way, key, value = way_and_value

    def apply(state):
        inner = state["documents"]
        for step in way:
            inner = inner[step]
        inner[key] = value(inner[key]) if callable(value) else value

    return apply


def set_one(value):
    """Return a function that sets the first number of a tensor."""

    def change(old):
        new = old.clone()
        new.view(-1)[0] = value
        return new

    return change


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (
            tensor("learned", "s0", lambda old: old[:1]),
            r"'s0' is float32 \[1, 2, 16, 16\], and this run needs",
        ),
        (tensor("learned", "s0", lambda old: old[..., :1, :1]), "'s0' is float32"),
        (tensor("learned", "s0", lambda old: torch.ones(())), "'s0' is float32"),
        (tensor("learned", "s0", lambda old: old.double()), "'s0' is float64"),
        (tensor("learned", "s0", set_one(torch.nan)), "'s0' holds a number that is not finite"),
        (tensor("learned", "s0", set_one(torch.inf)), "'s0' holds a number that is not finite"),
        (tensor("learned", "s0", lambda old: None), "another --scope"),
        (tensor("learned", "more", lambda old: torch.ones(1)), "another --scope"),
        (tensor("optimizer", "s0/exp_avg", lambda old: old[:1]), "'s0/exp_avg' is float32"),
        (
            tensor("optimizer", "s0/exp_avg_sq", lambda old: -1 - old),
            "'s0/exp_avg_sq' holds a number below 0",
        ),
        (tensor("optimizer", "s0/step", lambda old: old - 100), "'s0/step' holds a number below 0"),
        (tensor("optimizer", "s0/step", lambda old: None), "it has no tensor 's0/step'"),
        (tensor("optimizer", "x/step", lambda old: torch.ones(())), "a tensor 'x/step', which belongs to"),
        (tensor("sessions", "state.wkv", lambda old: old[:, :1]), "'state.wkv' is float32"),
        (tensor("sessions", "state.wkv", lambda old: old.half()), "'state.wkv' is float16"),
        (tensor("sessions", "state.att_shift", lambda old: None), "it has no tensor 'state.att_shift'"),
        (tensor("replay", "tokens", set_one(61)), "an id that is not below 61"),
        (tensor("replay", "tokens", set_one(-1)), "an id that is not below 61"),
        (tensor("replay", "tokens", lambda old: old.bfloat16()), "'tokens' has the dtype torch.bfloat16"),
        (tensor("replay", "tokens", lambda old: old[:-1]), "its offsets do not rise"),
        (tensor("replay", "offsets", lambda old: old[:0]), "its arrays disagree"),
        (tensor("replay", "offsets", lambda old: torch.arange(len(old))), "no id after its context"),
        (tensor("replay", "surprise", lambda old: None), "its surprise are not one row of float64"),
        (tensor("replay", "surprise", lambda old: old.bfloat16()), "'surprise' has the dtype"),
        (document("learner", "skipped_steps", -1), "expected `int` >= 0"),
        (document("learner", "more", 1), "unknown field `more`"),
        (document("learner", "sessions", lambda rows: [rows[0], rows[0]]), "a document is there twice"),
        (
            document("learner", "sessions", lambda rows: rows * 3),
            "a document is there twice, or there are more",
        ),
        (document("learner", "sessions", 0, 1, [61]), "or one that is not below 61"),
        (document("learner", "sessions", 0, 1, []), "length >= 1"),
        (document("learner", "sessions", 0, 2, False), "'state.att_shift' is float32"),
        (document("learner", "gate", "on", False), "they are on in this run"),
        (document("learner", "gate", "with_phrases", [1.0]), "length >= 2"),
        (document("learner", "gate", "without", [1.0, float("nan")]), "expected `float`"),
        (document("learner", "replay", "adds", 0), "were not added one after the other"),
        (document("phrases", "base_vocab", 60), "over 60 base tokens|lists of children"),
        (document("phrases", "config", "threshold", 9), "and this learner PhraseConfig"),
    ],
)
def test_a_forged_state_of_the_learner_is_refused(state, apply, message):
    make, saved = state
    forged = {
        "tensors": {name: dict(group) for name, group in saved["tensors"].items()},
        "documents": copy.deepcopy(saved["documents"]),
    }
    apply(forged)
    with pytest.raises(SttxError, match=message) as caught:
        make().load_state_dict(forged)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def pretraining(tmp_path_factory):
    """A function that starts a run of pretraining or resumes it in a folder, and the folder of one."""
    data = np.random.default_rng(3).integers(0, 7, (10, 20))

    def train(folder, steps, *, resume):
        config = PretrainConfig(
            layers=1,
            hidden_size=16,
            head_size=8,
            ctx=12,
            batch=2,
            warmup=2,
            validation=0.2,
            eval_every=2,
            phrase_prob=0.5,
            bf16=False,
            steps=steps,
        )
        run = Pretrainer(config, folder, tokenizer=IntegerTokenizer(6), device="cpu", resume=resume)
        run.fit(data)
        return run

    folder = tmp_path_factory.mktemp("pretraining") / "run"
    train(folder, 4, resume=False)
    return train, folder


def hash_again(folder):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = {
        file.name: {"sha256": sha256_of([file]), "bytes": file.stat().st_size}
        for file in folder.iterdir()
        if file != path
    }
    manifest["sha256"] = _digest(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("file", "name", "change", "message"),
    [
        (
            "model",
            "emb.weight",
            lambda old: old[:1],
            r"'emb.weight' is float32 \[1, 16\], and this run needs",
        ),
        ("model", "emb.weight", lambda old: None, "it has no tensor 'emb.weight'"),
        ("model", "emb.weight", set_one(torch.nan), "'emb.weight' holds a number that is not finite"),
        ("optimizer", "emb.weight/exp_avg", lambda old: old[:1], "'emb.weight/exp_avg' is float32"),
        ("optimizer", "more/step", lambda old: torch.ones(()), "which belongs to nothing"),
        ("state", "wkv", lambda old: old[:, :1], "'wkv' is float32"),
        ("state", "more", lambda old: torch.ones(1), "which belongs to nothing"),
        ("hypernet", "more", lambda old: torch.ones(1), "which belongs to nothing"),
        ("hypernet_optimizer", "more/step", lambda old: torch.ones(1), "which belongs to nothing"),
        ("best/model", "emb.weight", lambda old: old[:1], "'emb.weight' is float32"),
        ("best/hypernet", "more", lambda old: torch.ones(1), "which belongs to nothing"),
    ],
)
def test_forged_tensors_of_pretraining_are_refused(pretraining, tmp_path, file, name, change, message):
    train, folder = pretraining
    shutil.copytree(folder, tmp_path / "run")
    place, _, stem = file.rpartition("/")
    (path,) = (tmp_path / "run" / place).glob(f"step-*/{stem}.safetensors")
    tensors = load_file(path)
    new = change(tensors.get(name))
    if new is None:
        del tensors[name]
    else:
        tensors[name] = new.clone()
    save_file(tensors, path)
    hash_again(path.parent)
    with pytest.raises(SttxError, match=message):
        train(tmp_path / "run", 4, resume=True).save_model(tmp_path / "out")
    assert not (tmp_path / "out").exists()
