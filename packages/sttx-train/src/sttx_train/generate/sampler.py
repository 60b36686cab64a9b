"""The sampler of one text: applies a config in its order, and counts what was generated.

The random number for the n-th token follows from the seed and n alone, so that a text needs no generator's
state to be continued, and does not depend on other texts. Knows token ids; neither text nor readers.
"""

from __future__ import annotations

import numpy as np

from sttx_core.errors import ModelError, UsageError
from sttx_train.generate import samplers
from sttx_train.generate.config import SamplingConfig
from sttx_train.generate.draws import draw_token
from sttx_train.generate.partial import Expected, Marks, choose_in_part
from sttx_train.generate.uniform import uniform, words


class Sampler:
    """Chooses the tokens of one text.

    Args:
        config: how.
        never: bool ``[V]``, the tokens that are never chosen.
        stream: number of the text, among those with the same seed.
        order: ``[V]`` the ids in the order in which probabilities are summed to draw one; by default that of
            the ids.

    Attributes:
        generated: number of tokens so far.

    Raises:
        UsageError: a bias is for a token that is not in the vocabulary, or all tokens are excluded.
    """

    def __init__(
        self, config: SamplingConfig, never: np.ndarray, *, stream: int = 0, order: np.ndarray | None = None
    ) -> None:
        vocab_size = len(never)
        if wrong := [token for token, _ in config.logit_bias if token >= vocab_size]:
            raise UsageError(
                f"--logit-bias names token {wrong[0]}, but the vocabulary ends at {vocab_size - 1}"
            )
        if never.all():
            raise UsageError("this vocabulary has no token that can be generated")
        self.config, self._never, self._order = config, never, np.arange(vocab_size)
        if order is not None:
            self._order = np.ascontiguousarray(order, np.int64)
        self._place = np.empty(vocab_size, np.int64)
        self._place[self._order] = np.arange(vocab_size)
        self._entropy = words(config.seed, stream)
        self._changes = config.penalizes or bool(config.logit_bias)
        self.generated = 0
        self._seen = np.zeros(vocab_size, bool)
        self._counts = np.zeros(vocab_size)

    def distribution(self, log_probs: np.ndarray, allowed: np.ndarray | None = None) -> np.ndarray:
        """Return the log-probabilities that the next token is chosen from ``[V]``, float64. Pure.

        At temperature 0 they are those of which the likeliest is taken.

        Args:
            log_probs: ``[V]`` natural log-probabilities of the next token.
            allowed: bool ``[V]``, the only tokens that may be chosen, at least one; None for all.
        """
        config, row = self.config, np.where(self._excluded(allowed), -np.inf, log_probs)
        if config.repetition_penalty != 1 or config.temperature in (0, 1):  # otherwise it follows below
            row = samplers.normalized(row)
        row = self._penalized(row)
        if config.temperature == 0:
            return row
        if config.temperature != 1:
            row = samplers.apply_temperature(row, config.temperature)
        if config.top_k:
            row = samplers.keep_top_k(row, config.top_k)
        if config.top_p < 1:
            row = samplers.keep_top_p(row, config.top_p)
        if config.min_p > 0:
            row = samplers.keep_min_p(row, config.min_p)
        return samplers.keep_typical(row, config.typical_p) if config.typical_p < 1 else row

    def choices(self, allowed: np.ndarray) -> np.ndarray:
        """Return the allowed tokens that can be chosen."""
        return np.flatnonzero(allowed & ~self._never)

    def choose(self, says: np.ndarray | Expected, allowed: np.ndarray | None = None) -> int:
        """Return the next token. Pure: the same until a token is added.

        Args:
            says: ``[V]`` natural log-probabilities of the next token, or what computes them as far as needed,
                with the same order. The token is the same.
            allowed: as in `distribution`.
        """
        if not isinstance(says, np.ndarray):
            kept = ~self._never if allowed is None else allowed & ~self._never
            marks = Marks(kept=kept, seen=self._seen, counts=self._counts)
            return choose_in_part(says, self.config, marks, self._uniform())
        config = self.config
        if config.temperature == 0 and not self._changes:
            return int(np.where(self._excluded(allowed), -np.inf, says).argmax())
        if config.temperature == 0:
            return int(self.distribution(says, allowed).argmax())
        if config.typical_p < 1:
            row = self.distribution(says, allowed)
            return int(self._order[samplers.draw(row[self._order], self._uniform())])
        excluded = self._excluded(allowed)
        if self._changes:
            says = self._penalized(samplers.normalized(np.where(excluded, -np.inf, says)))
        how = (config.temperature, config.top_k, config.top_p, config.min_p)
        row = np.ascontiguousarray(says, np.float64)
        token = draw_token(row, excluded, self._order, self._place, *how, self._uniform())
        if token < 0:
            raise ModelError("the probabilities of the next token are not finite: the weights are damaged")
        return token

    def add(self, token: int) -> None:
        """Count a token that was generated."""
        self.generated += 1
        if self.config.penalty_decay != 1:
            self._counts *= self.config.penalty_decay
        self._counts[token] += 1
        self._seen[token] = True

    def _excluded(self, allowed: np.ndarray | None) -> np.ndarray:
        return self._never if allowed is None else self._never | ~allowed

    def _uniform(self) -> float:
        """Return the random number of the next token."""
        return uniform(self._entropy, self.generated)

    def _penalized(self, row: np.ndarray) -> np.ndarray:
        config = self.config
        if config.repetition_penalty != 1:
            row = samplers.penalize_repetition(row, self._seen, config.repetition_penalty)
        if config.presence_penalty or config.frequency_penalty:
            penalties = {"presence": config.presence_penalty, "frequency": config.frequency_penalty}
            row = samplers.penalize_counts(row, self._seen, self._counts, **penalties)
        return samplers.add_bias(row, config.logit_bias) if config.logit_bias else row
