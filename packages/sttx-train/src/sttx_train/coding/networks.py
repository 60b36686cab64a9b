"""The networks that say what comes next while coding, frozen, and their identity. Torch computes nothing.

A network is a model, perhaps with what a run learned of it: S0, which is added where the run added it, a bias
of the output, or weights. Nothing learns here but the experts; networks that learn are in `learning`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from sttx_core.errors import UsageError
from sttx_core.tokenizers import Tokenizer
from sttx_train.architectures import refuse_inner_steps, require_x070
from sttx_train.byte_lengths import every_token
from sttx_train.coding.random_model import RandomModel
from sttx_train.formats import LoadedModel, load_model
from sttx_train.fused import FusedStep
from sttx_train.fused.step import MOST_WEIGHTS
from sttx_train.rwkv7 import RWKV7

if TYPE_CHECKING:
    from torch import Tensor

    from sttx_train.predict import Predictor


@dataclass(frozen=True, kw_only=True)
class Network:
    """A frozen network.

    Attributes:
        parameters: of its model, by name, float32.
        head_size: width of a head.
        eps: epsilon of every LayerNorm.
        head_eps: epsilon of the norm of each head's output.
        s0: [L, H, N, N] what is added to the state; None for nothing.
        every: tokens from one addition of S0 to the next; 0 if it is added at a document's start only.
        bias: [V] added to the logits, or None.
    """

    parameters: Mapping[str, Tensor]
    head_size: int
    eps: float
    head_eps: float
    s0: np.ndarray | None = None
    every: int = 0
    bias: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model and what was learned of it, ready to code.

    Attributes:
        base: the model.
        name: of the model.
        model: SHA-256 of its weight files.
        learned: SHA-256 of what was learned, None for nothing.
        tokenizer: its vocabulary.
        tokens: the bytes of each id.
        frozen: the model as it is.
        tuned: the model with what was learned, None for nothing, or if it goes on learning.
        start: what a network that learns starts from, None for nothing.
        leaves_out_outer_steps: whether the run took outer steps (`--state-lr`), which coding does not take.
    """

    base: LoadedModel
    name: str
    model: str
    learned: str | None
    tokenizer: Tokenizer
    tokens: list[bytes]
    frozen: Network
    tuned: Network | None
    start: Mapping[str, Any] | None = None
    leaves_out_outer_steps: bool = False


def load_networks(
    model: str | None, checkpoint: str | None, *, random: RandomModel | None = None, learns: bool = False
) -> Loaded:
    """Load a model, and what was learned of it.

    Args:
        model: as `load_model` takes it.
        checkpoint: as `Predictor` takes it; None for nothing.
        random: draw this model instead.
        learns: the network goes on learning, with the optimizer of the checkpoint.

    Raises:
        UsageError: the model is not RWKV-7 or is too large for the compiled step, or the checkpoint is of
            another model.
        ModelError, CheckpointError: they cannot be read.
    """
    loaded = load_model(model) if random is None else _drawn(random)
    config = require_x070(loaded.model.config, "coding runs RWKV-7 alone: give such a model, or --level fast")
    refuse_inner_steps(config, "which coding does not compute: give a plain RWKV-7, or --level fast")
    parameters = loaded.model.dense_weights()
    if (count := sum(parameter.numel() for parameter in parameters.values())) > MOST_WEIGHTS:
        raise UsageError(
            f"model {loaded.id!r} has {count:,} weights, and coding takes at most {MOST_WEIGHTS:,}: use a "
            "smaller model, or --level fast"
        )
    frozen = Network(
        parameters=parameters,
        head_size=config.head_size,
        eps=config.layer_norm_eps,
        head_eps=config.group_norm_eps,
    )
    tuned, start, learned, outer = None, None, None, False
    if checkpoint is not None and learns:
        start, learned, outer = _start(checkpoint, loaded)
    elif checkpoint is not None:
        from sttx_train.predict import Predictor

        predictor = Predictor(loaded, checkpoint, experts=False)
        tuned, outer = _tuned(frozen, predictor), predictor.adapts
        learned = _digest(tuned, changed=tuned.parameters is not parameters)
    return Loaded(
        base=loaded,
        name=loaded.id,
        model=loaded.sha256,
        learned=learned,
        tokenizer=loaded.tokenizer,
        tokens=every_token(loaded.tokenizer, config.vocab_size),
        frozen=frozen,
        tuned=tuned,
        start=start,
        leaves_out_outer_steps=outer,
    )


def _drawn(random: RandomModel) -> LoadedModel:
    """Return a model of random weights with the vocabulary of goose-mini."""
    like = load_model(None)
    model = RWKV7(random.sizes(like.model.config.vocab_size), seed=random.seed).eval().requires_grad_(False)
    digest = sha256()
    for name, weight in model.named_parameters():
        digest.update(f"\n{name} {tuple(weight.shape)} ".encode())
        digest.update(np.ascontiguousarray(weight.numpy(), "<f4").tobytes())
    return replace(like, model=model, id="random", sha256=digest.hexdigest(), hypernet=None, notes=())


def _start(checkpoint: str, loaded: LoadedModel) -> tuple[Mapping[str, Any], str, bool]:
    """Return what a network that learns starts from, its SHA-256, and whether the run took outer steps.

    Raises:
        UsageError: it is a tuned state, or of another model.
        CheckpointError, ModelError: it cannot be read.
    """
    from sttx_train.coding.learning import digest_of
    from sttx_train.predict.learned import find_learned

    found = find_learned(checkpoint, loaded)
    if found.state is None:
        raise UsageError(f"{checkpoint!r} is a tuned state, without an optimizer: it cannot go on learning")
    return found.state, digest_of(found.state), found.config.state_lr > 0


def _tuned(frozen: Network, predictor: Predictor) -> Network:
    """Return the network that a predictor reads with."""
    learner = predictor.learner
    changed = bool(learner.weights)
    return Network(
        parameters=learner.model.dense_weights() if changed else frozen.parameters,
        head_size=frozen.head_size,
        eps=frozen.eps,
        head_eps=frozen.head_eps,
        s0=learner.s0.detach().float().numpy().copy() if learner.config.inject != "none" else None,
        every=predictor.window if learner.config.inject == "every" else 0,
        bias=learner.bias.detach().float().numpy().copy() if "bias" in learner.config.scope else None,
    )


def _digest(network: Network, *, changed: bool) -> str:
    """Return the SHA-256 of what was learned: names, shapes and values of S0, bias and changed weights."""
    tensors = {"s0": network.s0, "bias": network.bias}
    if changed:
        tensors |= {name: weight.detach().numpy() for name, weight in network.parameters.items()}
    digest = sha256(f"every {network.every}".encode())
    for name, values in sorted(tensors.items()):
        if values is not None:
            digest.update(f"\n{name} {values.shape} ".encode())
            digest.update(np.ascontiguousarray(values, "<f4").tobytes())
    return digest.hexdigest()


class Read(NamedTuple):
    """Where a network stands in a document: its state, and the number of tokens that it has read."""

    state: tuple[np.ndarray, ...]
    tokens: int


class NetworkRows:
    """Documents that a network reads side by side.

    Args:
        network: the network.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._step = FusedStep(
            network.parameters, head_size=network.head_size, eps=network.eps, head_eps=network.head_eps
        )
        self._table = network.parameters["emb.weight"].detach().numpy()
        self._state: tuple[np.ndarray, ...] = ()
        self._counts = np.zeros(0, np.int64)

    def start(self, rows: int) -> None:
        """Start so many documents."""
        width, head = self._table.shape[1], self._network.head_size
        layers = sum(name.endswith("ffn.key.weight") for name in self._network.parameters)
        matrices = (layers, rows, width // head, head, head)
        shapes = (layers, rows, width), matrices, (layers, rows, width)
        self._state = tuple(np.zeros(shape, np.float32) for shape in shapes)
        self._counts = np.zeros(rows, np.int64)

    def step(self, ids: np.ndarray) -> np.ndarray:
        """Read a token of each of the first rows, after which the others end.

        Args:
            ids: [A] int64 the tokens.

        Returns:
            [A, V or more] float32 logits of the next tokens, in an array of their own.
        """
        network = self._network
        self._counts = self._counts[: len(ids)]
        state = tuple(part[:, : len(ids)] for part in self._state)
        if network.s0 is not None:
            due = self._counts % network.every == 0 if network.every else self._counts == 0
            for row in np.flatnonzero(due).tolist():
                state[1][:, row] += network.s0
        self._counts += 1
        # Tensors hold the arrays; all that is computed is in the compiled step.
        held = tuple(map(torch.from_numpy, state))
        said, after = self._step(torch.from_numpy(self._table[ids]), (held[0], held[1], held[2]))
        self._state = tuple(part.numpy() for part in after)
        logits = np.ascontiguousarray(said.numpy())
        if network.bias is not None:
            logits[:, : network.bias.size] += network.bias
        return logits

    def place(self, row: int) -> Read:
        """Return a copy of where a row stands."""
        return Read(tuple(part[:, row].copy() for part in self._state), int(self._counts[row]))

    def set_place(self, row: int, place: Read | None) -> None:
        """Let a row continue from where `place` stood; None is the start of a document."""
        for part, value in zip(self._state, place.state if place else (0.0, 0.0, 0.0), strict=True):
            part[:, row] = value
        self._counts[row] = place.tokens if place else 0

    def move(self, source: int, target: int) -> None:
        """Let a row stand where another one stands, which ends there."""
        for part in self._state:
            part[:, target] = part[:, source]
        self._counts[target] = self._counts[source]
