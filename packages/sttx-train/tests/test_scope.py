"""Scopes: each is exactly the tensors that it names; all others stay bit-identical."""

import copy

import numpy as np
import pytest
import torch

from sttx_core.errors import UsageError
from sttx_train.online import SCOPES, LearnerConfig, OnlineLearner, Window, parse_scopes
from sttx_train.online.scope import weights_in_scope

COMBINATIONS = [(), ("state",), ("bias",), ("vectors",), ("head",), ("all",), ("state", "bias", "vectors")]
IDS = (5, 9, 17, 33, 2, 60) * 4  # repeated, so that phrases are found and the hypernetwork is used


def named(scope, weights):
    """The slow twin: the tensors that a scope names, written out."""
    names = set()
    if "vectors" in scope:
        names |= {name for name, weight in weights.items() if weight.squeeze().ndim == 1 or ".r_k" in name}
    if "head" in scope:
        names |= {"head.weight"}
    return set(weights) if "all" in scope else names


@pytest.mark.parametrize("scope", COMBINATIONS, ids=str)
def test_a_scope_names_exactly_its_weights(make_model, scope):
    model = make_model()
    weights = dict(model.named_parameters())
    chosen = weights_in_scope(model, scope)
    assert set(chosen) == named(scope, weights)
    assert all(chosen[name] is weights[name] for name in chosen)


def test_the_vectors_include_no_matrix(make_model):
    chosen = weights_in_scope(make_model(), ("vectors",))
    assert {"blocks.0.ln0.bias", "blocks.1.att.w0", "blocks.2.att.r_k", "blocks.0.ffn.x_k"} <= set(chosen)
    assert not any(name.endswith(("w1", "w2", "key.weight", "emb.weight", "head.weight")) for name in chosen)


@pytest.mark.parametrize("scope", COMBINATIONS, ids=str)
def test_tensors_out_of_scope_stay_bit_identical_without_gradients(make_model, scope):
    model = make_model()
    before = copy.deepcopy(model.state_dict())
    learner = OnlineLearner(model, np.ones(61, dtype=int), LearnerConfig(scope=scope, phrases="on"))
    for number in range(3):
        learner.learn_one(Window(document=str(number % 2), ids=IDS))
    inside = named(scope, dict(model.named_parameters()))
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name]) == (name not in inside), name
        assert weight.requires_grad == (name in inside)
        assert weight.grad is None, "gradients are freed after a step"
    with_state = set() if learner.optimizer is None else {id(weight) for weight in learner.optimizer.state}
    assert with_state == {id(weight) for weight in learner.trainable().values()}


@pytest.mark.parametrize(
    ("scope", "own"),
    [((), set()), (("bias",), {"bias"}), (("head",), set()), (("state",), {"s0", "hypernet"})],
)
def test_the_learners_own_tensors_change_only_in_scope(make_model, scope, own):
    learner = OnlineLearner(make_model(), np.ones(61, dtype=int), LearnerConfig(scope=scope, phrases="on"))
    mine = {"s0": learner.s0, "bias": learner.bias}
    before = {name: tensor.detach().clone() for name, tensor in mine.items()}
    for _ in range(3):
        learner.learn_one(Window(document="a", ids=IDS))
    assert {name for name, tensor in mine.items() if not torch.equal(tensor, before[name])} == own - {
        "hypernet"
    }
    assert {name.split(".")[0] for name in learner.trainable()} - {"blocks", "head"} == own


def test_the_frozen_model_is_a_copy_only_if_weights_learn(make_model):
    sizes = np.ones(61, dtype=int)
    shared = OnlineLearner(make_model(), sizes, LearnerConfig(scope=("state", "bias")))
    assert shared.frozen_model is shared.model
    apart = OnlineLearner(make_model(), sizes, LearnerConfig(scope=("head",)))
    assert apart.frozen_model.head.weight.data_ptr() != apart.model.head.weight.data_ptr()
    twins = zip(apart.frozen_model.named_parameters(), apart.model.parameters(), strict=True)
    assert [name for (name, one), other in twins if one is not other] == ["head.weight"]
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
def test_the_order_of_a_list_does_not_matter(text, scope):
    assert parse_scopes(text) == scope


@pytest.mark.parametrize(
    ("text", "word"), [("", "''"), (" , ", "' , '"), ("state,heads", "'heads'"), ("State", "'State'")]
)
def test_unknown_scopes_are_refused_by_name(text, word):
    with pytest.raises(
        UsageError, match=f"unknown scope {word}; choose among state, bias, vectors, head, all"
    ):
        parse_scopes(text)
