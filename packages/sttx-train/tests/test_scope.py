"""Scopes: each is exactly the tensors that it names; everything else stays as it was, bit for bit."""

import copy

import numpy as np
import pytest
import torch

from sttx_core.errors import UsageError
from sttx_train.online import SCOPES, LearnerConfig, OnlineLearner, Window, parse_scopes
from sttx_train.online.scope import weights_in_scope

COMBINATIONS = [(), ("state",), ("bias",), ("vectors",), ("head",), ("all",), ("state", "bias", "vectors")]
IDS = (5, 9, 17, 33, 2, 60) * 4  # repeated, so that phrases and with them the hypernetwork come into play


def named(scope, weights):
    """The slow twin: the tensors that a scope names, written out."""
    found = set()
    if "vectors" in scope:
        found |= {name for name, weight in weights.items() if weight.squeeze().ndim == 1 or ".r_k" in name}
    if "head" in scope:
        found |= {"head.weight"}
    return set(weights) if "all" in scope else found


@pytest.mark.parametrize("scope", COMBINATIONS, ids=str)
def test_a_scope_names_its_weights_and_no_other(make_model, scope):
    model = make_model()
    weights = dict(model.named_parameters())
    chosen = weights_in_scope(model, scope)
    assert set(chosen) == named(scope, weights)
    assert all(chosen[name] is weights[name] for name in chosen)


def test_vectors_are_few_and_matrices_none(make_model):
    chosen = weights_in_scope(make_model(), ("vectors",))
    assert {"blocks.0.ln0.bias", "blocks.1.att.w0", "blocks.2.att.r_k", "blocks.0.ffn.x_k"} <= set(chosen)
    assert not any(name.endswith(("w1", "w2", "key.weight", "emb.weight", "head.weight")) for name in chosen)


@pytest.mark.parametrize("scope", COMBINATIONS, ids=str)
def test_what_is_not_named_is_bit_identical_and_holds_nothing(make_model, scope):
    model = make_model()
    before = copy.deepcopy(model.state_dict())
    learner = OnlineLearner(model, np.ones(61, dtype=int), LearnerConfig(scope=scope, phrases="on"))
    for number in range(3):
        learner.learn_one(Window(document=str(number % 2), ids=IDS))
    inside = named(scope, dict(model.named_parameters()))
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name]) == (name not in inside), name
        assert weight.requires_grad == (name in inside)
        assert weight.grad is None, "no gradient outlives its step"
    held = set() if learner.optimizer is None else {id(weight) for weight in learner.optimizer.state}
    assert held == {id(weight) for weight in learner.trainable().values()}


@pytest.mark.parametrize(
    ("scope", "own"),
    [((), set()), (("bias",), {"bias"}), (("head",), set()), (("state",), {"s0", "hypernet"})],
)
def test_the_learners_own_tensors_move_only_where_named(make_model, scope, own):
    learner = OnlineLearner(make_model(), np.ones(61, dtype=int), LearnerConfig(scope=scope, phrases="on"))
    mine = {"s0": learner.s0, "bias": learner.bias}
    before = {name: tensor.detach().clone() for name, tensor in mine.items()}
    for _ in range(3):
        learner.learn_one(Window(document="a", ids=IDS))
    assert {name for name, tensor in mine.items() if not torch.equal(tensor, before[name])} == own - {
        "hypernet"
    }
    assert {name.split(".")[0] for name in learner.trainable()} - {"blocks", "head"} == own


def test_the_frozen_model_is_a_copy_only_where_weights_learn(make_model):
    sizes = np.ones(61, dtype=int)
    shared = OnlineLearner(make_model(), sizes, LearnerConfig(scope=("state", "bias")))
    assert shared.frozen_model is shared.model
    apart = OnlineLearner(make_model(), sizes, LearnerConfig(scope=("head",)))
    assert apart.frozen_model.head.weight.data_ptr() != apart.model.head.weight.data_ptr()
    assert (
        OnlineLearner(make_model(), sizes, LearnerConfig(scope=("head",), frozen=False)).frozen_model
        is not None
    )


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("state", ("state",)),
        (" bias , state ", ("state", "bias")),
        ("all,all", ("all",)),
        (",".join(reversed(SCOPES)), SCOPES),
    ],
)
def test_lists_are_read_in_one_order_whatever_they_were_written_in(text, scope):
    assert parse_scopes(text) == scope


@pytest.mark.parametrize(
    ("text", "word"), [("", "''"), (" , ", "' , '"), ("state,heads", "'heads'"), ("State", "'State'")]
)
def test_what_is_no_scope_is_refused_by_name(text, word):
    with pytest.raises(
        UsageError, match=f"unknown scope {word}; choose among state, bias, vectors, head, all"
    ):
        parse_scopes(text)
