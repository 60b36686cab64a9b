"""Policies: what is parsed, printed back, decided at each position, and refused; and a stream that obeys."""

import pytest
import torch

from sttx_core.errors import UsageError
from sttx_train.online import LearnerConfig
from sttx_train.online.policy import Policy, Train
from sttx_train.stream import StreamConfig, StreamTrainer

CANONICAL = [
    "schedule=0..:train",
    "schedule=0..:infer",
    "schedule=0..10%:train(scope=state+bias,opt=adam,lr=0.3,stride=2,bptt=1,clip=0.5);10%..:infer",
    "schedule=0..1000:train(opt=sgd,lr=1e-05,momentum=0.9);1000..5000:infer;5000..:train(scope=all)",
    "schedule=0..100:infer;100..:repeat(30:train(lr=0.1,clip=2),70:infer)",
    "schedule=0..12.5%:infer;12.5%..:train",
    "schedule=0..:train(scope=all);load_from=a folder;(1",
]


@pytest.mark.parametrize("text", CANONICAL)
def test_a_canonical_text_is_printed_back(text):
    assert str(Policy.parse(text)) == text
    assert Policy.parse(str(Policy.parse(text))) == Policy.parse(text)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (" schedule = 0 .. 5 : train( lr = 0.10 ) ; 5..:infer", "schedule=0..5:train(lr=0.1);5..:infer"),
        ("schedule=0%..100%:train(scope=bias+state)", "schedule=0..:train(scope=state+bias)"),
        ("schedule=0..10.0%:infer;10%..100%:train", "schedule=0..10%:infer;10%..:train"),
        ("schedule=0..: train(scope=s0);load_from= run ", "schedule=0..:train(scope=state);load_from=run"),
    ],
)
def test_other_texts_have_a_canonical_one(text, canonical):
    assert str(Policy.parse(text)) == canonical


def test_what_is_done_at_each_position():
    policy = Policy.parse("schedule=0..100:train(lr=0.1);100..:repeat(30:train(stride=4),70:infer)")
    positions = (0, 99, 100, 129, 130, 199, 200, 230, 10**9)
    done = list(map(policy.action_at, positions))
    warm, turn = Train(lr=0.1), Train(stride=4)
    assert done == [warm, warm, turn, turn, None, None, turn, None, turn]
    assert policy.actions() == [warm, turn]


def test_percentages_need_a_length():
    policy = Policy.parse("schedule=0..25%:train;25%..:infer")
    assert policy.action_at(249, 1000) == Train() and policy.action_at(250, 1000) is None
    with pytest.raises(UsageError, match="known length"):
        policy.action_at(0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must start with 'schedule='"),
        ("schedule=", "START..END:ACTION"),
        ("schedule=0..10:train", "last phase has no end"),
        ("schedule=0..10%:train", "last phase has no end"),
        ("schedule=5..:train", "from 0 on"),
        ("schedule=0..10:train;20..:infer", "from 0 on: that at 20"),
        ("schedule=0..10:train;5..:infer", "from 0 on"),
        ("schedule=0..:train;10..:infer", "from 0 on"),
        ("schedule=0..10:train;10..10:train;10..:infer", "from 0 on"),
        ("schedule=0..10%:train;10..:infer", "do not mix"),
        ("schedule=0..10:train;10..20%:infer;20%..:train", "do not mix"),
        ("schedule=0..101%:train;101%..:infer", "up to 100%"),
        ("schedule=0..1.5:train;1.5..:infer", "number of bytes"),
        ("schedule=0..-1:train", "number of bytes"),
        ("schedule=0..:sleep", "'sleep' is unknown"),
        ("schedule=0..:train()", "option '' is unknown"),
        ("schedule=0..:train(rate=1)", "'rate=1' is unknown"),
        ("schedule=0..:train(lr=1,lr=2)", "'lr' is there twice"),
        ("schedule=0..:train(lr=fast)", "lr cannot be 'fast'"),
        ("schedule=0..:train(lr=nan)", "lr cannot be nan"),
        ("schedule=0..:train(lr=-1)", "lr cannot be -1"),
        ("schedule=0..:train(clip=0)", "clip cannot be 0"),
        ("schedule=0..:train(stride=0)", "stride must be at least 1"),
        ("schedule=0..:train(bptt=0)", "bptt must be at least 1"),
        ("schedule=0..:train(bptt=2)", "bptt is 1"),
        ("schedule=0..:train;load_from= ", "load_from is empty"),
        ("schedule=0..:train(stride=1.5)", "stride cannot be '1.5'"),
        ("schedule=0..:train(opt=lion)", "adam or sgd"),
        ("schedule=0..:train(momentum=0.9)", "goes with opt=sgd"),
        ("schedule=0..:train(opt=sgd,momentum=1)", "momentum cannot be 1"),
        ("schedule=0..:train(scope=nothing)", "scope 'nothing' is unknown"),
        ("schedule=0..:repeat(train)", "BYTES:ACTION"),
        ("schedule=0..:repeat(0:train)", "BYTES:ACTION"),
        ("schedule=0..:repeat(5:repeat(5:train))", "is unknown"),
    ],
)
def test_what_is_no_policy_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        Policy.parse(text)


# --- a stream that obeys


@pytest.fixture
def make(tiny, tmp_path):
    """Return a function that makes a trainer by a policy."""

    def trainer(policy=None, directory=None, *, scope=("state", "bias"), resume=False, **stream):
        return StreamTrainer(
            tiny(),
            LearnerConfig(scope=scope, phrases="off", replay_rows=0),
            StreamConfig(window=32, experts="off", policy=policy, checkpoint_every=0, **stream),
            directory=tmp_path / directory if directory else None,
            resume=resume,
        )

    return trainer


def learned(trainer, traces):
    """Run, and return for each step the bytes before it, and which tensors changed."""
    before, steps = {}, []
    for name, tensor in trainer.learner.trainable().items():
        before[name] = tensor.detach().clone()
    size = 0

    def look(progress):
        nonlocal size
        changed = set()
        for name, tensor in trainer.learner.trainable().items():
            if not torch.equal(tensor, before[name]):
                changed.add(name.partition(".")[0])
                before[name] = tensor.detach().clone()
        steps.append((size, changed - {"hypernet"}))
        size = progress.totals.bytes

    trainer.run(traces, look)
    return steps


def test_each_phase_learns_what_it_names(make, talk):
    policy = "schedule=0..100:train(scope=bias);100..200:infer;200..:repeat(64:train(scope=state),64:infer)"
    steps = learned(make(policy), talk(24))
    expected = {True: {"s0"}, False: set()}
    for size, changed in steps:
        late = expected[(size - 200) % 128 < 64]
        assert changed == ({"bias"} if size < 100 else set() if size < 200 else late), size
    assert {tuple(changed) for _, changed in steps} == {(), ("s0",), ("bias",)}


def test_percentages_are_of_the_steps(make, talk):
    steps = learned(make("schedule=0..50%:train;50%..:infer", steps=8), talk(24))
    assert [bool(changed) for _, changed in steps] == [True] * 4 + [False] * 4


def test_a_stride_leaves_steps_out(make, talk):
    steps = learned(make("schedule=0..:train(stride=3)", steps=7), talk(24))
    assert [bool(changed) for _, changed in steps] == [True, False, False, True, False, False, True]


def test_to_infer_is_to_pay_for_the_frozen_model(make, talk):
    trainer = make("schedule=0..:infer", steps=6)
    trainer.run(talk(24))
    assert trainer.totals.network_bits == pytest.approx(trainer.totals.frozen_bits)
    assert not trainer.learner.s0.any() and not trainer.learner.bias.any()


def test_to_train_always_is_to_have_no_policy(make, talk):
    runs = [make(policy, steps=5) for policy in (None, "schedule=0..:train", "schedule=0..:train(opt=adam)")]
    for trainer in runs:
        trainer.run(talk(24))
    assert len({trainer.totals.bits for trainer in runs}) == 1
    assert torch.equal(runs[0].learner.s0, runs[1].learner.s0)


def test_sgd_rates_and_clips_have_an_effect(make, talk):
    def moved(options):
        trainer = make(f"schedule=0..:train({options})", steps=1, scope=("bias",))
        trainer.run(talk(8))
        return float(trainer.learner.bias.detach().norm())

    plain = moved("opt=sgd,lr=0.5,clip=1000")
    assert moved("opt=sgd,lr=0.25,clip=1000") == pytest.approx(plain / 2)
    assert moved("opt=sgd,lr=0.5,clip=0.001") == pytest.approx(0.0005, rel=1e-3)
    assert moved("lr=0.02") == pytest.approx(2 * moved("lr=0.01"))
    assert moved("lr=0") == 0


def test_momentum_adds_the_last_step_and_is_saved(make, talk):
    def moves(options, steps):
        trainer = make(f"schedule=0..:train(opt=sgd,lr=0,{options})", steps=steps, scope=("bias",))
        trainer.run(talk(24))
        return trainer.learner.optimizer.last_steps

    assert not moves("momentum=0", 2)
    [first], [second] = (moves("momentum=0.5,clip=1000", steps).values() for steps in (1, 2))
    assert not torch.equal(first, second)
    policy, traces = "schedule=0..:train(opt=sgd,lr=0.1,momentum=0.9)", talk(24)
    whole = make(policy)
    whole.run(traces)
    make(policy, "run", steps=5).run(traces)
    again = make(policy, "run", resume=True)
    again.run(traces[sum(again.taken.values()) :])
    assert torch.equal(again.learner.s0, whole.learner.s0) and again.learner.s0.any()
    plain = make("schedule=0..:train(opt=sgd,lr=0.1)")
    plain.run(traces)
    assert not torch.equal(plain.learner.s0, whole.learner.s0)


def test_a_run_resumes_inside_a_schedule(make, talk):
    policy, traces = "schedule=0..150:train;150..:repeat(96:infer,64:train(lr=0.1))", talk(24)
    whole = make(policy)
    whole.run(traces)
    make(policy, "run", steps=5).run(traces)
    again = make(policy, "run", resume=True)
    again.run(traces[sum(again.taken.values()) :])
    assert again.totals.bits == pytest.approx(whole.totals.bits, abs=1e-6)
    assert torch.equal(again.learner.s0, whole.learner.s0)
    with pytest.raises(UsageError, match="--policy"):
        make("schedule=0..:train", "run", resume=True)
    with pytest.raises(UsageError, match="--policy"):
        make(None, "run", resume=True)


def test_a_run_goes_on_from_another_one_and_resumes_without_it(make, talk, tmp_path):
    make(None, "first", steps=4).run(talk(24))
    policy = f"schedule=0..:train;load_from={tmp_path / 'first'}"
    whole, part = make(policy, steps=6), make(policy, "run", steps=3)
    assert torch.equal(part.learner.s0, make(None, "first", resume=True).learner.s0) and part.learner.s0.any()
    whole.run(talk(24))
    part.run(talk(24))
    (tmp_path / "first").rename(tmp_path / "gone")
    again = make(policy, "run", steps=6, resume=True)
    again.run(talk(24)[sum(again.taken.values()) :])
    assert torch.equal(again.learner.s0, whole.learner.s0)
    plain = make(None, steps=6)
    plain.run(talk(24))
    assert not torch.equal(plain.learner.s0, whole.learner.s0)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("schedule=0..10%:train;10%..:infer", "give --steps"),
        ("schedule=0..:train(scope=head)", "add it to --scope"),
    ],
)
def test_what_has_no_effect_on_a_stream_is_refused(make, policy, message):
    with pytest.raises(UsageError, match=message):
        make(policy)


def test_turns_in_bytes_do_not_go_with_percentages_of_steps(make):
    with pytest.raises(UsageError, match="a repeat in bytes"):
        make("schedule=0..10%:train;10%..:repeat(5:train,5:infer)", steps=9)
