"""Choosing while few probabilities are computed: the same token as from all of them."""

import numpy as np
import pytest

pytest.importorskip("numba", reason="needs sttx-core[experts]")

from sttx_core.experts import Experts, ExpertsConfig
from sttx_train import Predictor, Reader
from sttx_train.generate.config import SamplingConfig
from sttx_train.generate.sampler import Sampler

SMALL = ExpertsConfig(slot_bits=14, history_bits=12, index_bits=12)
V = 700
CONFIGS = {
    "plain": {},
    "greedy": {"temperature": 0},
    "cool": {"temperature": 0.7},
    "next to 0": {"temperature": 1e-300},
    "hot": {"temperature": 1.6},
    "top-k": {"top_k": 7},
    "top-k of all": {"top_k": 2 * V, "temperature": 0.9},
    "hot top-k": {"top_k": 40, "temperature": 2.0},
    "top-p": {"top_p": 0.9},
    "cool top-p": {"top_p": 0.95, "temperature": 0.8},
    "hot top-p": {"top_p": 0.6, "temperature": 1.3},
    "min-p": {"min_p": 0.05},
    "min-p of all": {"min_p": 1e-12},
    "typical": {"typical_p": 0.8},
    "top-k and typical": {"typical_p": 0.8, "top_k": 20},
    "all": {"temperature": 0.9, "top_k": 50, "top_p": 0.95, "min_p": 0.01, "typical_p": 0.95},
    "top-p and min-p": {"top_p": 0.95, "min_p": 0.02},
    "repetition": {"repetition_penalty": 1.3},
    "greedy repetition": {"repetition_penalty": 1.3, "temperature": 0},
    "presence": {"presence_penalty": 0.7, "temperature": 0.8},
    "negative presence": {"presence_penalty": -2.0, "top_p": 0.9},
    "frequency": {"frequency_penalty": 0.4, "penalty_decay": 0.9, "top_k": 5},
    "bias": {"logit_bias": ((5, 4.0), (6, -100.0), (699, 9.0))},
    "greedy bias": {"logit_bias": ((9, 12.0),), "temperature": 0},
    "everything": {
        "temperature": 0.8,
        "top_p": 0.97,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.1,
        "logit_bias": ((3, 1.0),),
    },
}


@pytest.fixture(scope="module")
def read():
    """Experts that have read a text, where they stand, and what a network says next: sure, unsure, equal."""
    dice = np.random.default_rng(2)
    words = [bytes(dice.integers(97, 105, dice.integers(1, 6)).tolist()) for _ in range(V - 4)]
    experts = Experts([b"", *words, b"", b"", b"zz"], SMALL)
    ids = np.tile(dice.integers(1, V - 4, 60), 5)
    logits = dice.standard_normal((len(ids), V)) * 2
    document = experts.document()
    experts.read(document, logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), ids)
    says = dice.standard_normal((3, V)) * np.array([[4.0], [1.0], [0.0]])
    return experts, document, says - np.log(np.exp(says).sum(axis=1, keepdims=True)), ids


@pytest.mark.parametrize("name", CONFIGS)
def test_the_token_is_that_from_all_probabilities(read, name):
    experts, document, says, ids = read
    never = np.zeros(V, bool)
    never[[V - 3, V - 2]] = True
    masks = [None, np.arange(V) % 3 > 0, np.isin(np.arange(V), [0, 4, 9, 80, 300]), np.arange(V) != ids[0]]
    seen = 0
    for seed in range(4):
        sampler = Sampler(SamplingConfig(**CONFIGS[name], seed=seed), never, order=experts.order)
        for step in range(8):
            row, allowed = says[step % 3], masks[(step + seed) % 4]
            expected = sampler.choose(experts.log_probs(document, row), allowed)
            assert sampler.choose(experts.next_token(document, row), allowed) == expected
            sampler.add(expected)
            seen += 1
    assert seen == 32


class Counted:
    """A next token that counts the parts in which its tokens stood at last."""

    def __init__(self, following):
        self.following, self.order, self.most = following, following.order, 0

    def parts(self, *args):
        parts = self.following.parts(*args)
        self.most = max(self.most, len(parts.first))
        return parts

    def walk(self, *args):
        return self.following.walk(*args)


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("greedy", 40),
        ("top-k", 40),
        ("cool top-p", 100),
        ("min-p", 60),
        ("greedy repetition", 120),
        ("typical", V),
    ],
)
def test_few_tokens_are_computed_where_few_are_likely(read, name, most):
    experts, document, says, ids = read
    sampler = Sampler(SamplingConfig(**CONFIGS[name]), np.zeros(V, bool), order=experts.order)
    for token in ids[:8]:
        sampler.add(int(token))
    sure = 3 * says[0] - np.log(np.exp(3 * says[0]).sum())
    following = Counted(experts.next_token(document, sure))
    sampler.choose(following)
    assert 0 < following.most <= most and (following.most == V) == (name == "typical")


def test_a_text_with_experts_is_the_same_from_all_probabilities(tiny, monkeypatch):
    predictor = Predictor(tiny())
    sampled = [
        SamplingConfig(seed=3),
        SamplingConfig(temperature=0),
        SamplingConfig(top_p=0.9, temperature=0.8),
    ]
    texts = [predictor.generate("ab ab ab", each, max_tokens=12) for each in sampled]
    fast = ["".join(text) for text in texts]
    monkeypatch.setattr(Reader, "expected", Reader.log_probs)
    slow = ["".join(predictor.generate("ab ab ab", each, max_tokens=12)) for each in sampled]
    assert fast == slow and any(fast)
