"""Chooses a token although only the probabilities that can matter are computed. Knows no readers.

Tokens stand in parts, of which some are single tokens, and the others are less probable than a bound that is
lowered until the choice is certain. The choice is that of `Sampler.choose` from all log-probabilities: the
same token for the same random number, up to the rounding of sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sttx_train.generate import samplers
from sttx_train.generate.config import SamplingConfig

# The first bound, by how much it falls, and where all tokens are computed.
_LEAST, _FALL, _END = 1 / 256, 1 / 4, 1e-10
_FEW = 64  # excluded tokens whose probabilities a walk may compute


class Parts(Protocol):
    """Tokens in parts, in the order of a permutation of the ids; `sttx_core.experts.Parts` describes them."""

    @property
    def first(self) -> np.ndarray: ...  # noqa: D102
    @property
    def size(self) -> np.ndarray: ...  # noqa: D102
    @property
    def kept(self) -> np.ndarray: ...  # noqa: D102
    @property
    def log_probs(self) -> np.ndarray: ...  # noqa: D102


class Expected(Protocol):
    """What comes next, computed as far as is asked for; `sttx_core.experts.NextToken` describes the verbs."""

    order: np.ndarray

    def log_probs(self) -> np.ndarray:
        """Return the natural log-probability of each token ``[V]``."""
        ...

    def parts(self, least: float, kept: np.ndarray, needed: np.ndarray) -> Parts:
        """Return the tokens in parts; those of several tokens are less probable than ``least``."""
        ...

    def walk(self, uniform: float, kept: np.ndarray, excluded: np.ndarray) -> int | None:
        """Return the token at which the sum of probabilities passes a number; None if it is uncertain."""
        ...


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What a sampler knows of each token.

    Attributes:
        kept: bool ``[V]``, the tokens that may be chosen.
        seen: bool ``[V]``, those that were generated.
        counts: ``[V]`` how often; it may have decayed.
    """

    kept: np.ndarray
    seen: np.ndarray
    counts: np.ndarray


def choose_in_part(expected: Expected, config: SamplingConfig, marks: Marks, uniform: float) -> int:
    """Return the next token.

    Args:
        expected: what comes next.
        config: how to choose.
        marks: of each token.
        uniform: a random number from 0 to below 1.
    """
    order = expected.order
    kept = _before(marks.kept, order)
    needed = np.zeros(len(order), bool)
    if config.penalizes:
        needed |= marks.seen
    needed[[token for token, _ in config.logit_bias]] = True
    plain = config.unchanged and not needed.any()
    excluded = np.flatnonzero(~marks.kept[order])
    if plain and len(excluded) <= _FEW:
        token = expected.walk(uniform, kept, excluded)
        if token is not None:
            return token
    if config.repetition_penalty != 1:
        needed |= ~marks.kept  # it applies after their probabilities are left out
    least = 0.0 if config.typical_p < 1 and not config.top_k else _LEAST
    counts = _before(needed, order)
    while True:
        parts = expected.parts(least, kept, counts)
        token = _Choice(parts, order, config, marks).token(uniform)
        if token is not None:
            return token
        assert least, "the choice is certain once all probabilities are known"
        least = least * _FALL if least > _END else 0.0


def _before(mask: np.ndarray, order: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(mask[order])])


class _Choice:
    """The choice from parts. Logarithms are after temperature, and 0 for the likeliest token that is known.

    Attributes:
        ids: [N] the tokens that are known and may be chosen, in the order of the parts.
        row: [N] their logarithms.
        single: [P] which of the parts that can be chosen from are such tokens; the others are groups.
        logs: [P] the logarithm of each of these parts.
        most: the greatest logarithm that a token of a group can have; minus infinity without groups.
    """

    def __init__(self, parts: Parts, order: np.ndarray, config: SamplingConfig, marks: Marks) -> None:
        self._config = config
        possible = parts.kept > 0
        single, logs = parts.size[possible] == 1, parts.log_probs[possible]
        if config.repetition_penalty != 1:  # all excluded tokens are parts by themselves
            logs = logs - np.log(np.exp(logs).sum())
        self.ids, self.single = order[parts.first[possible][single]], single
        logs[single] = _changed(logs[single], self.ids, config, marks)
        logs = logs - logs[single].max(initial=-np.inf) if single.any() else logs
        if config.temperature:
            with np.errstate(over="ignore"):  # next to 0 all but the likeliest become minus infinity
                logs = logs / config.temperature
        self.logs, self.row = logs, logs[single]
        self.most = logs[~single].max(initial=-np.inf)
        self._kept, self._size = parts.kept[possible], parts.size[possible]

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return bounds of the sum of p^a over each part: if one token had all, and if all had equal."""
        power = min(1 / self._config.temperature, 1e300)
        whole, even = np.exp(self.logs), np.exp(self.logs + (1 - power) * np.log(self._kept))
        low = np.where(self._kept == self._size, np.minimum(whole, even), 0.0)
        return np.where(self.single, whole, low), np.where(self.single, whole, np.maximum(whole, even))

    def token(self, uniform: float) -> int | None:
        """Return the token; None if it is not certain yet."""
        config = self._config
        if not len(self.ids) or self.most > 0:  # a group may have a likelier token
            return None
        if config.temperature == 0:
            return int(self.ids[self.row == 0].min())
        if config.top_k or config.top_p < 1 or config.min_p > 0 or config.typical_p < 1:
            some = self._some()
            return None if some is None else self._draw_among(some, uniform)
        return self._draw(uniform)

    def _some(self) -> np.ndarray | None:
        """Return the indices of tokens that include all that may be chosen; None if that is not certain."""
        config = self._config
        groups = not self.single.all()
        by_probability = np.lexsort((self.ids, -self.row))
        sure = int((self.row >= self.most).sum())  # so many are surely the likeliest
        if config.top_k:
            enough = config.top_k <= sure or not groups
            return by_probability[: config.top_k] if enough else None
        if config.top_p < 1 and groups:
            sums = np.cumsum(np.exp(self.row[by_probability]))
            least, most = (
                int(np.searchsorted(sums, config.top_p * bound.sum())) + 1 for bound in self._bounds()
            )
            return by_probability[:least] if least == most <= sure else None
        if config.min_p > 0 and groups:
            return by_probability if np.exp(self.most) < config.min_p and sure else None
        return None if groups else by_probability

    def _draw_among(self, some: np.ndarray, uniform: float) -> int:
        """Draw from tokens of which all are known that may be chosen."""
        config, groups = self._config, not self.single.all()
        some = some[np.argsort(self.ids[some])]  # lower ids first, as everywhere
        ids, row = self.ids[some], samplers.normalized(self.row[some])
        if config.top_p < 1 and (config.top_k or not groups):
            row = samplers.keep_top_p(row, config.top_p)
        if config.min_p > 0:
            row = samplers.keep_min_p(row, config.min_p)
        if config.typical_p < 1:
            row = samplers.keep_typical(row, config.typical_p)
        places = np.argsort(some)  # back in the order of the parts
        return int(ids[places[samplers.draw(row[places], uniform)]])

    def _draw(self, uniform: float) -> int | None:
        """Draw from all tokens; None if the part that is drawn is not certain, or a group."""
        low, high = self._bounds()
        through, before = np.cumsum(low), np.cumsum(high) - high
        rest, after = low[::-1].cumsum()[::-1], high[::-1].cumsum()[::-1] - high
        reached = uniform * rest >= (1 - uniform) * before
        passed = uniform * after >= (1 - uniform) * through
        found = np.flatnonzero(reached & ~passed & self.single)
        return int(self.ids[self.single[: found[0]].sum()]) if len(found) else None


def _changed(row: np.ndarray, ids: np.ndarray, config: SamplingConfig, marks: Marks) -> np.ndarray:
    """Return logarithms with penalties and biases, not normalized."""
    if config.repetition_penalty != 1:
        row = np.where(marks.seen[ids], row * config.repetition_penalty, row)
    if config.presence_penalty or config.frequency_penalty:
        row = row - config.presence_penalty * marks.seen[ids] - config.frequency_penalty * marks.counts[ids]
    if config.logit_bias:
        more = np.zeros(len(marks.seen))
        more[[token for token, _ in config.logit_bias]] = [bias for _, bias in config.logit_bias]
        row = row + more[ids]
    return row
