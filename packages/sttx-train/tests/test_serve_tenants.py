"""Tenants: each learns for itself, as the learner alone would, and nothing of one reaches another."""

import asyncio
import json
import re
import threading
import time
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch

from sttx_core.errors import CheckpointError, UsageError
from sttx_train.online import LearnerConfig, OnlineLearner, Window
from sttx_train.predict import Predictor
from sttx_train.predict.twins import are_twins, with_s0
from sttx_train.serve import learning as learning_module
from sttx_train.serve.bodies import Function, Message, ToolCall
from sttx_train.serve.catalog import Catalog
from sttx_train.serve.config import ServeConfig
from sttx_train.serve.conversation import newest
from sttx_train.serve.engine import Engine
from sttx_train.serve.failures import RequestError
from sttx_train.serve.learning import Learning
from sttx_train.serve.server import Server
from sttx_train.serve.service import Service
from sttx_train.serve.slot_routes import kept
from sttx_train.serve.slots import Slot, SlotName
from sttx_train.serve.tenant_entry import SHARE, Progress
from sttx_train.serve.tenants import Tenants
from sttx_train.stores import FolderStore, MemoryStore, StoreDown, pack, unpack

SECONDS = 300
WORDS = "the file was read again and the test that failed now passes " * 3


@pytest.fixture(scope="module")
def base(tiny):
    return Catalog.load(tiny()).frozen


def ids_of(seed, count):
    return np.random.default_rng(seed).integers(1, 257, count).tolist()


def until(condition):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def finish(tenants):
    while tenants.step():
        pass


def test_a_tenant_learns_as_the_learner_alone_does(base):
    tenants, ids = Tenants(base), ids_of(0, 150)
    tenants.add("ada", ids)
    finish(tenants)
    loaded = base.predictor.loaded
    config = LearnerConfig(phrases="off", replay_rows=0, frozen=False)
    learner = OnlineLearner(loaded.model, np.ones(257, int), config, eot_id=loaded.tokenizer.eot_id)
    for start in range(0, 150, 64):
        learner.learn_one(Window(document="d", ids=tuple(ids[start : start + 64])))
    served = tenants.served("ada")
    assert served.step == 3 and served.base is base and tenants.tokens_learned == 150
    s0 = served.predictor.learner.s0
    torch.testing.assert_close(s0, SHARE * learner.s0.detach(), rtol=1e-4, atol=1e-5)
    assert bool(s0.any())


def test_states_before_a_step_are_forgotten_with_it(base):
    left = []
    tenants = Tenants(base, forget=left.append)
    tenants.add("ada", ids_of(0, 128))
    expected = []
    while True:
        expected.append(tenants.served("ada").digest)
        if not tenants.step():
            break
    assert left == expected and tenants.served("ada").digest not in left


def test_what_one_of_256_tenants_sends_changes_nothing_of_the_others_by_a_bit(base):
    others = [f"tenant {number}" for number in range(255)]

    def logits(text_of_a):
        tenants = Tenants(base)
        tenants.add("a", text_of_a)
        for number, name in enumerate(others):
            tenants.add(name, ids_of(number, 40))
        finish(tenants)
        readers = [tenants.served(name).predictor.read() for name in ["a", *others]]
        batch = readers[0].predictor.batch(readers)
        batch.advance([text_of_a[:20], *([ids_of(7, 20)] * 255)])
        return batch.log_probs(), [tenants.served(name).digest for name in others]

    one, digests = logits(ids_of(1000, 40))
    two, again = logits(ids_of(2000, 40))
    assert not np.array_equal(one[0], two[0]), "what it sends does change its own"
    assert np.array_equal(one[1:], two[1:]) and digests == again
    assert len(set(digests)) == 255 and not np.array_equal(one[1], one[2])


def test_rows_of_twins_are_those_of_each_alone(base):
    shape = base.predictor.learner.s0.shape
    twins = [
        with_s0(base.predictor, torch.randn(shape, generator=torch.Generator().manual_seed(seed)))
        for seed in (1, 2)
    ]
    predictors, ids = [base.predictor, *twins], ids_of(3, 150)
    together = predictors[0].batch([predictor.read() for predictor in predictors])
    prices = together.advance([ids] * 3)
    for row, predictor in enumerate(predictors):
        alone = predictor.read()
        np.testing.assert_allclose(alone.advance(ids).bits, prices[row].bits, atol=1e-3)
        np.testing.assert_allclose(alone.log_probs(), together.log_probs()[row], atol=1e-3)
    assert not np.allclose(prices[1].bits, prices[2].bits)
    assert are_twins(*twins) and not are_twins(twins[0], Predictor(base.predictor.loaded, experts=False))


def test_a_twin_needs_a_predictor_without_memory_and_a_fitting_state(base):
    with pytest.raises(UsageError, match="S0 must be"):
        with_s0(base.predictor, torch.zeros(1))
    learning = Predictor(base.predictor.loaded, experts=False, learning=LearnerConfig(phrases="off"))
    with pytest.raises(UsageError, match="no twins"):
        with_s0(learning, base.predictor.learner.s0)


def test_what_was_learned_is_found_again_and_goes_on_bit_for_bit(base, tmp_path):
    ids = ids_of(5, 200)
    whole = Tenants(base)
    whole.add("ada l", ids)
    finish(whole)
    first = Tenants(base, FolderStore(tmp_path, 10**9))
    first.add("ada l", ids[:128])
    finish(first)
    saved = first.served("ada l")
    second = Tenants(base, FolderStore(tmp_path, 10**9))  # as after a kill: the first one was not closed
    assert (second.served("ada l").digest, second.served("ada l").step) == (saved.digest, 2)
    second.add("ada l", ids[128:])
    finish(second)
    assert second.served("ada l").digest == whole.served("ada l").digest
    assert second.served("bob").step == 0
    assert not [path for path in tmp_path.rglob("*") if "ada l" in str(path)]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"ada l" in path.read_bytes()]


class Failing(MemoryStore):
    """A store that takes no writes while `failure` is there."""

    failure = None

    def write(self, key, data, *, expected):
        if self.failure is not None:
            raise self.failure
        return super().write(key, data, expected=expected)


def test_nothing_answers_from_what_is_not_saved_and_it_is_learned_later(base):
    store = Failing(10**9)
    tenants, ids = Tenants(base, store), ids_of(1, 100)
    before = tenants.served("ada")
    store.failure = StoreDown("the disk is full")
    tenants.add("ada", ids)
    with pytest.raises(StoreDown):
        tenants.step()
    assert tenants.served("ada") is before and tenants.tokens_learned == 0
    store.failure = None
    finish(tenants)
    whole = Tenants(base)
    whole.add("ada", ids)
    finish(whole)
    assert tenants.served("ada").digest == whole.served("ada").digest


class Silent(MemoryStore):
    """A store whose writes take until `answers` is set."""

    def __init__(self, limit):
        super().__init__(limit)
        self.asked, self.answers = threading.Event(), threading.Event()

    def write(self, key, data, *, expected):
        self.asked.set()
        assert self.answers.wait(SECONDS)
        return super().write(key, data, expected=expected)


def test_the_engine_goes_on_while_the_store_is_silent(base):
    engine, store = Engine(ServeConfig()), Silent(10**9)
    tenants = Tenants(base, store)
    learning = Learning(tenants, engine)
    engine.start()
    try:
        tenants.add("ada", ids_of(1, 100))
        learning.wake()
        assert store.asked.wait(SECONDS)
        assert engine.call(lambda: "next").result(SECONDS) == "next"
        assert not store.answers.is_set() and tenants.tokens_learned == 0
        store.answers.set()
        until(lambda: tenants.tokens_learned == 100)
    finally:
        store.answers.set()
        engine.stop()
        learning.close()
    whole = Tenants(base)
    whole.add("ada", ids_of(1, 100))
    finish(whole)
    assert tenants.served("ada").digest == whole.served("ada").digest


def test_what_waits_is_learned_once_the_store_answers_again(base, monkeypatch, caplog):
    monkeypatch.setattr(learning_module, "_PAUSE", 0.01)
    engine, store = Engine(ServeConfig()), Failing(10**9)
    store.failure = StoreDown("it is silent")
    tenants = Tenants(base, store)
    learning = Learning(tenants, engine)
    engine.start()
    try:
        tenants.add("ada", ids_of(1, 100))
        learning.wake()
        until(lambda: "nothing is learned until the state store answers: it is silent" in caplog.text)
        store.failure = None
        until(lambda: tenants.tokens_learned == 100)
    finally:
        engine.stop()
        learning.close()
    assert caplog.text.count("nothing is learned") == 1


def test_learning_ends_with_an_engine_that_takes_no_more_work(base):
    engine = Engine(ServeConfig())
    learning = Learning(tenants := Tenants(base), engine)
    tenants.add("ada", ids_of(1, 100))
    learning.wake()
    until(lambda: learning._work is not None)  # nobody will do it: the engine never starts
    engine.stop()
    learning.close()
    assert not learning._thread.is_alive() and tenants.tokens_learned == 0


def test_without_room_nobody_learns_more_and_what_was_learned_stays(base):
    size = MemoryStore(10**9)
    one = Tenants(base, size)
    one.add("ada", ids_of(1, 64))
    finish(one)
    tenants = Tenants(base, MemoryStore(3 * size.nbytes // 2))
    for name in ("ada", "bob"):
        tenants.add(name, ids_of(1, 64))
        finish(tenants)
    assert (tenants.served("ada").step, tenants.served("bob").step) == (1, 0)
    assert (tenants.tokens_learned, tenants.tokens_dropped) == (64, 64)


def test_what_is_of_another_model_or_damaged_or_changed_is_refused(base, tiny, tmp_path):
    store = FolderStore(tmp_path, 10**9)
    tenants = Tenants(base, store)
    tenants.add("ada", ids_of(1, 64))
    finish(tenants)
    with pytest.raises(CheckpointError, match="learned with another model"):
        Tenants(Catalog.load(tiny(1)).frozen, store).served("ada")
    (path,) = tmp_path.glob("kept/*/*")
    whole, key = path.read_bytes(), json.loads(path.read_bytes().partition(b"\n")[0])["key"]
    path.write_bytes(whole[:-1])
    with pytest.raises(CheckpointError, match="damaged"):
        Tenants(base, store).served("ada")
    path.write_bytes(whole)
    entry = store.read(key)
    meta, tensors = unpack(entry.data, "it")
    tensors["s0"][0, 0, 0, 0] += 1
    version = store.write(key, pack(meta, tensors), expected=entry.version)
    with pytest.raises(CheckpointError, match="its digest is another one"):
        Tenants(base, store).served("ada")
    for wrong in ({"step": -1}, {"progress": [["x", -1]]}, {"carried": {}}, {"kind": "state"}):
        version = store.write(key, pack(meta | wrong, tensors), expected=version)
        with pytest.raises(CheckpointError):
            Tenants(base, store).served("ada")
    del tensors["s0"]
    store.write(key, pack(meta, tensors), expected=version)
    with pytest.raises(CheckpointError, match="no tensor"):
        Tenants(base, store).served("ada")


def test_tenants_and_their_queues_are_bounded(base, tmp_path):
    tenants = Tenants(base, FolderStore(tmp_path, 10**9), capacity=2)
    tenants.add("a", ids_of(1, 64))
    finish(tenants)
    for name in "bcd":
        tenants.served(name)
    assert len(tenants) == 2 and tenants.served("a").step == 1
    tenants.add("a", [5] * 70_000)
    assert tenants.tokens_dropped == 70_000 - 65_536
    tenants.add("b", [5])
    tenants.add("c", [5])
    assert len(tenants) == 3 and tenants.served("d").step == 0, "those that wait to learn stay"


# --- several servers over one store


def whole_of(base, *texts):
    """Return what a tenant has learned of texts that one server learns without an interruption."""
    tenants = Tenants(base)
    for number, ids in enumerate(texts):
        tenants.add("ada", ids, str(number))
        finish(tenants)
    return tenants.served("ada").digest


def test_a_conversation_that_is_sent_again_is_not_learned_again(base):
    store, ids = MemoryStore(10**9), ids_of(1, 200)
    first = Tenants(base, store)
    first.add("ada", ids, "0")
    first.add("ada", ids, "0")  # repeated while it waits
    for _ in range(2):
        first.step()
    second = Tenants(base, store)  # the first one is killed: it has learned 128 of 200 tokens
    second.add("ada", ids, "0")
    finish(second)
    second.add("ada", ids, "0")
    finish(second)
    assert (first.tokens_learned, second.tokens_learned) == (128, 72)
    assert second.served("ada").digest == whole_of(base, ids)
    second.add("ada", ids, "1")
    second.add("bob", ids, "0")
    finish(second)
    assert second.tokens_learned == 72 + 400, "another conversation, and another tenant's"


def test_servers_that_learn_at_once_lose_nothing_and_learn_nothing_twice(base):
    store, texts = MemoryStore(10**9), [ids_of(seed, 64) for seed in (1, 2)]
    servers = [Tenants(base, store) for _ in texts]
    for server in servers:
        server.served("ada")
    for number, (server, ids) in enumerate(zip(servers, texts, strict=True)):
        server.add("ada", ids, str(number))
    finish(servers[0])
    assert servers[1].served("ada").step == 1, "each answers from what the other has learned"
    finish(servers[1])
    assert servers[0].served("ada").digest == servers[1].served("ada").digest == whole_of(base, *texts)
    for server in servers:  # both know the same request, and learn it at the same time
        server.add("ada", ids_of(3, 64), "2")
    finish(servers[0])
    finish(servers[1])
    expected = whole_of(base, *texts, ids_of(3, 64))
    assert [server.served("ada").digest for server in servers] == [expected] * 2


def test_a_step_that_was_overtaken_is_taken_again(base):
    store, texts = MemoryStore(10**9), [ids_of(seed, 64) for seed in (1, 2)]
    slow, fast = Tenants(base, store), Tenants(base, store)
    for number, (server, ids) in enumerate(zip((fast, slow), texts, strict=True)):
        server.served("ada")
        server.add("ada", ids, str(number))
    learn = slow._learn

    def overtaken(windows):
        learn(windows)
        finish(fast)

    slow._learn = overtaken
    assert slow.step() and slow.overtaken == 1 and slow.tokens_learned == 0
    slow._learn = learn
    finish(slow)
    assert slow.served("ada").digest == fast.served("ada").digest == whole_of(base, *texts)


def test_progress_of_conversations_is_bounded():
    progress = Progress()
    for number in range(2000):
        progress.set(str(number), 5)
    assert len(progress.as_json()) == 1024 and (progress.of("1999"), progress.of("0")) == (5, 0)


def test_users_of_a_server_learn_apart(tiny, tmp_path):
    loaded = tiny()

    def ask(url, path, body):
        data = json.dumps({"model": loaded.id} | body).encode()
        request = Request(url + path, data, {"content-type": "application/json"})
        with urlopen(request, timeout=SECONDS) as answer:
            return json.load(answer)

    def score(url, user):
        return ask(url, "/v1/score", {"input": f"User: {WORDS}", "user": user})

    with Server(ServeConfig(port=0, learn=True, state_store=str(tmp_path))) as server:
        server.start(Catalog.load(loaded))
        before = score(server.url, "ada")
        assert before["bits"] == pytest.approx(before["frozen_bits"])
        assert before["system_fingerprint"].endswith("_0")
        messages = [
            {"role": "user", "content": "not learned again: it was sent before"},
            {"role": "assistant", "content": "yes"},
            {"role": "user", "content": WORDS},
        ]
        ask(server.url, "/v1/chat/completions", {"messages": messages, "max_tokens": 1, "user": "ada"})
        rendered = len(f"User: {WORDS.strip()}\n\n")
        until(lambda: server.service.tenants.tokens_learned >= rendered)
        after, other = score(server.url, "ada"), score(server.url, "bob")
        assert server.service.tenants.tokens_learned == rendered
        with urlopen(f"{server.url}/metrics", timeout=SECONDS) as answer:
            text = answer.read().decode()
        assert f'sttx_tokens_total{{what="learned"}} {float(rendered)}' in text
        assert 'sttx_tokens_total{what="not learned"} 0.0' in text and "sttx_tenants 2.0" in text
        assert after["bits"] < before["bits"] and after["frozen_bits"] == pytest.approx(before["bits"])
        assert re.search(r"_3$", after["system_fingerprint"]) and after["model"] == loaded.id
        assert other["bits"] == pytest.approx(before["bits"]) and other["system_fingerprint"].endswith("_0")
    with Server(ServeConfig(port=0, learn=True, state_store=str(tmp_path))) as server:
        server.start(Catalog.load(loaded))
        assert score(server.url, "ada")["bits"] == pytest.approx(after["bits"])


def test_a_slot_of_a_model_that_goes_on_learning_is_not_saved(base):
    service = Service(ServeConfig(learn=True, slot_dir="slots"))
    learning = Tenants(base).served("ada")
    for number, served in enumerate((base, learning)):
        service.engine.slots[SlotName("", number)] = Slot(
            served=served, ids=(1,), reader=served.predictor.read()
        )
    service.engine.start()
    try:
        assert asyncio.run(kept(service, SlotName("", 0))).served is base
        with pytest.raises(RequestError, match="slot 1 is of a model that goes on learning"):
            asyncio.run(kept(service, SlotName("", 1)))
    finally:
        service.close()


def test_what_a_tool_gave_is_learned_under_the_name_of_the_tool(base):
    call = ToolCall(id="c", function=Function(name="ls", arguments="{}"))
    messages = [
        Message(role="user", content="list"),
        Message(role="assistant", tool_calls=[call]),
        Message(role="tool", tool_call_id="c", content="a.txt"),
    ]
    text = base.predictor.loaded.tokenizer.decode(newest(messages, base))
    assert text == "Tool result: ls\na.txt\n\n"
