"""The predictor: however tokens are split, batched or interrupted, they cost what training pays for them."""

import json
import math

import numpy as np
import pytest
import torch

from sttx_core.errors import CheckpointError, UsageError
from sttx_train.formats import save_state
from sttx_train.online import LearnerConfig, Window
from sttx_train.predict import Predictor
from sttx_train.predict.twins import with_s0
from sttx_train.stream import StreamConfig, StreamTrainer

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}  # bits a token
TEXT = "the file was read again; the file was read again, and then the test failed. " * 3
WINDOW = 32


def ids_of(loaded, text=TEXT):
    return loaded.tokenizer.encode(text)


@pytest.fixture(scope="module")
def run(tiny, talk, tmp_path_factory):
    """Return the folder of a run that has learned, and the learner at its end."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    learning = LearnerConfig(phrases="off", scope=("state", "bias"), lr_state=0.05)
    trainer = StreamTrainer(tiny(), learning, StreamConfig(window=WINDOW), directory=folder)
    trainer.run(talk(12))
    return folder, trainer


def splits(ids):
    """Yield ways to split tokens: whole, in windows, singly, and anyhow."""
    yield [ids]
    yield [ids[start : start + WINDOW] for start in range(0, len(ids), WINDOW)]
    yield [[token] for token in ids]
    yield [ids[:5], ids[5:40], ids[40:41], [], ids[41:]]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("learned", [False, True])
def test_tokens_cost_the_same_however_they_are_split(tiny, run, dtype, learned):
    loaded = tiny(dtype=dtype)
    source = run[0] if learned and dtype == torch.float32 else None
    ids, results = ids_of(loaded), []
    for parts in splits(ids):
        reader = Predictor(loaded, source, window=WINDOW).read()
        prices = [reader.advance(part) for part in parts]
        results.append(np.concatenate([price.bits for price in prices]))
    assert len(results[0]) == len(ids)
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=0, atol=TOLERANCE[dtype])


def test_the_prices_of_both_networks_are_kept_apart(tiny, run):
    loaded = tiny()
    learned, plain = Predictor(loaded, run[0]).read(), Predictor(loaded).read()
    one, other = learned.advance(ids_of(loaded)), plain.advance(ids_of(loaded))
    np.testing.assert_allclose(one.frozen, other.network, rtol=0, atol=1e-4)
    assert abs(one.network - one.frozen).max() > 0.01
    assert np.array_equal(other.network, other.frozen)


def test_log_probs_are_what_is_paid_and_sum_to_one(tiny, run):
    loaded = tiny()
    for predictor in (Predictor(loaded, run[0]), Predictor(loaded, experts=False)):
        reader = predictor.read()
        for token in ids_of(loaded)[:50]:
            log_probs = reader.log_probs()
            assert np.exp(log_probs).sum() == pytest.approx(1, abs=1e-5)
            assert np.array_equal(log_probs, reader.log_probs())
            paid = reader.advance([token]).bits[0]
            assert -log_probs[token] / math.log(2) == pytest.approx(paid, abs=1e-6)


def test_scoring_is_pure(tiny, run):
    loaded = tiny()
    predictor = Predictor(loaded, run[0])
    reader, ids = predictor.read(), ids_of(loaded)
    reader.advance(ids[:40])
    before = reader.state_dict(), predictor.learner.state_dict()
    first, second = reader.score(ids[40:]), reader.score(ids[40:])
    assert_equal(before, (reader.state_dict(), predictor.learner.state_dict()))
    paid = reader.advance(ids[40:])
    for prices in (first, second):
        assert np.array_equal(prices.bits, paid.bits) and np.array_equal(prices.network, paid.network)


def assert_equal(one, other):
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_equal(one[name], other[name])
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, tuple | list):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_equal(left, right)
    else:
        assert one == other


@pytest.mark.parametrize("experts", [True, False])
def test_rows_of_a_batch_cost_what_they_cost_alone(tiny, run, experts):
    loaded = tiny()
    predictor = Predictor(loaded, run[0], experts=experts)
    texts = [TEXT, TEXT[7:120], "another text; " * 4, "x"]
    rows = [ids_of(loaded, text) for text in texts]
    alone = [predictor.read(alone=True).advance(row) for row in rows]
    batch = predictor.batch([predictor.read(str(n), alone=True) for n in range(len(rows))])
    scored = batch.score([row[:9] for row in rows])
    first = batch.advance([row[:9] for row in rows])
    assert all(np.array_equal(one.bits, other.bits) for one, other in zip(scored, first, strict=True))
    ahead = batch.log_probs()
    rest = batch.advance([row[9:] for row in rows])
    for row, expected in enumerate(alone):
        bits = np.concatenate([first[row].bits, rest[row].bits])
        np.testing.assert_allclose(bits, expected.bits, rtol=0, atol=1e-4)
        if len(rows[row]) > 9:
            assert -ahead[row, rows[row][9]] / math.log(2) == pytest.approx(expected.bits[9], abs=1e-4)


@pytest.mark.parametrize("experts", [True, False])
def test_reading_without_prices_reads_what_advancing_does(tiny, run, experts):
    predictor = Predictor(tiny(), run[0], experts=experts)
    rows = [ids_of(predictor.loaded, text) for text in (TEXT, TEXT[9:80], "x")]

    def readers(read):
        batch = predictor.batch([predictor.read(str(n), alone=True) for n in range(len(rows))])
        for start, end in ((0, 9), (9, 10), (10, 11), (11, None)):
            getattr(batch, read)([row[start:end] for row in rows])
            batch.log_probs()  # the next token is computed ahead, and read from there if it comes alone
        return batch.readers, batch.log_probs()

    (read, said), (advanced, expected) = readers("read"), readers("advance")
    assert np.array_equal(said, expected)
    for one, other in zip(read, advanced, strict=True):
        assert_equal(one.state_dict(), other.state_dict())


def test_a_twin_knows_its_own_s0(tiny):
    predictor = Predictor(tiny(), experts=False)
    assert not predictor.has_learned and not predictor.has_s0
    twin = with_s0(predictor, torch.ones_like(predictor.learner.s0))
    assert twin.has_learned and twin.has_s0 and not predictor.has_s0


def test_a_reader_is_a_row_only_once(tiny):
    predictor = Predictor(tiny())
    reader = predictor.read()
    with pytest.raises(UsageError, match="twice"):
        predictor.batch([reader, reader])


@pytest.mark.parametrize("cut", [1, 31, 32, 50])
@pytest.mark.parametrize("learns", [True, False])
def test_a_snapshot_in_mid_window_continues_exactly(tiny, run, cut, learns):
    loaded, ids = tiny(), None
    whole, halved = (Predictor(loaded, run[0], learns=learns) for _ in range(2))
    ids = ids_of(loaded)
    readers = whole.read("d"), halved.read("d")
    for reader in readers:
        (reader.learn if learns else reader.advance)(ids[:cut])
    state, predictor = readers[1].state_dict(), halved.learner.state_dict()
    meta = json.loads(json.dumps(state["meta"]))
    third = Predictor(loaded, run[0], learns=learns)
    third.learner.load_state_dict(predictor)
    resumed = third.read("d")
    resumed.load_state_dict({"tensors": state["tensors"], "meta": meta})
    one, other = ((r.learn if learns else r.advance)(ids[cut:]) for r in (readers[0], resumed))
    assert np.array_equal(one.bits, other.bits)


@pytest.mark.parametrize("experts", ["on", "off"])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("phrases", ["off", "auto", "on"])
def test_readers_pay_what_training_pays(tiny, experts, phrases, frozen):
    """The same stream through the trainer and through a reader, whose tokens come in odd pieces."""
    from sttx_core.traces import Meta, UserMessage

    loaded = tiny()
    trace = UserMessage(meta=Meta(session="s", origin="o"), text=TEXT)
    learning = LearnerConfig(phrases=phrases, lr_state=0.05, replay_rows=1, frozen=frozen)
    trainer = StreamTrainer(loaded, learning, StreamConfig(window=WINDOW, experts=experts))
    totals = trainer.run([trace])
    predictor = Predictor(loaded, experts=experts == "on", learning=learning, window=WINDOW)
    reader, ids = predictor.read("s"), [token for w in windows_of(trainer, trace) for token in w.ids]
    prices = [reader.learn(ids[start : start + 23]) for start in range(0, len(ids), 23)]
    reader.finish()
    assert totals.tokens == len(ids)
    if experts == "on" or phrases == "off":
        assert sum(price.bits.sum() for price in prices) == pytest.approx(totals.bits, abs=1e-3 * len(ids))
    assert predictor.updates == totals.steps
    torch.testing.assert_close(predictor.learner.s0, trainer.learner.s0, rtol=1e-3, atol=1e-4)


def windows_of(trainer, trace):
    from sttx_train.stream import TraceWindows

    cut = TraceWindows(trainer.loaded.tokenizer, size=WINDOW)
    cut.add(trace)
    while (taken := cut.take() or cut.flush()) is not None:
        yield from taken


def test_tokens_that_are_only_read_are_context_of_those_that_are_learned(tiny):
    """As a stream of prompts and completions, of which only the completions are paid for."""
    loaded, learning = tiny(), LearnerConfig(phrases="off", replay_rows=0, lr_state=0.05)
    ids = ids_of(loaded)[:64]
    predictor = Predictor(loaded, learning=learning, window=WINDOW)
    reader = predictor.read("d")
    for start in range(0, 64, 16):
        before = reader.score(ids[start : start + 16])
        read = (reader.advance if start % 32 == 0 else reader.learn)(ids[start : start + 16])
        assert np.array_equal(before.bits, read.bits)
    twin = Predictor(loaded, learning=learning, window=WINDOW)
    for start in (0, 32):
        paid = (False,) * 16 + (True,) * 16
        twin.step([Window(document="d", ids=tuple(ids[start : start + 32]), paid=paid)])
    assert predictor.updates == 2
    torch.testing.assert_close(predictor.learner.s0, twin.learner.s0, rtol=1e-3, atol=1e-5)


def test_rows_learn_together_in_one_step(tiny):
    loaded = tiny()
    learning = LearnerConfig(phrases="off", replay_rows=0)
    together = Predictor(loaded, learning=learning, window=8)
    batch = together.batch([together.read("a"), together.read("b")])
    batch.learn([ids_of(loaded)[:16], ids_of(loaded, "another text")[:8]])
    assert together.updates == 2, "both first windows are one step"


def test_a_document_goes_on_where_training_left_it(tiny, run):
    folder, trainer = run
    predictor = Predictor(tiny(), folder)
    name = next(reversed(trainer.learner.carried.entries))
    ids = ids_of(tiny(), "and the test that failed")
    resumed, fresh = predictor.read(name, alone=True, go_on=True), predictor.read(name, alone=True)
    assert resumed.advance(ids).bits[0] != fresh.advance(ids).bits[0]
    assert trainer.learner.networks.inject == "every"


def test_who_learns_nothing_takes_half_of_the_average_of_s0(tiny, run):
    folder, trainer = run
    learner = trainer.learner
    assert learner.average.steps == trainer.totals.steps > 1
    assert torch.equal(Predictor(tiny(), folder).learner.s0, learner.average.value / 2)
    goes_on = Predictor(tiny(), folder, learns=True).learner
    assert torch.equal(goes_on.s0, learner.s0) and torch.equal(goes_on.average.value, learner.average.value)


def test_experts_of_a_run_know_what_it_read(tiny, run):
    loaded = tiny()
    informed, empty = Predictor(loaded, run[0]), Predictor(loaded)
    assert informed.learner.mixture.experts.tokens_read == run[1].totals.tokens
    ids = ids_of(loaded, "the file was read again and the test")
    assert informed.read().score(ids).bits.sum() < 0.8 * empty.read().score(ids).bits.sum()
    assert Predictor(loaded, run[0], experts=False).learner.mixture is None


def test_learned_weights_leave_the_loaded_model_as_it_is(tiny, talk, tmp_path):
    loaded, fresh = tiny(2), tiny(2)
    learning = LearnerConfig(scope=("all",), lr_weights=0.01, lr_vectors=0.01, phrases="off")
    StreamTrainer(tiny(2), learning, StreamConfig(window=WINDOW), directory=tmp_path / "w").run(talk(6))
    prices = Predictor(loaded, tmp_path / "w", experts=False).read().advance(ids_of(loaded))
    assert abs(prices.network - prices.frozen).max() > 0.1
    plain = Predictor(loaded, experts=False).read().advance(ids_of(loaded))
    expected = Predictor(fresh, experts=False).read().advance(ids_of(fresh))
    assert np.array_equal(plain.bits, expected.bits)
    np.testing.assert_allclose(prices.frozen, expected.bits, rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore:the state in .* was learned by injection")
@pytest.mark.parametrize("inject", ["start", "every", None])
def test_a_tuned_state_is_added_where_its_file_says(tiny, run, tmp_path, inject):
    loaded, path = tiny(), tmp_path / "tuned.safetensors"
    s0 = run[1].learner.s0.detach()
    save_state(s0, path, metadata={"inject": inject} if inject else {})
    ids = ids_of(loaded)
    reader = Predictor(loaded, path, experts=False, window=WINDOW).read()
    bits = reader.advance(ids).bits
    expected = Predictor(loaded, learning=LearnerConfig(scope=(), inject=inject or "start"), experts=False)
    with torch.no_grad():
        expected.learner.s0.copy_(s0)
    windows = [ids[start : start + WINDOW] for start in range(0, len(ids), WINDOW)]
    other = expected.read()
    np.testing.assert_allclose(
        bits, np.concatenate([other.advance(window).bits for window in windows]), rtol=0, atol=1e-4
    )
    assert abs(bits - Predictor(loaded, experts=False).read().advance(ids).bits).max() > 0.01


def test_what_is_not_of_this_model_is_refused(tiny, run, tmp_path):
    with pytest.raises(UsageError, match="was learned with another model"):
        Predictor(tiny(1), run[0])
    with pytest.raises(UsageError, match="no checkpoint at"):
        Predictor(tiny(), tmp_path / "nothing")
    path = tmp_path / "tuned.safetensors"
    save_state(run[1].learner.s0, path, metadata={"inject": "sometimes"})
    with pytest.raises(UsageError, match="added at 'sometimes'"):
        Predictor(tiny(), path)
    with pytest.raises(UsageError, match="ids must be from 0 to 256"):
        Predictor(tiny()).read().advance([257])
    with pytest.raises(UsageError, match="does not learn"):
        Predictor(tiny()).read().learn([1])


def spoil_place(state):
    state["tensors"]["place.match"] = state["tensors"]["place.match"][:1]


def spoil_dtype(state):
    state["tensors"]["bits.0"] = state["tensors"]["bits.0"].bfloat16()


def spoil_state(state):
    state["tensors"]["state.wkv"] = state["tensors"]["state.wkv"][..., :1]


def spoil_name(state):
    state["tensors"]["other"] = state["tensors"]["bits.0"]


def spoil_window(state):
    state["meta"]["filled"] = 64


def spoil_ids(state):
    state["meta"]["window"][0][0][0] = 257


def spoil_slopes(state):
    del state["tensors"]["slopes.0"]


SPOILS = [spoil_place, spoil_dtype, spoil_state, spoil_name, spoil_window, spoil_ids, spoil_slopes]


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
def test_a_damaged_snapshot_is_refused(tiny, spoil):
    reader = Predictor(tiny(), learning=LearnerConfig()).read()
    reader.learn([1, 2, 3])
    state = reader.state_dict()
    reader.load_state_dict(state)
    spoil(state)
    with pytest.raises(CheckpointError, match="does not fit"):
        reader.load_state_dict(state)
