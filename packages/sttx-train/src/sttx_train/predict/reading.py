"""How readers read: many at once, as the rows of one forward pass of each network.

A row is split where its window ends, so that no pass crosses a window's end. Knows readers; not where their
documents come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sttx_core.errors import UsageError
from sttx_train.online.carried import Carried
from sttx_train.online.mixture import AlreadyPaid, as_array, expert_inputs
from sttx_train.online.outer import offsets_after
from sttx_train.online.payment import token_bits
from sttx_train.online.prices import Prices
from sttx_train.online.window import Window
from sttx_train.rwkv7 import RecurrentState

if TYPE_CHECKING:
    from sttx_core.experts import NextToken
    from sttx_train.predict.predictor import Predictor
    from sttx_train.predict.reader import Reader

_LONGEST = 256  # tokens of a row in one forward pass, where no window ends


@dataclass(frozen=True, kw_only=True)
class Said:
    """What both networks said of the next tokens of a reader. The frozen one is None if it is not asked.

    Attributes:
        network_TV, frozen_TV: their natural log-probabilities.
        state, frozen: their states after all but the last of the tokens.
    """

    network_TV: Tensor
    frozen_TV: Tensor | None
    state: RecurrentState
    frozen: RecurrentState | None


@dataclass(frozen=True, kw_only=True)
class Unlearned:
    """Tokens of a window that is not full, in a predictor that learns.

    Attributes:
        ids: T tokens.
        paid: whether they are learned from, or only read.
        bits: ``[T]`` what they cost; 0 if they are only read.
        slopes: ``[T, depth]`` derivatives for the mixed loss.
    """

    ids: tuple[int, ...]
    paid: bool
    bits: np.ndarray
    slopes: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """What was computed for the next token of a reader.

    Attributes:
        said: what both networks said of it.
        updates: number of updates of the learner at the time.
    """

    said: Said
    updates: int


def next_log_probs(predictor: Predictor, readers: Sequence[Reader]) -> np.ndarray:
    """Return the natural log-probabilities of each reader's next token ``[B, V]``."""
    found = next_tokens(predictor, readers)
    return np.stack([each if isinstance(each, np.ndarray) else each.log_probs() for each in found])


def next_tokens(predictor: Predictor, readers: Sequence[Reader]) -> list[np.ndarray | NextToken]:
    """Return what is expected as each reader's next token.

    Without experts these are natural log-probabilities ``[V]``. With them it is an object that computes what
    it is asked for; it is valid until a reader with the same experts reads on.
    """
    _look_ahead(predictor, [reader for reader in readers if not _is_ready(predictor, reader)])
    found = []
    for reader in readers:
        assert reader.ahead is not None
        said = reader.ahead.said
        if reader.mixture is None or reader.place is None:
            found.append(as_array(said.network_TV)[0].astype(np.float64))
        else:
            network, frozen = inputs(predictor, said)
            beside = None if frozen is None else frozen[0]
            found.append(reader.mixture.experts.next_token(reader.place, network[0], beside))
    return found


def advance_rows(
    predictor: Predictor,
    readers: Sequence[Reader],
    ids: Sequence[Sequence[int]],
    *,
    paid: bool = False,
    keep: bool = True,
) -> list[Prices]:
    """Read the tokens of each row.

    Args:
        predictor: who predicts.
        readers: its readers.
        ids: tokens for each of them.
        paid: whether they are learned from at the end of their window, if the predictor learns.
        keep: whether windows that are completed are learned from at all.
    """
    learns = predictor.learns and keep
    left, parts = [checked(predictor, row) for row in ids], [[] for _ in readers]
    while rows := [row for row, rest in enumerate(left) if rest]:
        segments = [left[row][: reach(predictor, readers[row], _LONGEST)] for row in rows]
        prices = _read(predictor, [readers[row] for row in rows], segments, paid=paid, learns=learns)
        for row, segment, price in zip(rows, segments, prices, strict=True):
            del left[row][: len(segment)]
            parts[row].append(price)
        if learns:
            ended = [readers[row] for row in rows if readers[row].filled == 0]
            _learn(predictor, ended)
        adapt(predictor, [readers[row] for row in rows])
    return [Prices.join(part) for part in parts]


def read_rows(predictor: Predictor, readers: Sequence[Reader], ids: Sequence[Sequence[int]]) -> None:
    """Read the tokens of each row as :func:`advance_rows` does, without prices where nothing needs them.

    What learns needs them, and so do experts.
    """
    if predictor.learns or predictor.learner.mixture is not None:
        advance_rows(predictor, readers, ids)
        return
    left = [checked(predictor, row) for row in ids]
    while rows := [row for row, rest in enumerate(left) if rest]:
        some = [readers[row] for row in rows]
        segments = [left[row][: reach(predictor, readers[row], _LONGEST)] for row in rows]
        saying = ask(predictor, some, segments)
        for row, reader, segment, said in zip(rows, some, segments, saying, strict=True):
            del left[row][: len(segment)]
            move(predictor, reader, segment, said)
        adapt(predictor, some)


def learn_rows(
    predictor: Predictor, readers: Sequence[Reader], ids: Sequence[Sequence[int]], *, last: bool = False
) -> list[Prices]:
    """Pay for the tokens of each row and learn; with ``last`` also from windows that are not full."""
    if not predictor.learns:
        raise UsageError("this predictor does not learn: make it with learning=LearnerConfig(…)")
    prices = advance_rows(predictor, readers, ids, paid=True)
    if last:
        _learn(predictor, [reader for reader in readers if reader.unlearned])
    return prices


@contextmanager
def undone(readers: Sequence[Reader]) -> Iterator[None]:
    """Undo, at the end, what readers read in the block, and what experts remember of it."""
    states = [reader.state_dict() for reader in readers]
    mixtures = {id(reader.mixture): reader.mixture for reader in readers if reader.mixture is not None}
    memories = [(mixture.experts, mixture.experts.state_dict()) for mixture in mixtures.values()]
    try:
        yield
    finally:
        for reader, state in zip(readers, states, strict=True):
            reader.load_state_dict(state)
        for experts, memory in memories:
            experts.load_state_dict(memory)


def checked(predictor: Predictor, ids: Sequence[int]) -> list[int]:
    """Return tokens as numbers of Python; refuse those that are not in the vocabulary."""
    vocab_size = predictor.loaded.model.config.vocab_size
    if len(ids) and not 0 <= min(ids) <= max(ids) < vocab_size:
        raise UsageError(f"ids must be from 0 to {vocab_size - 1}")
    return list(map(int, ids))


def reach(predictor: Predictor, reader: Reader, longest: int) -> int:
    """Return how many tokens may be read in one pass: up to the window's end, if anything happens there."""
    learner = reader.predictor.learner
    windowed = (
        predictor.learns
        or predictor.adapts
        or (learner.networks.inject == "every" and reader.predictor.has_s0)
    )
    return predictor.window - reader.filled if windowed else longest


def inputs(predictor: Predictor, said: Said) -> tuple[np.ndarray, np.ndarray | None]:
    """Return what the experts get from both networks, as the learner gives it to them."""
    in_phrases = predictor.learns and predictor.learner.gate.on
    tokens, vocab_size = said.network_TV.shape
    return expert_inputs((tokens, vocab_size), None if in_phrases else said.network_TV, said.frozen_TV)


def _is_ready(predictor: Predictor, reader: Reader) -> bool:
    return reader.ahead is not None and reader.ahead.updates == predictor.updates


def _look_ahead(predictor: Predictor, readers: Sequence[Reader]) -> None:
    """Compute the next token's probabilities by both networks."""
    if not readers:
        return
    saying = ask(predictor, readers, [[0]] * len(readers))  # the id is not read, only priced
    for reader, said in zip(readers, saying, strict=True):
        reader.ahead = Ahead(said=said, updates=predictor.updates)


def ask(predictor: Predictor, readers: Sequence[Reader], segments: Sequence[Sequence[int]]) -> list[Said]:
    """Return what both networks say of a segment of each row, none of which crosses its window's end."""
    if all(len(segment) == 1 for segment in segments):
        if all(_is_ready(predictor, reader) for reader in readers):
            return [reader.ahead.said for reader in readers if reader.ahead is not None]
        if all(len(reader.carried.context) == 1 for reader in readers):
            return _step(predictor, readers)
    learned, frozen = _forward(predictor, readers, segments)
    sizes = [len(segment) for segment in segments]
    frozen_rows = frozen.log_p_MV.split(sizes) if frozen else [None] * len(sizes)
    return [
        Said(
            network_TV=network_TV,
            frozen_TV=frozen_TV,
            state=learned.state.select([row]),
            frozen=frozen.state.select([row]) if frozen else None,
        )
        for row, (network_TV, frozen_TV) in enumerate(
            zip(learned.log_p_MV.split(sizes), frozen_rows, strict=True)
        )
    ]


def _step(predictor: Predictor, readers: Sequence[Reader]) -> list[Said]:
    """Return what both networks say of the next token of each row, one token after what they have read.

    The states share the memory of the batch: a batch that reads on together copies none.
    """
    with torch.inference_mode():
        begun = [False] * len(readers)
        learned, frozen = predictor.learner.networks.step(_starts(readers), at_start=begun)
    nothing = [None] * len(readers)
    frozen_rows = frozen.log_p_BV.split(1) if frozen else nothing
    frozen_states = frozen.state.rows() if frozen else nothing
    rows = zip(learned.log_p_BV.split(1), frozen_rows, learned.state.rows(), frozen_states, strict=True)
    return [
        Said(network_TV=network, frozen_TV=beside, state=state, frozen=frozen_state)
        for network, beside, state, frozen_state in rows
    ]


def _forward(predictor: Predictor, readers: Sequence[Reader], segments: Sequence[Sequence[int]]):
    networks = predictor.learner.networks
    windows = [Window(document="", ids=tuple(segment)) for segment in segments]
    with torch.inference_mode():
        carried = _starts(readers)
        _, learned = networks.read(windows, carried, phrases=False, at_start=[False] * len(readers))
        return learned, networks.read_frozen(windows, carried)


def _starts(readers: Sequence[Reader]) -> list[Carried]:
    """Return what readers carry, with their own S0 added where a window starts."""
    return [
        _start(reader) if reader.filled == 0 or reader.carried.state is None else reader.carried
        for reader in readers
    ]


def _start(reader: Reader) -> Carried:
    carried, networks = reader.carried, reader.predictor.learner.networks
    state = networks.start(carried.state, at_start=reader.filled == 0, offset=carried.offset)
    return Carried(state, carried.context, carried.frozen)


def move(predictor: Predictor, reader: Reader, segment: Sequence[int], said: Said) -> None:
    """Let a reader stand after a segment."""
    reader.carried = Carried(said.state, (segment[-1],), said.frozen, reader.carried.offset)
    reader.filled = (reader.filled + len(segment)) % predictor.window
    reader.ahead = None
    if predictor.adapts:
        reader.seen = (*reader.seen, *segment)


def adapt(predictor: Predictor, readers: Sequence[Reader]) -> None:
    """Take the outer step of each reader that stands at a window's end, if the predictor takes any."""
    ended = [reader for reader in readers if reader.filled == 0 and reader.seen]
    if not ended:
        return
    windows = [Window(document="", ids=reader.seen) for reader in ended]
    learner = predictor.learner
    assert learner.outer is not None, "only with outer steps a reader remembers its window"
    offsets = offsets_after(learner.outer, learner.networks, windows, [reader.start for reader in ended])
    for reader, offset in zip(ended, offsets, strict=True):
        reader.carried = reader.start = replace(reader.carried, offset=offset)
        reader.seen, reader.ahead = (), None


def network_prices(predictor: Predictor, ids: Sequence[int], said: Said) -> Prices:
    """Return what tokens cost by the networks alone."""
    window = Window(document="", ids=tuple(ids))
    network, frozen = token_bits(window, said.network_TV), token_bits(window, said.frozen_TV)
    if said.frozen_TV is None and not predictor.has_learned:
        frozen = network
    return Prices(bits=network, network=network, frozen=frozen)


def _read(
    predictor: Predictor,
    readers: Sequence[Reader],
    segments: Sequence[list[int]],
    *,
    paid: bool,
    learns: bool,
) -> list[Prices]:
    """Read one segment of each row, none of which crosses its window's end."""
    prices = []
    saying = ask(predictor, readers, segments)
    for reader, segment, said in zip(readers, segments, saying, strict=True):
        price, slopes = _price(predictor, reader, segment, said, learn=paid)
        prices.append(price)
        if learns:
            bits = price.bits if paid else np.zeros(len(segment))
            part = Unlearned(ids=tuple(segment), paid=paid, bits=bits, slopes=slopes)
            reader.unlearned.append(part)
        move(predictor, reader, segment, said)
    return prices


def _price(
    predictor: Predictor, reader: Reader, ids: list[int], said: Said, *, learn: bool
) -> tuple[Prices, np.ndarray]:
    """Return what tokens cost, and with ``learn`` the derivatives for the mixed loss."""
    alone = network_prices(predictor, ids, said)
    if reader.mixture is None or reader.place is None:
        return alone, np.zeros((len(ids), 0))
    experts = reader.mixture.experts
    slopes = np.zeros((len(ids), experts.depth))
    says, beside = inputs(predictor, said)
    bits = experts.read(reader.place, says, np.asarray(ids), beside, slopes=slopes if learn else None)
    return replace(alone, bits=bits), slopes


def _learn(predictor: Predictor, readers: Sequence[Reader]) -> None:
    """Learn from the windows that readers have paid for, in one step."""
    if not readers:
        return
    learner = predictor.learner
    for reader in readers:
        learner.carried.put(reader.document, reader.start)
    paid = None
    if learner.mixture is not None:
        paid = AlreadyPaid(
            bits=[np.concatenate([part.bits for part in reader.unlearned]) for reader in readers],
            slopes=[np.concatenate([part.slopes for part in reader.unlearned]) for reader in readers],
            experts=learner.mixture.experts,
        )
    learner.step([_window(reader) for reader in readers], paid=paid)
    predictor.updates += 1
    for reader in readers:
        reader.carried = reader.start = learner.carried.get(reader.document)
        reader.filled, reader.unlearned, reader.ahead, reader.seen = 0, [], None, ()


def _window(reader: Reader) -> Window:
    ids = [token for part in reader.unlearned for token in part.ids]
    paid = [part.paid for part in reader.unlearned for _ in part.ids]
    return Window(document=reader.document, ids=tuple(ids), paid=None if all(paid) else tuple(paid))
