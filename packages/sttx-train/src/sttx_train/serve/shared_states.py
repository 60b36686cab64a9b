"""States of texts in a store, so that another server continues a text without reading it again.

A state is found by its ids and the digest of everything that was learned, as in `StateCache`. Which states
there are of texts that start alike is in lists, one for each start of 1, 2, 4, 8, … tokens, so that the
longest known prefix takes a few look-ups. A thread writes them: no request waits for that, unless it asks.
"""

from __future__ import annotations

import hashlib
import json
import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from sttx_core.errors import DataError
from sttx_core.foreign_files import parse_json
from sttx_train.serve.readers import AnyPredictor, AnyReader
from sttx_train.serve.states import Ids
from sttx_train.stores import StateStore, StoreConflict, StoreDown, pack, unpack

_LOG = logging.getLogger(__name__)
_WAITING = 64  # states that wait to be written; further ones are not shared
_LISTED = 64  # states in one list, the newest
_TRIES = 20  # to change a list that others change too
_PAUSE = 5.0  # seconds in which a store is left alone that did not answer
_WRITTEN = 10_000  # keys of which is known that the store has them


class SharedStates:
    """Readers at the end of texts, in a store.

    Args:
        store: keeps them; those used least may be dropped.

    Attributes:
        dropped: states that came faster than they were written, or while the store did not answer.
    """

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._queue: queue.Queue[tuple[str, np.ndarray, AnyReader] | threading.Event | None]
        self._queue = queue.Queue(_WAITING)
        self._written: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()
        self._silent_until = 0.0
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="sttx-states", daemon=True)
        self._thread.start()

    def put(self, digest: str, ids: Ids, reader: AnyReader) -> None:
        """Share where a reader stands after a text; it is written in the background.

        Args:
            digest: of what has read the text.
            ids: the text.
            reader: nobody may change it from now on.
        """
        if not len(ids) or self._is_written(_hash(digest, ids)):
            return
        try:
            self._queue.put_nowait((digest, np.array(ids, np.uint32), reader))
        except queue.Full:
            self.dropped += 1

    def settle(self) -> None:
        """Return when everything that was put before is written, or cannot be; what comes later may wait."""
        reached = threading.Event()
        self._queue.put(reached)
        reached.wait()

    def find(
        self, digest: str, predictor: AnyPredictor, ids: Sequence[int], beyond: int
    ) -> tuple[int, AnyReader] | None:
        """Return the longest prefix with a state, as its length and a reader at its end; None without one.

        Args:
            digest: of what reads the ids.
            predictor: what reads them.
            ids: the text.
            beyond: only a longer prefix is of use.
        """
        if time.monotonic() < self._silent_until:
            return None
        try:
            for start in _starts(len(ids)):
                if 2 * start - 1 <= beyond:
                    break
                for length, name in sorted(self._listed(digest, ids[:start])[1], reverse=True):
                    fits = beyond < length <= len(ids) and name == _hash(digest, ids[:length])
                    if fits and (reader := self._read(name, predictor)) is not None:
                        return length, reader
        except StoreDown as error:
            self._be_silent(error)
        return None

    def close(self) -> None:
        """Write what waits, and end the thread."""
        self._queue.put(None)
        self._thread.join()

    # -- reading -------------------------------------------------------------------------------------------

    def _read(self, name: str, predictor: AnyPredictor) -> AnyReader | None:
        """Return a state; None if it was dropped, or is damaged, which the log then says."""
        try:
            if (entry := self._store.read(f"state/{name}")) is None:
                return None
            meta, tensors = unpack(entry.data, f"state {name!r}")
            reader = predictor.read()
            reader.load_state_dict({"tensors": tensors, "meta": meta})
        except StoreDown:
            raise
        except DataError as error:
            _LOG.warning("a state in the state store is not used: %s", error)
            return None
        self._note(name)
        return reader

    def _listed(self, digest: str, start: Ids) -> tuple[int, list[tuple[int, str]]]:
        """Return the list of the texts with a start: its version, and length and name of each state."""
        try:
            if (entry := self._store.read(_list_key(digest, start))) is None:
                return 0, []
            found = [(int(length), str(name)) for length, name in parse_json(entry.data)]
            return entry.version, found
        except StoreDown:
            raise
        except (DataError, ValueError, TypeError, OverflowError) as error:
            _LOG.warning("a list of states in the state store is not used: %s", error)
            return 0, []

    # -- writing -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                if isinstance(item, threading.Event):
                    item.set()
                elif time.monotonic() < self._silent_until:
                    self.dropped += 1
                else:
                    self._write(*item)
            except StoreDown as error:
                self._be_silent(error)
            except DataError as error:
                _LOG.warning("a state is not shared: %s", error)
            except Exception:  # noqa: BLE001  the states after it are written
                _LOG.exception("a state is not shared")

    def _write(self, digest: str, ids: np.ndarray, reader: AnyReader) -> None:
        name = _hash(digest, ids)
        state = reader.state_dict()
        with suppress(StoreConflict):  # another server has read the same text
            self._store.write(f"state/{name}", pack(state["meta"], state["tensors"]), expected=0)
        start = ids[: _starts(len(ids))[0]]
        key = _list_key(digest, start)
        for _ in range(_TRIES):
            version, listed = self._listed(digest, start)
            kept = [one for one in listed if one[1] != name][1 - _LISTED :]
            data = json.dumps([*kept, (len(ids), name)]).encode()
            try:
                self._store.write(key, data, expected=version)
                self._note(name)
                return
            except StoreConflict:
                continue
        _LOG.warning("a state is not shared: others have changed its list %d times", _TRIES)

    def _be_silent(self, error: StoreDown) -> None:
        """Leave the store alone for a while, so that nobody waits for it."""
        self._silent_until = time.monotonic() + _PAUSE
        _LOG.warning("states are not shared: %s", error)

    def _note(self, name: str) -> None:
        with self._lock:
            self._written[name] = None
            self._written.move_to_end(name)
            if len(self._written) > _WRITTEN:
                self._written.popitem(last=False)

    def _is_written(self, name: str) -> bool:
        with self._lock:
            return name in self._written


def _starts(length: int) -> list[int]:
    """Return the powers of two up to a length, the largest first.

    >>> _starts(9)
    [8, 4, 2, 1]
    """
    return [1 << power for power in reversed(range(length.bit_length()))]


def _hash(digest: str, ids: Ids) -> str:
    hashed = hashlib.blake2b(digest.encode() + b"\0", digest_size=20)
    hashed.update(np.asarray(ids, np.uint32).tobytes())
    return hashed.hexdigest()


def _list_key(digest: str, start: Ids) -> str:
    return f"list/{_hash(digest, start)}"
