"""The attached memory as a predictor of `sttx_train.serve`: each text is a conversation with its own memory.

There is one memory beside the base, and readers take turns with it. A reader writes every token that it
reads, each after its own read; so a text that is read in other pieces leads to the same memory, up to
rounding. A blank line ends a message. Knows neither HTTP nor requests.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from sttx_core.errors import UsageError
from sttx_core.saved_state import Sha256, State, checked, damaged
from sttx_train.generate import Constraint, Generation, SamplingConfig
from sttx_train.memory.attached import AttachedMemory
from sttx_train.memory.session import OnlineMemorySession, Seen
from sttx_train.memory.session_config import SessionConfig
from sttx_train.memory.session_files import load_parts, session_parts
from sttx_train.memory.vocabulary import ServedVocabulary
from sttx_train.online.prices import Prices

END = b"\n\n"
"""A blank line ends a message, as in the turns of `sttx_core.render`."""

_WHAT = "place in a conversation"


class _Saved(State):
    """The ``meta`` of what `MemoryReader.state_dict` returns."""

    session: dict[str, Any]
    sha256: Sha256


class _Session(OnlineMemorySession):
    """A session that writes all that it reads, and says what was expected at each token."""

    writes = True
    _forgotten = -1  # the number of tokens after which the window is to begin without an overlap

    def read(self, ids: Sequence[int]) -> Tensor:
        """Read and write tokens; return the logits before each ``[T, V]``, zeros where nothing comes before.

        Raises:
            UsageError: an id is not one of the base's.
        """
        self._check(ids)
        block = self.memory.config.cut == "block" and self.written == (self.ends[-1] if self.ends else 0)
        self.ids += [int(token) for token in ids]
        found = []
        while self.written < len(self.ids):
            self._current_cache()
            room = self.config.window - len(self.seen.context) - (self.written - self.seen.first)
            part = self.ids[self.written : self.written + room]
            before = self._logits
            logits = self._write(part, block and self.writes)
            found.append(torch.zeros_like(logits[:1]) if before is None else before[None])
            found.append(logits[:-1])
            block = False
        return torch.cat(found) if found else torch.zeros(0, self.vocabulary_size)

    @torch.no_grad()
    def _write(self, part: Sequence[int], block: bool) -> Tensor:
        """Read tokens in one call, as `_call`; return all its logits."""
        if block:
            self.memory.new_block()
        with self.memory.writing() if self.writes else nullcontext():
            output = self.memory.model(
                input_ids=torch.tensor([list(part)], device=next(self.memory.parameters()).device),
                past_key_values=self.cache,
                use_cache=True,
            )
        logits, self.cache = output.logits[0].float(), output.past_key_values
        self._logits = logits[-1]
        self.written += len(part)
        self.seen.calls.append((len(part), block))
        return logits

    def expected(self) -> Tensor:
        """Return the logits of the next token ``[V]``; zeros at the start of a text."""
        if self._logits is None:
            self._current_cache()  # reads the ids that the base wants before a text, if any
        return torch.zeros(self.vocabulary_size) if self._logits is None else self._logits

    def end_message(self) -> None:
        """Note that a message ends with what was read."""
        if len(self.ids) > (self.ends[-1] if self.ends else 0):
            self.ends.append(len(self.ids))

    def forget_context(self) -> None:
        """Begin a window without an overlap: of all before, only the memory stays."""
        self.seen = Seen(self.written, list(self.start), [], self.memory.state_tensors())
        self.cache = self._logits = None
        self._forgotten = self.written
        if self.start:
            self._logits, self.cache = self._forward(self.start, None)

    def _current_cache(self) -> Any:
        """Return the cache of the window, as the base class does; nothing is before a window that is new."""
        return self.cache if self._forgotten == self.written else super()._current_cache()

    def twin(self) -> _Session:
        """Return a session that stands where this one does; neither moves the other."""
        other = copy.copy(self)
        other.ids, other.ends = list(self.ids), list(self.ends)
        seen = self.seen
        other.seen = Seen(seen.first, list(seen.context), list(seen.calls), seen.state)
        other.cache = _twin(self.cache)
        return other

    @property
    def logits(self) -> Tensor | None:
        """The logits of the next token, if anything was read."""
        return self._logits

    @logits.setter
    def logits(self, logits: Tensor | None) -> None:
        self._logits = logits


class MemoryPredictor:
    """Predicts with a frozen base and its memory; its readers are conversations.

    Args:
        memory: attached to the base, and used by nothing else.
        vocabulary: the base's.
        config: its window and overlap; the unit is always the token.

    Attributes:
        tokens: the bytes of each id.
        digest: SHA-256 of all that decides what it predicts.

    Raises:
        UsageError: the window has no room beside the overlap.
    """

    def __init__(self, memory: AttachedMemory, vocabulary: ServedVocabulary, config: SessionConfig) -> None:
        self.memory, self.tokenizer = memory, vocabulary
        self.config = SessionConfig(unit="token", window=config.window, overlap=config.overlap)
        if len(vocabulary.start) + config.overlap >= config.window:
            raise UsageError(
                f"--window {config.window} has no room: --overlap {config.overlap} and the "
                f"{len(vocabulary.start)} ids before a text fill it"
            )
        size = _Session(memory, self.config, start=vocabulary.start).vocabulary_size
        self.tokens = vocabulary.every_token(size)
        about = (memory.base_digest(), memory.adapter_digest(), vocabulary.sha256, vocabulary.start)
        about = (*about, self.config.window, self.config.overlap)
        self.digest = hashlib.sha256(repr(about).encode()).hexdigest()

    def read(self, *, writes: bool = True) -> MemoryReader:
        """Return a reader at the start of a conversation.

        Args:
            writes: whether it has a memory; without, it reads as the base alone does.
        """
        session = _Session(self.memory, self.config, start=self.tokenizer.start)
        session.writes = writes
        return MemoryReader(self, session, {})

    def batch(self, readers: Sequence[MemoryReader]) -> MemoryBatch:
        """Return readers that take turns."""
        return MemoryBatch(readers)


class MemoryReader:
    """Where reading stands in one conversation.

    Args:
        predictor: who predicts.
        session: the conversation.
        state: what its memory holds.
    """

    def __init__(self, predictor: MemoryPredictor, session: _Session, state: dict[str, Tensor]) -> None:
        self.predictor, self._session, self._state = predictor, session, state

    @contextmanager
    def _entered(self) -> Iterator[_Session]:
        """Put what this conversation remembers into the memory."""
        memory = self.predictor.memory
        memory.load_state_tensors(self._state)
        try:
            yield self._session
        finally:
            self._state = memory.state_tensors()
            memory.reset()

    @property
    def ids(self) -> list[int]:
        """What was read."""
        return self._session.ids

    @property
    def state(self) -> dict[str, Tensor]:
        """What the memory holds."""
        return self._state

    def log_probs(self) -> np.ndarray:
        """Return the natural log-probability of each token as the next one ``[V]``, float64."""
        with self._entered() as session:
            return _log_probs(session.expected())

    def expected(self) -> np.ndarray:
        """Return the same as `log_probs`."""
        return self.log_probs()

    def read(self, ids: Sequence[int]) -> Iterator[np.ndarray]:
        """Read tokens; yield the natural log-probabilities before each ``[V]``, float64."""
        for part in self._messages(ids):
            with self._entered() as session:
                logits = session.read(part)
                if self._ends(session.ids):
                    session.end_message()
            yield from map(_log_probs, logits)

    def advance(self, ids: Sequence[int]) -> Prices:
        """Read tokens, and return what they cost."""
        bits = [-row[token] / math.log(2) for token, row in zip(ids, self.read(ids), strict=True)]
        paid = np.array(bits, np.float64)
        return Prices(bits=paid, network=paid, frozen=np.full(len(paid), np.nan))

    def forget_context(self) -> None:
        """Let the base forget what was read: of it, only the memory stays."""
        with self._entered() as session:
            session.forget_context()

    def _messages(self, ids: Sequence[int]) -> Iterator[list[int]]:
        """Yield tokens up to the end of each message."""
        known, part = self._session.ids[-2:], list[int]()
        for token in ids:
            part.append(int(token))
            known.append(int(token))
            if self._ends(known):
                yield part
                part = []
        if part:
            yield part

    def _ends(self, ids: Sequence[int]) -> bool:
        tokens = self.predictor.tokens
        tail = b"".join(tokens[token] for token in ids[-2:] if 0 <= token < len(tokens))
        return tail.endswith(END)

    def generate(
        self,
        sampling: SamplingConfig | None = None,
        *,
        max_tokens: int = 256,
        stop: Sequence[str] = (),
        stream: int = 0,
        constraint: Constraint | None = None,
    ) -> Generation:
        """Generate a text after what was read, which is written as it is read."""
        return Generation(
            self,
            self.predictor.tokens,
            ends=self.predictor.tokenizer.ends,
            sampling=sampling,
            max_tokens=max_tokens,
            stop=stop,
            stream=stream,
            constraint=constraint,
        )

    def copy(self) -> MemoryReader:
        """Return a reader that stands where this one does; neither moves the other."""
        return MemoryReader(self.predictor, self._session.twin(), dict(self._state))

    @property
    def nbytes(self) -> int:
        """Memory of its states and of the base's cache, in bytes."""
        session = self._session
        tensors = [*self._state.values(), *session.seen.state.values(), *_tensors_of(session.cache)]
        return sum(tensor.nbytes for tensor in tensors)

    # -- snapshots -----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return where reading stands, sealed by a SHA-256 over all of it and the predictor's digest."""
        with self._entered() as session:
            groups, document = session_parts(session)
        tensors = {f"{group}.{name}": one for group, some in groups.items() for name, one in some.items()}
        if session.logits is not None:
            tensors["logits"] = session.logits
        tensors = {name: one.detach().cpu() for name, one in tensors.items()}
        document = json.loads(json.dumps(document))
        seal = _seal(self.predictor.digest, tensors, document)
        return {"tensors": tensors, "meta": {"session": document, "sha256": seal}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where `state_dict` was called; what follows is equal in every bit on the same machine.

        Raises:
            CheckpointError: the state is damaged, or of another predictor; nothing changes.
        """
        meta, tensors = checked(_Saved, state["meta"], _WHAT), dict(state["tensors"])
        if _seal(self.predictor.digest, tensors, meta.session) != meta.sha256:
            raise damaged(_WHAT, "its SHA-256 does not match")
        logits = tensors.pop("logits", None)
        groups: dict[str, dict[str, Tensor]] = {"state": {}, "window": {}}
        for name, tensor in tensors.items():
            group, _, rest = name.partition(".")
            if group not in groups:
                raise damaged(_WHAT, f"{name!r} belongs to nothing")
            groups[group][rest] = tensor
        fresh = self.predictor.read()
        with fresh._entered() as session:
            load_parts(session, groups, meta.session)
            if (logits is None) != (session.logits is None) or (
                logits is not None
                and (logits.dtype != torch.float32 or list(logits.shape) != [len(self.predictor.tokens)])
            ):
                raise damaged(_WHAT, "its logits do not fit")
            session.logits = (
                None if logits is None else logits.to(next(iter(session.memory.parameters())).device)
            )
        self._session, self._state = fresh._session, fresh._state


class MemoryBatch:
    """Readers that take turns with the one memory.

    Args:
        readers: of one predictor, each once.
    """

    def __init__(self, readers: Sequence[MemoryReader]) -> None:
        if len({id(reader) for reader in readers}) != len(readers):
            raise UsageError("a reader is in the batch twice: make one for each row")
        self.readers = list(readers)

    def expected(self) -> list[Any]:
        """Return the natural log-probabilities of each next token."""
        return [reader.log_probs() for reader in self.readers]

    def advance(self, ids: Sequence[Sequence[int]]) -> list[Prices]:
        """Read the tokens of each row, and return what they cost."""
        return [reader.advance(row) for reader, row in zip(self.readers, ids, strict=True)]

    def read(self, ids: Sequence[Sequence[int]]) -> None:
        """Read the tokens of each row."""
        for reader, row in zip(self.readers, ids, strict=True):
            for _ in reader.read(row):
                pass

    def advance_with_expected(
        self, ids: Sequence[Sequence[int]], note: Callable[[int, int, Any], None]
    ) -> None:
        """Read the tokens of each row; before each, note what is expected there."""
        for at, (reader, row) in enumerate(zip(self.readers, ids, strict=True)):
            for token, log_probs in zip(row, reader.read(row), strict=True):
                note(at, token, log_probs)


def _log_probs(logits: Tensor) -> np.ndarray:
    return torch.log_softmax(logits.double(), dim=-1).cpu().numpy()


def _twin(cache: Any) -> Any:
    """Return a cache that grows apart from another one; a `DynamicCache` never changes a tensor in place."""
    if type(cache) is not DynamicCache:
        return copy.deepcopy(cache)
    other = copy.copy(cache)
    other.layers = [copy.copy(layer) for layer in cache.layers]
    return other


def _tensors_of(cache: Any) -> list[Tensor]:
    layers = getattr(cache, "layers", [])
    return [one for layer in layers for one in vars(layer).values() if isinstance(one, Tensor)]


def _seal(digest: str, tensors: Mapping[str, Tensor], document: Any) -> str:
    seal = hashlib.sha256(f"{digest} {json.dumps(document, sort_keys=True)}".encode())
    for name, tensor in sorted(tensors.items()):
        seal.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        seal.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return seal.hexdigest()
