"""What all routes share: the models, once they are loaded, the engine, and the store. Knows no route."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from sttx_core.errors import CheckpointError
from sttx_train.serve.catalog import Catalog, Served
from sttx_train.serve.config import ServeConfig
from sttx_train.serve.engine import Engine
from sttx_train.serve.failures import RequestError
from sttx_train.serve.jobs import Ask
from sttx_train.serve.kept_responses import KeptResponses, store_is_down
from sttx_train.serve.learning import Learning
from sttx_train.serve.metrics import Metrics
from sttx_train.serve.shared_slots import SharedSlots
from sttx_train.serve.shared_states import SharedStates
from sttx_train.serve.streaming import AtEnd
from sttx_train.serve.tenants import Tenants
from sttx_train.stores import StoreDown, open_store

Made = TypeVar("Made")


class Service:
    """The state of a server.

    Args:
        config: how it serves.

    Attributes:
        engine: computes; it starts when the models are there.
        metrics: what is counted.
        tenants: who learns; None if nobody does.
        store: where states of conversations and tenants are.
        states: shares states with other servers; None if no other can see the store.
        slots: the slots of all servers; None if no other can see the store.
        responses: those that can be continued.

    Raises:
        UsageError: `state_store` is not a store.
        StoreDown: the store does not answer.
    """

    def __init__(self, config: ServeConfig) -> None:
        self.config, self.engine = config, Engine(config)
        self.store = open_store(config.state_store, config.state_bytes)
        self.states = SharedStates(self.store) if self.store.shared else None
        self.slots = SharedSlots(self.store) if self.store.shared else None
        if self.states is not None:
            self.engine.cache.share = self.states.put
        self.responses = KeptResponses(self.store)
        self.metrics = Metrics(self.engine)
        self._catalog: Catalog | None = None
        self.tenants: Tenants | None = None
        self._learning: Learning | None = None

    @property
    def ready(self) -> bool:
        """Whether the models are loaded."""
        return self._catalog is not None

    @property
    def catalog(self) -> Catalog:
        """The models.

        Raises:
            RequestError: they are not loaded yet (503).
        """
        if self._catalog is None:
            raise RequestError(503, "the model is being loaded: try again later", code="loading")
        return self._catalog

    def start(self, catalog: Catalog) -> None:
        """Answer with these models from now on."""
        config = self.config
        if config.learn:
            self.tenants = Tenants(
                catalog.frozen, self.store, capacity=config.tenants, forget=self._forget_states
            )
            self.metrics.count_learned(self.tenants)
            self._learning = Learning(self.tenants, self.engine)
        self.engine.start()
        self._catalog = catalog

    def close(self) -> None:
        """Give up all requests, end the threads, and let go of the store."""
        self.engine.stop()
        if self._learning is not None:
            self._learning.close()
        if self.states is not None:
            self.states.close()
        self.store.close()

    def forget(self, served: Served) -> None:
        """Drop the states of a model that nobody asks for any more; may be called from any thread."""
        self._forget_states(served.digest)

    def _forget_states(self, digest: str) -> None:
        self.engine.call(lambda: self.engine.cache.forget(digest))

    async def find(self, name: str, tenant: str) -> Served:
        """Return a model by its id; while learning, the frozen one is what a tenant has made of it.

        Raises:
            RequestError: there is none, or the store does not answer.
        """
        served = self.catalog.find(name)
        if self.tenants is None or served is not self.catalog.frozen:
            return served
        try:
            return await asyncio.to_thread(self.tenants.served, tenant)
        except StoreDown as error:
            raise store_is_down(error) from error
        except CheckpointError as error:
            raise RequestError.of(error) from error

    async def prepare(self, asks: Sequence[Ask]) -> AtEnd | None:
        """Fetch states of prompts that another server has read, before the engine reads them again.

        Returns:
            What is to do at the end: put into the store what the requests leave in slots. None for nothing.

        Raises:
            RequestError: a slot is asked for, and the store does not answer.
        """
        if self.states is None or self.slots is None:
            return None
        numbers = {ask.slot for ask in asks if ask.slot is not None}
        versions = {number: await asyncio.to_thread(self.slots.version, number) for number in numbers}
        await self._fetch_states(asks, self.states)

        async def keep_slots() -> None:
            for number, version in versions.items():
                slot = await self._in_engine(lambda n=number: self.engine.slots.get(n))
                await asyncio.to_thread(slots.put, number, slot, version)

        slots = self.slots
        return keep_slots if versions else None

    async def _fetch_states(self, asks: Sequence[Ask], states: SharedStates) -> None:
        cache = self.engine.cache
        for ask in {ask.ids: ask for ask in asks if not ask.reads_all}.values():
            served = ask.served
            opened = ask.ids[:1] == (served.predictor.tokenizer.eot_id,)
            digest, ids = served.digest, ask.ids[opened:]
            known = await self._in_engine(lambda d=digest, i=ids: cache.known(d, i))
            found = await asyncio.to_thread(states.find, digest, served.predictor, ids, known)
            if found is not None:
                length, reader = found
                await self._in_engine(lambda d=digest, i=ids[:length], r=reader: cache.put(d, i, r))

    async def continued(self, name: str | None, served: Served) -> tuple[int, ...]:
        """Return what was read for the response that a request continues; nothing if it continues none.

        Raises:
            RequestError: as by `KeptResponses.find`.
        """
        if not name:
            return ()
        vocabulary = served.predictor.tokenizer.sha256
        return await asyncio.to_thread(self.responses.find, name, vocabulary)

    async def keep_response(self, name: str, ids: tuple[int, ...], served: Served) -> None:
        """Keep what was read for a response, and its state; when it returns, a kill does not lose it.

        Raises:
            RequestError: the store does not answer, or has no room.
        """
        vocabulary = served.predictor.tokenizer.sha256
        await asyncio.to_thread(self.responses.put, name, ids, vocabulary)
        if self.states is not None:
            await asyncio.to_thread(self.states.settle)

    async def _in_engine(self, function: Callable[[], Made]) -> Made:
        return await asyncio.wrap_future(self.engine.call(function))

    def learns(self, served: Served) -> bool:
        """Return whether a model goes on learning."""
        return self.tenants is not None and served.base is not None

    async def learn(self, ask: Ask, tenant: str, ids: tuple[int, ...]) -> None:
        """Learn what a tenant has sent to a model, if that one goes on learning.

        The same conversation sent again is not learned again: its prompt identifies it.

        Args:
            ask: the request.
            tenant: who asks.
            ids: what it has sent.

        Raises:
            RequestError: the store does not answer, or what it has of the tenant is damaged.
        """
        if self.tenants is None or self._learning is None or not self.learns(ask.served):
            return
        prompt = hashlib.blake2b(np.asarray(ask.ids, np.uint32).tobytes(), digest_size=16).hexdigest()
        try:
            await asyncio.to_thread(self.tenants.add, tenant, ids, prompt)
        except StoreDown as error:
            raise store_is_down(error) from error
        except CheckpointError as error:
            raise RequestError.of(error) from error
        self._learning.wake()
