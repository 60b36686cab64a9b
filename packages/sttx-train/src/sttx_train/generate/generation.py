"""A text while it is generated: an iterator of its pieces, which can be saved and continued anywhere.

Knows a reader by its verbs: it says what comes next, and reads on. How it does that is not known here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, Protocol

import numpy as np

from sttx_core.errors import UsageError
from sttx_core.saved_state import Count, State, checked, damaged
from sttx_train.generate.config import SamplingConfig
from sttx_train.generate.constraint import Allowed, Constraint
from sttx_train.generate.partial import Expected
from sttx_train.generate.pieces import Pieces
from sttx_train.generate.sampler import Sampler
from sttx_train.saved_tensors import as_arrays, as_tensor, typed

Finish = Literal["stop", "length", "end"]
"""Why a text ended: at a stop, at its greatest length, or where the model or the constraint ended it."""

_WHAT = "generated text"


class NextTokens(Protocol):
    """What a reader can do that text is generated with."""

    def expected(self) -> np.ndarray | Expected:
        """Return the natural log-probability of each next token ``[V]``, or what computes it. Pure."""
        ...

    def advance(self, ids: Sequence[int]) -> object:
        """Read tokens without learning from them."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return where reading stands, as ``tensors`` and JSON-able ``meta``."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand there."""
        ...


class Memory(Protocol):
    """The memory of experts that only this reader uses."""

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of its arrays."""
        ...

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Load them."""
        ...


class _Saved(State):
    """The ``meta`` of what `Generation.state_dict` returns."""

    reader: dict[str, Any]
    read: Count
    ids: list[Count]
    made_with: dict[str, Any]


class Generation(Iterator[str]):
    """Generates a text after what a reader has read; `Reader.generate` makes one.

    Iterate for the pieces: whole characters, never part of a stop. Bytes that cannot be decided yet are held
    back. Each step is one base token, also where the predictor has learned phrases.

    A token is read when the next one is chosen, so the last one is not: `unread` has its bytes.

    Args:
        reader: what comes next; it has read the prompt.
        tokens: the bytes of each id; those without bytes that do not end the text are never chosen.
        ends: ids that end the text.
        sampling: how tokens are chosen.
        max_tokens: most tokens.
        stop: texts that end the text and are not part of it.
        stream: number of the text, among those with the same seed.
        constraint: what the text must be.
        order: ``[V]`` the ids in the order in which probabilities are summed to draw a token, that of
            `Expected.order`; by default that of the ids.
        memory: what of the reader's is not in its state but only its own.

    Attributes:
        reader: what comes next.
        ids: the tokens so far; an id that ended the text is the last of them.
        text: the pieces so far.
        finish_reason: why the text ended; None while it goes on.

    Raises:
        UsageError: an option does not fit the vocabulary, or a stop is empty. While text is generated: no
            token can follow under the constraint.
    """

    def __init__(
        self,
        reader: NextTokens,
        tokens: Sequence[bytes],
        *,
        ends: Collection[int],
        sampling: SamplingConfig | None = None,
        max_tokens: int = 256,
        stop: Sequence[str] = (),
        stream: int = 0,
        constraint: Constraint | None = None,
        order: np.ndarray | None = None,
        memory: Memory | None = None,
    ) -> None:
        if max_tokens < 0:
            raise UsageError(f"--max-tokens must be at least 0, not {max_tokens!r}")
        self.reader, self._tokens, self._ends, self._memory = reader, tokens, set(ends), memory
        self._sampling, self._max_tokens = sampling or SamplingConfig(), max_tokens
        self._stop, self._stream, self._constraint, self._order = tuple(stop), stream, constraint, order
        self._never = np.array([not data and token not in self._ends for token, data in enumerate(tokens)])
        self._start()

    def _start(self) -> None:
        self._sampler = Sampler(self._sampling, self._never, stream=self._stream, order=self._order)
        self._pieces = Pieces(self._stop)
        self._read = 0
        self.ids: list[int] = []
        self.text = ""
        self.finish_reason: Finish | None = None if self._max_tokens else "length"
        self._allowed: Allowed | None = None
        if self._constraint is not None:
            self._allowed = self._constraint.start(self._tokens, min(self._ends))
            if self._allowed.finished:
                self.finish_reason = "end"

    @property
    def behind(self) -> list[int]:
        """The tokens that the reader must read before the next one is chosen."""
        return self.ids[self._read :]

    @property
    def unread(self) -> bytes:
        """The bytes that the reader has not read, up to the end of the stop, if one ended the text."""
        return self._bytes(self.behind)

    @property
    def data(self) -> bytes:
        """All bytes, up to the end of the stop, if one ended the text."""
        return self._bytes(self.ids)

    def _bytes(self, ids: Sequence[int]) -> bytes:
        data = b"".join(self._tokens[token] for token in ids)
        return data[: len(data) - len(self._pieces.over)]

    def __next__(self) -> str:
        """Return the next piece; it is not empty."""
        while self.finish_reason is None:
            if (token := self._only()) is not None:
                piece = self._add(token)
            else:
                if self.behind:
                    self.reader.advance(self.behind)
                    self._read = len(self.ids)
                piece = self.take(self.reader.expected())
            if piece:
                return piece
        raise StopIteration

    def _only(self) -> int | None:
        """Return the next token if the constraint allows no other: the reader need not be asked."""
        if self._allowed is None:
            return None
        choices = self._sampler.choices(self._allowed.mask())
        if not len(choices):
            raise UsageError(self._allowed.refusal(self.data))
        return int(choices[0]) if len(choices) == 1 else None

    def take(self, expected: np.ndarray | Expected) -> str:
        """Choose the next token and return the piece that is certain then, which may be empty.

        For a caller that reads for many texts at once: before this, let the reader read `behind`.

        Args:
            expected: what the reader expects, as `NextTokens.expected` returns it.
        """
        assert self.finish_reason is None, "the text has ended"
        self._read = len(self.ids)
        if (token := self._only()) is None:
            token = self._sampler.choose(expected, self._allowed.mask() if self._allowed else None)
        return self._add(token)

    def _add(self, token: int) -> str:
        self.ids.append(token)
        self._sampler.add(token)
        if self._allowed is not None:
            self._allowed.add(token)
        piece = "" if token in self._ends else self._pieces.add(self._tokens[token])
        if self._pieces.stopped:
            self.finish_reason = "stop"
        elif token in self._ends or (self._allowed is not None and self._allowed.finished):
            self.finish_reason = "end"
            piece += self._pieces.finish()
        elif len(self.ids) == self._max_tokens:
            self.finish_reason = "length"
            piece += self._pieces.finish()
        self.text += piece
        return piece

    # -- snapshots -----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return where the text stands, as ``tensors`` and JSON-able ``meta``.

        Everything that is not the reader's follows from the tokens so far: counts, random numbers, and the
        bytes that are held back.
        """
        reader = self.reader.state_dict()
        memory = self._memory.state_dict() if self._memory is not None else {}
        tensors = {f"reader.{name}": tensor for name, tensor in reader["tensors"].items()}
        tensors |= {f"memory.{name}": as_tensor(array) for name, array in memory.items()}
        meta = {"reader": reader["meta"], "read": self._read, "ids": list(self.ids)}
        return {"tensors": tensors, "meta": meta | {"made_with": self._made_with()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`state_dict` was called; the pieces before that are in `text`.

        Raises:
            UsageError: it was generated with other options.
            CheckpointError: the state is damaged, or of another predictor.
        """
        meta = checked(_Saved, state["meta"], _WHAT)
        for name, value in self._made_with().items():
            if (saved := meta.made_with.get(name)) != value:
                raise UsageError(f"the text was generated with {name} {saved!r}, not {value!r}: use the same")
        kinds: dict[str, dict[str, Any]] = {"reader": {}, "memory": {}}
        for name, tensor in state["tensors"].items():
            kind, _, rest = name.partition(".")
            if kind not in kinds:
                raise damaged(_WHAT, f"{name!r} belongs to nothing")
            kinds[kind][rest] = tensor
        least = len(meta.ids) - 1 if self._constraint is None else 0
        if not least <= meta.read <= len(meta.ids) or max(meta.ids, default=0) >= len(self._tokens):
            raise damaged(_WHAT, "its tokens do not fit")
        self._load_memory(as_arrays(_WHAT, kinds["memory"]))
        self.reader.load_state_dict({"tensors": kinds["reader"], "meta": meta.reader})
        self._start()
        for token in meta.ids:
            if self.finish_reason is not None:
                raise damaged(_WHAT, "it has tokens after its end")
            self._add(token)
        self._read = meta.read

    def _load_memory(self, arrays: Mapping[str, np.ndarray]) -> None:
        like = {} if self._memory is None else self._memory.state_dict()
        if arrays.keys() != like.keys():
            raise damaged(_WHAT, "it is of a predictor with other experts")
        if self._memory is not None:
            known = {name: typed(_WHAT, name, arrays[name], like[name].dtype) for name in like}
            self._memory.load_state_dict(known)

    def _made_with(self) -> dict[str, Any]:
        sampling = asdict(self._sampling)
        bias = [list(pair) for pair in self._sampling.logit_bias]
        made = sampling | {"logit_bias": bias, "max_tokens": self._max_tokens, "stop": list(self._stop)}
        grammar = None if self._constraint is None else self._constraint.grammar
        return made | {"stream": self._stream, "ends": sorted(self._ends), "constraint": grammar}
