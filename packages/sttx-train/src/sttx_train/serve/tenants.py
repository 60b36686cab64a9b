"""Learning while serving: each tenant has an S0 of its own, and many learn as the rows of one batch.

What a tenant sends is one document that grows. A step reads a window of each of some tenants, and changes
the S0 of each by the gradient of its own price alone. A step counts once it is in the store: only then do
answers come from it. Several servers may have one store: a step that another server's step has overtaken is
taken again after it. Knows ids and networks; neither requests nor HTTP.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from secrets import token_hex

import torch
from torch import nn

from sttx_core.errors import CheckpointError
from sttx_train.online import LearnerConfig
from sttx_train.online.carried import Carried
from sttx_train.online.phrase_head import Row
from sttx_train.rwkv7 import RecurrentState
from sttx_train.serve.catalog import Served
from sttx_train.serve.tenant_entry import Learned, answering, nothing_learned, pack_tenant, unpack_tenant
from sttx_train.stores import MemoryStore, StateStore, StoreConflict, StoreFull

_LOG = logging.getLogger(__name__)
_ROWS = 64  # tenants that learn in one step
_WINDOW = 64  # tokens
_PENDING = 65_536  # tokens of a tenant that wait to be learned
_BYTES = 4_000_000_000  # of a store in memory


@dataclass
class Tenant:
    """One tenant: what it has learned, and what it has still to learn.

    Attributes:
        name: identifies it; never written to disk in clear.
        learned: what the next step continues from.
        served: what answers it; it follows `learned` once that is in the store.
        seen: version of the entry that `served` comes from.
        stale: whether `learned` is not what is in the store.
        pending: what it has sent, by conversation; how much of it was learned is in `learned`.
    """

    name: str
    learned: Learned
    served: Served
    seen: int
    stale: bool = False
    pending: OrderedDict[str, tuple[int, ...]] = field(default_factory=OrderedDict)

    @property
    def waiting(self) -> int:
        """Tokens that wait to be learned."""
        return sum(max(0, len(ids) - self.learned.progress.of(name)) for name, ids in self.pending.items())


@dataclass(frozen=True, kw_only=True)
class _Window:
    """What a tenant learns in one step.

    Attributes:
        tenant: who.
        ids: the tokens.
        parts: how much of each conversation is learned after it.
    """

    tenant: Tenant
    ids: tuple[int, ...]
    parts: tuple[tuple[str, int], ...]


class Tenants:
    """The tenants of a server.

    `served` and `add` may be called from any thread, `step` from one at a time.

    Args:
        base: the frozen model, without experts.
        store: keeps what is learned; None for the memory of this process.
        capacity: most tenants in memory, beside the store.
        config: rates and limits; only those of S0 count.
        forget: is called with the digest of what a tenant has learned once a step replaces it.

    Attributes:
        tokens_learned: tokens that were learned and are in the store.
        tokens_dropped: tokens that came faster than they were learned, or had no room in the store.
        overtaken: steps that were taken again after those of another server.
    """

    def __init__(
        self,
        base: Served,
        store: StateStore | None = None,
        *,
        capacity: int = 256,
        config: LearnerConfig | None = None,
        forget: Callable[[str], object] = lambda digest: None,
    ) -> None:
        self._forget_states = forget
        self._base, self._store, self._capacity = base, store or MemoryStore(_BYTES), capacity
        self._config = config or LearnerConfig(phrases="off", replay_rows=0)
        self._lock = threading.RLock()
        self._known: OrderedDict[str, Tenant] = OrderedDict()
        self.tokens_learned = self.tokens_dropped = self.overtaken = 0

    def __len__(self) -> int:
        return len(self._known)

    @property
    def waiting(self) -> int:
        """Tokens of all tenants that wait to be learned."""
        with self._lock:
            return sum(tenant.waiting for tenant in self._known.values())

    def served(self, name: str) -> Served:
        """Return what answers a tenant: the frozen model with what the tenant has learned, on any server.

        Raises:
            CheckpointError: what is in the store is damaged, or was learned with another model.
            StoreDown: the store cannot be read.
        """
        with self._lock:
            tenant = self._tenant(name)
            if self._store.version(_key(name)) != tenant.seen:
                learned, tenant.served = self._read(name)
                tenant.seen, tenant.stale = learned.version, True
            return tenant.served

    def add(self, name: str, ids: Sequence[int], conversation: str | None = None) -> None:
        """Queue what a tenant has sent; what exceeds the queue is dropped and counted.

        Args:
            name: of the tenant.
            ids: what it has sent.
            conversation: identifies the request. The same one sent again is not learned again: a client
                repeats a request whose server has ended. None for one that is never repeated.
        """
        name_of = conversation or token_hex(16)
        with self._lock:
            tenant = self._tenant(name)
            if name_of in tenant.pending:
                return
            done = tenant.learned.progress.of(name_of)
            room = done + max(0, _PENDING - tenant.waiting)
            self.tokens_dropped += max(0, len(ids) - max(room, done))
            if done < len(ids[:room]):
                tenant.pending[name_of] = tuple(ids[:room])

    def step(self, in_turn: Callable[[Callable[[], None]], None] = lambda work: work()) -> bool:
        """Take one step of the tenants that wait, at most 64 of them; return whether more is left.

        Args:
            in_turn: runs what computes with the model, and returns when that is done. The store is read
                before and written after it.

        Raises:
            StoreDown: what was learned cannot be saved; answers do not come from it, and it is learned again.
        """
        with self._lock:
            windows = self._next_windows()
        if windows:
            for window in windows:
                window.tenant.stale = True  # until it is in the store
            in_turn(lambda: self._learn(windows))
            for window in windows:
                self._publish(window)
        with self._lock:
            return any(tenant.pending for tenant in self._known.values())

    # -- learning ------------------------------------------------------------------------------------------

    def _next_windows(self) -> list[_Window]:
        found: list[_Window] = []
        for tenant in [tenant for tenant in self._known.values() if tenant.pending]:
            if len(found) == _ROWS:
                break
            try:
                self._freshen(tenant)
            except CheckpointError:
                _LOG.exception("a tenant cannot learn")
                self._drop_pending(tenant)
            if (window := _window_of(tenant)) is not None:
                found.append(window)
        return found

    def _freshen(self, tenant: Tenant) -> None:
        """Continue from what is in the store; what was learned elsewhere is not learned again."""
        if tenant.stale:
            tenant.learned, tenant.served = self._read(tenant.name)
            tenant.seen, tenant.stale = tenant.learned.version, False
        progress = tenant.learned.progress
        for conversation in [name for name, ids in tenant.pending.items() if progress.of(name) >= len(ids)]:
            del tenant.pending[conversation]

    def _learn(self, windows: Sequence[_Window]) -> None:
        networks = self._base.learner.learner.networks
        all_learned = [window.tenant.learned for window in windows]
        rows = [
            Row(context=learned.carried.context, ids=window.ids, paid=None)
            for learned, window in zip(all_learned, windows, strict=True)
        ]
        starts = [(learned.carried.state or _zeros(self._base)).inject(learned.s0) for learned in all_learned]
        batch = networks.learning.prepare(rows, phrases=False)
        priced = networks.learning.forward(batch, RecurrentState.stack(starts))
        sizes = torch.tensor([len(window.ids) for window in windows], device=priced.nats_B.device)
        (priced.nats_B / sizes).sum().backward()  # the loss of one tenant does not depend on another's S0
        state = priced.state.detach()
        for index, (learned, window) in enumerate(zip(all_learned, windows, strict=True)):
            norm = nn.utils.clip_grad_norm_([learned.s0], self._config.clip)
            if torch.isfinite(norm):
                learned.optimizer.step()
            learned.optimizer.zero_grad(set_to_none=True)
            learned.carried = Carried(state.select([index]), (window.ids[-1],))
            learned.step += 1
            for conversation, count in window.parts:
                learned.progress.set(conversation, count)

    def _publish(self, window: _Window) -> None:
        """Put what a tenant has learned into the store, then let answers come from it.

        If another server was faster, or there is no room, it stays stale: the next step reads the store.
        """
        tenant, learned = window.tenant, window.tenant.learned
        served = answering(self._base, tenant.name, learned.s0, learned.step)
        data = pack_tenant(learned, served)
        try:
            version = self._store.write(_key(tenant.name), data, expected=learned.version)
        except StoreConflict:
            self.overtaken += 1
            return
        except StoreFull as error:
            _LOG.warning("a tenant cannot learn: %s", error)
            with self._lock:
                self.tokens_dropped += len(window.ids)
                self._drop_pending(tenant)
            return
        self._forget_states(tenant.served.digest)
        with self._lock:
            learned.version = tenant.seen = version
            tenant.served, tenant.stale = served, False
            self.tokens_learned += len(window.ids)
            self._freshen(tenant)

    def _drop_pending(self, tenant: Tenant) -> None:
        self.tokens_dropped += tenant.waiting
        tenant.pending.clear()

    # -- who is there --------------------------------------------------------------------------------------

    def _tenant(self, name: str) -> Tenant:
        if (tenant := self._known.get(name)) is None:
            learned, served = self._read(name)
            tenant = Tenant(name=name, learned=learned, served=served, seen=learned.version)
            self._forget()
            self._known[name] = tenant
        self._known.move_to_end(name)
        return tenant

    def _forget(self) -> None:
        """Make room for one more tenant: drop the least recently used, unless they wait to learn."""
        idle = [name for name, tenant in self._known.items() if not tenant.pending]
        for name in idle[: max(0, len(self._known) + 1 - self._capacity)]:
            del self._known[name]

    def _read(self, name: str) -> tuple[Learned, Served]:
        """Return what a tenant has learned as it is in the store, and what answers with it."""
        if (entry := self._store.read(_key(name))) is None:
            learned = nothing_learned(self._base, self._config)
            return learned, answering(self._base, name, learned.s0, 0)
        return unpack_tenant(entry.data, entry.version, name, self._base, self._config)


def _key(name: str) -> str:
    return f"tenant/{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def _window_of(tenant: Tenant) -> _Window | None:
    """Return the next tokens to learn, of one conversation after the other; None if there are none."""
    taken: list[int] = []
    parts = []
    for conversation, ids in tenant.pending.items():
        done = tenant.learned.progress.of(conversation)
        some = ids[done : done + _WINDOW - len(taken)]
        if not some:
            break
        taken += some
        parts.append((conversation, done + len(some)))
    return _Window(tenant=tenant, ids=tuple(taken), parts=tuple(parts)) if taken else None


def _zeros(served: Served) -> RecurrentState:
    model = served.learner.loaded.model
    return RecurrentState.zeros(model.config, device=model.device, dtype=model.dtype)
