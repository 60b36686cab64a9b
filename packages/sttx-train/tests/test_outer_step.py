"""The outer step: documents' offsets learn at windows' ends, and every way to read gives the same prices."""

import copy
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sttx_core.errors import CheckpointError, SttxWarning, UsageError
from sttx_core.tokenizers import ByteTokenizer
from sttx_train.export.model import model_to_export
from sttx_train.formats import load_model, save_model
from sttx_train.generate import SamplingConfig
from sttx_train.online import LearnerConfig, OnlineLearner, Window
from sttx_train.online.carried import Carried
from sttx_train.online.outer import OuterStep, offsets_after, scaled
from sttx_train.predict import Branch, Predictor
from sttx_train.stream import StreamConfig, StreamTrainer

WINDOW, RATE = 16, 0.5
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}  # bits a token
TEXT = "the file was read again; the file was read again, and then the test failed."
NOTHING = LearnerConfig(scope=(), inject="none", phrases="off", replay_rows=0, state_lr=RATE)


def predictor(loaded, **more):
    return Predictor(loaded, **({"experts": False, "window": WINDOW, "state_lr": RATE} | more))


def offset_of(carried: Any) -> torch.Tensor:
    assert carried.offset is not None
    return carried.offset


def windows_of(ids, document=""):
    return [Window(document=document, ids=tuple(ids[at : at + WINDOW])) for at in range(0, len(ids), WINDOW)]


@pytest.fixture(scope="module")
def ids(tiny):
    return tiny().tokenizer.encode(TEXT)


class TestReading:
    @pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
    def test_split_anyhow_and_trained_it_costs_the_same(self, tiny, ids, dtype):
        loaded, ids = tiny(dtype=dtype), ids[: 4 * WINDOW]
        learner = predictor(loaded, learning=NOTHING)
        trained = [prices[0] for window in windows_of(ids) if (prices := learner.step([window]).prices)]
        paid = np.concatenate([price.network for price in trained])
        frozen = np.concatenate([price.frozen for price in trained])
        for parts in ([ids], [[one] for one in ids], [ids[:5], ids[5:40], [], ids[40:]]):
            reader = predictor(loaded).read()
            prices = [reader.advance(part) for part in parts]
            for name, expected in (("network", paid), ("frozen", frozen)):
                found = np.concatenate([getattr(price, name) for price in prices])
                np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[dtype])
        np.testing.assert_allclose(
            offset_of(reader.carried), offset_of(learner.learner.carried.get("")), atol=1e-4
        )
        assert not np.allclose(paid[WINDOW:], frozen[WINDOW:], atol=1e-2)
        np.testing.assert_allclose(paid[:WINDOW], frozen[:WINDOW], atol=TOLERANCE[dtype])

    def test_rate_0_is_reading_without(self, tiny, ids):
        plain, zero = Predictor(tiny(), experts=False, window=WINDOW).read(), predictor(tiny(), state_lr=0.0)
        reader = zero.read()
        assert np.array_equal(plain.advance(ids).bits, reader.advance(ids).bits)
        saved, other = reader.state_dict(), plain.state_dict()
        assert saved["meta"] == other["meta"] and saved["tensors"].keys() == other["tensors"].keys()
        assert not zero.adapts and reader.carried.offset is None

    def test_score_is_pure_and_what_advance_returns(self, tiny, ids):
        reader = predictor(tiny()).read()
        reader.advance(ids[:20])
        before = reader.state_dict()
        scored = reader.score(ids[20:])
        after = reader.state_dict()
        assert before["meta"] == after["meta"]
        assert all(torch.equal(tensor, after["tensors"][name]) for name, tensor in before["tensors"].items())
        np.testing.assert_allclose(scored.bits, reader.advance(ids[20:]).bits, atol=1e-4)

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_callers_need_no_gradients(self, tiny, ids, mode):
        one = predictor(tiny())
        expected = one.read().advance(ids).bits
        with mode():
            assert np.array_equal(one.read().advance(ids).bits, expected)

    def test_rows_of_a_batch_are_documents_alone(self, tiny, ids):
        texts = [ids, ids[10:60], ids[::-1]]
        for read in ("advance", "read", "in order", "with expected"):
            one = predictor(tiny())
            readers = [one.read(str(row)) for row in range(3)]
            batch = one.batch(readers)
            if read == "in order":
                prices = batch.advance_in_order([(row, text) for row, text in enumerate(texts)])
            elif read == "with expected":
                prices = batch.advance_with_expected(texts, lambda row, token, expected: None)
            else:
                prices = getattr(batch, read)(texts)
            for row, text in enumerate(texts):
                alone = predictor(tiny()).read()
                expected = alone.advance(text)
                if read in ("advance", "in order"):
                    np.testing.assert_allclose(prices[row].bits, expected.bits, atol=1e-4)
                np.testing.assert_allclose(
                    offset_of(readers[row].carried), offset_of(alone.carried), atol=1e-3
                )

    def test_a_saved_place_continues_exactly(self, tiny, ids):
        for at in (0, 7, 2 * WINDOW, 2 * WINDOW + 3):
            reader = predictor(tiny()).read()
            reader.advance(ids[:at])
            saved = copy.deepcopy(reader.state_dict())
            json.dumps(saved["meta"])
            other = predictor(tiny()).read()
            other.load_state_dict(saved)
            copied = reader.copy()
            assert at < WINDOW or reader.nbytes > Predictor(tiny(), experts=False).read().nbytes
            expected = reader.advance(ids[at:]).bits
            assert np.array_equal(other.advance(ids[at:]).bits, expected)
            assert np.array_equal(copied.advance(ids[at:]).bits, expected)

    def test_a_damaged_place_is_refused(self, tiny, ids):
        reader = predictor(tiny()).read()
        reader.advance(ids[: WINDOW + 3])
        for change in (
            lambda saved: saved["meta"].update(seen=[]),
            lambda saved: saved["meta"].update(seen=[999] * 3),
            lambda saved: saved["tensors"].pop("offset.wkv"),
            lambda saved: saved["meta"]["carried"].update(offsets=["start", "start"]),
            lambda saved: saved["meta"]["carried"].update(offsets=["start", "other"]),
        ):
            saved = copy.deepcopy(reader.state_dict())
            change(saved)
            with pytest.raises(CheckpointError):
                predictor(tiny()).read().load_state_dict(saved)
        with pytest.raises(CheckpointError, match="tokens of its window"):
            Predictor(tiny(), experts=False, window=WINDOW).read().load_state_dict(reader.state_dict())

    def test_generated_text_costs_what_its_probabilities_say(self, tiny, ids):
        one = predictor(tiny())
        generation = one.generate(TEXT[:30], SamplingConfig(seed=3), max_tokens=30)
        "".join(generation)
        reader = one.read()
        reader.advance(ids[:30])
        expected = [
            reader.log_probs()[token] + 0 * reader.advance([token]).bits[0] for token in generation.ids
        ]
        again = one.read()
        again.advance(ids[:30])
        bits = again.advance(generation.ids).bits
        np.testing.assert_allclose(bits, -np.array(expected) / np.log(2), atol=1e-4)

    def test_a_branch_past_the_end_of_a_window_is_the_reader(self, tiny, ids):
        reader = predictor(tiny()).read()
        reader.advance(ids[: WINDOW - 2])
        branch = Branch(reader)
        for token in ids[WINDOW - 2 : WINDOW + 3]:
            branch = branch.after(token)
        reader.advance(ids[WINDOW - 2 : WINDOW + 3])
        np.testing.assert_allclose(branch.log_probs(), reader.log_probs(), atol=1e-4)

    @pytest.mark.parametrize("architecture", ["x060", "x052"])
    def test_other_architectures(self, make_model, tmp_path, architecture, ids):
        sizes = {"vocab_size": 257, "hidden_size": 32, "head_size": 16, "num_layers": 2}
        model = make_model(architecture=architecture, **sizes)
        save_model(model, tmp_path / "m", tokenizer=ByteTokenizer())
        loaded = load_model(tmp_path / "m")
        whole = predictor(loaded).read().advance(ids)
        reader = predictor(loaded).read()
        single = [reader.advance([token]).bits[0] for token in ids]
        np.testing.assert_allclose(whole.bits, single, atol=1e-4)
        assert np.abs(whole.network - whole.frozen).max() > 1e-3


class TestStep:
    def test_its_gradient_is_that_of_finite_differences(self, tiny, ids):
        loaded = tiny(dtype=torch.float64)
        learner = predictor(loaded).learner
        window, before = Window(document="", ids=tuple(ids[:WINDOW])), Carried(None, (0,))
        found = offsets_after(OuterStep(rate=1.0, decay=1.0), learner.networks, [window], [before])[0]

        def price(offset):
            start = replace(before, offset=offset)
            return float(learner.networks.read([window], [start], phrases=False)[1].nats_B[0])

        generator = torch.Generator().manual_seed(0)
        for layer, head in ((0, 0), (1, 1)):
            numbers = torch.zeros_like(found[layer, head])
            places = [tuple(torch.randint(0, 32, (2,), generator=generator).tolist()) for _ in range(6)]
            for place in places:
                high = torch.zeros_like(found)
                high[(layer, head, *place)] = 1e-5
                numbers[place] = (price(high) - price(-high)) / 2e-5
            ratios = [float(found[(layer, head, *place)] / numbers[place]) for place in places]
            assert max(ratios) < 0 and np.allclose(ratios, ratios[0], rtol=1e-4)
        assert torch.allclose(found.square().mean((-1, -2)), torch.ones(2, 2, dtype=torch.float64))

    def test_it_lowers_the_price_of_its_window(self, tiny, ids):
        loaded = tiny(dtype=torch.float64)
        networks = predictor(loaded).learner.networks
        window, before = Window(document="", ids=tuple(ids[:WINDOW])), Carried(None, (0,))
        offset = offsets_after(OuterStep(rate=1e-3, decay=0.1), networks, [window], [before])
        starts = [before, replace(before, offset=offset[0])]
        prices = [networks.read([window], [start], phrases=False)[1].nats_B.item() for start in starts]
        assert prices[1] < prices[0]

    @pytest.mark.parametrize("rate", [0.5, 1e4])
    def test_offsets_are_bounded_and_finite(self, tiny, ids, rate):
        reader = predictor(tiny(), state_lr=rate, state_decay=0.5).read()
        for _ in range(4):
            assert np.isfinite(reader.advance(ids).bits).all()
            assert float(offset_of(reader.carried).square().mean((-1, -2)).sqrt().max()) <= rate / 0.5 * 1.001

    def test_gradients_without_a_direction_move_nothing(self):
        gradient = torch.zeros(1, 2, 4, 4)
        gradient[0, 1, 2, 3] = torch.nan
        step = OuterStep(rate=1.0, decay=0.25).moved(torch.ones(1, 2, 4, 4), gradient)
        assert torch.equal(step, torch.full((1, 2, 4, 4), 0.75))
        assert torch.equal(scaled(torch.zeros(3, 4, 4)), torch.zeros(3, 4, 4))

    def test_only_what_is_paid_for_moves_it(self, tiny, ids):
        learner = predictor(tiny(), learning=NOTHING).learner
        learner.step([Window(document="a", ids=tuple(ids[:WINDOW]), paid=(False,) * WINDOW)])
        assert not offset_of(learner.carried.get("a")).any()
        paid = tuple(index > 4 for index in range(WINDOW))
        learner.step([Window(document="a", ids=tuple(ids[WINDOW : 2 * WINDOW]), paid=paid)])
        assert offset_of(learner.carried.get("a")).any()

    def test_models_that_no_gradient_passes_are_warned_of(self, tiny):
        loaded = tiny(seed=9)
        with torch.no_grad():
            for block in loaded.model.blocks:
                block.att.output.weight.zero_()
        with pytest.warns(SttxWarning, match="an offset cannot learn"):
            predictor(loaded)


class TestLearning:
    def test_documents_of_a_step_have_offsets_of_their_own(self, tiny, ids):
        together, alone = (predictor(tiny(), learning=NOTHING).learner for _ in range(2))
        other = tuple(reversed(ids[:WINDOW]))
        together.step([Window(document="a", ids=tuple(ids[:WINDOW])), Window(document="b", ids=other[:9])])
        alone.step([Window(document="b", ids=other[:9])])
        np.testing.assert_allclose(
            offset_of(together.carried.get("b")), offset_of(alone.carried.get("b")), atol=1e-4
        )
        assert not torch.allclose(offset_of(together.carried.get("a")), offset_of(together.carried.get("b")))
        assert together.carried.get("c").offset is None

    @pytest.mark.parametrize(
        "learning",
        [
            {},
            {"phrases": "on", "scope": ("state", "bias")},
            {"scope": ("vectors",), "frozen": False},
            {"loss": "mixed"},
        ],
        ids=["state", "phrases", "vectors", "mixed"],
    )
    def test_it_goes_with_everything_that_learns(self, tiny, talk, learning):
        config = LearnerConfig(**({"phrases": "off", "state_lr": RATE} | learning))
        stream = StreamConfig(window=WINDOW, batch=2, experts="on" if "loss" in learning else "off")
        trainer = StreamTrainer(tiny(), config, stream)
        totals = trainer.run(talk(12))
        assert np.isfinite(totals.bits) and trainer.learner.skipped_steps == 0
        assert all(offset_of(entry).any() for entry in trainer.learner.carried.entries.values())
        assert all(parameter.grad is None for parameter in trainer.learner.trainable().values())

    def test_it_learns_where_a_policy_learns_nothing(self, tiny, talk):
        learning = LearnerConfig(phrases="off", state_lr=RATE)
        trainer = StreamTrainer(tiny(), learning, StreamConfig(window=WINDOW, policy="schedule=0..:infer"))
        trainer.run(talk(8))
        assert not trainer.learner.s0.any() and trainer.learner.s0.grad is None
        assert any(offset_of(entry).any() for entry in trainer.learner.carried.entries.values())

    @pytest.mark.parametrize("policy", [None, "schedule=0..150:train;150..:infer"])
    def test_a_run_resumes_bit_for_bit(self, tiny, talk, tmp_path, policy):
        learning = LearnerConfig(phrases="off", state_lr=RATE)

        def run(folder, steps, traces, **more):
            config = StreamConfig(window=WINDOW, steps=steps, policy=policy, checkpoint_every=2)
            trainer = StreamTrainer(tiny(), learning, config, directory=folder, **more)
            trainer.run(traces[sum(trainer.taken.values()) :])
            return trainer

        traces = talk(16)
        whole = run(tmp_path / "whole", 14, traces)
        run(tmp_path / "parts", 5, traces)
        resumed = run(tmp_path / "parts", 14, traces, resume=True)
        for name, entry in whole.learner.carried.entries.items():
            assert torch.equal(offset_of(entry), offset_of(resumed.learner.carried.get(name)))
            assert torch.equal(entry.state.wkv, resumed.learner.carried.get(name).state.wkv)
        assert whole.totals == resumed.totals and torch.equal(whole.learner.s0, resumed.learner.s0)

    def test_a_run_is_read_with_its_own_rate_or_another(self, tiny, talk, tmp_path, ids):
        learning = LearnerConfig(phrases="off", state_lr=RATE, state_decay=0.2)
        config = StreamConfig(window=WINDOW, steps=3, experts="off")
        StreamTrainer(tiny(), learning, config, directory=tmp_path).run(talk(8))
        own = Predictor(tiny(), tmp_path, experts=False)
        assert own.learner.outer == OuterStep(rate=RATE, decay=0.2)
        other = Predictor(tiny(), tmp_path, experts=False, state_lr=2.0)
        assert other.learner.outer == OuterStep(rate=2.0, decay=0.2)
        slower = Predictor(tiny(), tmp_path, experts=False, state_decay=0.5)
        assert slower.learner.outer == OuterStep(rate=RATE, decay=0.5)
        assert Predictor(tiny(), tmp_path, experts=False, state_lr=0.0).learner.outer is None
        with pytest.raises(UsageError, match="--state-decay would have no effect"):
            Predictor(tiny(), experts=False, state_decay=0.5)
        prices = [one.read().advance(ids).network[2 * WINDOW :].sum() for one in (own, other)]
        assert prices[0] != prices[1]

    def test_an_exported_model_says_that_others_take_no_outer_steps(self, tiny, talk, tmp_path):
        for rate in (0.0, RATE):
            learning = LearnerConfig(phrases="off", replay_rows=0, scope=("vectors",), state_lr=rate)
            config, run = StreamConfig(window=WINDOW, steps=2, experts="off"), tmp_path / str(rate)
            StreamTrainer(tiny(), learning, config, directory=run).run(talk(6))
            notes = model_to_export(tiny(), run).notes
            assert any("took outer steps" in note for note in notes) == bool(rate)


def test_options_out_of_range_or_without_effect(tiny):
    for bad in ({"state_lr": -1.0}, {"state_lr": float("inf")}, {"state_decay": 0.0}, {"state_decay": 1.5}):
        with pytest.raises(UsageError, match=next(iter(bad)).replace("_", "-")):
            LearnerConfig(**dict[str, Any](bad))
    assert "state_decay" in LearnerConfig().without_effect()
    assert "state_decay" not in LearnerConfig(state_lr=0.1).without_effect()
    assert isinstance(Predictor(tiny(), experts=False).learner, OnlineLearner)
