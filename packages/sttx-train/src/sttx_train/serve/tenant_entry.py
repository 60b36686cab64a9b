"""What one tenant has learned, as an entry of a store and back; and what answers with it.

An entry names the model and has the digest of everything learned: one that does not fit is refused. Knows
neither which tenants there are nor when they learn.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from msgspec import Meta
from torch import Tensor, nn

from sttx_core.errors import CheckpointError
from sttx_core.saved_state import Count, Line, Sha256, State, checked
from sttx_train.online import LearnerConfig
from sttx_train.online.carried import Carried, CarriedStates
from sttx_train.online.optimizer import load_optimizer_tensors, online_optimizer, optimizer_tensors
from sttx_train.online.saved import check_carried_tensors
from sttx_train.online.states import CarriedState
from sttx_train.predict.twins import with_s0
from sttx_train.saved_tensors import check_moments, check_names, check_tensors
from sttx_train.serve.catalog import Served
from sttx_train.stores import pack, unpack

_KIND, _WHAT = "tenant", "what a tenant has learned"
SHARE = 0.5
"""How much of S0 answers come from (docs/log.md, "which S0 of a user should a server take?")."""
_REMEMBERED = 1024  # conversations of a tenant of which is known how much was learned


class Progress:
    """How many tokens of each conversation were learned; the oldest conversations are forgotten.

    Args:
        counts: conversations with the tokens of each, the oldest first.
    """

    def __init__(self, counts: Iterable[tuple[str, int]] = ()) -> None:
        self._counts = OrderedDict(counts)

    def of(self, conversation: str) -> int:
        """Return how many tokens of a conversation were learned."""
        return self._counts.get(conversation, 0)

    def set(self, conversation: str, count: int) -> None:
        """Note how many tokens of a conversation were learned."""
        self._counts[conversation] = count
        self._counts.move_to_end(conversation)
        while len(self._counts) > _REMEMBERED:
            self._counts.popitem(last=False)

    def as_json(self) -> list[tuple[str, int]]:
        """Return all conversations with their counts."""
        return list(self._counts.items())


@dataclass
class Learned:
    """What a tenant has learned.

    Attributes:
        s0: ``[L, H, N, N]``.
        optimizer: of `s0`.
        carried: where its document stands.
        step: steps so far.
        progress: what was learned of which conversation.
        version: of the entry that it was read from, or written to; 0 before the first.
    """

    s0: nn.Parameter
    optimizer: Any
    carried: Carried
    step: int
    progress: Progress
    version: int


class _Saved(State):
    """What precedes the tensors of an entry."""

    kind: Line
    base: Line
    learned: Sha256
    step: Count
    carried: dict[str, Any]
    progress: Annotated[list[tuple[Line, Count]], Meta(max_length=_REMEMBERED)]


def nothing_learned(base: Served, config: LearnerConfig) -> Learned:
    """Return what a new tenant has."""
    s0 = nn.Parameter(torch.zeros_like(base.learner.learner.s0))
    carried = Carried(None, (base.predictor.tokenizer.eot_id,))
    optimizer = online_optimizer({"s0": s0}, config)
    return Learned(s0=s0, optimizer=optimizer, carried=carried, step=0, progress=Progress(), version=0)


def answering(base: Served, name: str, s0: Tensor, step: int) -> Served:
    """Return the frozen model with its share of an S0, which is copied.

    Args:
        base: the frozen model.
        name: of the tenant.
        s0: ``[L, H, N, N]`` what it has learned.
        step: steps so far.
    """
    values = s0.detach() * SHARE
    digest = hashlib.sha256(f"{base.digest}\0{name}\0{step}\0".encode())
    digest.update(values.cpu().numpy().tobytes())
    return Served(
        id=base.id,
        predictor=with_s0(base.learner, values),
        digest=digest.hexdigest(),
        step=step,
        created=base.created,
        base=base,
    )


def pack_tenant(learned: Learned, served: Served) -> bytes:
    """Return what a tenant has learned as the bytes of an entry.

    Args:
        learned: what it has learned.
        served: what answers with it.
    """
    assert served.base is not None
    carried = _alone(learned.carried).state_dict()
    tensors = {"s0": learned.s0.detach()}
    tensors |= _named("optimizer.", optimizer_tensors(learned.optimizer, {"s0": learned.s0}))
    tensors |= _named("carried.", carried["tensors"])
    meta = {
        "kind": _KIND,
        "base": served.base.digest,
        "learned": served.digest,
        "step": learned.step,
        "carried": carried["meta"],
        "progress": learned.progress.as_json(),
    }
    return pack(meta, tensors)


def unpack_tenant(
    data: bytes, version: int, name: str, base: Served, config: LearnerConfig
) -> tuple[Learned, Served]:
    """Return what a tenant has learned, and what answers with it.

    Args:
        data: what `pack_tenant` has returned.
        version: of the entry.
        name: of the tenant.
        base: the frozen model.
        config: rates.

    Raises:
        CheckpointError: it is damaged, or was learned with another model.
    """
    meta, tensors = unpack(data, _WHAT)
    saved = checked(_Saved, meta, _WHAT)
    if (saved.kind, saved.base) != (_KIND, base.digest):
        raise CheckpointError(
            "the state store holds what a tenant has learned with another model: serve that one, or give "
            "another --state-store"
        )
    learned = nothing_learned(base, config)
    _load(learned, saved, tensors, base)
    learned.step, learned.version = saved.step, version
    learned.progress = Progress(saved.progress)
    served = answering(base, name, learned.s0, saved.step)
    if served.digest != saved.learned:
        raise CheckpointError(
            "the state store holds what a tenant has learned, but its digest is another one: it was changed, "
            "or is another tenant's; restore it from a copy, or remove it"
        )
    return learned, served


def _load(learned: Learned, saved: _Saved, tensors: dict[str, Tensor], base: Served) -> None:
    """Load the tensors, once all of them fit."""
    kinds: dict[str, dict[str, Tensor]] = {"s0": {}, "optimizer": {}, "carried": {}}
    for path, tensor in tensors.items():
        kind, _, name = path.partition(".")
        kinds.setdefault(kind, {})[name] = tensor
    check_names(_WHAT, kinds, ("s0", "optimizer", "carried"))
    check_tensors(_WHAT, kinds["s0"], {"": learned.s0})
    check_moments(_WHAT, kinds["optimizer"], {"s0": learned.s0})
    carried, model = checked(CarriedState, saved.carried, _WHAT), base.learner.loaded.model
    check_carried_tensors(carried, kinds["carried"], model.config, model.dtype)
    if len(carried.sessions) != 1 or max(carried.sessions[0][1]) >= model.config.vocab_size:
        raise CheckpointError(f"{_WHAT} does not fit the model: its document has other ids")
    states = CarriedStates(1, 0)
    states.load_state_dict({"tensors": kinds["carried"], "meta": saved.carried})
    with torch.no_grad():
        learned.s0.copy_(tensors["s0"])
    load_optimizer_tensors(learned.optimizer, {"s0": learned.s0}, kinds["optimizer"])
    learned.carried = next(iter(states.entries.values()))


def _named(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def _alone(carried: Carried) -> CarriedStates:
    states = CarriedStates(1, 0)
    states.put("tenant", carried)
    return states
