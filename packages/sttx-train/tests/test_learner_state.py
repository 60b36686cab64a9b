"""The state of a learner: loaded in mid-stream it continues bit for bit."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from sttx_core.errors import CheckpointError
from sttx_core.pairs import PairMaker
from sttx_core.phrase_counts import ChoiceCounts
from sttx_core.phrases import DynamicTokenizer, PhraseConfig
from sttx_core.replay import ReplayBuffer
from sttx_train.online import LearnerConfig, OnlineLearner, PhraseGate, Window
from sttx_train.online.average import for_reading
from sttx_train.online.carried import CarriedStates
from sttx_train.pretrain.phrases import PhraseStreams, PhraseTraining
from sttx_train.pretrain.spike_guard import SpikeGuard

OPTIONS = {
    "default": {},
    "without phrases": {"phrases": "off"},
    "phrases as measured": {"phrases": "auto"},
    "without replay": {"replay_rows": 0},
    "without the frozen model": {"frozen": False},
    "weights": {"scope": ("vectors", "head")},
    "nothing learns": {"scope": ()},
    "bias and decay": {"scope": ("state", "bias"), "weight_decay": 0.1},
    "few documents": {"max_documents": 1},
}


def stream(count):
    """Yield windows of three documents, made of a few motifs."""
    dice = np.random.default_rng(1)
    motifs = [dice.integers(1, 61, 5) for _ in range(3)]
    for number in range(count):
        ids = np.concatenate([motifs[dice.integers(3)] for _ in range(4)])
        yield Window(document=str(number % 3), ids=tuple(map(int, ids)))


@pytest.fixture
def make(make_model):
    def learner(**options: Any):
        config = LearnerConfig(**({"phrases": "on", "replay_capacity": 4, "max_documents": 2} | options))
        phrases = PhraseConfig(pair_window=60, threshold=2, capacity=6)
        return OnlineLearner(make_model(), np.ones(61, dtype=int), config, phrase_config=phrases)

    return learner


def saved(learner):
    """Return the state as a checkpoint returns it: copies of the tensors, and documents read from JSON."""
    state = learner.state_dict()
    tensors = {
        file: {name: tensor.clone() for name, tensor in group.items()}
        for file, group in state["tensors"].items()
    }
    documents = json.loads(json.dumps(state["documents"], allow_nan=False))
    return {"tensors": tensors, "documents": documents}


def assert_same_state(state, expected):
    assert state["documents"] == expected["documents"]
    assert state["tensors"].keys() == expected["tensors"].keys()
    for file, group in expected["tensors"].items():
        others = state["tensors"][file]
        assert others.keys() == group.keys()
        assert [name for name in group if not torch.equal(group[name], others[name])] == [], file


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_loaded_it_pays_and_learns_bit_for_bit_the_same(make, options):
    whole = make(**options)
    windows = list(stream(12))
    for window in windows[:7]:
        whole.learn_one(window)
    resumed = make(**options)
    if resumed.weights:  # a new process starts from the original model and loads the learned weights
        assert not torch.equal(resumed.model.head.weight, whole.model.head.weight)
    resumed.load_state_dict(saved(whole))
    for window in windows[7:]:
        one, other = whole.step([window]), resumed.step([window])
        assert repr(one) == repr(other)  # repr, because NaN (no frozen model) does not equal itself
    assert_same_state(saved(resumed), saved(whole))


def test_a_fresh_learner_is_saved_and_loaded(make):
    resumed = make()
    resumed.load_state_dict(saved(make()))
    window = next(stream(1))
    assert resumed.step([window]) == make().step([window])


@pytest.mark.parametrize(
    "stateful",
    [
        *(OnlineLearner, CarriedStates, PhraseGate, DynamicTokenizer, ChoiceCounts, ReplayBuffer, PairMaker),
        *(PhraseTraining, PhraseStreams, SpikeGuard),
    ],
)
def test_every_stateful_part_has_the_same_two_methods(stateful):
    methods = {name for name in vars(stateful) if "state" in name or name in ("snapshot", "restore")}
    assert {name for name in methods if not name.startswith("_")} == {"state_dict", "load_state_dict"}


def test_saving_changes_nothing(make):
    one, other = make(), make()
    for window in stream(6):
        one.state_dict()
        assert one.step([window]) == other.step([window])


def test_the_average_of_s0_is_its_mean_and_goes_on_after_a_resume(make):
    learner, known = make(), []
    for window in stream(5):
        learner.learn_one(window)
        known.append(learner.s0.detach().clone())
    torch.testing.assert_close(learner.average.value, torch.stack(known).mean(0))
    state = saved(learner)
    resumed = make()
    resumed.load_state_dict(state)
    assert torch.equal(resumed.average.value, learner.average.value) and resumed.average.steps == 5
    del state["tensors"]["learned"]["s0_average"], state["documents"]["learner"]["averaged"]
    earlier = make()  # a checkpoint of an earlier version has no average
    earlier.load_state_dict(state)
    assert earlier.average.steps == 0 and torch.equal(earlier.average.value, learner.s0)


def test_readers_take_s0_itself_before_the_first_step(make):
    learner = make()
    with torch.no_grad():
        learner.s0.normal_()
    state, start = saved(learner), learner.s0.detach().clone()
    assert torch.equal(for_reading(state["tensors"]["learned"]), start)
    resumed = make()
    resumed.load_state_dict(state)
    resumed.stand_still()
    assert torch.equal(resumed.s0, start)


def test_only_tensors_that_learn_are_saved(make):
    learner = make(scope=("state", "bias"))
    for window in stream(3):
        learner.learn_one(window)
    tensors = saved(learner)["tensors"]
    assert set(tensors["learned"]) == {*learner.trainable(), "s0_average"}
    assert {name.rsplit("/", 1)[0] for name in tensors["optimizer"]} == set(learner.trainable())
    assert {name.rsplit("/", 1)[1] for name in tensors["optimizer"]} == {"step", "exp_avg", "exp_avg_sq"}


def test_states_are_stacked_in_the_order_of_their_documents(make):
    learner = make()
    for window in stream(5):
        learner.learn_one(window)
    state = saved(learner)
    tensors, documents = state["tensors"], state["documents"]
    entries = list(learner.carried.entries.items())
    assert [name for name, *_ in documents["learner"]["sessions"]] == [name for name, _ in entries]
    for index, (_, entry) in enumerate(entries):
        assert torch.equal(tensors["sessions"]["state.wkv"][:, [index]], entry.state.wkv)
        assert torch.equal(tensors["sessions"]["frozen.att_shift"][:, [index]], entry.frozen.att_shift)


@pytest.mark.parametrize("scope", [("state", "bias"), ("bias",), ("all",), ()], ids=str)
def test_another_scope_is_refused(make, scope):
    learner = make(scope=("state",))
    with pytest.raises(CheckpointError, match="another --scope: tensor '"):
        make(scope=scope).load_state_dict(saved(learner))
