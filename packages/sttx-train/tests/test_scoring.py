"""Scoring a stream: traces cost what a loop of readers pays for them, however many are read together."""

import itertools
import random
from collections import OrderedDict

import numpy as np
import pytest

from sttx_core.errors import UsageError
from sttx_core.render import render, render_parts
from sttx_core.traces import Meta, Other, Pair, SessionEnd, UserMessage
from sttx_train.evaluate import score_traces
from sttx_train.online import LearnerConfig
from sttx_train.predict import Predictor, ordered
from sttx_train.stream import StreamConfig, StreamTrainer

WINDOW = 32


@pytest.fixture(scope="module")
def learned(tiny, talk, tmp_path_factory):
    """Return the folder of a run that has learned."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    learning = LearnerConfig(phrases="off", scope=("state", "bias"), lr_state=0.05)
    StreamTrainer(tiny(), learning, StreamConfig(window=WINDOW), directory=folder).run(talk(4))
    return folder


def loop(predictor, traces, documents=64):
    """Return the price of each trace with text, read one after the other."""
    readers, prices = OrderedDict(), []
    for trace in traces:
        ids = predictor.loaded.tokenizer.encode(render(trace))
        if not ids:
            continue
        readers[trace.document] = readers.pop(trace.document, None) or predictor.read(trace.document)
        while len(readers) > documents:
            readers.popitem(last=False)
        prices.append(readers[trace.document].advance(ids))
    return prices


@pytest.mark.parametrize("what", ["learned", "plain", "without experts"])
@pytest.mark.parametrize("batch", [29, 100, None])
def test_traces_cost_what_a_loop_of_readers_pays(tiny, talk, learned, what, batch):
    traces = talk(6, sessions=3, seed=1)
    source, experts = (None if what == "plain" else learned), what != "without experts"
    expected = loop(Predictor(tiny(), source, experts=experts), traces)
    predictor = Predictor(tiny(), source, experts=experts)
    scored = list(score_traces(predictor, traces, batch=batch))
    assert [one.trace for one in scored] == traces
    for one, price in zip(scored, expected, strict=True):
        text = render(one.trace)
        assert predictor.loaded.tokenizer.decode_bytes(list(one.ids)).decode() == text
        assert one.bytes == len(text.encode())
        for name in ("bits", "network", "frozen"):
            np.testing.assert_allclose(
                getattr(one.prices, name), getattr(price, name), rtol=0, atol=1e-4, err_msg=name
            )
        assert one.bits == pytest.approx(price.bits.sum(), abs=0.01)


def test_experts_read_in_the_order_of_the_stream(tiny, talk):
    traces = talk(6, sessions=3)
    memories = []
    for batch in (45, None):
        predictor = Predictor(tiny())
        list(score_traces(predictor, traces, batch=batch))
        memories.append(predictor.learner.mixture.experts.state_dict())
    assert np.array_equal(memories[0]["history"], memories[1]["history"])
    assert predictor.learner.mixture.experts.tokens_read == sum(len(render(trace)) for trace in traces)


@pytest.mark.parametrize("batch", [40, 4096])
def test_the_readers_of_few_documents_are_kept(tiny, talk, batch):
    traces, predictor = talk(12, sessions=5), Predictor(tiny(), experts=False)
    scored = list(score_traces(predictor, traces, batch=batch, documents=2))
    expected = loop(predictor, traces, documents=2)
    forgetful = [price.bits.sum() for price in expected]
    assert [one.bits for one in scored] == pytest.approx(forgetful, abs=0.01)
    assert forgetful != pytest.approx([p.bits.sum() for p in loop(predictor, traces)], abs=0.01)


def test_little_is_held_of_an_endless_stream(tiny, monkeypatch):
    predictor, taken, sizes = Predictor(tiny(), experts=False), [], []
    batch = predictor.batch

    def watched(readers):
        rows = batch(readers)
        read = rows.advance_in_order

        def count(pieces, **how):
            sizes.append((len(readers), sum(len(ids) for _, ids in pieces)))
            return read(pieces, **how)

        rows.advance_in_order = count
        return rows

    monkeypatch.setattr(predictor, "batch", watched)

    def endless():
        for number in itertools.count():
            taken.append(number)
            text = "a long text. " * 20 if number == 3 else "short"
            yield UserMessage(meta=Meta(session=str(number)), text=text)

    scored = score_traces(predictor, endless(), batch=64, documents=3)
    assert len(list(itertools.islice(scored, 9))) == 9
    assert max(tokens for _, tokens in sizes) == 64 and max(rows for rows, _ in sizes) == 4
    assert len(taken) < 16


def test_text_that_is_not_paid_for_is_read_and_costs_nothing(tiny):
    meta = Meta(session="s")
    pair = Pair(meta=meta, prompt="the question", completion="the answer")
    traces = [
        Other(meta=meta, kind="x", raw={}),
        pair,
        SessionEnd(meta=meta),
        Pair(meta=meta, prompt="?", completion=""),
    ]
    predictor = Predictor(tiny(), experts=False)
    first, second = score_traces(predictor, traces)
    unpaid, paid = (len(part.text) for part in render_parts(pair))
    assert first.paid.tolist() == [False] * unpaid + [True] * paid
    assert first.bytes == paid and not first.prices.bits[:unpaid].any()
    expected = Predictor(tiny(), experts=False).read().advance(first.ids)
    np.testing.assert_allclose(first.prices.bits[unpaid:], expected.bits[unpaid:], rtol=0, atol=1e-4)
    assert (second.bytes, second.bits, second.frozen_bits) == (0, 0, 0)
    assert list(score_traces(predictor, traces[::2])) == []


@pytest.mark.parametrize("option", ["batch", "documents"])
def test_sizes_below_one_are_refused(tiny, option):
    with pytest.raises(UsageError, match=f"--{option} must be at least 1, not 0"):
        score_traces(Predictor(tiny(), experts=False), [], **{option: 0})


def test_passes_are_bounded_and_little_of_them_is_padding():
    dice = random.Random(0)
    for most in (64, 1024):
        lengths = [dice.choice([1, 5, 20, 64, 300, 2000]) + dice.randrange(9) for _ in range(200)]
        groups = list(ordered.grouped(lengths, most))
        assert sorted(index for group in groups for index in group) == list(range(200))
        for group in groups:
            sizes = [lengths[index] for index in group]
            assert len(sizes) == 1 or max(sizes) * len(sizes) <= most
            assert min(sizes) >= min(0.75 * max(sizes), max(sizes) - 16)


def test_a_reader_learns_after_what_it_read_in_a_batch(tiny):
    predictor = Predictor(tiny(), learning=LearnerConfig(phrases="off"), experts=False, window=8)
    ids = predictor.loaded.tokenizer.encode("the file was read again, and")
    reader = predictor.read("d")
    first, second = predictor.batch([reader]).advance_in_order([(0, ids[:5]), (0, ids[5:8])])
    assert (len(first), len(second)) == (5, 3)
    reader.learn(ids[8:16])
    assert predictor.updates == 1 and predictor.learner.s0.detach().any()
