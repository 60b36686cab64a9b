"""Looks for the likeliest next tool calls: a best-first search over the tokens of the next trace's text.

Every way to write a text in tokens that the search reaches counts, so what it finds of a text's probability
is a lower bound; what it left open is a number too. Probabilities come from branches of a reader alone.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sttx_train.predict import Branch, Predictor, branch_log_probs
from sttx_train.suggest.calls import HEAD, LENGTHS, Beginning, begin, read_beginning
from sttx_train.suggest.guesses import WHOLE, Found

WIDTH = 8
"""Branches that are asked in one forward pass."""

_RAREST_TOKEN = 1e-4
"""Texts of less probability, given a call, are not looked at."""

_RAREST_BRANCH = 1e-3
"""Branches of less probability, given a call, are not followed."""


@dataclass(order=True)
class _Node:
    """A text that calls may begin with: minus its rank in the queue, and what was read of it."""

    key: float
    order: int
    p: float = field(compare=False)
    text: bytes = field(compare=False)
    path: tuple[int, ...] = field(compare=False)
    parent: Branch = field(compare=False)
    said: Beginning = field(compare=False)

    def branch(self) -> Branch:
        return self.parent.after(self.path[-1]) if self.path else self.parent


class Vocabulary:
    """The tokens of a predictor, and which of them end a word and do nothing else."""

    def __init__(self, predictor: Predictor) -> None:
        self.tokenizer = predictor.loaded.tokenizer
        self.bytes = predictor.tokens
        self.plain = np.array([_is_plain(token) for token in self.bytes])
        self.spaced = np.array([token[:1] == b" " and _is_plain(token[1:]) for token in self.bytes])
        self.spaced &= np.array([len(token) > 1 for token in self.bytes])


def find_calls(
    root: Branch,
    vocabulary: Vocabulary,
    openings: Mapping[str, Sequence[bytes]],
    *,
    most: int = 64,
    also: Iterable[bytes] = (),
) -> Found:
    """Return what the next trace may be, if it is a tool call.

    Args:
        root: a branch at the end of a trace.
        vocabulary: of its predictor.
        openings: of each shell tool, what its JSON may begin with, up to the command.
        most: branches to ask, each a token further; half of them may be for ``also``.
        also: beginnings of rendered calls to follow even where they are improbable.
    """
    run = _Search(vocabulary, openings, also, most)
    run.push(_Node(0.0, 0, 1.0, b"", (), root, Beginning(open=True)))
    while run.found.asked < most and (nodes := run.take(min(WIDTH, most - run.found.asked))):
        branches = [node.branch() for node in nodes]
        for node, branch, log_probs in zip(nodes, branches, branch_log_probs(branches), strict=True):
            run.expand(node, branch, np.exp(log_probs))
    run.close()
    return run.found


class _Search:
    """The queue of texts to follow, and what was found."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        openings: Mapping[str, Sequence[bytes]],
        also: Iterable[bytes],
        most: int,
    ) -> None:
        self.vocabulary, self.openings = vocabulary, openings
        self.found = Found()
        self._queue: list[_Node] = []
        self._order = itertools.count(1)
        self._wanted = _prefixes([vocabulary.tokenizer.encode_bytes(text) for text in also], most // 2)

    def push(self, node: _Node) -> None:
        """Follow a text later, unless nothing can be found there."""
        if not node.said.open:
            self._leave(node.said, node.p)
            return
        wanted = node.path in self._wanted
        if not wanted and node.p < _RAREST_BRANCH * self.found.call:
            self._leave(node.said, node.p)
            return
        node.key = -1.0 - node.p if wanted else -node.p
        heapq.heappush(self._queue, node)

    def take(self, count: int) -> list[_Node]:
        """Return the texts to follow next, the most probable first."""
        return [heapq.heappop(self._queue) for _ in range(min(count, len(self._queue)))]

    def expand(self, node: _Node, branch: Branch, p_V: np.ndarray) -> None:
        """Count what each token says that comes next, and follow it."""
        self.found.asked += 1
        p_V = node.p * p_V
        rest = np.ones(len(p_V), bool)
        if self._inside_word(node):
            rest = self._end_word(node, branch, p_V)
        rare = rest & (p_V < _RAREST_TOKEN * (self.found.call or node.p))
        if self._wanted:
            rare[[path[-1] for path in self._wanted if path[:-1] == node.path]] = False
        self._leave(node.said, float(p_V[rare].sum()))
        for token in np.flatnonzero(rest & ~rare).tolist():
            self._step(node, branch, token, float(p_V[token]))

    def _inside_word(self, node: _Node) -> bool:
        said = node.said.command
        return bool(said) and not said[-1:].isspace() and not node.text.endswith(b"\\")

    def _end_word(self, node: _Node, branch: Branch, p_V: np.ndarray) -> np.ndarray:
        """Count all tokens that only continue or end the word, at once; return the other ones."""
        known = self.vocabulary
        words = len((node.said.command or "").split())
        self._count_words(node.said, words, float(p_V[known.spaced].sum()), ended=False)
        simple = known.plain | known.spaced
        rare = simple & (p_V < _RAREST_BRANCH * self.found.call)
        if self._wanted:
            rare[[path[-1] for path in self._wanted if path[:-1] == node.path]] = False
        for token in np.flatnonzero(simple & ~rare).tolist():
            text = node.text + known.bytes[token]
            self._follow(node, branch, token, float(p_V[token]), text, read_beginning(text, self.openings))
        return ~simple

    def _step(self, node: _Node, branch: Branch, token: int, p: float) -> None:
        piece = self.vocabulary.bytes[token]
        text = node.text + piece
        if not piece:
            self._leave(node.said, p)
            return
        if not (text.startswith(HEAD) or HEAD.startswith(text)):
            return
        said = read_beginning(text, self.openings)
        if said.is_call and not node.said.is_call:
            self.found.call += p
        if said.name is not None and node.said.name is None:
            self.found.names[said.name] += p
        if said.command is not None:
            self._count_words(node.said, said.complete, p, ended=said.ended, command=said.command)
        self._follow(node, branch, token, p, text, said)

    def _count_words(
        self, before: Beginning, complete: int, p: float, *, ended: bool, command: str | None = None
    ) -> None:
        """Count the beginnings of a command that are complete now and were not before."""
        command = before.command if command is None else command
        if p <= 0.0 or not command:
            return
        for length in LENGTHS:
            if before.complete < length and (ended or complete >= length):
                self.found.texts[length, begin(command, length)] += p
        if ended:
            self.found.texts[WHOLE, command] += p

    def _follow(
        self, node: _Node, branch: Branch, token: int, p: float, text: bytes, said: Beginning
    ) -> None:
        self.push(_Node(0.0, next(self._order), p, text, (*node.path, token), branch, said))

    def close(self) -> None:
        """Count what was not followed."""
        for node in self._queue:
            self._leave(node.said, node.p)
        self._queue = []

    def _leave(self, said: Beginning, p: float) -> None:
        if said.is_call and said.name is None:
            self.found.left += p


def _prefixes(paths: Iterable[Sequence[int]], most: int) -> set[tuple[int, ...]]:
    """Return the beginnings of paths, without the paths themselves, as long as there are at most so many."""
    wanted: set[tuple[int, ...]] = set()
    for path in paths:
        more = {tuple(path[:end]) for end in range(1, len(path))}
        if len(wanted | more) > most:
            break
        wanted |= more
    return wanted


def _is_plain(token: bytes) -> bool:
    return bool(token) and not any(byte in b' "\\\t\n\r\f\b' for byte in token)
