"""Experts beside the networks: the price of a window by everything that predicts it.

The networks say how probable every token is; the experts of `sttx_core.experts` mix both networks with what
they counted and matched, and learn after each token. One memory serves all documents of a stream. Knows token
ids and probabilities; neither models nor optimizers.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sttx_core.experts import Experts, ExpertsConfig, ExpertsDocument
from sttx_core.saved_state import damaged
from sttx_train.online.mixed_loss import mixed_loss
from sttx_train.online.window import Window
from sttx_train.saved_tensors import as_arrays, as_tensor, check_names, typed

_WHAT = "file 'experts.safetensors'"
_AT, _VALUES = ".at", ".values"


class Mixture:
    """The experts of a stream, and where each of its latest documents stands.

    Args:
        tokens: bytes of each id of the model's vocabulary; empty for ids without text.
        capacity: most documents that are kept; beyond it the least recently used one starts again.
        config: sizes and rates of the experts.

    Attributes:
        experts: the memory that all documents share.
        documents: where each document stands, the least recently used first.
    """

    def __init__(
        self, tokens: Sequence[bytes], capacity: int = 64, config: ExpertsConfig | None = None
    ) -> None:
        self.tokens, self.capacity = tuple(tokens), capacity
        self.experts = Experts(self.tokens, config)
        self.documents: OrderedDict[str, ExpertsDocument] = OrderedDict()

    def pay(
        self,
        windows: Sequence[Window],
        network: Sequence[Tensor | None],
        frozen: Sequence[Tensor | None],
        *,
        loss: bool = False,
    ) -> tuple[list[np.ndarray], Tensor | None]:
        """Return what each token of each window costs in bits; the experts learn it.

        A token that is not paid for costs 0.

        Args:
            windows: the next tokens of their documents.
            network: for each window natural log-probabilities ``[T, V]`` by the learning network; None where
                it was not asked: the frozen network stands in for it.
            frozen: the same by the frozen network; None where it is not computed.
            loss: also return the loss in nats of all paid tokens, whose gradient is that of these prices.
        """
        bits, slopes = self.read_all(windows, network, frozen, slopes=loss)
        paid = AlreadyPaid(bits=bits, slopes=slopes, experts=self.experts)
        return paid.pay(windows, network, frozen, loss=loss)

    def read_all(
        self,
        windows: Sequence[Window],
        network: Sequence[Tensor | None],
        frozen: Sequence[Tensor | None],
        *,
        slopes: bool,
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Read windows as :meth:`pay` does; return the price of their tokens, and the slopes if asked for."""
        prices, found = [], []
        for window, network_TV, frozen_TV in zip(windows, network, frozen, strict=True):
            slopes_TD = np.zeros((len(window.ids), self.experts.depth if slopes else 0))
            into = slopes_TD if slopes else None
            bits = self.read(window.document, window.ids, network_TV, frozen_TV, slopes_TD=into)
            slopes_TD[~window.paid_T] = 0.0
            prices.append(np.where(window.paid_T, bits, 0.0))
            found.append(slopes_TD)
        return prices, found

    def score(
        self, windows: Sequence[Window], network: Sequence[Tensor | None], frozen: Sequence[Tensor | None]
    ) -> list[np.ndarray]:
        """Return what each token of each window would cost if the window came next. Pure."""
        prices = []
        for window, *says in zip(windows, network, frozen, strict=True):
            place = self.documents.get(window.document) or self.experts.document()
            network_TV, frozen_TV = self._inputs(window.ids, *says)
            bits = self.experts.score(place, network_TV, np.asarray(window.ids), frozen_TV)
            prices.append(np.where(window.paid_T, bits, 0.0))
        return prices

    def read(
        self,
        document: str,
        ids: Sequence[int],
        network_TV: Tensor | None,
        frozen_TV: Tensor | None,
        *,
        slopes_TD: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the price of each token in bits ``[T]``; the experts learn the tokens.

        Args:
            document: the document that the tokens continue.
            ids: T tokens.
            network_TV: log-probabilities by the learning network, as in :meth:`pay`.
            frozen_TV: those by the frozen network.
            slopes_TD: receives the derivatives that `mixed_loss` needs.
        """
        self.documents[document] = where = self.documents.get(document) or self.experts.document()
        self.documents.move_to_end(document)
        while len(self.documents) > self.capacity:
            self.documents.popitem(last=False)
        network, frozen = self._inputs(ids, network_TV, frozen_TV)
        return self.experts.read(where, network, np.asarray(ids), frozen, slopes=slopes_TD)

    def _inputs(
        self, ids: Sequence[int], network_TV: Tensor | None, frozen_TV: Tensor | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        return expert_inputs((len(ids), self.experts.vocab_size), network_TV, frozen_TV)

    def copy(self) -> Mixture:
        """Return experts that know the same, and share nothing with these."""
        other = copy.copy(self)
        other.experts, other.documents = self.experts.copy(), OrderedDict()
        for name, document in self.documents.items():
            other.documents[name] = other.experts.document()
            other.documents[name].load_state_dict(document.state_dict())
        return other

    # -- saving --------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what comes next.

        Returns:
            ``tensors``: of each array of the memory the places that were written, and their values; of each
            array of the documents the rows of all documents. ``documents``: their names, in that order.
        """
        tensors, empty = {}, self._empty()
        for name, array in self.experts.state_dict().items():
            at = np.flatnonzero(array != empty[name])
            tensors[name + _AT] = as_tensor(at.astype(np.int32))
            tensors[name + _VALUES] = as_tensor(array.ravel()[at])
        states = [document.state_dict() for document in self.documents.values()]
        for name in states[0] if states else ():
            tensors[f"document.{name}"] = as_tensor(np.stack([s[name] for s in states]))
        return {"tensors": tensors, "documents": list(self.documents)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly from what :meth:`state_dict` returned, with a vocabulary and sizes like these.

        Raises:
            CheckpointError: the state is damaged.
        """
        arrays = as_arrays(_WHAT, state["tensors"])
        names = list(state["documents"])
        if len(set(names)) != len(names) or len(names) > self.capacity:
            raise damaged(_WHAT, f"a document is there twice, or there are more than {self.capacity}")
        memory, like = self._empty(), self.experts.document().state_dict()
        expected = {name + end for name in memory for end in (_AT, _VALUES)}
        expected |= {f"document.{name}" for name in like} if names else set()
        check_names("experts.safetensors", arrays, expected)
        for name, array in memory.items():
            _fill(name, array, arrays[name + _AT], arrays[name + _VALUES])
        rows = {name: _rows(name, array, arrays, len(names)) for name, array in like.items() if names}
        self.experts.load_state_dict(memory)
        self.documents = OrderedDict((name, self.experts.document()) for name in names)
        for index, document in enumerate(self.documents.values()):
            document.load_state_dict({name: array[index] for name, array in rows.items()})

    def _empty(self) -> dict[str, np.ndarray]:
        """Return the memory of experts that have read nothing."""
        return Experts(self.tokens, self.experts.config).state_dict()


@dataclass(frozen=True, kw_only=True)
class AlreadyPaid:
    """Takes the place of a `Mixture` in a step whose windows the experts have read already.

    Attributes:
        bits: for each window the price of its tokens ``[T]``.
        slopes: for each window the derivatives that `mixed_loss` needs, ``[T, depth]``.
        experts: those that priced them.
    """

    bits: Sequence[np.ndarray]
    slopes: Sequence[np.ndarray]
    experts: Experts

    def pay(
        self,
        windows: Sequence[Window],
        network: Sequence[Tensor | None],
        frozen: Sequence[Tensor | None],
        *,
        loss: bool = False,
    ) -> tuple[list[np.ndarray], Tensor | None]:
        """Return what `Mixture.pay` would have returned."""
        losses = [
            mixed_loss(self.experts, window.ids, network_TV, slopes).sum()
            for window, network_TV, slopes in zip(windows, network, self.slopes, strict=True)
            if loss and network_TV is not None
        ]
        return list(self.bits), torch.stack(losses).sum() if losses else None


def expert_inputs(
    shape: tuple[int, int], network_TV: Tensor | None, frozen_TV: Tensor | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the log-probabilities that experts mix: the network's, and the frozen one's if they are known.

    Where the network was not asked (None) the frozen one stands in for it, and without both all tokens of the
    ``shape`` ``[T, V]`` are equally probable.
    """
    frozen = None if frozen_TV is None else as_array(frozen_TV)
    if network_TV is not None:
        return as_array(network_TV), frozen
    return (np.full(shape, -np.log(shape[1])) if frozen is None else frozen), frozen


def as_array(log_p_TV: Tensor) -> np.ndarray:
    """Return log-probabilities as the experts read them: float32 or float64, in the main memory."""
    values = log_p_TV.detach()
    return (values if values.dtype == torch.float64 else values.float()).cpu().numpy()


def _fill(name: str, array: np.ndarray, at: np.ndarray, values: np.ndarray) -> None:
    """Write values at places of an array, as far as both fit it."""
    if at.dtype != np.int32 or at.ndim != 1 or values.shape != at.shape:
        raise damaged(_WHAT, f"{name!r} has places and values of other shapes or types")
    if len(at) and not (at[0] >= 0 and at[-1] < array.size and bool((np.diff(at) > 0).all())):
        raise damaged(_WHAT, f"{name!r} has places out of order or outside its {array.size}")
    array.ravel()[at] = typed(_WHAT, name, values, array.dtype)


def _rows(name: str, like: np.ndarray, arrays: Mapping[str, np.ndarray], count: int) -> np.ndarray:
    rows = arrays[f"document.{name}"]
    if rows.shape != (count, *like.shape):
        raise damaged(_WHAT, f"'document.{name}' has the shape {list(rows.shape)}")
    return typed(_WHAT, f"document.{name}", rows, like.dtype)
