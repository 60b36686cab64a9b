"""Servers over one store: one continues what another has read and learned, also after a kill -9."""

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest

from sttx_core.tokenizers import ByteTokenizer
from sttx_train.formats import load_model, save_model
from sttx_train.serve.catalog import Catalog
from sttx_train.serve.config import ServeConfig
from sttx_train.serve.failures import RequestError
from sttx_train.serve.server import Server
from sttx_train.serve.shared_slots import SharedSlots
from sttx_train.serve.shared_states import SharedStates
from sttx_train.serve.slots import Slot, SlotName
from sttx_train.serve.tenants import Tenants
from sttx_train.stores import FolderStore, MemoryStore, StoreDown, pack

SECONDS = 300
WORDS = "the file was read again and the test that failed now passes "

FIVE = SlotName("", 5)


@pytest.fixture(scope="module")
def model(make_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "shared"
    sizes = {"vocab_size": 257, "hidden_size": 64, "num_layers": 2, "head_size": 32}
    save_model(make_model(0, **sizes), path, tokenizer=ByteTokenizer())
    return path


@pytest.fixture(scope="module")
def catalog(model):
    return Catalog.load(load_model(model))


@pytest.fixture(params=["folder", "redis"])
def store_name(request, tmp_path):
    """Return the name of a store that processes share."""
    if request.param == "folder":
        return str(tmp_path / "states")
    return request.getfixturevalue("redis_url")


@contextmanager
def served(catalog, store_name, **config):
    with Server(ServeConfig(port=0, state_store=store_name, **config)) as server:
        server.start(catalog)
        yield server


def opened(url, path, body):
    data = json.dumps(body).encode()
    return urlopen(Request(url + path, data, {"content-type": "application/json"}), timeout=SECONDS)


def ask(url, path, body):
    with opened(url, path, body) as answer:
        return json.load(answer)


def until(condition):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


# --- a server is killed


def step_of(url, name):
    """Return the step that a server has acknowledged to a user, with the digest."""
    body = {"model": name, "input": "x", "user": "ada"}
    _, digest, step = ask(url, "/v1/score", body)["system_fingerprint"].split("_")
    return int(step), digest


def test_after_a_kill_another_server_continues_and_nothing_is_lost_or_learned_twice(
    model, catalog, store_name
):
    script = Path(__file__).with_name("serve_process.py")
    command = [sys.executable, str(script), str(model), store_name]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url, name = first.stdout.readline().strip(), catalog.default.id
        one = {
            "model": name,
            "input": f"one {WORDS}",
            "user": "ada",
            "max_output_tokens": 4,
            "temperature": 0,
        }
        begun = ask(url, "/v1/responses", one)
        texts = [f"User: one {WORDS.strip()}\n\n", f"User: two {WORDS * 8}".strip() + "\n\n"]
        until(lambda: step_of(url, name)[0] == -(-len(texts[0]) // 64))
        two = one | {"input": f"two {WORDS * 8}", "previous_response_id": begun["id"]}
        never = dict.fromkeys(map(str, catalog.default.predictor.loaded.tokenizer.encode("\n")), -1000)
        endless = {"max_output_tokens": 60_000, "logit_bias": never | {"0": -1000}, "stream": True}
        with opened(url, "/v1/responses", two | endless) as stream:
            while b"output_text.delta" not in stream.readline():
                pass
            until(lambda: step_of(url, name)[0] >= 4)  # it learns while it answers
            acknowledged, _ = step_of(url, name)
            first.kill()
            first.wait()
        with served(catalog, store_name, learn=True) as second:
            assert step_of(second.url, name)[0] >= acknowledged
            answer = ask(second.url, "/v1/responses", two)  # the client repeats what nobody has answered
            total = sum(-(-len(text) // 64) for text in texts)
            until(lambda: step_of(second.url, name)[0] >= total)
            ask(second.url, "/v1/responses", two)
            until(lambda: not second.service.tenants.waiting)
            found = step_of(second.url, name)
            assert second.service.tenants.tokens_learned < len(texts[1])
    finally:
        first.kill()
        first.communicate()
    assert answer["usage"]["input_tokens"] > len(texts[0]) + len(texts[1])
    assert found == learned_once(catalog, texts, "\0ada")


def learned_once(catalog, texts, user):
    """Return step and start of the digest of a user whose texts one server has learned, each once."""
    tenants, tokenizer = Tenants(catalog.frozen), catalog.default.predictor.loaded.tokenizer
    for number, text in enumerate(texts):
        tenants.add(user, tokenizer.encode(text), str(number))
        while tenants.step():
            pass
    served = tenants.served(user)
    return served.step, served.digest[:12]


# --- two servers side by side


def test_a_chat_continues_on_another_server_without_reading_it_again(catalog, store_name):
    name = catalog.default.id
    chat = {
        "model": name,
        "messages": [{"role": "user", "content": WORDS}],
        "max_tokens": 8,
        "temperature": 0,
    }
    with served(catalog, store_name) as one, served(catalog, store_name) as two:
        first = ask(one.url, "/v1/chat/completions", chat)
        one.service.states.settle()
        again = ask(two.url, "/v1/chat/completions", chat)
        assert again["choices"][0]["message"] == first["choices"][0]["message"]
        prompt = first["usage"]["prompt_tokens"]
        assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == prompt
        longer = chat | {"messages": [*chat["messages"], {"role": "user", "content": "more"}]}
        found = ask(two.url, "/v1/chat/completions", longer)
        two.service.states.settle()
        back = ask(one.url, "/v1/chat/completions", longer)
        assert back["usage"]["prompt_tokens_details"]["cached_tokens"] == back["usage"]["prompt_tokens"]
    with served(catalog, "memory") as alone:
        expected = ask(alone.url, "/v1/chat/completions", longer)["choices"]
    assert found["choices"] == back["choices"] == expected


def test_a_slot_is_filled_on_one_server_and_saved_on_another(catalog, store_name, tmp_path):
    body = {"model": catalog.default.id, "prompt": "a text of this slot", "max_tokens": 3, "temperature": 0}
    slots = {"slot_dir": str(tmp_path / "slots")}
    with served(catalog, store_name, **slots) as one, served(catalog, store_name, **slots) as two:
        ask(one.url, "/v1/completions", body | {"id_slot": 5})
        saved = ask(two.url, "/slots/5?action=save", {"filename": "mine"})
        assert saved["n_saved"] == len(body["prompt"]) + 2
        assert ask(one.url, "/slots/6?action=restore", {"filename": "mine"})["n_restored"] == saved["n_saved"]
        assert ask(two.url, "/slots/6?action=erase", {})["n_erased"] == saved["n_saved"]
        assert ask(one.url, "/slots/6?action=erase", {})["n_erased"] == 0
        late = one.service.slots.version(FIVE)
        two.service.slots.put(FIVE, None, late)
        slot = Slot(served=catalog.default, ids=(1,), reader=catalog.default.predictor.read())
        one.service.slots.put(FIVE, slot, late)
        assert one.service.slots.find(FIVE, catalog) is None, "a late write does not win"
        one.service.slots.put(FIVE, slot, one.service.slots.version(FIVE))
        assert two.service.slots.find(FIVE, catalog).ids == (1,)
        learning = Tenants(catalog.frozen).served("ada")
        one.service.slots.put(FIVE, replace(slot, served=learning), one.service.slots.version(FIVE))
        with pytest.raises(RequestError, match="goes on learning"):
            two.service.slots.find(FIVE, catalog)


def test_a_slot_that_is_damaged_is_reported(catalog, tmp_path):
    slots = SharedSlots(store := FolderStore(tmp_path, 10**6))
    for data in (b"", pack({"holds": "state"}, {}), pack({"holds": "other"}, {}), pack({}, {})):
        store.write("slot/-1", data, expected=store.version("slot/-1"))
        with pytest.raises(RequestError, match="slot 1 is damaged in the state store"):
            slots.find(SlotName("", 1), catalog)


def test_a_store_that_ends_is_reported_and_what_needs_none_is_answered(catalog, redis_server):
    name = catalog.default.id
    with served(catalog, redis_server.url, learn=True) as server:
        redis_server.process.kill()
        redis_server.process.wait()
        tuned = {"model": name, "input": "x", "max_output_tokens": 1}
        for path, body in (
            ("/v1/responses", tuned),
            ("/v1/chat/completions", {"model": name, "messages": [{"role": "user", "content": "x"}]}),
            ("/v1/score", {"model": name, "input": "x"}),
        ):
            with pytest.raises(HTTPError) as wrong, opened(server.url, path, body):
                pass
            with wrong.value as error:
                assert error.code == 503 and json.load(error)["error"]["code"] == "store_down"
        assert ask(server.url, "/tokenize", {"prompt": "x"})["count"] == 1


def test_without_its_store_a_server_that_does_not_learn_answers(catalog, redis_server):
    name = catalog.default.id
    with served(catalog, redis_server.url, slot_dir="slots") as server:
        redis_server.process.kill()
        redis_server.process.wait()
        body = {"model": name, "prompt": WORDS, "max_tokens": 2}
        for _ in range(2):
            assert ask(server.url, "/v1/completions", body)["usage"]["completion_tokens"] == 2
        server.service.states.settle()
        with pytest.raises(HTTPError) as wrong, opened(server.url, "/v1/completions", body | {"id_slot": 1}):
            pass
        with wrong.value as error:
            assert error.code == 503


# --- states in a store


@pytest.fixture
def reader(catalog):
    reader = catalog.default.predictor.read()
    reader.advance([5, 6, 7])
    return reader


@pytest.fixture
def states():
    shared = SharedStates(MemoryStore(10**9))
    yield shared
    shared.close()


def test_the_longest_prefix_is_found(catalog, reader, states):
    predictor, ids = catalog.default.predictor, tuple(range(1, 101))
    for length in (1, 2, 3, 40, 64, 90):
        states.put("d", ids[:length], reader)
    states.put("d", (*ids[:70], 200), reader)
    states.put("other", ids[:99], reader)
    states.settle()

    def length(ids, beyond=0, digest="d"):
        found = states.find(digest, predictor, ids, beyond)
        return None if found is None else found[0]

    assert [length(ids[:n]) for n in (1, 2, 3, 39, 40, 63, 64, 89, 100)] == [1, 2, 3, 3, 40, 40, 64, 64, 90]
    assert length(ids, 90) is None and length(ids, 89) == 90 and length(ids, digest="new") is None
    assert length((*ids[:70], 200, 201)) == 71 and length((9, 9)) is None
    _, found = states.find("d", predictor, ids, 0)
    np.testing.assert_array_equal(found.log_probs(), reader.log_probs())


def test_lists_of_states_are_bounded_and_the_newest_stay(catalog, reader, states):
    for token in range(100):
        states.put("d", (1, 2, token), reader)
        states.settle()
    predictor = catalog.default.predictor
    known = [token for token in range(100) if states.find("d", predictor, (1, 2, token), 0)]
    assert known == list(range(36, 100))


def test_nobody_waits_for_what_is_put_later(catalog, reader, states, monkeypatch):
    written, write = [], states._write

    def endless(digest, ids, reader):  # while one state is written, another comes
        written.append(tuple(ids))
        write(digest, ids, reader)
        states.put("d", (5, 6, len(written) + 10), reader)

    monkeypatch.setattr(states, "_write", endless)
    states.put("d", (5, 6, 7), reader)
    states.settle()
    assert (5, 6, 7) in written
    monkeypatch.setattr(states, "_write", write)


class Overtaken(MemoryStore):
    """A store in which another server changes each list first, three times."""

    left = 3

    def write(self, key, data, *, expected):
        if key.startswith("list/") and self.left:
            self.left -= 1
            found = [
                *json.loads(entry.data if (entry := self.read(key)) else b"[]"),
                [3, f"other{self.left}"],
            ]
            super().write(key, json.dumps(found).encode(), expected=self.version(key))
        return super().write(key, data, expected=expected)


def test_lists_that_several_servers_change_lose_nothing(catalog, reader):
    store = Overtaken(10**9)
    states = SharedStates(store)
    states.put("d", (5, 6, 7), reader)
    states.close()
    (data,) = [entry.data for key, entry in store._entries.items() if key.startswith("list/")]
    assert len(json.loads(data)) == 4 and store.left == 0


def test_states_that_are_damaged_or_dropped_are_not_used(catalog, reader, tmp_path, caplog):
    store = FolderStore(tmp_path, 10**9)
    states, predictor = SharedStates(store), catalog.default.predictor
    for ids in ((5, 6), (5, 6, 7)):
        states.put("d", ids, reader)
    states.close()
    files = {
        json.loads(path.read_bytes().partition(b"\n")[0])["key"]: path for path in tmp_path.glob("*/*/*")
    }
    entries = json.loads(store.read(next(key for key in files if key.startswith("list/"))).data)
    shorter, longer = (files[f"state/{name}"] for _, name in entries)
    longer.write_bytes(longer.read_bytes()[:-1])
    assert states.find("d", predictor, (5, 6, 7), 0)[0] == 2
    assert "damaged" in caplog.text and str(longer) in caplog.text
    shorter.unlink()
    assert states.find("d", predictor, (5, 6, 7), 0) is None
    for path in files.values():
        path.write_bytes(b"x")
    assert states.find("d", predictor, (5, 6, 7), 0) is None


def test_a_store_that_does_not_answer_is_left_alone_for_a_while(catalog, reader, states, monkeypatch):
    calls = []

    def down(key):
        calls.append(key)
        raise StoreDown("it is down")

    monkeypatch.setattr(states._store, "read", down)
    for _ in range(3):
        assert states.find("d", catalog.default.predictor, (5, 6, 7), 0) is None
    assert len(calls) == 1
    states.put("d", (5, 6, 7), reader)
    states.settle()
    assert states.dropped == 1
