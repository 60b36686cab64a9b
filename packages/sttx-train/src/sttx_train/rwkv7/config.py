"""The sizes that all models have, and those of RWKV-7. Knows sizes only; files and weights are elsewhere."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from sttx_core.errors import UsageError
from sttx_core.foreign_files import shown
from sttx_train.forms.form import Form, StoredTensor, module_of

MOST_INNER = 64
"""Most inner steps, and most tokens of their batch: a bound on what a forged file can ask for."""
MOMENTA = (0.05, 0.99)
"""Least and largest momentum: smaller ones have next to no effect, larger ones lose digits of the state."""
_MOST_GHOSTS = 1000  # layers: a bound on what a forged file can ask for
_GHOSTS = (
    *(f".att.{name}.weight" for name in ("receptance", "key", "value", "output")),
    *(f".ffn.{name}.weight" for name in ("key", "value")),
)


def _rank(factor: float, hidden_size: int) -> int:
    """Published low-rank width: a multiple of 32 near ``factor * sqrt(hidden_size)`` (RWKV-LM, v7)."""
    return max(32, int(round(factor * math.sqrt(hidden_size) / 32) * 32))


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The sizes that models of all architectures have.

    Attributes:
        vocab_size: rows of the embedding and of the head.
        hidden_size: D, width of the residual stream; a multiple of ``head_size``.
        num_layers: L, number of blocks.
        head_size: N, side of each head's N x N state.
        ffn_size: width of the channel mix.
        layer_norm_eps: epsilon of every LayerNorm.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    head_size: int = 64
    ffn_size: int = 0
    layer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name.endswith("_eps"):
                if not isinstance(value, int | float) or not 0 < value < 1:  # not NaN either
                    raise UsageError(f"{name} must be a number above 0 and below 1, not {shown(value)}")
            elif name != "architecture":
                self._require_whole(name, value)
        if self.hidden_size % self.head_size:
            raise UsageError(
                f"hidden_size {self.hidden_size!r} must be a multiple of head_size {self.head_size!r}"
            )
        for name, value in self._defaults().items():
            if getattr(self, name) == 0:
                object.__setattr__(self, name, value)

    def _require_whole(self, name: str, value: object) -> None:
        least = int(name in ("vocab_size", "hidden_size", "num_layers", "head_size"))
        if isinstance(value, bool) or not isinstance(value, int):
            raise UsageError(f"{name} must be a whole number, not {shown(value)}")
        if value < least:
            raise UsageError(f"{name} must be at least {least}, not {shown(value)}")

    def _defaults(self) -> dict[str, int]:
        """Return the sizes that stand for a 0."""
        return {}

    @property
    def num_heads(self) -> int:
        """H, the number of heads: ``hidden_size // head_size``."""
        return self.hidden_size // self.head_size

    @property
    def group_norm_eps(self) -> float:
        """Epsilon of the GroupNorm of the heads' outputs."""
        raise NotImplementedError

    @property
    def plain_recurrence(self) -> bool:
        """Whether the architecture's own kernels compute the recurrence."""
        return True

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-able dictionary, from which the class of the config restores it."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class RWKV7Config(ModelConfig):
    """Sizes of an RWKV-7 model.

    The four ranks and ``ffn_size`` default to the published formulas. Published files do not always follow
    them, so loaders pass the sizes of the tensors.

    Attributes:
        ffn_size: width of the channel mix, by default ``4 * hidden_size``.
        decay_rank: inner width of the decay's low-rank map (W1, W2).
        a_rank: inner width of the in-context learning rate's map (A1, A2).
        v_rank: inner width of the value residual's map (V1, V2).
        gate_rank: inner width of the output gate's map (G1, G2).
        layer_norm_eps: epsilon of every LayerNorm. The heads' GroupNorm uses ``head_size * 1e-5``.
        forms: the form of each matrix that is not stored dense, by the name of the dense parameter; a
            mapping is taken too (`sttx_train.forms`).
        ghost_ratio: share of the rows of the channel mix and of the four projections that are made of the
            others (0: none). Without ``forms`` it gives those matrices a ghost form.
        inner_steps: extra steps of gradient descent that each token takes on the state, at most 64; 0 is
            plain RWKV-7 (`sttx_train.wkv.inner` has the equations).
        inner_lr: what the learned rates of these steps start at, one for each head, from 0 to 1; a rate of 0
            is plain RWKV-7.
        inner_momentum: share of the velocity that each of these steps keeps: 0, or from 0.05 to 0.99. The
            velocity is part of the state: as many numbers as ``wkv``.
        inner_batch: number of the last tokens whose errors these steps lower, at most 64. The keys and values
            of all but the current token are part of the state: ``3 * hidden_size`` numbers a token and layer.

    The other attributes are those of `ModelConfig`.

    >>> RWKV7Config(vocab_size=4096, hidden_size=256, num_layers=8).num_heads
    4
    """

    decay_rank: int = 0
    a_rank: int = 0
    v_rank: int = 0
    gate_rank: int = 0
    forms: Any = ()  # ((name, text), ...): dataclasses compare and hash it
    ghost_ratio: float = 0.0
    inner_steps: int = 0
    inner_lr: float = 0.0
    inner_momentum: float = 0.0
    inner_batch: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        ratio = self.ghost_ratio
        if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 <= ratio < 1:
            raise UsageError(f"ghost_ratio must be a share from 0 to below 1, not {shown(ratio)}")
        _check_inner(self)
        forms = self.forms.items() if isinstance(self.forms, Mapping) else self.forms
        if not isinstance(forms, Iterable) or not all(map(_is_pair, forms)):
            raise UsageError(f"forms must be texts by the names of matrices, not {shown(self.forms)}")
        named = sorted((name, str(Form.parse(text))) for name, text in forms)
        object.__setattr__(self, "forms", tuple(named))
        if ratio and not named:
            object.__setattr__(self, "forms", _ghost_forms(self))

    def _require_whole(self, name: str, value: object) -> None:
        if name not in ("forms", "ghost_ratio", "inner_lr", "inner_momentum"):
            super()._require_whole(name, value)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-able dictionary, without the variants that the model does not use."""
        sizes = asdict(self) | {"forms": dict(self.forms)}
        return {name: value for name, value in sizes.items() if value != _UNUSED.get(name)}

    def _defaults(self) -> dict[str, int]:
        return {
            "ffn_size": 4 * self.hidden_size,
            "decay_rank": _rank(2.5, self.hidden_size),
            "a_rank": _rank(2.5, self.hidden_size),
            "v_rank": _rank(1.7, self.hidden_size),
            "gate_rank": _rank(5.0, self.hidden_size),
        }

    @property
    def group_norm_eps(self) -> float:
        """Epsilon of the per-head GroupNorm (64e-5 for heads of 64)."""
        return self.head_size * 1e-5

    @property
    def plain_recurrence(self) -> bool:
        """Whether RWKV-7's kernels compute the recurrence: not inner steps with a momentum or a batch."""
        return not self.inner_steps or (not self.inner_momentum and self.inner_batch == 1)

    @property
    def recent_tokens(self) -> int:
        """Number of tokens whose keys and values are part of the state."""
        return self.inner_batch - 1 if self.inner_steps else 0


_UNUSED: dict[str, Any] = {
    "forms": {},
    "ghost_ratio": 0.0,
    "inner_steps": 0,
    "inner_lr": 0.0,
    "inner_momentum": 0.0,
    "inner_batch": 1,
}
"""The values of a plain model, which `RWKV7Config.to_dict` leaves out."""


def _check_inner(config: RWKV7Config) -> None:
    """Raise a UsageError unless the inner steps are possible and all their settings have an effect."""
    if max(config.inner_steps, config.inner_batch) > MOST_INNER or config.inner_batch < 1:
        raise UsageError(
            f"inner_steps must be at most {MOST_INNER} and inner_batch from 1 to {MOST_INNER}, "
            f"not {shown(config.inner_steps)} and {shown(config.inner_batch)}"
        )
    for name, (low, high) in {"inner_lr": (0, 1), "inner_momentum": MOMENTA}.items():
        value = getattr(config, name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or (value != 0 and not low <= value <= high):
            raise UsageError(f"{name} must be 0, or a number from {low} to {high}, not {shown(value)}")
    if not config.inner_steps:
        for name in ("inner_lr", "inner_momentum", "inner_batch"):
            if (value := getattr(config, name)) != _UNUSED[name]:
                raise UsageError(f"{name} {shown(value)} has no effect without inner_steps: leave it out")


def parameter_shapes(config: RWKV7Config) -> dict[str, tuple[int, ...]]:
    """Return the shape of each parameter of the model, in the model's order, by its published name.

    >>> parameter_shapes(RWKV7Config(vocab_size=4096, hidden_size=256, num_layers=8))["head.weight"]
    (4096, 256)
    """
    width = config.hidden_size
    ffn = {"x_k": (width,), "key.weight": (config.ffn_size, width), "value.weight": (width, config.ffn_size)}
    first, later = ({"att": _time_mix(config, layer), "ffn": ffn} for layer in (0, 1))
    return outer_shapes(config, later, first)


def outer_shapes(
    config: ModelConfig,
    halves: dict[str, dict[str, tuple[int, ...]]],
    first: dict[str, dict[str, tuple[int, ...]]] | None = None,
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all parameters of a model of any architecture, in the model's order.

    Args:
        config: the sizes.
        halves: the shapes of the parameters of a block's ``att`` and ``ffn``.
        first: those of the first block; as the others when None.
    """
    width, table = config.hidden_size, (config.vocab_size, config.hidden_size)
    shapes: dict[str, tuple[int, ...]] = {"emb.weight": table}
    for layer in range(config.num_layers):
        norms = ["ln0", "ln1", "ln2"][layer > 0 :]  # the first block also normalizes the embedding
        for name in norms:
            shapes |= _norm(f"blocks.{layer}.{name}", width)
        for half, inner in ((first or halves) if layer == 0 else halves).items():
            shapes |= {f"blocks.{layer}.{half}.{name}": shape for name, shape in inner.items()}
    return shapes | _norm("ln_out", width) | {"head.weight": table}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _time_mix(config: RWKV7Config, layer: int) -> dict[str, tuple[int, ...]]:
    width = config.hidden_size
    shapes: dict[str, tuple[int, ...]] = {f"x_{name}": (width,) for name in "rwkvag"}
    ranks = {"w": config.decay_rank, "a": config.a_rank, "v": config.v_rank}
    if layer == 0:
        del ranks["v"]  # layer 0 computes the value that the others mix in
    for name, rank in ranks.items():
        shapes |= {f"{name}0": (width,), f"{name}1": (width, rank), f"{name}2": (rank, width)}
    shapes |= {"g1": (width, config.gate_rank), "g2": (config.gate_rank, width)}
    shapes |= {"k_k": (width,), "k_a": (width,), "r_k": (config.num_heads, config.head_size)}
    shapes |= {"inner_rate": (config.num_heads,)} if config.inner_steps else {}
    shapes |= {f"{name}.weight": (width, width) for name in ("receptance", "key", "value", "output")}
    return shapes | _norm("ln_x", width)


def state_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what one layer carries of one document, by their names in `RecurrentState`."""
    vectors, heads, size = (config.hidden_size,), config.num_heads, config.head_size
    shapes: dict[str, tuple[int, ...]] = {
        "att_shift": vectors,
        "wkv": (heads, size, size),
        "ffn_shift": vectors,
    }
    if isinstance(config, RWKV7Config) and config.inner_steps:
        shapes |= {"velocity": (heads, size, size)} if config.inner_momentum else {}
        shapes |= {"recent": (config.recent_tokens, 3, heads, size)} if config.recent_tokens else {}
    return shapes


def stored_forms(config: ModelConfig) -> dict[str, Form]:
    """Return the form of each matrix of a model that is not stored dense.

    Raises:
        UsageError: a form belongs to no matrix of the model, or its matrix cannot have it.
    """
    if not isinstance(config, RWKV7Config) or not config.forms:
        return {}
    shapes, forms = parameter_shapes(config), {}
    for name, text in config.forms:
        if len(shapes.get(name, ())) != 2 or name.endswith("r_k"):
            raise UsageError(f"forms names {shown(name)}, but this model has no such matrix")
        form = forms[name] = Form.parse(text)
        form.tensors((shapes[name][0], shapes[name][1]))
    return forms


def stored_tensors(config: RWKV7Config) -> dict[str, StoredTensor]:
    """Return what each tensor of a model holds, by the name that a file of ours gives it.

    Raises:
        UsageError: as `stored_forms`.

    >>> sizes = {"vocab_size": 8, "hidden_size": 64, "num_layers": 1}
    >>> stored = stored_tensors(RWKV7Config(**sizes, forms={"head.weight": "low-rank:2"}))
    >>> stored["head.left"], "head.weight" in stored
    (StoredTensor(shape=(8, 2), kind='float'), False)
    """
    forms, stored = stored_forms(config), {}
    for name, shape in parameter_shapes(config).items():
        if name in forms:
            tensors = forms[name].tensors((shape[0], shape[1]))
            stored |= {f"{module_of(name)}.{part}": tensor for part, tensor in tensors.items()}
        else:
            stored[name] = StoredTensor(shape, "float")
    return stored


def forms_of(config: RWKV7Config) -> dict[str, int]:
    """Return how many matrices have each kind of form, the most frequent first.

    >>> sizes = {"vocab_size": 8, "hidden_size": 64, "num_layers": 1}
    >>> forms_of(RWKV7Config(**sizes, forms={"emb.weight": "int8:32", "head.weight": "low-rank:2+int4"}))
    {'int8': 1, 'low-rank+int4': 1}
    """
    kinds = (
        "+".join(word if word == "2:4" else word.partition(":")[0] for word in text.split("+"))
        for _, text in config.forms
    )
    return dict(Counter(kinds).most_common())


class Counts(NamedTuple):
    """How large a model is.

    Attributes:
        numbers: that are stored, without scales, masks and places.
        multiplications: of one token in products with matrices, as they run here; the recurrence is left out.
        dense: numbers of the same model with dense matrices.
    """

    numbers: int
    multiplications: int
    dense: int


def counts(config: RWKV7Config) -> Counts:
    """Return how large a model is.

    Raises:
        UsageError: as `stored_forms`.

    >>> sizes = {"vocab_size": 8, "hidden_size": 64, "num_layers": 1}
    >>> factors = {"head.weight": "low-rank:2"}
    >>> dense, small = (counts(RWKV7Config(**sizes, forms=forms)) for forms in ({}, factors))
    >>> dense.numbers - small.numbers, dense.multiplications - small.multiplications
    (368, 368)
    """
    forms, numbers, multiplications, dense = stored_forms(config), 0, 0, 0
    for name, shape in parameter_shapes(config).items():
        form, size = forms.get(name), math.prod(shape)
        matrix = (shape[0], shape[-1])
        dense += size
        numbers += size if form is None else form.numbers(matrix)
        if len(shape) == 2 and name != "emb.weight" and not name.endswith("r_k"):
            multiplications += size if form is None else form.products(matrix)
    return Counts(numbers, multiplications, dense)


def _is_pair(entry: object) -> bool:
    return isinstance(entry, list | tuple) and len(entry) == 2 and isinstance(entry[0], str)


def _ghost_forms(config: RWKV7Config) -> tuple[tuple[str, str], ...]:
    """Return the forms of a ghost ratio: its projections have an eighth of the matrix's smaller side."""
    if config.num_layers > _MOST_GHOSTS:
        raise UsageError(f"ghost_ratio is for at most {_MOST_GHOSTS:,} layers, not {config.num_layers:,}")
    forms = {}
    for name, shape in parameter_shapes(config).items():
        if name.endswith(_GHOSTS):
            core = min(max(1, round((1 - config.ghost_ratio) * shape[0])), shape[0] - 1)
            forms[name] = str(Form(structure="ghost", core=core, rank=max(1, min(core, shape[1]) // 8)))
    return tuple(sorted(forms.items()))
