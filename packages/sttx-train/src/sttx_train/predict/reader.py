"""Where reading stands in one document: what comes next there, what tokens cost, and learning them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from msgspec import Meta

from sttx_core.experts import ExpertsDocument, NextToken
from sttx_core.saved_state import Count, State, checked, damaged
from sttx_train.generate import Constraint, Generation, SamplingConfig
from sttx_train.online.carried import Carried, CarriedStates
from sttx_train.online.mixture import Mixture
from sttx_train.online.prices import Prices
from sttx_train.online.saved import check_carried_tensors
from sttx_train.online.states import CarriedState
from sttx_train.predict.reading import (
    Ahead,
    Unlearned,
    advance_rows,
    learn_rows,
    next_log_probs,
    next_tokens,
    undone,
)
from sttx_train.saved_tensors import as_arrays, as_tensor, typed

if TYPE_CHECKING:
    from sttx_train.predict.predictor import Predictor


_WHAT = "place in a document"
_KINDS = ("state", "frozen", "offset", "place", "bits", "slopes", "memory")
"""How names of a reader's saved tensors start."""


class _Saved(State, kw_only=True):
    """The ``meta`` of what `Reader.state_dict` returns."""

    carried: CarriedState
    filled: Count
    window: list[tuple[Annotated[list[Count], Meta(min_length=1)], bool]]
    seen: list[Count] = []


class Reader:
    """Reads one document; `Predictor.read` makes one.

    A reader counts the base tokens of its window. At the window's start S0 is added to the state, at its end
    the learner learns; in its middle nothing changes. So tokens cost the same however they are split, up to
    1e-4 bits a token in float32. Experts are exact: they follow from the networks' probabilities alone.

    Attributes:
        predictor: who predicts.
        document: name of the document.
        mixture: the experts, shared by the readers of a predictor, or its own; None without.
        place: where the experts stand in the document.
        carried: the networks' states, and the tokens that they have not read yet.
        filled: tokens of the window so far.
        start: what was carried at the window's start.
        unlearned: the window's tokens so far, if the predictor learns.
        seen: the window's tokens so far, if the predictor takes outer steps.
        ahead: what was computed for the next token; None if it was not asked for.
    """

    def __init__(self, predictor: Predictor, document: str, *, alone: bool, go_on: bool) -> None:
        self.predictor, self.document = predictor, document
        learner = predictor.learner
        carried = learner.carried.get(document) if go_on else Carried(None, (learner.carried.eot_id,))
        self.carried, self.start, self.filled = carried, carried, 0
        self.unlearned: list[Unlearned] = []
        self.seen: tuple[int, ...] = ()
        self.ahead: Ahead | None = None
        self.mixture: Mixture | None = None
        self.place: ExpertsDocument | None = None
        if learner.mixture is not None:
            self.mixture = learner.mixture.copy() if alone else learner.mixture
            known = self.mixture.documents.get(document) if go_on else None
            self.place = self.mixture.experts.document() if known is None else known

    def log_probs(self) -> np.ndarray:
        """Return the natural log-probability of each token as the next one ``[V]``, float64. Pure."""
        return next_log_probs(self.predictor, [self])[0]

    def expected(self) -> np.ndarray | NextToken:
        """Return what is expected as the next token, as `next_tokens` describes it. Pure."""
        return next_tokens(self.predictor, [self])[0]

    def advance(self, ids: Sequence[int]) -> Prices:
        """Read tokens without learning from them, and return what they cost. The experts remember them.

        They count as tokens of the window: if it has others, those are learned from at its end.
        """
        return advance_rows(self.predictor, [self], [ids])[0]

    def score(self, ids: Sequence[int]) -> Prices:
        """Return what :meth:`advance` would return. Pure."""
        with undone([self]):
            return advance_rows(self.predictor, [self], [ids], keep=False)[0]

    def learn(self, ids: Sequence[int]) -> Prices:
        """Pay for tokens, and learn from each window that they complete. Return what they cost before.

        Raises:
            UsageError: the predictor does not learn.
            ModelError: the loss is not finite; nothing is learned from that window.
        """
        return learn_rows(self.predictor, [self], [ids])[0]

    def finish(self) -> None:
        """Learn from the last window, which the end of the document leaves short."""
        learn_rows(self.predictor, [self], [()], last=True)

    def generate(
        self,
        sampling: SamplingConfig | None = None,
        *,
        max_tokens: int = 256,
        stop: Sequence[str] = (),
        stream: int = 0,
        constraint: Constraint | None = None,
    ) -> Generation:
        """Generate a text after what was read. The reader reads it as :meth:`advance` does.

        Args:
            sampling: how tokens are chosen; by default they are drawn from `log_probs`.
            max_tokens: most tokens.
            stop: texts that end the text and are not part of it.
            stream: number of the text, among those with the same seed.
            constraint: what the text must be.

        Raises:
            UsageError: an option does not fit.
        """
        own = self.mixture is not self.predictor.learner.mixture and not self._has_own
        return Generation(
            self,
            self.predictor.tokens,
            ends=(self.predictor.loaded.tokenizer.eot_id,),
            sampling=sampling,
            max_tokens=max_tokens,
            stop=stop,
            stream=stream,
            constraint=constraint,
            order=self.predictor.order,
            memory=self.mixture.experts if own and self.mixture is not None else None,
        )

    def copy(self) -> Reader:
        """Return a reader that stands where this one does; what either reads does not move the other.

        Its states share no memory with those of other readers of a batch. If this one reads with a copy of
        the experts' memory, the other one gets its own; otherwise they share the predictor's.
        """
        other = copy.copy(self)
        other.unlearned, other.ahead = list(self.unlearned), None
        other.carried = self.carried.alone()
        other.start = other.carried if self.start is self.carried else self.start.alone()
        if self.mixture is not None and self.place is not None:
            if self.mixture is not self.predictor.learner.mixture:
                other.mixture = self.mixture.copy()
            other.place = self.mixture.experts.document()
            other.place.load_state_dict(self.place.state_dict())
        return other

    @property
    def _has_own(self) -> bool:
        """Whether its experts are part of it."""
        return self.mixture is not None and self.predictor.own_experts

    @property
    def nbytes(self) -> int:
        """Memory of its states and of its own experts in bytes, without what was computed ahead."""
        carried = {id(one): one for one in (self.carried, self.start)}.values()
        own = self.mixture.experts.nbytes if self.mixture is not None and self._has_own else 0
        return own + sum(one.nbytes for one in carried)

    # -- snapshots -----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return where reading stands, anywhere in a window, as ``tensors`` and JSON-able ``meta``.

        The memory of the experts is part of it only in a predictor of which each reader has its own.
        """
        both = CarriedStates(2, 0)
        both.put("start", self.start)
        both.put("now", self.carried)
        carried = both.state_dict()
        tensors = dict(carried["tensors"])
        for name, array in (self.place.state_dict() if self.place is not None else {}).items():
            tensors[f"place.{name}"] = as_tensor(array)
        for index, part in enumerate(self.unlearned):
            tensors[f"bits.{index}"] = as_tensor(part.bits)
            tensors[f"slopes.{index}"] = as_tensor(part.slopes)
        if self.mixture is not None and self._has_own:
            memory = self.mixture.state_dict()["tensors"]
            tensors |= {f"memory.{name}": tensor for name, tensor in memory.items()}
        window = [[list(part.ids), part.paid] for part in self.unlearned]
        meta = {"carried": carried["meta"], "filled": self.filled, "window": window}
        if self.seen:
            meta["seen"] = list(self.seen)
        return {"tensors": tensors, "meta": meta}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where :meth:`state_dict` was called, in this reader or in another one.

        Raises:
            CheckpointError: the state is damaged, or of a predictor with other experts.
        """
        meta = checked(_Saved, state["meta"], _WHAT)
        kinds = {name: {} for name in _KINDS}
        for name, tensor in state["tensors"].items():
            kinds.setdefault(name.partition(".")[0], {})[name] = tensor
        if [name for name, *_ in meta.carried.sessions] != ["start", "now"] or len(kinds) != len(_KINDS):
            raise damaged(_WHAT, "it is not that of one document")
        model = self.predictor.loaded.model
        carried = kinds["state"] | kinds["frozen"] | kinds["offset"]
        check_carried_tensors(meta.carried, carried, model.config, model.dtype)
        self._load_memory(kinds["memory"])
        self._load_place(as_arrays(_WHAT, kinds["place"]))
        self.unlearned = self._unlearned(meta, as_arrays(_WHAT, kinds["bits"] | kinds["slopes"]))
        both = CarriedStates(2, 0)
        both.load_state_dict({"tensors": carried, "meta": state["meta"]["carried"]})
        self.start, self.carried = both.entries["start"], both.entries["now"]
        if max(meta.seen, default=0) >= model.config.vocab_size or len(meta.seen) != (
            meta.filled if self.predictor.adapts else 0
        ):
            raise damaged(_WHAT, "tokens of its window are missing, or not in the vocabulary")
        self.filled, self.seen, self.ahead = meta.filled, tuple(meta.seen), None

    def _load_memory(self, tensors: Mapping[str, Any]) -> None:
        """Load what its own experts remember."""
        if self.mixture is None or not self._has_own:
            if tensors:
                raise damaged(_WHAT, "it is of a predictor with other experts")
            return
        memory = {name.removeprefix("memory."): tensor for name, tensor in tensors.items()}
        self.mixture.load_state_dict({"tensors": memory, "documents": []})

    def _load_place(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Load where the experts stand."""
        place = self.mixture.experts.document() if self.mixture is not None else None
        like = {} if place is None else place.state_dict()
        if arrays.keys() != {f"place.{name}" for name in like}:
            raise damaged(_WHAT, "it is of a predictor with other experts")
        if place is not None:
            names = {name: f"place.{name}" for name in like}
            place.load_state_dict(
                {name: typed(_WHAT, saved, arrays[saved], like[name].dtype) for name, saved in names.items()}
            )
        self.place = place

    def _unlearned(self, meta: _Saved, arrays: Mapping[str, np.ndarray]) -> list[Unlearned]:
        """Return the window's tokens so far."""
        depth = self.mixture.experts.depth if self.mixture is not None else 0
        vocab_size, result = self.predictor.loaded.model.config.vocab_size, []
        for index, (ids, paid) in enumerate(meta.window):
            bits, slopes = arrays.get(f"bits.{index}"), arrays.get(f"slopes.{index}")
            if bits is None or slopes is None or max(ids) >= vocab_size:
                raise damaged(_WHAT, "tokens of its window have no price, or are not in the vocabulary")
            if (bits.shape, slopes.shape) != ((len(ids),), (len(ids), depth)):
                raise damaged(_WHAT, "prices of its window have another shape")
            result.append(Unlearned(ids=tuple(ids), paid=paid, bits=bits, slopes=slopes))
        if meta.filled >= self.predictor.window or len(arrays) != 2 * len(meta.window):
            raise damaged(_WHAT, "it does not fit the window")
        return result
