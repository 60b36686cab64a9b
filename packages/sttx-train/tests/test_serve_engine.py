"""The engine: the same texts as alone, rows that join and leave, clients that leave, states found again."""

import threading
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from sttx_core.errors import CheckpointError, SttxError
from sttx_train.formats import save_state
from sttx_train.generate import SamplingConfig
from sttx_train.online import LearnerConfig
from sttx_train.predict import Predictor
from sttx_train.serve import states
from sttx_train.serve.catalog import Catalog, Served, digest_of
from sttx_train.serve.config import ServeConfig
from sttx_train.serve.engine import Engine
from sttx_train.serve.failures import RequestError
from sttx_train.serve.jobs import Ask, Ended, Failed, Generated, Job, PromptRead
from sttx_train.serve.rows import Row
from sttx_train.serve.slots import SlotName
from sttx_train.serve.states import StateCache
from sttx_train.stream import StreamConfig, StreamTrainer

GREEDY = SamplingConfig(temperature=0)


class Collected:
    """A job whose events are collected; `ended` is set after the last one."""

    def __init__(self, ask):
        self.events, self.ended, self.on_token = [], threading.Event(), None
        self.job = Job(ask, self._add)

    def _add(self, event):
        self.events.append(event)
        if isinstance(event, Generated) and self.on_token:
            self.on_token(self)
        if isinstance(event, Ended | Failed):
            self.ended.set()

    def wait(self):
        assert self.ended.wait(60)
        return self

    @property
    def ids(self):
        return [event.token.id for event in self.events if isinstance(event, Generated)]

    @property
    def text(self):
        return "".join(event.text for event in self.events if isinstance(event, Generated))

    @property
    def read(self):
        return next(event for event in self.events if isinstance(event, PromptRead))


@pytest.fixture(scope="module")
def served(tiny):
    return Catalog.load(tiny()).default


@pytest.fixture
def engines():
    """Return a function that starts engines, which end with the test."""
    started = []

    def start(**config):
        started.append(Engine(ServeConfig(**config)))
        started[-1].start()
        return started[-1]

    yield start
    for engine in started:
        engine.stop()


def ask(served, text="User: hi", **more):
    ids = tuple(served.predictor.loaded.tokenizer.encode(text))
    return Ask(served=served, ids=ids, **({"sampling": GREEDY, "max_tokens": 6} | more))


def submit(engine, *asks):
    found = [Collected(one) for one in asks]
    engine.submit([one.job for one in found])
    return found


def alone(served, text, **more):
    generation = served.predictor.generate(text, **({"sampling": GREEDY, "max_tokens": 6} | more))
    return "".join(generation), generation.ids


def test_texts_are_those_of_the_predictor_alone(served, engines):
    prompts = ["a", "User: hi", "", "a much longer prompt than the others " * 5]
    engine = engines(chunk=16, rows=3)
    together = submit(engine, *(ask(served, prompt) for prompt in prompts))
    for prompt, found in zip(prompts, together, strict=True):
        assert (found.wait().text, found.ids) == alone(served, prompt)


def test_a_seed_gives_the_same_text_and_the_number_of_the_text_another(served, engines):
    sampling = SamplingConfig(seed=5)
    engine = engines()
    first, second = submit(engine, *(ask(served, sampling=sampling, stream=stream) for stream in (0, 1)))
    assert first.wait().ids == alone(served, "User: hi", sampling=sampling)[1]
    assert second.wait().ids == alone(served, "User: hi", sampling=sampling, stream=1)[1] != first.ids


def test_the_queue_is_bounded_and_all_jobs_of_a_request_enter_or_none(served):
    engine = Engine(ServeConfig(rows=1, queue=2))  # not started: nothing leaves the queue
    submit(engine, ask(served), ask(served))
    with pytest.raises(RequestError, match="queue is full") as full:
        submit(engine, ask(served), ask(served))
    assert full.value.status == 429 and engine.waiting == 2
    with pytest.raises(RequestError, match="asks for 4 texts, but at most 3 are possible") as never:
        submit(engine, *[ask(served)] * 4)
    assert never.value.status == 400 and engine.waiting == 2
    submit(engine, ask(served))
    engine.stop()


def test_a_call_whose_caller_has_left_is_no_end_of_the_engine(served):
    engine, called = Engine(ServeConfig()), []
    left = engine.call(lambda: called.append("left"))
    assert left.cancel()
    engine.start()
    assert engine.call(lambda: "here").result(timeout=60) == "here" and not called
    engine.stop()


def test_a_job_that_is_given_up_in_the_queue_leaves_it_at_once(served):
    engine = Engine(ServeConfig(rows=1, queue=1))
    waiting = submit(engine, ask(served), ask(served))
    engine.cancel([waiting[1].job])
    assert engine.waiting == 1
    submit(engine, ask(served))


def test_a_job_that_is_given_up_ends_before_its_next_token(served, engines):
    engine = engines()
    found = Collected(ask(served, max_tokens=1000))
    found.on_token = lambda one: engine.cancel([one.job]) if len(one.ids) == 3 else None
    engine.submit([found.job])
    assert len(found.wait().ids) == 3
    assert isinstance(found.events[-1], Failed)


def test_a_job_that_is_given_up_while_its_prompt_is_read_reads_no_further(served, engines, monkeypatch):
    engine = engines(chunk=8, every=8)
    found = Collected(ask(served, "long prompt " * 100))
    read = []

    def put(digest, ids, reader, key):
        read.append(len(ids))
        if len(read) == 2:
            engine.cancel([found.job])

    monkeypatch.setattr(engine.cache, "put", put)
    engine.submit([found.job])
    assert isinstance(found.wait().events[-1], Failed)
    assert read == [8, 16]


def test_stopping_fails_what_is_left_and_what_comes_later(served, engines):
    engine = engines(rows=1)
    running, waiting = submit(engine, ask(served, max_tokens=10**6), ask(served))
    engine.stop()
    for found in (running, waiting):
        assert found.wait().events[-1].status == 503
    with pytest.raises(RequestError, match="shutting down"):
        submit(engine, ask(served))


def test_one_request_that_fails_leaves_the_others_alone(served, engines):
    engine = engines()
    wrong = SamplingConfig(temperature=0, logit_bias=((10**6, 1.0),))
    bad, good = submit(engine, ask(served, sampling=wrong), ask(served))
    assert bad.wait().events[-1].status == 400 and "logit_bias" in bad.events[-1].message
    assert good.wait().text == alone(served, "User: hi")[0]


def test_a_failure_inside_is_no_end_of_the_engine(served, engines, monkeypatch, caplog):
    engine = engines()
    with monkeypatch.context() as patched:
        patched.setattr(Predictor, "batch", lambda *_: 1 / 0)
        (found,) = submit(engine, ask(served))
        assert found.wait().events[-1].status == 500
    assert "ZeroDivisionError" in caplog.text
    assert submit(engine, ask(served))[0].wait().text == alone(served, "User: hi")[0]


def test_a_request_that_cannot_join_is_no_end_of_the_engine(served, engines, monkeypatch, caplog):
    engine = engines()
    for error, status in ((MemoryError("no room"), 500), (CheckpointError("the state is damaged"), 500)):
        with monkeypatch.context() as patched:
            patched.setattr(engine.cache, "find", Mock(side_effect=error))
            (found,) = submit(engine, ask(served))
            assert found.wait().events[-1].status == status
    assert "no room" in caplog.text and found.events[-1].message == "the state is damaged"
    assert submit(engine, ask(served))[0].wait().text == alone(served, "User: hi")[0]


def test_a_slot_that_cannot_be_filled_is_no_end_of_the_engine(served, engines, monkeypatch, caplog):
    engine, slot = engines(), SlotName("", 3)
    monkeypatch.setattr(Row, "as_slot", Mock(side_effect=MemoryError("no room")))
    submit(engine, ask(served, slot=slot))[0].wait()
    assert submit(engine, ask(served))[0].wait().text == alone(served, "User: hi")[0]
    assert "no room" in caplog.text and slot not in engine.slots


def test_each_id_of_a_prompt_is_hashed_once(served, monkeypatch):
    hashed, of_bytes = [], states._bytes
    monkeypatch.setattr(states, "_bytes", lambda ids: hashed.append(len(ids)) or of_bytes(ids))
    row = Row(Job(ask(served, "x" * 1000), lambda event: None), StateCache(10**9), chunk=8, every=8)
    while piece := row.next_piece():
        row.reader.advance(piece)
        row.was_read(piece, None)
    assert sum(hashed) == 2 * 1000, "once to look for a state, and once while it is read"
    assert row.ids == row.ask.ids
    for length in (8, 504, 1000):
        assert row._cache.known(served.digest, row.ask.ids[:length]) == length


def test_what_is_said_of_a_prompt_is_what_a_reader_says(served, engines):
    text = "User: some words, read in pieces of eight tokens"
    (shown,) = submit(engines(chunk=8), ask(served, text, echo=True, top=3, max_tokens=2))
    reader, tokens = served.predictor.read(), shown.wait().read.tokens
    assert [token.id for token in tokens] == list(ask(served, text).ids) and tokens[0].log_prob is None
    for at, token in enumerate(tokens):
        log_probs = reader.log_probs()
        if at:
            assert token.log_prob == pytest.approx(log_probs[token.id], abs=1e-4)
            assert token.top[0][2] == pytest.approx(log_probs.max(), abs=1e-4)
            assert token.id in [one for one, _, _ in token.top] and len(token.top) in (3, 4)
        reader.advance([token.id])
    generated = [event.token for event in shown.events if isinstance(event, Generated)]
    assert generated[0].log_prob == pytest.approx(float(reader.log_probs().max()), abs=1e-4)


def test_prices_are_those_of_a_reader(served, engines):
    (found,) = submit(engines(chunk=8), ask(served, "some text to price", prices=True, max_tokens=0))
    expected = served.predictor.read().score(found.job.ask.ids).bits
    np.testing.assert_allclose(found.wait().read.prices.bits, expected, atol=1e-4)


def test_an_option_is_chosen_by_its_probability(served, engines):
    prompt, options = "User: hi", ["Assistant:", "Tool call: Bash ", "x"]
    ids = tuple(tuple(served.predictor.loaded.tokenizer.encode(option)) for option in options)
    (found,) = submit(engines(), ask(served, prompt, options=ids))
    reader = served.predictor.read()
    reader.advance(found.job.ask.ids)
    bits = [reader.score(option).bits.sum() for option in ids]
    best = int(np.argmin(bits))
    assert found.wait().read.chosen == best
    assert found.text == alone(served, prompt + options[best])[0]


# --- states that are found again


def test_a_longer_prompt_goes_on_from_the_longest_prefix(served, engines):
    engine = engines(every=10)
    text = "0123456789" * 3
    (first,) = submit(engine, ask(served, text[:25], max_tokens=0))
    assert first.wait().read.cached == 0
    (second,) = submit(engine, ask(served, text))
    assert second.wait().read.cached == 25 and second.text == alone(served, text)[0]
    (third,) = submit(engine, ask(served, text[:15] + "other"))
    assert third.wait().read.cached == 10 and third.text == alone(served, text[:15] + "other")[0]
    (turn,) = submit(engine, ask(served, text + second.text + "!"))
    assert turn.wait().read.cached >= 30


def test_other_knowledge_never_finds_a_state(served):
    cache = StateCache(10**9)
    reader = served.predictor.read()
    reader.advance([5, 6, 7])
    cache.put("old", (5, 6, 7), reader)
    assert cache.find("old", (5, 6, 7, 8))[0] == 3
    assert cache.find("new", (5, 6, 7, 8)) == (0, None)
    assert cache.find("old", (5, 6, 8)) == (0, None)


def test_what_reads_on_from_a_kept_state_does_not_change_it(served):
    cache, reader = StateCache(10**9), served.predictor.read()
    reader.advance([5, 6, 7])
    cache.put("d", (5, 6, 7), reader)
    expected = reader.log_probs()
    reader.advance([9, 9, 9])
    for _ in range(2):
        _, found = cache.find("d", (5, 6, 7))
        np.testing.assert_array_equal(found.log_probs(), expected)
        found.advance([1, 2, 3])


def test_kept_states_have_bounded_memory_and_the_least_used_goes_first(served):
    reader = served.predictor.read()
    reader.advance([1])
    size = reader.copy().nbytes
    cache = StateCache(3 * size)
    for token in range(3):
        cache.put("d", (token,), reader)
    cache.find("d", (0,))
    cache.put("d", (9,), reader)
    assert (len(cache), cache.nbytes) == (3, 3 * size)
    assert [cache.find("d", (token,))[0] for token in (0, 1, 2, 9)] == [1, 0, 1, 1]
    cache.clear()
    assert (len(cache), cache.nbytes) == (0, 0) and cache.find("d", (0,)) == (0, None)
    small = StateCache(size - 1)
    small.put("d", (1,), reader)
    assert len(small) == 0


def test_states_of_what_nobody_asks_for_are_forgotten(served):
    reader, cache = served.predictor.read(), StateCache(10**9)
    reader.advance([1])
    for digest, ids in (("old", (1,)), ("old", (1, 2)), ("new", (1,))):
        cache.put(digest, ids, reader)
    cache.forget("old")
    cache.forget("never seen")
    assert (len(cache), cache.nbytes) == (1, reader.copy().nbytes)
    assert cache.find("old", (1, 2, 3)) == (0, None) and cache.find("new", (1,))[0] == 1
    cache.put("old", (1,), reader)
    assert cache.find("old", (1,))[0] == 1
    cache.clear()
    assert (len(cache), cache.nbytes) == (0, 0)


def test_the_digest_follows_everything_that_was_learned(tiny):
    predictors = [Predictor(tiny(seed), experts=False) for seed in (0, 0, 1)]
    same, again, other = map(digest_of, predictors)
    assert same == again != other
    predictors[0].learner.s0.data[0, 0, 0, 0] = 1
    assert digest_of(predictors[0]) != same
    rates = ({"state_lr": 0.0}, {"state_lr": 0.5}, {"state_lr": 0.5, "state_decay": 0.2})
    outer = [digest_of(Predictor(tiny(), experts=False, **each)) for each in rates]
    assert outer[0] == again and len(set(outer)) == 3


def test_a_run_with_outer_steps_is_served_at_its_own_rate(tiny, talk, tmp_path, engines):
    loaded, learning = tiny(), LearnerConfig(phrases="off", replay_rows=0, state_lr=0.5)
    config = StreamConfig(window=16, steps=3, experts="off")
    StreamTrainer(tiny(), learning, config, directory=tmp_path / "mine").run(talk(8))
    served = Catalog.load(loaded, [tmp_path / "mine"]).default
    engine, prompt = engines(chunk=24, every=20), "the file was read again; " * 3
    for _ in range(2):
        (found,) = submit(engine, ask(served, prompt, prices=True, max_tokens=20))
        for state_lr in (None, 0.0):
            reader = Predictor(loaded, tmp_path / "mine", experts=False, state_lr=state_lr).read()
            same = np.allclose(
                found.wait().read.prices.bits, reader.advance(found.job.ask.ids).bits, atol=1e-4
            )
            assert same == (state_lr is None)
            text = "".join(reader.generate(GREEDY, max_tokens=20))
            assert state_lr is not None or text == found.text
        (longer,) = submit(engine, ask(served, prompt + found.text + "!", max_tokens=8))
        assert (
            longer.wait().read.cached >= len(prompt)
            and longer.text == alone(served, prompt + found.text + "!", max_tokens=8)[0]
        )


def test_a_state_is_a_model_of_its_own(tiny, tmp_path):
    loaded, paths = tiny(), []
    for number in (1, 2):
        sizes = loaded.model.config
        s0 = torch.full((sizes.num_layers, sizes.num_heads, sizes.head_size, sizes.head_size), 0.1 * number)
        paths.append(tmp_path / f"tuned{number}.safetensors")
        save_state(s0, paths[-1])
    catalog = Catalog.load(loaded, paths)
    names = [one.id for one in catalog]
    assert names[0].startswith(f"{loaded.id}:tuned1@") and names[2] == loaded.id
    assert len({one.digest for one in catalog}) == 3 and len({one.fingerprint for one in catalog}) == 3
    assert catalog.find(f"{loaded.id}:tuned2").id == names[1]
    with pytest.raises(RequestError, match="no model 'tuned2'"):
        catalog.find("tuned2")
    with pytest.raises(SttxError, match="named twice"):
        Catalog.load(loaded, [paths[0], paths[0]])


def test_rows_of_different_models_do_not_mix(served, tiny, engines):
    other = Served(id="other", predictor=Predictor(tiny(1), experts=False), digest="other")
    engine = engines()
    one, two = submit(engine, ask(served), ask(other))
    assert one.wait().text == alone(served, "User: hi")[0]
    assert two.wait().text == alone(other, "User: hi")[0] != one.text
