"""The online learner: gradients that reach S0 exactly, frozen weights, exact prices."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sttx_core.checks import check_learner
from sttx_core.errors import ModelError, SttxWarning, UsageError
from sttx_core.phrases import PhraseConfig
from sttx_train.online import LearnerConfig, OnlineLearner, Window
from sttx_train.rwkv7 import RWKV7, RWKV7Config

VOCAB = 40
SIZES = RWKV7Config(vocab_size=VOCAB, hidden_size=16, num_layers=3, head_size=8)


def make_model(dtype: torch.dtype = torch.float32) -> RWKV7:
    model = RWKV7(SIZES, backend="chunked").to(dtype)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(dtype)
            norm = "ln" in name and name.endswith("weight")
            parameter.copy_(1 + 0.1 * noise if norm else 0.3 * noise)
    return model


def make_learner(dtype: torch.dtype = torch.float32, **options: Any) -> OnlineLearner:
    return OnlineLearner(make_model(dtype), np.ones(VOCAB, dtype=int), LearnerConfig(**options))


def stream(count: int, length: int = 24, seed: int = 0, document: str = "a") -> list[Window]:
    """Return windows that repeat a few motifs, so that there is something to learn and to merge."""
    random = np.random.default_rng(seed)
    motifs = [list(random.integers(1, VOCAB, 6)) for _ in range(4)]
    ids: list[int] = []
    while len(ids) < count * length:
        ids += motifs[random.integers(4)]
    return [
        Window(document=document, ids=tuple(map(int, ids[i * length : (i + 1) * length])))
        for i in range(count)
    ]


def test_gradient_of_the_price_reaches_s0_exactly() -> None:
    """Finite differences of d(loss)/d(S0) through an injected window, in float64, in every layer."""
    learner = make_learner(torch.float64, phrases="on", replay_rows=0)
    windows = stream(8)
    for window in windows[:-1]:
        learner.learn_one(window)
    window = windows[-1]
    assert learner.carried.get("a").state is not None, "the window is not the first of its document"
    nats = learner.networks.read([window], [learner.carried.get("a")], phrases=True)[1].nats_B
    (grad,) = torch.autograd.grad(nats.sum(), learner.s0)

    def price() -> float:
        return learner.score_one(window).bits * math.log(2)

    entries = [(layer, head, 1 + layer, 2 * head + 3) for layer in range(3) for head in range(2)]
    for entry in entries:
        epsilon, before = 1e-5, float(learner.s0.detach()[entry])
        with torch.no_grad():
            learner.s0[entry] = before + epsilon
            up = price()
            learner.s0[entry] = before - epsilon
            down = price()
            learner.s0[entry] = before
        assert float(grad[entry]) == pytest.approx((up - down) / (2 * epsilon), rel=1e-5, abs=1e-9), entry
    assert all(grad[layer].abs().max() > 1e-6 for layer in range(3))


def test_gradient_and_size_of_s0_are_reported() -> None:
    learner = make_learner()
    reports = [learner.step([window]) for window in stream(3)]
    assert all(report.grad_s0 > 0 for report in reports)
    assert reports[0].norm_s0 > 0 and reports[-1].norm_s0 == float(learner.s0.detach().norm())


def test_frozen_weights_stay_bit_identical_without_gradients() -> None:
    learner = make_learner(phrases="on")
    before = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    for window in stream(6):
        learner.learn_one(window)
    for name, parameter in learner.model.named_parameters():
        assert torch.equal(parameter, before[name]), name
        assert parameter.grad is None and not parameter.requires_grad
    assert learner.optimizer is not None
    learned = {id(parameter) for parameter in learner.trainable().values()}
    assert {id(parameter) for parameter in learner.optimizer.state} <= learned


def test_without_learning_the_price_is_that_of_the_frozen_model() -> None:
    learner = make_learner(phrases="off", replay_rows=0, inject="none", lr_state=0.0)
    for window in stream(5):
        score = learner.step([window]).score
        assert score.bits == score.frozen_bits


def test_scoring_is_pure_and_equals_what_learning_pays() -> None:
    learner = make_learner(phrases="on", replay_rows=0)
    for window in stream(6):
        first, second = learner.score_one(window), learner.score_one(window)
        assert first == second
        assert learner.step([window]).score.bits == pytest.approx(first.bits, rel=1e-6)


TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}  # bits a token


@pytest.mark.parametrize("phrases", ["on", "off"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_scoring_many_equals_scoring_each(dtype: torch.dtype, phrases: Any) -> None:
    learner = make_learner(dtype, phrases=phrases, scope=("state", "bias"))
    for window in stream(6):
        learner.learn_one(window)
    others = [stream(1, length=9 + 7 * seed, seed=seed, document=str(seed))[0] for seed in range(4)]
    prompt = Window(document="p", ids=tuple(range(1, 9)), paid=(False,) * 5 + (True,) * 3)
    windows = [*stream(8)[6:], prompt, *others]
    together, alone = learner.score_many(windows), list(map(learner.score_one, windows))
    assert len(together) == len(windows)
    for one, each in zip(alone, together, strict=True):
        assert (one.bytes, one.tokens, one.model_steps) == (each.bytes, each.tokens, each.model_steps)
        assert each.bits == pytest.approx(one.bits, rel=0, abs=TOLERANCE[dtype] * one.tokens)
        assert each.frozen_bits == pytest.approx(one.frozen_bits, rel=0, abs=TOLERANCE[dtype] * one.tokens)


@pytest.mark.parametrize("phrases", ["on", "auto", "off"])
def test_learn_many_equals_the_loop(phrases: Any) -> None:
    loop, many = make_learner(phrases=phrases), make_learner(phrases=phrases)
    windows = [*stream(3, document="l"), *stream(3, seed=1, document="r")]
    for window in windows:
        loop.learn_one(window)
    many.learn_many(windows)
    assert_equal_states(many, loop)
    assert many.optimizer is not None and many.optimizer.state[many.s0]["step"] == len(windows)


def test_a_step_over_several_windows_is_one_optimizer_step() -> None:
    learner = make_learner(phrases="on")
    for pair in zip(stream(3, document="l"), stream(3, seed=1, document="r"), strict=True):
        learner.step(pair)
    assert learner.optimizer is not None and learner.optimizer.state[learner.s0]["step"] == 3


def test_no_windows_change_nothing() -> None:
    learner, untouched = make_learner(), make_learner()
    learner.learn_many([])
    assert learner.score_many([]) == []
    assert_equal_states(learner, untouched)


def test_two_windows_of_a_document_in_one_step_are_refused() -> None:
    learner = make_learner()
    with pytest.raises(UsageError, match="two windows of one step are of the same document"):
        learner.step(stream(2))
    assert_equal_states(learner, make_learner())


def assert_equal_states(one: OnlineLearner, other: OnlineLearner) -> None:
    state, expected = one.state_dict(), other.state_dict()
    assert state["documents"] == expected["documents"]
    for file, group in expected["tensors"].items():
        assert group.keys() == state["tensors"][file].keys()
        assert all(torch.equal(tensor, state["tensors"][file][name]) for name, tensor in group.items()), file


def held_bytes(learner: OnlineLearner) -> int:
    state = learner.state_dict()
    tensors = sum(tensor.nbytes for group in state["tensors"].values() for tensor in group.values())
    return tensors + len(json.dumps(state["documents"]))


@pytest.mark.parametrize(
    ("options", "measure"),
    [
        ({"phrases": "on"}, held_bytes),
        ({"phrases": "off", "replay_rows": 0, "frozen": False}, None),
        ({"scope": ("state", "bias", "vectors", "head")}, None),
    ],
    ids=["default", "plain", "weights"],
)
def test_conformance(options: dict[str, Any], measure: Any) -> None:
    config = LearnerConfig(**({"max_documents": 2, "replay_capacity": 4} | options))
    phrases = PhraseConfig(pair_window=40, threshold=2, capacity=4, max_length=4)

    def factory() -> OnlineLearner:
        return OnlineLearner(make_model(), np.ones(VOCAB, dtype=int), config, phrase_config=phrases)

    windows = [Window(document="abc"[at % 3], ids=one.ids) for at, one in enumerate(stream(4, length=14))]
    check_learner(factory, windows, measure=measure)


def test_bits_of_carried_windows_equal_one_long_window() -> None:
    windows = stream(5)
    learner = make_learner(torch.float64, phrases="off", replay_rows=0, lr_state=0.0)
    split = sum(learner.step([window]).score.bits for window in windows)
    ids = [token for window in windows for token in window.ids]
    logits, _ = learner.model(torch.tensor([[0, *ids[:-1]]]))
    whole = float(F.cross_entropy(logits[0], torch.tensor(ids), reduction="sum")) / math.log(2)
    assert split == pytest.approx(whole, rel=1e-9)


def test_loss_on_a_repeated_stream_falls() -> None:
    learner = make_learner(lr_state=0.05, phrases="on")
    windows = stream(4)
    rounds = [
        sum(learner.step([Window(document=str(i), ids=w.ids)]).score.bits for w in windows) for i in range(8)
    ]
    assert rounds[-1] < 0.8 * rounds[0]


@pytest.mark.parametrize("inject", ["every", "start", "none"])
def test_inject_decides_where_s0_enters(inject: str) -> None:
    learner = make_learner(inject=inject, phrases="off", replay_rows=0)
    first, second = stream(2)
    with torch.no_grad():
        learner.s0.normal_(generator=torch.Generator().manual_seed(1))
    fresh = learner.score_one(first)
    assert (fresh.bits != fresh.frozen_bits) == (inject != "none")
    reached = learner.step([first]), learner.step([second])
    assert (reached[1].grad_s0 > 0) == (inject == "every")


@pytest.mark.parametrize(
    ("scope", "moving"),
    [
        (("state",), set()),
        (("bias",), set()),
        (("vectors",), {"blocks.0.att.x_r", "blocks.1.att.r_k", "ln_out.weight"}),
        (("head",), {"head.weight"}),
        (("all",), {"emb.weight", "head.weight", "blocks.2.ffn.key.weight", "blocks.0.att.w1"}),
    ],
)
def test_each_scope_changes_exactly_the_tensors_it_names(scope: tuple[Any, ...], moving: set[str]) -> None:
    learner = make_learner(scope=scope, phrases="on")
    before = {name: parameter.detach().clone() for name, parameter in learner.model.named_parameters()}
    s0, bias = learner.s0.detach().clone(), learner.bias.detach().clone()
    hyper = [parameter.detach().clone() for parameter in learner.hypernet.parameters()]
    for window in stream(4):
        learner.learn_one(window)
    moved = {n for n, p in learner.model.named_parameters() if not torch.equal(p, before[n])}
    assert moved <= set(learner.trainable()) and moving <= moved
    assert bool(moved) == bool(moving)
    assert torch.equal(s0, learner.s0) == ("state" not in scope)
    assert torch.equal(bias, learner.bias) == ("bias" not in scope)
    changed = any(not torch.equal(a, b) for a, b in zip(hyper, learner.hypernet.parameters(), strict=True))
    assert changed == ("state" in scope)
    assert set(learner.trainable()) == {
        name
        for name in [
            *before,
            "s0",
            "bias",
            *(f"hypernet.{n}" for n, _ in learner.hypernet.named_parameters()),
        ]
        if (name in learner.weights)
        or (name == "bias" and "bias" in scope)
        or (name.startswith(("s0", "hypernet")) and "state" in scope)
    }


def test_the_frozen_price_is_that_of_the_model_as_loaded() -> None:
    windows = stream(4)
    plain = make_learner(phrases="off")
    wide = make_learner(phrases="off", scope=("state", "all"), lr_weights=0.05)
    for window in windows:
        assert wide.step([window]).score.frozen_bits == plain.step([window]).score.frozen_bits


def test_documents_of_a_batch_cost_the_same_as_alone() -> None:
    options: dict[str, Any] = {"phrases": "off", "replay_rows": 0, "lr_state": 0.0}
    left, right = stream(3, seed=1, document="l"), stream(3, length=17, seed=2, document="r")
    alone = make_learner(torch.float64, **options)
    expected = [sum(alone.step([w]).score.bits for w in pair) for pair in zip(left, right, strict=True)]
    together = make_learner(torch.float64, **options)
    for pair, bits in zip(zip(left, right, strict=True), expected, strict=True):
        assert together.step(list(pair)).score.bits == pytest.approx(bits, rel=1e-9)


def test_replayed_windows_start_from_the_states_of_the_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_learner(torch.float64, replay_rows=3, phrases="off")
    left, right = stream(4, document="l"), stream(4, seed=1, document="r")
    for pair in zip(left[:3], right[:3], strict=True):
        learner.step(list(pair))
    expected = [learner.carried.get(name).state.wkv + learner.s0.unsqueeze(1) for name in "lrlrl"]
    starts: list[torch.Tensor] = []
    forward = learner.head.forward
    monkeypatch.setattr(
        learner.head, "forward", lambda batch, state, bias: starts.append(state.wkv) or forward(batch, state)
    )
    learner.step([left[3], right[3]])
    assert torch.equal(starts[0], torch.cat(expected, dim=1))


def test_replayed_windows_start_from_s0_if_it_enters_at_the_start() -> None:
    learner = make_learner(replay_rows=1, phrases="off", inject="start")
    reports = [learner.step([window]) for window in stream(3)]
    assert [report.replayed for report in reports] == [0, 1, 1]
    assert all(report.grad_s0 > 0 for report in reports)


@pytest.mark.parametrize("frozen", [True, False])
def test_the_gate_observes_the_price_and_its_reference(frozen: bool) -> None:
    learner = make_learner(phrases="auto", frozen=frozen)
    observed: list[tuple[float, float]] = []
    learner.gate.observe = lambda *prices: observed.append(prices)  # type: ignore[method-assign]
    scores = [learner.step([window]).score for window in stream(3)]
    assert observed == [(score.bits, score.frozen_bits if frozen else score.bytes) for score in scores]


def test_only_s0_and_the_hypernetwork_have_no_momentum() -> None:
    optimizer = make_learner(scope=("state", "bias", "vectors")).optimizer
    assert optimizer is not None
    without = {group["name"].split(".")[0] for group in optimizer.param_groups if group["betas"][0] == 0}
    assert without == {"s0", "hypernet"}


def test_replayed_windows_are_drawn_refreshed_and_learned_from() -> None:
    learner = make_learner(replay_rows=2, phrases="off")
    reports = [learner.step([window]) for window in stream(5)]
    assert [report.replayed for report in reports] == [0, 2, 2, 2, 2]
    assert len(learner.replay) == 5 and learner.replay.draws == 8
    silent = make_learner(replay_rows=2, replay_weight=0.0, phrases="off")
    for window in stream(5):
        silent.learn_one(window)
    assert not torch.equal(silent.s0, learner.s0)


def test_memory_is_flat_over_a_long_stream() -> None:
    learner = make_learner(replay_capacity=8, max_documents=3, phrases="on")
    sizes = []
    for index, window in enumerate(stream(60)):
        learner.learn_one(Window(document=str(index % 9), ids=window.ids))
        states = sum(e.state.nbytes + e.frozen.nbytes for e in learner.carried.entries.values())  # type: ignore[union-attr]
        sizes.append(states + sum(len(d.item) for d in learner.replay.draw(0)))
    assert len(learner.carried) == 3 and len(learner.replay) == 8
    assert sizes[-1] == sizes[10]
    assert len(learner.table) <= 256


def test_windows_that_are_not_paid_for_teach_nothing() -> None:
    learner = make_learner(replay_rows=0)
    first, prompt, last = stream(3)
    learner.learn_one(first)
    before = {name: weight.detach().clone() for name, weight in learner.trainable().items()}
    unpaid = Window(document=prompt.document, ids=prompt.ids, paid=(False,) * len(prompt.ids))
    report = learner.step([unpaid])
    assert (report.score.bits, report.score.bytes, report.grad_norm) == (0, 0, 0)
    assert all(torch.equal(before[name], weight) for name, weight in learner.trainable().items())
    learner.learn_one(last)
    assert not torch.equal(before["s0"], learner.s0)


def test_the_hypernetwork_does_not_change_while_phrases_are_off() -> None:
    learner = make_learner(phrases="auto", lr_hypernet=0.1)
    windows = stream(12)
    for window in windows[:8]:
        learner.learn_one(window)
    learner.gate.on = False
    before = [weight.detach().clone() for weight in learner.hypernet.parameters()]
    learner.learn_one(windows[8])
    assert all(map(torch.equal, before, learner.hypernet.parameters()))
    learner.gate.on = True
    learner.learn_one(windows[9])
    assert not all(map(torch.equal, before, learner.hypernet.parameters()))


def test_steps_without_a_finite_gradient_are_skipped_and_counted() -> None:
    learner = make_learner(phrases="off", replay_rows=0)
    learner.s0.register_hook(lambda grad: grad * math.inf)
    learner.learn_one(stream(1)[0])
    assert learner.skipped_steps == 1
    assert not learner.s0.detach().any()


@pytest.mark.parametrize("replay_rows", [0, 1])
def test_a_price_that_is_not_finite_is_refused_and_changes_nothing(replay_rows: int) -> None:
    learner = make_learner(phrases="on", replay_rows=replay_rows)
    first, second = stream(2)
    learner.learn_one(first)
    with torch.no_grad():
        learner.s0[0, 0, 0, 0] = math.nan
    before = learner.carried.get(first.document), len(learner.table), len(learner.replay)
    with pytest.raises(ModelError, match="the loss is not finite"):
        learner.learn_one(second)
    assert before == (learner.carried.get(first.document), len(learner.table), len(learner.replay))


def zero_outputs(model: RWKV7, layers: int) -> RWKV7:
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in {f"blocks.{layer}.att.output.weight" for layer in range(layers)}:
                weight.zero_()
    return model


def test_a_model_whose_s0_cannot_learn_is_reported_once() -> None:
    model = zero_outputs(make_model(), layers=3)
    with pytest.warns(SttxWarning, match="^S0 cannot learn: the attention output matrices") as caught:
        learner = OnlineLearner(model, np.ones(VOCAB, dtype=int))
        reports = [learner.step([window]) for window in stream(3)]
    assert len(caught) == 1
    assert all(report.grad_s0 == 0 for report in reports)


@pytest.mark.parametrize(
    ("layers", "options"),
    [
        (2, {}),
        (3, {"scope": ("bias",)}),
        (3, {"scope": ("state", "all")}),
        (3, {"inject": "none"}),
    ],
    ids=["one layer suffices", "S0 does not learn", "the matrices learn", "S0 is not used"],
)
def test_other_models_are_not_reported(layers: int, options: dict[str, Any]) -> None:
    model = zero_outputs(make_model(), layers)  # a warning would be an error
    learner = OnlineLearner(model, np.ones(VOCAB, dtype=int), LearnerConfig(**options))
    reports = [learner.step([window]) for window in stream(3)]
    assert (reports[-1].grad_s0 > 0) == ("inject" not in options and "bias" not in learner.config.scope)


@pytest.mark.parametrize(
    "options",
    [
        {"lr_state": -1.0},
        {"weight_decay": -0.1},
        {"clip": 0.0},
        {"clip": math.nan},
        {"max_documents": 0},
        {"replay_rows": -1},
        {"phrases": "maybe"},
        {"inject": "sometimes"},
        {"scope": ("state", "nonsense")},
        {"scope": "state"},
    ],
    ids=str,
)
def test_bad_options_are_refused_by_name(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}"):
        make_learner(**options)
