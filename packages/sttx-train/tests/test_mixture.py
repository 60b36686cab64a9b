"""Experts beside the networks: what they make a window cost, and that a run with them is exact."""

import json

import numpy as np
import pytest
import torch

from sttx_core.errors import CheckpointError, UsageError
from sttx_core.experts import ExpertsConfig
from sttx_train.online import LearnerConfig, Mixture, OnlineLearner, Window

SMALL = ExpertsConfig(slot_bits=12, history_bits=12, index_bits=8)
TOKENS = [b"", *(bytes([byte]) for byte in range(40, 100))]
IDS = (5, 9, 17, 33, 2, 60, 41, 7)


def mixture(capacity=64, tokens=TOKENS):
    return Mixture(tokens, capacity, SMALL)


@pytest.fixture
def make_learner(make_model):
    def make(beside=True, **options):
        config = LearnerConfig(**({"phrases": "off"} | options))
        lengths = np.ones(61, dtype=int)
        return OnlineLearner(make_model(), lengths, config, mixture=mixture() if beside else None)

    return make


def window(document="a", ids=IDS, paid=None):
    return Window(document=document, ids=ids, paid=paid)


def test_the_network_learns_the_same_with_experts_and_without(make_learner):
    beside, alone = make_learner(), make_learner(beside=False)
    for number in range(6):
        one, other = (learner.step([window(str(number % 2))]).score for learner in (beside, alone))
        assert (one.network_bits, one.frozen_bits) == (other.network_bits, other.frozen_bits)
        assert other.bits == other.network_bits != one.bits
    assert torch.equal(beside.s0, alone.s0)


def test_experts_make_a_repeated_text_cheap(make_learner):
    learner = make_learner(lr_state=0.0)
    scores = [learner.step([window(str(number))]).score for number in range(8)]
    assert scores[-1].bits < 0.3 * scores[0].bits
    assert scores[-1].network_bits == pytest.approx(scores[0].network_bits, rel=0.01)


def test_a_window_costs_what_the_experts_say_of_both_networks(make_learner):
    learner, twin = make_learner(), mixture().experts
    place = twin.document()
    learner.learn_one(window())
    learned, frozen = (makes_log_p(learner, which) for which in ("learned", "frozen"))
    assert not torch.equal(learned, frozen)
    first = makes_log_p(make_learner(), "frozen")
    twin.read(place, first.numpy(), np.array(IDS), first.numpy())
    expected = twin.read(place, learned.numpy(), np.array(IDS), frozen.numpy())
    assert learner.step([window()]).score.bits == pytest.approx(expected.sum(), abs=1e-4)


def makes_log_p(learner, which):
    carried = [learner.carried.get("a")]
    with torch.no_grad():
        if which == "frozen":
            return learner.networks.read_frozen([window()], carried).log_p_MV
        return learner.networks.read([window()], carried, phrases=False)[1].log_p_MV


def test_scoring_is_pure_and_equals_what_is_paid(make_learner):
    learner = make_learner()
    for number in range(4):
        one = window(str(number % 2))
        first, second = learner.score_one(one), learner.score_one(one)
        assert first == second
        assert learner.step([one]).score.bits == pytest.approx(first.bits, abs=1e-4 * len(IDS))


def test_tokens_that_are_not_paid_for_are_read(make_learner):
    informed, fresh = make_learner(), make_learner()
    informed.step([window("p", paid=(False,) * len(IDS))])
    assert informed.mixture.experts.tokens_read == len(IDS)
    assert informed.step([window("q")]).score.bits < 0.8 * fresh.step([window("q")]).score.bits
    half = (False,) * 4 + (True,) * 4
    score = informed.score_one(window("r", paid=half))
    assert score.bytes == 4 and score.bits < informed.score_one(window("r")).bits


def test_in_phrases_the_frozen_network_stands_in(make_learner):
    reading, plain = (make_learner(phrases=mode, lr_state=0.0, replay_rows=0) for mode in ("on", "off"))
    for number in range(12):
        one, other = (learner.step([window(str(number))]).score for learner in (reading, plain))
        assert one.bits == other.bits
    assert reading.table.live() and one.model_steps < other.model_steps


def test_a_saved_learner_continues_exactly(make_learner):
    whole, halved = make_learner(), make_learner()
    for number in range(5):
        for learner in (whole, halved):
            learner.step([window(str(number % 3))])
    state = halved.state_dict()
    resumed = make_learner()
    documents = json.loads(json.dumps(state["documents"]))
    resumed.load_state_dict({"tensors": state["tensors"], "documents": documents})
    for number in range(5):
        assert whole.step([window(str(number))]).score == resumed.step([window(str(number))]).score
    one, other = whole.state_dict(), resumed.state_dict()
    assert one["documents"] == other["documents"]
    assert all(torch.equal(t, other["tensors"]["experts"][n]) for n, t in one["tensors"]["experts"].items())


@pytest.mark.parametrize("beside", [True, False])
def test_a_state_of_a_learner_with_other_experts_is_refused(make_learner, beside):
    saved = make_learner(beside=not beside).state_dict()
    with pytest.raises(CheckpointError, match="it was saved with"):
        make_learner(beside=beside).load_state_dict(saved)


def test_the_least_recently_read_document_starts_again():
    one = mixture(capacity=2)
    uniform = torch.full((len(IDS), 61), -np.log(61))
    for name in ("a", "b", "a", "c"):
        one.read(name, IDS, uniform, None)
    assert list(one.documents) == ["a", "c"]


def spoil_places(tensors):
    tensors["slots.at"] = tensors["slots.at"].flip(0)


def spoil_reach(tensors):
    tensors["slots.at"] = tensors["slots.at"].clone()
    tensors["slots.at"][-1] = 1 << 30


def spoil_dtype(tensors):
    tensors["slots.values"] = tensors["slots.values"].float()


def spoil_kind_of_number(tensors):
    tensors["slots.values"] = tensors["slots.values"].bfloat16()  # numpy has no such dtype


def spoil_name(tensors):
    tensors["x" * 5000] = tensors.pop("weights.at")


def spoil_rows(tensors):
    tensors["document.match"] = tensors["document.match"][:-1]


def spoil_range(tensors):
    tensors["history.values"] = tensors["history.values"] + 1000


SPOILS = [spoil_places, spoil_reach, spoil_dtype, spoil_kind_of_number, spoil_name, spoil_rows, spoil_range]


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
def test_a_damaged_memory_is_refused(spoil):
    one = mixture()
    one.read("a", IDS, torch.full((len(IDS), 61), -np.log(61)), None)
    state = one.state_dict()
    spoil(state["tensors"])
    with pytest.raises(CheckpointError, match="does not fit") as refused:
        mixture().load_state_dict(state)
    assert len(str(refused.value)) < 300


def test_the_mixed_loss_has_the_gradient_of_what_is_paid(make_learner):
    """Finite differences of the price by the log-probabilities, with experts that have read something."""
    one = mixture()
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(len(IDS), 61, generator=generator, dtype=torch.float64)
    frozen = torch.randn(len(IDS), 61, generator=generator, dtype=torch.float64).log_softmax(-1)
    one.read("a", IDS, logits.log_softmax(-1), frozen)
    state = one.state_dict()

    def price(values):
        fresh = mixture()
        fresh.load_state_dict(state)
        return fresh.pay([window()], [values.log_softmax(-1)], [frozen], loss=True)

    free = logits.clone().requires_grad_()
    price(free)[1].backward()
    assert free.grad.abs().sum() > 0.01
    for token in (5, IDS[-1], 60):
        step = torch.zeros_like(logits)
        step[-1, token] = 1e-2  # in the last place: elsewhere it would also change what the experts learn
        difference = price(logits + step)[0][0].sum() - price(logits - step)[0][0].sum()
        assert free.grad[-1, token] == pytest.approx(difference / 2e-2 * np.log(2), rel=1e-2)


def test_with_the_mixed_loss_a_certain_expert_leaves_nothing_to_learn(make_learner):
    mixed, plain = make_learner(loss="mixed", replay_rows=0), make_learner(replay_rows=0)
    for number in range(30):
        norms = [learner.step([window(str(number))]).grad_norm for learner in (mixed, plain)]
    assert 0 < norms[0] < 0.2 * norms[1]


def test_the_mixed_loss_needs_experts(make_learner):
    with pytest.raises(UsageError, match="--loss mixed needs experts"):
        make_learner(beside=False, loss="mixed")


def test_a_step_reports_the_price_of_every_token(make_learner):
    learner = make_learner()
    learner.learn_one(window())
    half = (True,) * 3 + (False,) * 5
    report = learner.step([window(), window("b", paid=half)])
    for name in ("bits", "network", "frozen"):
        prices = [getattr(one, name) for one in report.prices]
        assert [len(one) for one in prices] == [len(IDS)] * 2 and not prices[1][3:].any()
        total = getattr(report.score, "bits" if name == "bits" else f"{name}_bits")
        assert sum(one.sum() for one in prices) == pytest.approx(total, rel=1e-5)


def test_the_price_of_every_token_is_known_without_experts_or_within_phrases_but_not_both(make_learner):
    report = make_learner(beside=False).step([window()])
    [alone] = report.prices
    assert alone.bits.sum() == pytest.approx(report.score.bits, rel=1e-5)
    assert np.array_equal(alone.bits, alone.network)
    report = make_learner(phrases="on").step([window()])
    [phrases] = report.prices
    assert phrases.bits.sum() == pytest.approx(report.score.bits) and np.isnan(phrases.network).all()
    assert make_learner(beside=False, phrases="on").step([window()]).prices is None
    half = window(paid=(True,) * 3 + (False,) * 5)
    assert make_learner(beside=False).step([half]).prices is None
