"""Learning while serving: each tenant has an S0 of its own, and many learn as the rows of one batch.

What a tenant sends is one document that grows. A step reads a window of each of some tenants, and changes
the S0 of each by the gradient of its own price alone. A step counts once it is saved: only then do answers
come from it. Knows ids and networks; neither requests nor HTTP.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sttx_core.errors import CheckpointError
from sttx_train.checkpoint import CheckpointStore
from sttx_train.online import LearnerConfig
from sttx_train.online.carried import Carried, CarriedStates
from sttx_train.online.optimizer import load_optimizer_tensors, online_optimizer, optimizer_tensors
from sttx_train.online.phrase_head import Row
from sttx_train.predict.twins import with_s0
from sttx_train.rwkv7 import RecurrentState
from sttx_train.serve.catalog import Served

_ROWS = 64  # tenants that learn in one step
_WINDOW = 64  # tokens
_PENDING = 65_536  # tokens of a tenant that wait to be learned
_KIND = "tenant"


@dataclass
class Tenant:
    """One tenant: what it has learned, and what it has still to learn.

    Attributes:
        name: identifies it; never written to disk in clear.
        s0: ``[L, H, N, N]`` what it has learned.
        optimizer: of `s0`.
        carried: where its document stands.
        step: steps so far.
        served: what answers it; it follows `s0` once that is saved.
        pending: ids to learn.
    """

    name: str
    s0: nn.Parameter
    optimizer: Any
    carried: Carried
    step: int
    served: Served
    pending: deque[int] = field(default_factory=deque)


class Tenants:
    """The tenants of a server.

    `served` and `add` may be called from any thread; everything else belongs to the engine's.

    Args:
        base: the frozen model, without experts.
        folder: keeps what is learned; None to keep it in memory alone.
        capacity: most tenants in memory.
        config: rates and limits; only those of S0 count.

    Attributes:
        tokens_learned, tokens_dropped: tokens that were learned, and those that came faster than they were.
    """

    def __init__(
        self,
        base: Served,
        folder: Path | None = None,
        *,
        capacity: int = 256,
        config: LearnerConfig | None = None,
    ) -> None:
        self._base, self._folder, self._capacity = base, folder, capacity
        self._config = config or LearnerConfig(phrases="off", replay_rows=0)
        self._lock = threading.RLock()
        self._known: OrderedDict[str, Tenant] = OrderedDict()
        self.tokens_learned = self.tokens_dropped = 0

    def __len__(self) -> int:
        return len(self._known)

    def served(self, name: str) -> Served:
        """Return what answers a tenant: the frozen model with what the tenant has learned.

        Raises:
            CheckpointError: what was saved of it is damaged.
        """
        with self._lock:
            return self._tenant(name).served

    def add(self, name: str, ids: Sequence[int]) -> None:
        """Queue what a tenant has sent; what exceeds the queue is dropped and counted."""
        with self._lock:
            tenant = self._tenant(name)
            free = max(0, _PENDING - len(tenant.pending))
            tenant.pending.extend(ids[:free])
            self.tokens_dropped += len(ids) - len(ids[:free])

    def step(self) -> bool:
        """Take one step of the tenants that wait, at most 64 of them; return whether more is left.

        Raises:
            CheckpointError: what was learned cannot be saved; answers do not come from it.
        """
        with self._lock:
            waiting = [tenant for tenant in self._known.values() if tenant.pending][:_ROWS]
            windows = [_taken(tenant.pending) for tenant in waiting]
        if not waiting:
            return False
        self._learn(waiting, windows)
        for tenant, window in zip(waiting, windows, strict=True):
            self._publish(tenant)
            self.tokens_learned += len(window)
        with self._lock:
            return any(tenant.pending for tenant in self._known.values())

    # -- learning ------------------------------------------------------------------------------------------

    def _learn(self, tenants: Sequence[Tenant], windows: Sequence[tuple[int, ...]]) -> None:
        networks = self._base.predictor.learner.networks
        rows = [
            Row(context=tenant.carried.context, ids=ids, paid=None)
            for tenant, ids in zip(tenants, windows, strict=True)
        ]
        starts = [(tenant.carried.state or _zeros(self._base)).inject(tenant.s0) for tenant in tenants]
        batch = networks.learning.prepare(rows, phrases=False)
        priced = networks.learning.forward(batch, RecurrentState.stack(starts))
        sizes = torch.tensor([len(ids) for ids in windows], device=priced.nats_B.device)
        (priced.nats_B / sizes).sum().backward()  # the loss of one tenant does not depend on another's S0
        state = priced.state.detach()
        for index, (tenant, ids) in enumerate(zip(tenants, windows, strict=True)):
            norm = nn.utils.clip_grad_norm_([tenant.s0], self._config.clip)
            if torch.isfinite(norm):
                tenant.optimizer.step()
            tenant.optimizer.zero_grad(set_to_none=True)
            tenant.carried = Carried(state.select([index]), (ids[-1],))
            tenant.step += 1

    def _publish(self, tenant: Tenant) -> None:
        """Save what a tenant has learned, then let answers come from it."""
        if self._folder is not None:
            self._store(tenant.name).save(
                tenant.step,
                tensors={
                    "learned": {"s0": tenant.s0.detach()},
                    "optimizer": optimizer_tensors(tenant.optimizer, {"s0": tenant.s0}),
                    "sessions": _alone(tenant.carried).state_dict()["tensors"],
                },
                documents={"session": _alone(tenant.carried).state_dict()["meta"]},
                manifest={"kind": _KIND, "base": self._base.digest},
            )
        with self._lock:
            tenant.served = self._answering(tenant.name, tenant.s0, tenant.step)

    def _answering(self, name: str, s0: nn.Parameter, step: int) -> Served:
        base, values = self._base, s0.detach().clone()
        digest = hashlib.sha256(f"{base.digest}\0{name}\0{step}\0".encode())
        digest.update(values.cpu().numpy().tobytes())
        return Served(
            id=base.id,
            predictor=with_s0(base.predictor, values),
            digest=digest.hexdigest(),
            step=step,
            created=base.created,
            base=base,
        )

    # -- who is there --------------------------------------------------------------------------------------

    def _tenant(self, name: str) -> Tenant:
        if (tenant := self._known.get(name)) is None:
            tenant = self._known[name] = self._new(name)
            self._forget()
        self._known.move_to_end(name)
        return tenant

    def _forget(self) -> None:
        """Drop the least recently used tenants from memory; those that wait to learn stay."""
        idle = [name for name, tenant in self._known.items() if not tenant.pending]
        for name in idle[: max(0, len(self._known) - self._capacity)]:
            del self._known[name]

    def _new(self, name: str) -> Tenant:
        s0 = nn.Parameter(torch.zeros_like(self._base.predictor.learner.s0))
        optimizer = online_optimizer({"s0": s0}, self._config)
        carried, step = Carried(None, (self._base.predictor.loaded.tokenizer.eot_id,)), 0
        store = None if self._folder is None else self._store(name)
        if store is not None and store.last_step() is not None:
            carried, step = self._load(store, s0, optimizer)
        served = self._answering(name, s0, step)
        return Tenant(name=name, s0=s0, optimizer=optimizer, carried=carried, step=step, served=served)

    def _load(self, store: CheckpointStore, s0: nn.Parameter, optimizer: Any) -> tuple[Carried, int]:
        saved = store.load()
        if (saved.manifest.get("kind"), saved.manifest.get("base")) != (_KIND, self._base.digest):
            raise CheckpointError(
                f"{str(store.directory)!r} was learned with another model: name another --learn-dir"
            )
        learned = saved.tensors["learned"]["s0"]
        if learned.shape != s0.shape or not bool(learned.isfinite().all()):
            raise CheckpointError(f"{str(store.directory)!r} is damaged: S0 has another shape; remove it")
        with torch.no_grad():
            s0.copy_(learned)
        load_optimizer_tensors(optimizer, {"s0": s0}, saved.tensors["optimizer"])
        states = CarriedStates(1, 0)
        states.load_state_dict({"tensors": saved.tensors["sessions"], "meta": saved.documents["session"]})
        return next(iter(states.entries.values())), saved.step

    def _store(self, name: str) -> CheckpointStore:
        assert self._folder is not None
        return CheckpointStore(self._folder / hashlib.sha256(name.encode()).hexdigest()[:32], keep=2)


def _taken(pending: deque[int]) -> tuple[int, ...]:
    return tuple(pending.popleft() for _ in range(min(_WINDOW, len(pending))))


def _zeros(served: Served) -> RecurrentState:
    model = served.predictor.loaded.model
    return RecurrentState.zeros(model.config, device=model.device, dtype=model.dtype)


def _alone(carried: Carried) -> CarriedStates:
    states = CarriedStates(1, 0)
    states.put("tenant", carried)
    return states
