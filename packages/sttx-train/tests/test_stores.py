"""Stores of states: all three keep the same rules; what is special of each."""

import json
import os
import pickle
import shutil
import signal
import time

import pytest
import torch

from sttx_core.errors import CheckpointError, UsageError
from sttx_train.stores import (
    FolderStore,
    MemoryStore,
    RedisStore,
    StoreDown,
    StoreFull,
    check_state_store,
    open_store,
    pack,
    redis_store,
    unpack,
)


def test_a_store_in_memory():
    def make(limit):
        store = MemoryStore(limit)
        return lambda: store

    check_state_store(make)


def file_of(folder, key):
    """Return the file of an entry, by its first line."""
    for path in folder.glob("*/*/*"):
        if json.loads(path.read_bytes().partition(b"\n")[0])["key"] == key:
            return path
    raise AssertionError(f"no file of {key!r}")


def test_a_store_in_a_folder(tmp_path):
    places = []

    def make(limit):
        places.append(tmp_path / f"store {len(places)}")
        return lambda place=places[-1]: FolderStore(place, limit)

    def damage(store, key):
        path = file_of(places[-1], key)
        path.write_bytes(path.read_bytes()[:-1] + b"?")

    check_state_store(make, damage)


def test_a_store_in_redis(redis_url):
    databases = iter(range(16))

    def make(limit):
        url = f"{redis_url}?db={next(databases)}"
        return lambda: RedisStore(url, limit)

    def damage(store, key):
        name = f"{{sttx}}:e:{key}"
        store._client.hset(name, "data", store._client.hget(name, "data")[:-1] + b"?")

    check_state_store(make, damage)


def test_what_may_be_dropped_takes_a_part_of_the_memory():
    store = MemoryStore(10_000, droppable=3_000)
    for number in range(20):
        store.write(f"response/{number}", bytes(500), expected=0)
        store.write(f"tenant/{number}", bytes(300), expected=0)
    assert store.nbytes == 3_000 + 20 * 300
    assert [bool(store.version(f"response/{number}")) for number in range(20)] == [False] * 14 + [True] * 6
    store.write("response/19", bytes(2_900), expected=store.version("response/19"))
    assert store.nbytes == 2_900 + 20 * 300
    with pytest.raises(StoreFull):
        store.write("response/20", bytes(3_001), expected=0)
    store.write("tenant/0", bytes(4_000), expected=store.version("tenant/0"))
    assert store.nbytes == 4_000 + 19 * 300 and not store.version("response/19")


# --- a folder


def test_a_folder_is_private_and_survives_a_writer_that_was_killed(tmp_path):
    store = FolderStore(tmp_path / "s", 100_000)
    store.write("tenant/a", b"x" * 100, expected=0)
    path = file_of(tmp_path / "s", "tenant/a")
    assert path.stat().st_mode & 0o777 == 0o600 and (tmp_path / "s").stat().st_mode & 0o777 == 0o700
    size = store.nbytes
    (tmp_path / "s" / ".total").write_text("writing 5")  # killed between two steps of a write
    left = path.with_name(f".{path.name}.new-999999999-00000000")
    left.write_bytes(b"half")
    before = time.time() - 7200
    os.utime(left, (before, before))
    assert FolderStore(tmp_path / "s", 100_000).nbytes == store.nbytes == size
    assert not left.exists()
    version = store.version("tenant/a")
    assert store.write("tenant/a", b"y", expected=version) > version


@pytest.mark.parametrize(
    "broken",
    [b"", b"\n", b"{}\n", b"[" * 1000, b'{"sttx_state": 2, "version": 1, "bytes": 0}\n', b"\xff" * 50],
)
def test_a_file_that_is_not_an_entry_is_reported(tmp_path, broken):
    store = FolderStore(tmp_path, 100_000)
    store.write("tenant/a", b"x", expected=0)
    path = file_of(tmp_path, "tenant/a")
    path.write_bytes(broken)
    for act in (lambda: store.read("tenant/a"), lambda: store.version("tenant/a")):
        with pytest.raises(CheckpointError, match="'tenant/a' in the state store is damaged") as error:
            act()
        assert str(path) in str(error.value)


def test_an_entry_in_the_place_of_another_is_reported(tmp_path):
    store = FolderStore(tmp_path, 100_000)
    for name in "ab":
        store.write(f"tenant/{name}", name.encode(), expected=0)
    shutil.copy(file_of(tmp_path, "tenant/a"), file_of(tmp_path, "tenant/b"))
    with pytest.raises(CheckpointError, match="entry of another key"):
        store.read("tenant/b")


def test_a_folder_that_cannot_be_one(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreDown, match="state store"):
        FolderStore(tmp_path / "file", 1000)
    store = FolderStore(tmp_path / "s", 1000)
    shutil.rmtree(tmp_path / "s")
    with pytest.raises(StoreDown, match="no such file or folder"):
        store.write("state/a", b"", expected=0)


# --- Redis


def test_a_redis_that_is_not_there(tmp_path):
    with pytest.raises(StoreDown, match="fails"):
        RedisStore(f"unix://{tmp_path / 'no.sock'}", 1000)


def test_a_password_is_in_no_message(redis_url):
    with pytest.raises(UsageError) as error:
        RedisStore("redis://me:secret@host:port/0", 1000)
    assert "secret" not in str(error.value)


def test_redis_that_ends_is_one_sentence(redis_server):
    store = RedisStore(redis_server.url, 1000)
    store.write("state/a", b"", expected=0)
    redis_server.process.kill()
    redis_server.process.wait()
    for act in (
        lambda: store.read("state/a"),
        lambda: store.version("state/a"),
        lambda: store.write("state/a", b"", expected=0),
        lambda: store.nbytes,
    ):
        with pytest.raises(StoreDown):
            act()


def test_only_one_operation_waits_for_a_redis_that_does_not_answer(redis_server, monkeypatch):
    monkeypatch.setattr(redis_store, "_PAUSE", 1e9)
    store = RedisStore(redis_server.url, 1000)
    pool = store._client.connection_pool
    pool.connection_kwargs["socket_timeout"] = 0.1
    pool.disconnect()
    redis_server.process.send_signal(signal.SIGSTOP)
    with pytest.raises(StoreDown, match="Timeout"):
        store.read("state/a")
    redis_server.process.send_signal(signal.SIGCONT)
    with pytest.raises(StoreDown, match="did not answer a moment ago"):
        store.read("state/a")
    store._silent_until, pool.connection_kwargs["socket_timeout"] = 0.0, 300
    assert store.read("state/a") is None


# --- names and bytes


@pytest.mark.parametrize(("name", "message"), [("", "is empty"), ("http://x", "'http://' is not known")])
def test_what_is_not_a_store(name, message):
    with pytest.raises(UsageError, match=message):
        open_store(name, 1000)


def test_a_store_by_its_name(tmp_path, redis_url):
    names = ("memory", str(tmp_path / "s"), redis_url)
    kinds = [type(open_store(name, 1000)) for name in names]
    assert kinds == [MemoryStore, FolderStore, RedisStore]


def test_tensors_and_json_are_packed():
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor([], dtype=torch.int64)}
    meta, found = unpack(pack({"x": [1, "é\n"]}, tensors), "it")
    assert meta == {"x": [1, "é\n"]} and found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype
    assert found["a"].data_ptr() % 64 == 0


@pytest.mark.parametrize("data", [b"", b"{}", b"[]\n", pickle.dumps({"a": 1}), b"{}\n" + b"\xff" * 20])
def test_what_is_not_packed_is_refused(data):
    with pytest.raises(CheckpointError, match="it is damaged"):
        unpack(data, "it")


# --- the check itself


class Forgetful(MemoryStore):
    def write(self, key, data, *, expected):
        return super().write(key, data, expected=self.version(key))  # a late write wins


class Greedy(MemoryStore):
    def __init__(self, limit):
        super().__init__(10 * limit)


class Deaf(MemoryStore):
    def read(self, key):
        return self._entries.get(key)  # it does not count as used


class Careless(MemoryStore):
    def write(self, key, data, *, expected):
        try:
            return super().write(key, data, expected=expected)
        except StoreFull:
            self._entries.clear()
            raise


@pytest.mark.parametrize("broken", [Forgetful, Greedy, Deaf, Careless])
def test_the_check_notices(broken):
    def make(limit):
        store = broken(limit)
        return lambda: store

    with pytest.raises(AssertionError):
        check_state_store(make)


def test_the_check_notices_damage_that_is_read():
    def make(limit):
        store = MemoryStore(limit)
        return lambda: store

    with pytest.raises(AssertionError, match="read 1 of a damaged entry returned"):
        check_state_store(make, lambda store, key: None)
