"""Training an adapter, its control, and the evaluation with all arms, on tiny models."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sttx_core.errors import CheckpointError, DataError, UsageError
from sttx_core.memory.bm25 import bm25_top
from sttx_train.memory import (
    AttachedMemory,
    Evaluator,
    MemoryConfig,
    MemoryEvalConfig,
    MemoryTrainConfig,
    MemoryTrainer,
    attach,
)
from sttx_train.memory.evaluation import WITH_STATE, WITH_TEXT
from sttx_train.memory.lora import LowRank, read_control
from sttx_train.memory.training import nats_of, write_windows
from sttx_train.memory.verdict import memory_report, verdict
from sttx_train.memory.windows import SessionTokens, drawn, long_enough, split_sessions, spread

from .memory_models import a_model, train_at_random, words

QUICK = MemoryTrainConfig(steps=4, batch=2, write=20, score=12, lead=4, lr=0.01, warmup=1, checkpoint_every=2)
EVAL = MemoryEvalConfig(write=20, score=12, lead=4, windows=2, pieces=2, piece=5)


def some_sessions(count: int = 4, length: int = 90) -> list[SessionTokens]:
    return [
        SessionTokens(
            sha256=f"{seed:064d}",
            ids=np.array(words(length, seed), np.int64),
            ends=np.arange(2, 2 * length + 1, 2, dtype=np.int64),
        )
        for seed in range(count)
    ]


def a_memory(seed: int = 0) -> AttachedMemory:
    return attach(a_model(), MemoryConfig(rank=4, slots=3, chunk=5, seed=seed))


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: one.clone() for name, one in module.state_dict().items()}


@pytest.mark.parametrize("controlled", [False, True])
def test_a_run_that_resumes_ends_with_the_same_bits(controlled, tmp_path: Path):
    def trainer(folder: Path | None, resume: bool = False) -> MemoryTrainer:
        memory = a_memory()
        control = LowRank(memory) if controlled else None
        return MemoryTrainer(memory, some_sessions(), QUICK, directory=folder, resume=resume, control=control)

    whole = trainer(None)
    base = weights(whole.memory.model)
    before = weights(whole.learns)
    whole.run()
    trainer(tmp_path).run(stop=lambda: True)
    assert trainer(tmp_path, resume=True).step == 1
    resumed = trainer(tmp_path, resume=True)
    resumed.run()
    assert resumed.step == 4
    after = weights(whole.learns)
    assert all(torch.equal(one, after[name]) for name, one in weights(resumed.learns).items())
    changed = [name for name, one in before.items() if not torch.equal(one, after[name])]
    assert changed == list(before)
    assert all(torch.equal(one, base[name]) for name, one in weights(whole.memory.model).items())
    with pytest.raises(UsageError, match="already holds a run"):
        trainer(tmp_path)
    if controlled:
        memory = a_memory()
        control = read_control(memory, tmp_path)
        assert all(torch.equal(one, after[name]) for name, one in weights(control).items())
    else:
        with pytest.raises(CheckpointError, match="holds no trained control"):
            read_control(a_memory(), tmp_path)


def test_a_run_is_not_resumed_with_other_options(tmp_path: Path):
    MemoryTrainer(a_memory(), some_sessions(), QUICK, directory=tmp_path).run(stop=lambda: True)
    with pytest.raises(UsageError, match="--lr"):
        config = MemoryTrainConfig(**{**vars(QUICK), "lr": 0.02})
        MemoryTrainer(a_memory(), some_sessions(), config, directory=tmp_path, resume=True)
    with pytest.raises(UsageError, match="sessions_sha256"):
        MemoryTrainer(a_memory(), some_sessions(3), QUICK, directory=tmp_path, resume=True)


def test_training_lowers_the_price_of_what_is_trained_on():
    only_window = some_sessions(1, QUICK.length)
    config = MemoryTrainConfig(**{**vars(QUICK), "steps": 20, "lr": 0.03})
    trainer = MemoryTrainer(a_memory(), only_window, config)
    paid = [trainer.train_one().bpb for _ in range(20)]
    assert paid[-1] < paid[5] < paid[0]
    assert trainer.memory.is_empty and trainer.memory.records is None


def test_gradients_reach_the_adapter_as_they_would_through_one_call():
    """`rewrite` of a recorded call gives the state that the call itself left."""
    memory = a_memory()
    train_at_random(memory)
    ids = torch.tensor([words(20, 1)])
    write_windows(memory, ids)
    state = memory.state_tensors()
    memory.rewrite(memory.records)
    for name, tensor in memory.state_tensors().items():
        torch.testing.assert_close(tensor, state[name])
    assert memory.state[0].slots.requires_grad


def test_the_arms_differ_only_in_what_is_there():
    memory = a_memory()
    train_at_random(memory)
    control = LowRank(memory)
    train_at_random(control, 0.1)
    sessions = some_sessions()
    evaluator = Evaluator(memory, sessions, EVAL, control=control)
    arms = (*WITH_STATE, "low-rank", *WITH_TEXT)
    bits = {one.arm: np.array(one.bits) for one in evaluator.run(arms)}
    assert list(bits) == list(arms)
    for one in arms:
        for other in arms:
            assert one == other or (bits[one] != bits[other]).all(), (one, other)
    assert evaluator.bytes.tolist() == [2 * 8 * 2.0] * 4  # two windows of eight tokens of two bytes
    memory.reset()
    zero = 0.0
    for window in evaluator.windows:
        if window.session == 0:
            ids = torch.from_numpy(sessions[0].ids[window.start + 20 : window.start + 32])[None]
            with torch.no_grad():
                zero += float(nats_of(memory.model, None, ids, 4, ()).double().sum()) / np.log(2)
    assert bits["zero"][0] == pytest.approx(zero)
    again = {one.arm: np.array(one.bits) for one in evaluator.run(arms)}
    assert all((bits[arm] == again[arm]).all() for arm in arms)


def test_an_untrained_memory_is_worth_nothing_with_any_state():
    evaluator = Evaluator(a_memory(), some_sessions(), EVAL)
    bits = {one.arm: one.bits for one in evaluator.run(WITH_STATE)}
    assert len(set(bits.values())) == 1
    with pytest.raises(UsageError, match="needs a trained control"):
        evaluator.run(["low-rank"])
    with pytest.raises(UsageError, match="one session cannot be evaluated"):
        Evaluator(a_memory(), some_sessions(1), EVAL)


def test_a_control_has_about_as_many_parameters():
    memory = attach(a_model(), MemoryConfig(rank=8))
    sizes = [sum(one.numel() for one in module.parameters()) for module in (memory, LowRank(memory))]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.2)


def test_the_prefix_keeps_no_more_bytes_than_the_state_has():
    memory = attach(a_model(), MemoryConfig(rank=1, slots=1, layers=(0,)))
    room = sum(one.nbytes for one in memory.empty_tensors(1).values())
    sessions = some_sessions(2, 400)
    config = MemoryEvalConfig(write=200, score=12, lead=4, windows=1)
    evaluator = Evaluator(memory, sessions, config)
    (window, *_) = evaluator.windows
    kept = evaluator._kept_prefix(window)[0]
    assert len(kept) == room // 2 < 200
    assert kept.tolist() == sessions[0].ids[window.start + 200 - len(kept) : window.start + 200].tolist()


def test_windows_are_inside_their_sessions_and_cover_them():
    sessions = some_sessions(3, 90)
    for window in drawn(sessions, 32, 200, [1]):
        assert 0 <= window.start <= 90 - 32
    assert drawn(sessions, 32, 9, [1]) == drawn(sessions, 32, 9, [1]) != drawn(sessions, 32, 9, [2])
    places = set(drawn(sessions, 88, 200, [1]))
    assert len(places) == 9  # every place of every session
    assert [window.start for window in spread(sessions[:1], 30, 3)] == [15, 30, 45]
    assert len(spread(sessions, 90, 5)) == 3
    assert len(long_enough([*sessions, *some_sessions(2, 10)], 32)) == 3
    with pytest.raises(DataError, match="no session has 91 tokens"):
        long_enough(sessions, 91)


def test_whole_sessions_are_for_validation_whatever_their_order():
    sessions = some_sessions(10)
    trained, validation = split_sessions(sessions, 0.3, 0)
    assert len(validation) == 3 and len(trained) == 7
    assert split_sessions(sessions[::-1], 0.3, 0) == (trained, validation)
    assert [len(part) for part in split_sessions(sessions[:2], 0.99, 0)] == [1, 1]
    with pytest.raises(DataError, match="give more"):
        split_sessions(sessions[:1], 0.5, 0)


def test_bm25_finds_rare_tokens():
    pieces = [[1, 1, 2], [1, 3, 9], [1, 2, 2], [4, 1, 9]]
    assert bm25_top(pieces, [9, 1], 2) == [1, 3]
    assert bm25_top(pieces, [2], 1) == [2]
    assert bm25_top(pieces, [77], 2) == [2, 3]  # nothing fits: the latest
    with pytest.raises(UsageError):
        bm25_top(pieces, [1], 0)


def effects(content: float, memory: float) -> dict:
    def around(mean: float) -> dict:
        return {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}

    return {"content": around(content), "memory": around(memory)}


@pytest.mark.parametrize(
    ("content", "memory", "start", "end"),
    [
        (0.001, -0.1, "The content of the state has no effect: ", "although a state saves 0.100 compared"),
        (0.001, 0.1, "The content of the state has no effect: ", "and a state costs 0.100 more than none."),
        (-0.05, -0.1, "The content of the state helps: ", "and a state saves 0.100 compared with none."),
        (-0.05, 0.1, "The content of the state helps: ", "but a state costs 0.100 more than none."),
        (0.05, 0.0, "The content of the state hurts: ", "and a state costs as much as none"),
    ],
)
def test_the_verdict_says_what_the_intervals_say(content, memory, start, end):
    sentence = verdict(effects(content, memory))
    assert sentence.startswith(start) and end in sentence
    assert sentence.count(". ") == 0 and sentence.endswith(".")


def test_the_report_pairs_by_session_and_averages_over_runs():
    sizes = [100.0, 200.0, 100.0]
    zero = np.array([100.0, 300.0, 90.0])
    runs = [
        {"correct": zero - [10, 21, 9] + shift, "zero": zero, "donor": zero - [9, 20, 10]}
        for shift in (1, -1)
    ]
    result = memory_report(runs, sizes)
    assert result.arms["zero"] == pytest.approx(490 / 400)
    assert result.effects["memory"]["mean"] == pytest.approx(np.mean([-0.1, -0.105, -0.09]))
    assert result.effects["content"]["mean"] == pytest.approx(np.mean([-0.01, -0.005, 0.01]))
    assert "low-rank" not in result.arms and "training" not in result.effects
    assert (result.sessions, result.runs, len(result.by_run)) == (3, 2, 2)
    assert result.verdict.startswith("The content of the state has no effect")
    assert result.as_dict()["verdict"] == result.verdict


def test_options_out_of_range_are_refused():
    for name, value in (
        *(("steps", 0), ("write", 0), ("lead", 0), ("score", 16), ("lr", 0.0), ("clip", float("inf"))),
        *(("weight_decay", -1.0), ("warmup", -1)),
    ):
        with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} must be"):
            MemoryTrainConfig(**{name: value})
    for name in ("write", "lead", "windows", "pieces", "piece", "score"):
        with pytest.raises(UsageError, match=f"--{name} must be"):
            MemoryEvalConfig(**{name: 0})
