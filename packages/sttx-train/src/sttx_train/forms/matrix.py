"""`StoredMatrix`: a linear layer or an embedding whose matrix is stored in a form. Runs, trains, expands.

Low-rank and ghost matrices are never expanded to run: their parts are multiplied one after the other. Codes
of 8 bits run by torch's kernel where it has a fast one (`numbers.has_kernel`). Everything else is expanded
when it is first used, and the expanded part is kept while its tensors do not change and are not trained.

Legend: O outputs (rows), I inputs (columns).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sttx_core.errors import ModelError
from sttx_core.foreign_files import shown
from sttx_train.forms import numbers
from sttx_train.forms.encoding import encode_parts, start
from sttx_train.forms.form import Form, module_of

_DTYPES = {"int8": torch.int8, "uint8": torch.uint8, "int32": torch.int32}
_PLACES = ("order", "mask", "places")
_Kept = tuple[tuple[Tensor, ...], Sequence[object], Tensor]
"""The tensors of a matrix, which keeps their ids in use; what was known of them; and the expanded tensor."""


class StoredMatrix(nn.Module):
    """A linear layer without bias: ``matrix(x)`` is ``x @ weight.t()``; ``x @ matrix`` is ``x @ weight``.

    Its floating-point parts are parameters; codes, scales, masks and places are buffers.

    Args:
        form: how the matrix is stored.
        shape: ``(O, I)``.

    Raises:
        UsageError: no matrix of this shape has the form.
    """

    def __init__(self, form: Form, shape: tuple[int, int]) -> None:
        super().__init__()
        self.form, self.rows, self.columns = form, *shape
        self._kept: dict[str, _Kept] = {}
        for name, stored in form.tensors(shape).items():
            if stored.kind == "float" and not name.endswith("_scales"):
                self.register_parameter(name, nn.Parameter(torch.empty(stored.shape)))
            else:
                self.register_buffer(name, torch.empty(stored.shape, dtype=_DTYPES.get(stored.kind)))

    @property
    def weight(self) -> Tensor:
        """The matrix ``[O, I]``, expanded."""
        match self.form.structure:
            case "dense":
                return self._part("full")
            case "low-rank":
                return self._held("whole", self._product)
            case "ghost":
                return self._held("whole", self._ghost)
            case "sparse":
                return self._held("whole", lambda: self._scattered(self._sparse_places()))
            case "2:4":
                return self._held("whole", lambda: self._scattered(self._paired_places()))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` ``[..., I]`` times the transposed matrix: ``[..., O]``."""
        match self.form.structure:
            case "low-rank":
                return self._times(self._times(x, "right"), "left")
            case "ghost":
                full = self._times(x, "core")
                cheap = self._times(self._times(full, "down"), "up")
                return torch.cat([full, cheap], dim=-1).index_select(-1, self.get_buffer("order"))
            case "dense":
                return self._times(x, "full")
            case "sparse" | "2:4":
                return F.linear(x, self.weight)

    def __rmatmul__(self, x: Tensor) -> Tensor:
        return x @ self.weight

    def set_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy tensors into the matrix; their names and shapes are those of its form."""
        own = self.state_dict()
        assert own.keys() == tensors.keys()
        with torch.no_grad():
            for name, tensor in tensors.items():
                own[name].copy_(tensor)

    def recoded(self, form: Form) -> dict[str, Tensor]:
        """Return the tensors of the same parts in a form that differs in its numbers alone."""
        with torch.no_grad():
            parts = {name: self._part(name) for name in self.form.parts((self.rows, self.columns))}
            places = {name: tensor for name, tensor in self.named_buffers() if name in _PLACES}
            return encode_parts(form, parts) | places

    def check(self, name: str, source: str) -> None:
        """Check the masks, places and orders that were read from a file.

        Args:
            name: of the matrix, for messages.
            source: the model's path, for messages.

        Raises:
            ModelError: they are impossible.
        """
        match self.form.structure:
            case "ghost":
                order = self.get_buffer("order").long()
                known = bool(torch.equal(order.sort().values, torch.arange(self.rows, device=order.device)))
            case "sparse":
                bits = _bits(self.get_buffer("mask"))
                known = int(bits.sum()) == self.form.kept and not bits[:, self.columns :].any()
            case "2:4":
                pairs = self._pairs()
                known = bool((pairs[..., 0] < pairs[..., 1]).all())
            case "dense" | "low-rank":
                known = True
        if not known:
            raise ModelError(
                f"{source!r} is damaged: the places of {shown(name)} are impossible: download it again"
            )

    def _part(self, name: str) -> Tensor:
        """Return a part as floating-point numbers."""
        if name in self._parameters:
            part = self.get_parameter(name)
            return numbers.rounded(part, self.form.bits, self.form.group) if self.form.bits else part
        return self._held(name, lambda: self._expanded(name))

    def _expanded(self, name: str) -> Tensor:
        return numbers.numbers_of(self._codes(name), self.get_buffer(f"{name}_scales"), self.form.group)

    def _codes(self, name: str) -> Tensor:
        codes = self.get_buffer(f"{name}_codes")
        if self.form.bits == 8:
            return codes
        return numbers.unpack4(codes, self.form.parts((self.rows, self.columns))[name][1])

    def _times(self, x: Tensor, name: str) -> Tensor:
        """Return the product with a transposed part."""
        if f"{name}_codes" in self._buffers:
            codes, scales = self.get_buffer(f"{name}_codes"), self.get_buffer(f"{name}_scales")
            if numbers.has_kernel(x, codes, scales):
                few = numbers.is_fast(x)
                return numbers.product(x, codes, scales) if few else F.linear(x, self._expanded(name))
        return F.linear(x, self._part(name))

    def _held(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """Return an expanded tensor; it is kept unless a gradient may flow through it."""
        if torch.is_grad_enabled() and any(part.requires_grad for part in self.parameters()):
            return make()
        tensors = (*self.parameters(), *self.buffers())
        now = [(id(tensor), _version(tensor), tensor.device, tensor.dtype) for tensor in tensors]
        found = self._kept.get(name)
        if found is None or found[1] != now:
            with torch.inference_mode(False), torch.no_grad():
                found = self._kept[name] = tensors, now, make().detach()
        return found[2]

    def _product(self) -> Tensor:
        return numbers.ordered_product(self._part("left"), self._part("right"))

    def _ghost(self) -> Tensor:
        core = self._part("core")
        middle = numbers.ordered_product(self._part("down"), core)
        cheap = numbers.ordered_product(self._part("up"), middle)
        return torch.cat([core, cheap]).index_select(0, self.get_buffer("order"))

    def _scattered(self, places: Tensor) -> Tensor:
        """Return a matrix of zeros with the values at their places."""
        values = self._part("values").flatten()
        whole = values.new_zeros(self.rows * self.columns)
        return whole.index_copy(0, places, values).view(self.rows, self.columns)

    def _sparse_places(self) -> Tensor:
        return _bits(self.get_buffer("mask"))[:, : self.columns].flatten().nonzero().flatten()

    def _paired_places(self) -> Tensor:
        fours = torch.arange(0, self.rows * self.columns, 4, device=self.get_buffer("places").device)
        return (self._pairs().flatten(0, 1) + fours.unsqueeze(-1)).flatten()

    def _pairs(self) -> Tensor:
        """Return the two places of every four numbers, ``[O, I / 4, 2]``."""
        places = self.get_buffer("places").unsqueeze(-1).long()
        shifts = torch.arange(0, 8, 2, device=places.device)
        return (places >> shifts & 3).view(self.rows, self.columns // 4, 2)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": {}}  # a copy expands its own

    def extra_repr(self) -> str:
        """Return what `print` shows of it."""
        return f"{self.rows} x {self.columns}, {self.form}"


class StoredEmbedding(StoredMatrix):
    """An embedding: ``matrix(ids)`` are rows of the matrix, of which only those are expanded."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the rows ``[..., I]`` of ids ``[...]``."""
        form, ids = self.form, x
        if form.structure == "low-rank":
            return F.linear(self._rows(ids, "left"), self._part("right").t())
        return self._rows(ids, "full") if form.structure == "dense" else F.embedding(ids, self.weight)

    def _rows(self, ids: Tensor, name: str) -> Tensor:
        if f"{name}_codes" not in self._buffers:
            return F.embedding(ids, self._part(name))
        codes, scales = self.get_buffer(f"{name}_codes")[ids], self.get_buffer(f"{name}_scales")[ids]
        columns = self.form.parts((self.rows, self.columns))[name][1]
        flat = codes.flatten(0, -2) if self.form.bits == 8 else numbers.unpack4(codes.flatten(0, -2), columns)
        rows = numbers.numbers_of(flat, scales.flatten(0, -2), self.form.group)
        return rows.view(*ids.shape, columns)


def install(model: nn.Module, forms: Mapping[str, Form], *, fill: bool) -> None:
    """Put a stored matrix in the place of each layer, embedding or parameter of a model that has a form.

    Args:
        model: the model, whose layers are dense.
        forms: by name of the dense parameter.
        fill: whether the stored matrices get the values of the dense ones; a ghost form gets some of its
            rows, and a random projection of the same size. Without it they are uninitialized memory.

    Raises:
        UsageError: a matrix cannot have its form.
    """
    for name, form in forms.items():
        place = module_of(name)
        parent, _, own = place.rpartition(".")
        owner = model.get_submodule(parent)
        layer = getattr(owner, own)
        dense = layer if isinstance(layer, Tensor) else layer.weight
        kind = StoredEmbedding if isinstance(layer, nn.Embedding) else StoredMatrix
        with torch.device(dense.device):
            stored = kind(form, (dense.shape[0], dense.shape[1]))
        if fill:
            stored.set_tensors(start(form, dense))
        delattr(owner, own)
        setattr(owner, own, stored)


def _bits(mask: Tensor) -> Tensor:
    """Return the bits of bytes ``[O, bytes]``, the lowest first: ``[O, 8 * bytes]`` of bool."""
    shifts = torch.arange(8, dtype=torch.uint8, device=mask.device)
    return (mask.unsqueeze(-1) >> shifts & 1).flatten(-2).bool()


def _version(tensor: Tensor) -> int:
    """Return how often torch changed a tensor; tensors of inference mode are not counted."""
    return -1 if tensor.is_inference() else tensor._version
