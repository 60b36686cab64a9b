"""Serving with experts: each request has its own, which are part of its state, and of nobody else's."""

import json
import threading
from urllib.request import Request, urlopen

import numpy as np
import pytest

pytest.importorskip("numba", reason="needs sttx-core[experts]")

from sttx_core.errors import CheckpointError
from sttx_train.generate import SamplingConfig
from sttx_train.predict.twins import with_s0
from sttx_train.serve.catalog import Catalog, Served
from sttx_train.serve.config import ServeConfig
from sttx_train.serve.engine import Engine
from sttx_train.serve.jobs import Ask, Ended, Failed, Generated, Job, PromptRead
from sttx_train.serve.server import Server
from sttx_train.serve.slots import Slot, restore_slot, save_slot
from sttx_train.serve.states import StateCache
from sttx_train.serve.tokens import token_at

GREEDY = SamplingConfig(temperature=0)
REPEATED = "the file was read again; " * 8


@pytest.fixture(scope="module")
def loaded(tiny):
    return tiny()


@pytest.fixture(scope="module")
def catalog(loaded):
    return Catalog.load(loaded, experts=True)


@pytest.fixture(scope="module")
def served(catalog):
    return catalog.default


@pytest.fixture
def engine():
    engine = Engine(ServeConfig(chunk=32, every=64))
    engine.start()
    yield engine
    engine.stop()


def ids_of(served, text):
    return tuple(served.predictor.loaded.tokenizer.encode(text))


def answers(engine, *asks):
    """Return the events of each ask, computed side by side."""
    events, ended = [[] for _ in asks], [threading.Event() for _ in asks]

    def emit(index, event):
        events[index].append(event)
        if isinstance(event, Ended | Failed):
            ended[index].set()

    engine.submit([Job(ask, lambda event, index=index: emit(index, event)) for index, ask in enumerate(asks)])
    assert all(one.wait(300) for one in ended)
    return events


def ask(served, text, **more):
    more = {"sampling": GREEDY, "max_tokens": 12} | more
    return Ask(served=served, ids=ids_of(served, text), **more)


def text_of(events):
    return "".join(event.text for event in events if isinstance(event, Generated))


def test_texts_side_by_side_are_those_of_a_reader_alone(engine, served):
    sampled = SamplingConfig(seed=5, temperature=0.8, top_p=0.95)
    prompts = [REPEATED, "something else", REPEATED + "the f", "a"]
    asks = [ask(served, prompt, sampling=how) for prompt in prompts for how in (GREEDY, sampled)]
    for one, events in zip(asks, answers(engine, *asks), strict=True):
        prompt = served.predictor.loaded.tokenizer.decode(one.ids)
        assert text_of(events) == "".join(served.predictor.generate(prompt, one.sampling, max_tokens=12))


def test_prices_are_lower_where_a_text_repeats_itself_and_nobody_remembers_it(engine, served, loaded):
    both = [served, Catalog.load(loaded).default]
    prices = []
    for one in [*both, served]:
        [events] = answers(engine, ask(one, REPEATED, prices=True, max_tokens=0))
        prices.append(next(event.prices for event in events if isinstance(event, PromptRead)))
    assert prices[0].bits[-100:].sum() < 0.5 * prices[1].bits[-100:].sum()
    np.testing.assert_array_equal(prices[2].bits, prices[0].bits)
    np.testing.assert_allclose(prices[0].frozen, prices[1].bits, atol=1e-3)


def test_a_longer_prompt_goes_on_with_the_experts_of_the_shorter_one(engine, served):
    answers(engine, ask(served, REPEATED, max_tokens=0))
    longer = ask(served, REPEATED + "the file", top=3, max_tokens=4)
    [events] = answers(engine, longer)
    assert next(event for event in events if isinstance(event, PromptRead)).cached == len(REPEATED)
    engine.cache.clear()
    [again] = answers(engine, longer)
    shown = [[event.token for event in found if isinstance(event, Generated)] for found in (events, again)]
    for one, other in zip(*shown, strict=True):
        assert one.id == other.id and one.log_prob == pytest.approx(other.log_prob, abs=1e-4)


def test_the_memory_of_experts_counts_in_the_cache(served):
    reader = served.predictor.read()
    size = reader.nbytes
    assert size > 3_000_000
    cache = StateCache(2 * size + 1_000_000)
    for token in range(5):
        cache.put("d", [token], reader)
    assert len(cache) == 2 and cache.nbytes <= 2 * size + 1_000_000


def test_a_slot_has_the_experts(served, catalog, loaded, tmp_path):
    reader = served.predictor.read()
    ids = ids_of(served, REPEATED)
    reader.advance(ids)
    save_slot(Slot(served=served, ids=ids, reader=reader), tmp_path, "mine")
    restored, _ = restore_slot(catalog, tmp_path, "mine")
    np.testing.assert_array_equal(restored.reader.log_probs(), reader.log_probs())
    for each in (reader, restored.reader):
        each.advance(ids[:40])
    np.testing.assert_allclose(restored.reader.log_probs(), reader.log_probs(), atol=1e-6)
    without = Catalog.load(loaded)
    assert without.default.digest != served.digest
    with pytest.raises(CheckpointError, match="other experts"):
        without.default.predictor.read().load_state_dict(reader.state_dict())


def test_copies_do_not_move_each_other(served):
    reader = served.predictor.read()
    reader.advance(ids_of(served, REPEATED))
    before, other = reader.log_probs(), reader.copy()
    other.advance(ids_of(served, "other words"))
    np.testing.assert_array_equal(reader.log_probs(), before)


def test_tokens_that_are_shown_are_those_of_all_probabilities(served):
    reader = served.predictor.read()
    reader.advance(ids_of(served, REPEATED))
    tokens, every = served.predictor.tokens, reader.log_probs()
    for top in (0, 1, 5, 20):
        for token in (int(every.argmax()), 7, 200):
            found, expected = (token_at(token, one, tokens, top) for one in (reader.expected(), every))
            assert (found.id, found.log_prob) == (expected.id, pytest.approx(expected.log_prob, abs=1e-12))
            assert {one for one, _, _ in found.top} == {one for one, _, _ in expected.top}


def test_prompts_are_shown_with_experts(engine, served):
    [events] = answers(engine, ask(served, REPEATED, echo=True, top=2, max_tokens=0))
    shown = next(event for event in events if isinstance(event, PromptRead)).tokens
    [events] = answers(engine, ask(served, REPEATED, prices=True, max_tokens=0))
    bits = next(event.prices for event in events if isinstance(event, PromptRead)).bits
    found = np.array([token.log_prob for token in shown[1:]])
    np.testing.assert_allclose(found, -bits[1:] * np.log(2), atol=1e-4)


def test_one_of_many_options_is_chosen_and_read(engine, served):
    options = tuple(ids_of(served, f"Tool call: tool{number} ") for number in range(20))
    asked = ask(served, REPEATED + "Tool call: tool17 x\n\n", options=options, max_tokens=3)
    [events] = answers(engine, asked)
    read = next(event for event in events if isinstance(event, PromptRead))
    assert read.chosen is not None and read.chosen_tokens == len(options[read.chosen])
    assert events[-1].ids[len(asked.ids) :][: read.chosen_tokens] == options[read.chosen]


def test_users_who_learn_have_experts_too(engine, served):
    s0 = served.predictor.learner.s0
    twin = Served(id="t", predictor=with_s0(served.predictor, s0.clone()), digest="other")
    [[*_, last], other] = answers(engine, ask(twin, REPEATED), ask(served, REPEATED))
    assert isinstance(last, Ended) and last.data == other[-1].data


@pytest.mark.parametrize("learn", [False, True])
def test_frozen_bits_are_those_of_the_frozen_network_alone(catalog, served, learn):
    body = json.dumps({"model": served.id, "input": REPEATED}).encode()
    with Server(ServeConfig(port=0, learn=learn)) as server:
        server.start(catalog)
        asked = Request(f"{server.url}/v1/score", body, {"content-type": "application/json"})
        with urlopen(asked, timeout=300) as answer:
            found = json.load(answer)
    prices = served.predictor.read().score(ids_of(served, REPEATED))
    assert found["bits"] == pytest.approx(prices.bits.sum(), rel=1e-3)
    assert found["frozen_bits"] == pytest.approx(prices.network.sum(), rel=1e-3)
    assert found["frozen_bits"] > 1.2 * found["bits"]
