"""What every store of states must keep: versions, late writes that lose, bounded space, damage that shows."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sttx_core.checks.require import require
from sttx_core.errors import CheckpointError
from sttx_train.stores.protocol import StateStore, StoreConflict, StoreFull

Opener = Callable[[], StateStore]
"""Opens the same place once more, as another server does."""

_SIZE = 2_000  # bytes of an entry where space is scarce; a store may add some to each


def check_state_store(
    make: Callable[[int], Opener], damage: Callable[[StateStore, str], None] | None = None
) -> None:
    """Raise an `AssertionError` that says what a store breaks.

    Args:
        make: makes an empty place of that many bytes, and returns what opens it.
        damage: changes one byte of an entry's data where the store keeps it; None if nothing could.
    """
    _check_entries(make(10_000_000))
    _check_late_writes(make(10_000_000))
    _check_races(make(10_000_000))
    _check_space(make(20_000))
    _check_kept(make(20_000))
    if damage is not None:
        _check_damage(make(10_000_000), damage)


def _check_entries(open_: Opener) -> None:
    one, other = open_(), open_()
    require(one.read("state/a") is None and one.version("state/a") == 0, "a new store has an entry")
    require(one.nbytes == 0, "a new store has bytes")
    versions = set()
    for data in (b"", bytes(range(256)), b"\n\0" * 500_000, b"last"):
        version = one.write("state/a", data, expected=one.version("state/a"))
        found = other.read("state/a")
        require(found is not None and found.data == data, f"{len(data)} bytes came back as others")
        require(found is not None and found.version == version, "read gives another version than write did")
        require(other.version("state/a") == version > 0, "version() gives another version than write did")
        versions.add(version)
    versions.add(one.write("state/b", b"x", expected=0))
    require(len(versions) == 5, "two writes have the same version")
    require(one.read("tenant/a") is None, "entries of two kinds have one name")
    one.close()
    again = open_()
    found = again.read("state/a")
    require(found is not None and found.data == b"last", "closing the store has removed an entry")
    again.close()
    other.close()


def _check_late_writes(open_: Opener) -> None:
    early, late = open_(), open_()
    for kind in ("state", "tenant"):
        key = f"{kind}/k"
        first = early.write(key, b"1", expected=0)
        second = early.write(key, b"2", expected=first)
        for expected in (0, first, second + 1):
            found = _conflict(late, key, expected)
            require(found == second, f"a late write names the version {found}, not {second}")
        entry = late.read(key)
        require(entry is not None and entry.data == b"2", "a late write has won")
        late.write(key, b"3", expected=second)
        require(_conflict(early, key, second) is not None, "the writer of a version may replace a newer one")
    require(_conflict(late, "state/nothing", 7) == 0, "an entry that does not exist was replaced")
    require(late.read("state/nothing") is None, "a refused write has made an entry")
    early.close()
    late.close()


def _conflict(store: StateStore, key: str, expected: int) -> int | None:
    try:
        store.write(key, b"late", expected=expected)
    except StoreConflict as conflict:
        return conflict.found
    return None


def _check_races(open_: Opener, writers: int = 4, times: int = 10) -> None:
    """Check that no increment of a number gets lost where several writers add to it."""
    failed: list[BaseException] = []

    def add() -> None:
        store = open_()
        try:
            for _ in range(times):
                while True:
                    entry = store.read("tenant/sum")
                    number, version = (0, 0) if entry is None else (int(entry.data), entry.version)
                    try:
                        store.write("tenant/sum", str(number + 1).encode(), expected=version)
                        break
                    except StoreConflict:
                        continue
        except BaseException as error:  # noqa: BLE001  the check raises it
            failed.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=add) for _ in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    store = open_()
    entry = store.read("tenant/sum")
    require(entry is not None and int(entry.data) == writers * times, "a write that was late has won")
    store.close()


def _check_space(open_: Opener) -> None:
    one, other = open_(), open_()
    for number in range(40):
        store = (one, other)[number % 2]
        store.write(f"state/{number}", bytes(_SIZE), expected=0)
        require(store.nbytes <= 20_000, f"a store of 20,000 bytes has {store.nbytes:,}")
        require(other.read("state/0") is not None, "an entry that is used is dropped before others")
    left = [number for number in range(40) if one.version(f"state/{number}")]
    require(left[0] == 0 and len(left) >= 5, f"of 40 entries it keeps only {left}")
    require(left[1:] == list(range(41 - len(left), 40)), f"it drops newer entries first: {left}")
    require(_full(one, "state/39", 30_000), "an entry that is larger than the store was written")
    entry = one.read("state/39")
    require(entry is not None and entry.data == bytes(_SIZE), "a refused write has changed the entry")
    again = one.write("state/39", bytes(_SIZE), expected=one.version("state/39"))
    require(one.version("state/39") == again, "an entry cannot be replaced in a full store")
    one.close()
    other.close()


def _check_kept(open_: Opener) -> None:
    store = open_()
    store.write("state/a", bytes(_SIZE), expected=0)
    count = 0
    while not _full(store, f"tenant/{count}", _SIZE):
        count += 1
        require(count < 20, "entries that are kept exceed the space")
    require(count >= 5, f"a store of 20,000 bytes has room for {count} entries of {_SIZE:,} only")
    require(store.read("state/a") is None, "an entry that may be dropped takes the room of one that is kept")
    require(_full(store, "state/b", _SIZE) and store.nbytes <= 20_000, "a full store takes more")
    for number in range(count):
        require(store.read(f"tenant/{number}") is not None, "an entry that must be kept was dropped")
    store.close()


def _full(store: StateStore, key: str, size: int) -> bool:
    try:
        store.write(key, bytes(size), expected=store.version(key))
    except StoreFull:
        return True
    return False


def _check_damage(open_: Opener, damage: Callable[[StateStore, str], None]) -> None:
    store = open_()
    for key in ("state/a", "tenant/a"):
        version = store.write(key, b"a state that was learned", expected=0)
        damage(store, key)
        for attempt in range(2):
            try:
                found = store.read(key)
            except CheckpointError as error:
                require(key in str(error), f"the error does not name {key!r}: {error}")
                continue
            raise AssertionError(f"read {attempt + 1} of a damaged entry returned {found!r}")
        require(store.version(key) == version, "damage of the data has changed the version")
    store.write("state/b", b"whole", expected=0)
    found = store.read("state/b")
    require(found is not None and found.data == b"whole", "damage of one entry is damage of others")
    store.close()
