"""One request while it is computed: its reader, what it has still to read, and its text.

Knows readers and generations; not which other rows are computed beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sttx_core.experts import NextToken
from sttx_train.generate import Generation
from sttx_train.generate.samplers import draw
from sttx_train.predict import Prices
from sttx_train.serve.jobs import Ended, Generated, Job, PromptRead
from sttx_train.serve.readers import AnyPredictor, AnyReader
from sttx_train.serve.slots import Slot
from sttx_train.serve.states import GrowingKey, StateCache
from sttx_train.serve.tokens import Token, token_at

_AT_ONCE = 16  # options that are priced side by side: each has a state of its own


class Row:
    """A row of the batch.

    Args:
        job: what is wanted.
        cache: states of texts that were read before.
        chunk: most tokens that are read at once.
        every: a state is kept after each such number of tokens.
    """

    def __init__(self, job: Job, cache: StateCache, *, chunk: int, every: int) -> None:
        self.job, self.ask, self._cache = job, job.ask, cache
        self._chunk, self._every = chunk, every
        self.predictor: AnyPredictor = job.ask.served.predictor
        # Every document opens with the end of text: a prompt that does so too starts after it.
        self._opened = self.ask.ids[:1] == (self.predictor.tokenizer.eot_id,)
        self._ids = np.asarray(self.ask.ids[self._opened :], np.uint32)
        self._key = GrowingKey(self._digest)
        known, reader = (0, None) if self.ask.reads_all else cache.find(self._digest, self._ids)
        self.reader: AnyReader = reader or self.predictor.read()
        self.cached = self._read = known
        self._tokens: list[Token] = []
        self._prices: list[Prices] = []
        self._option: tuple[int, ...] = ()
        self.generation: Generation | None = None

    @property
    def _digest(self) -> str:
        return self.ask.served.digest

    @property
    def ids(self) -> tuple[int, ...]:
        """What the reader has read."""
        return tuple(self._read_ids().tolist())

    def _read_ids(self) -> np.ndarray:
        if self.generation is None:
            return self._ids[: self._read]
        behind = len(self.generation.behind)
        generated = self.generation.ids[: len(self.generation.ids) - behind]
        return np.concatenate([self._ids, np.array([*self._option, *generated], np.uint32)])

    # -- the prompt ----------------------------------------------------------------------------------------

    def next_piece(self) -> tuple[int, ...]:
        """Return the tokens of the prompt to read next; none if it is read."""
        boundary = (self._read // self._every + 1) * self._every
        return tuple(self._ids[self._read : min(self._read + self._chunk, boundary)].tolist())

    def note(self, token: int, expected: np.ndarray | NextToken) -> None:
        """Note a token of a prompt that the answer shows, with what was expected there."""
        if self.ask.top is not None:
            self._tokens.append(token_at(token, expected, self.predictor.tokens, self.ask.top))

    def was_read(self, piece: Sequence[int], prices: Prices | None) -> None:
        """Note that a piece of the prompt was read, and what it cost."""
        if prices is not None and self.ask.prices:
            self._prices.append(prices)
        self._read += len(piece)
        if self._read % self._every == 0 or self._read == len(self._ids):
            self.keep()

    def keep(self) -> None:
        """Keep the state where the reader stands."""
        ids = self._read_ids()
        self._cache.put(self._digest, ids, self.reader, self._key.after(ids))

    def as_slot(self) -> Slot:
        """Return what a slot keeps of it."""
        return Slot(served=self.ask.served, ids=self.ids, reader=self.reader.copy())

    def begin(self) -> None:
        """Start the text, once the prompt is read."""
        chosen = self._choose() if self.ask.options else None
        self.job.emit(
            PromptRead(
                cached=self.cached,
                tokens=self._shown(),
                prices=Prices.join(self._prices) if self.ask.prices else None,
                chosen=chosen,
                chosen_tokens=len(self._option),
            )
        )
        ask = self.ask
        self.generation = self.reader.generate(
            ask.sampling,
            max_tokens=ask.max_tokens,
            stop=ask.stop,
            stream=ask.stream,
            constraint=ask.forms[chosen or 0] if ask.forms else None,
        )
        self._end_if_done()

    def _shown(self) -> tuple[Token, ...]:
        """Return the prompt's tokens, if they are wanted; nothing comes before the first one."""
        if not self.ask.echo or self.ask.top is None or not self.ask.ids:
            return ()
        first = Token(id=self.ask.ids[0], data=self.predictor.tokens[self.ask.ids[0]])
        return (first, *self._tokens[not self._opened :])

    def _choose(self) -> int:
        """Read one of the options, drawn by their probabilities after the prompt; return its index."""
        prices, options = [], self.ask.options
        for start in range(0, len(options), _AT_ONCE):
            some = options[start : start + _AT_ONCE]
            prices += self.predictor.batch([self.reader.copy() for _ in some]).advance(some)
        nats = -np.array([price.bits.sum() for price in prices]) * np.log(2)
        sampling = self.ask.sampling
        if sampling.temperature == 0:
            chosen = int(nats.argmax())
        else:
            row = (nats - nats.max()) / sampling.temperature
            dice = np.random.default_rng([sampling.seed, self.ask.stream, len(self.ask.ids), 1])
            chosen = draw(row, dice.random())
        self._option = options[chosen]
        self.reader.advance(self._option)
        return chosen

    # -- the text ------------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do."""
        return self.generation is not None and self.generation.finish_reason is not None

    def take(self, expected: np.ndarray | NextToken) -> None:
        """Choose the next token.

        Args:
            expected: what the reader expects, as `next_tokens` returns it.
        """
        assert self.generation is not None
        text = self.generation.take(expected)
        chosen = self.generation.ids[-1]
        if self.ask.top is None:
            token = Token(id=chosen, data=self.predictor.tokens[chosen])
        else:
            token = token_at(chosen, expected, self.predictor.tokens, self.ask.top)
        self.job.emit(Generated(text=text, token=token))
        self._end_if_done()

    def _end_if_done(self) -> None:
        assert self.generation is not None
        if (finish := self.generation.finish_reason) is not None:
            self.keep()
            generation = self.generation
            self.job.emit(Ended(finish=finish, ids=self.ids, unread=generation.unread, data=generation.data))
