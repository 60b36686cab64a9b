"""Online dynamic tokenization: phrases that are discovered in the stream. Knows ids and counts, no tensors.

A phrase is a base token, or a phrase followed by one base token, so the live phrases form a trie whose roots
are the base tokens (as in LZW). Windows are merged with the table as it stood before them, so that a decoder
can follow; `observe` then moves the table on.

The table also keeps the counts behind the model's output factor: after its first token, a phrase is priced at
each trie node it passes by one choice among *stop* and *continue with t*.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from sttx_core.errors import DataError, UsageError

SMOOTHING = (
    0.4  # added to each count; near Krichevsky and Trofimov's 1/2, as most nodes have few live branches
)
COUNT_LIMIT = 255.0  # a node's counts are halved when their sum passes this, so that old habits fade
STOP = -1  # the option of a choice that ends the phrase


@dataclass(frozen=True, kw_only=True)
class PhraseConfig:
    """How phrases are found and how many live.

    Attributes:
        window: adjacent pairs that are remembered.
        threshold: times a pair must stand in the window to become a phrase.
        capacity: most live phrases at once.
        max_length: most base tokens of a phrase.
    """

    window: int = 512
    threshold: int = 3
    capacity: int = 256
    max_length: int = 16

    def __post_init__(self) -> None:
        for name, least in (("window", 1), ("threshold", 1), ("capacity", 1), ("max_length", 2)):
            if getattr(self, name) < least:
                raise UsageError(f"phrase {name} must be at least {least}, not {getattr(self, name)!r}")


@dataclass
class PhraseStats:
    """What the table has done so far: counts since the start of the stream."""

    merges: int = 0
    promotions: int = 0
    evictions: int = 0
    steps_saved: int = 0


@dataclass
class Phrase:
    """A live phrase. ``slot`` is its place in the table; ``generation`` tells it from earlier holders."""

    slot: int
    generation: int
    parent: int
    token: int
    tokens: tuple[int, ...]
    uses: int = 0
    last_use: int = 0
    children: dict[int, int] = field(default_factory=dict)


class Pair(NamedTuple):
    """A phrase and the base token that stood after it; the generation tells reused slots apart."""

    node: int
    generation: int
    token: int


class Choice(NamedTuple):
    """One stop-or-continue decision: where it stands, what could be taken, and what was.

    Attributes:
        position: index of the phrase in the window.
        options: phrase ids that continue it; :data:`STOP` comes first.
        log_prior: log of each option's smoothed count, unnormalised, natural logarithm.
        taken: index into ``options``.
    """

    position: int
    options: tuple[int, ...]
    log_prior: tuple[float, ...]
    taken: int


class DynamicTokenizer:
    """A bounded, causal table of phrases over a base vocabulary.

    Args:
        base_vocab: number of base ids; phrase ids are ``base_vocab + slot``.
        config: sizes; keyword arguments of :class:`PhraseConfig` may be given instead.

    >>> table = DynamicTokenizer(10, threshold=2)
    >>> table.observe(table.merge([1, 2, 3, 1, 2, 3]))
    >>> table.merge([1, 2, 3, 1, 2])
    [10, 3, 10]
    >>> table.expand([10, 3, 10])
    [1, 2, 3, 1, 2]
    """

    def __init__(self, base_vocab: int, config: PhraseConfig | None = None, **options: int) -> None:
        if base_vocab < 1:
            raise UsageError(f"base_vocab must be at least 1, not {base_vocab!r}")
        self.base_vocab = base_vocab
        self.config = config or PhraseConfig(**options)
        self.stats = PhraseStats()
        self._phrases: dict[int, Phrase] = {}  # by slot
        self._roots: dict[int, dict[int, int]] = {}  # base token -> {next token: phrase id}
        self._generations: list[int] = [0] * self.config.capacity
        self._free = list(range(self.config.capacity - 1, -1, -1))
        self._pairs: deque[Pair] = deque()
        self._pair_counts: Counter[Pair] = Counter()
        self._previous: tuple[int, int] | None = None  # node and generation of the last phrase seen
        self._counts: dict[int, dict[int, float]] = {}  # node id -> {option: count}
        self._clock = 0
        self._leaves: list[tuple[int, int, int]] = []  # heap of (last use, slot, generation), may be stale

    # -- merging and expanding: pure -------------------------------------------------------------------

    def merge(self, ids: Sequence[int]) -> list[int]:
        """Return ``ids`` with every longest live phrase replaced, left to right. Changes nothing."""
        merged = []
        index, end = 0, len(ids)
        while index < end:
            node = ids[index]
            index += 1
            while index < end:
                longer = self._children(node).get(ids[index])
                if longer is None:
                    break
                node = longer
                index += 1
            merged.append(node)
        return merged

    def expand(self, phrases: Sequence[int]) -> list[int]:
        """Return the base tokens of live phrases: the exact inverse of :meth:`merge`."""
        return list(itertools.chain.from_iterable(self.tokens(phrase) for phrase in phrases))

    def tokens(self, phrase: int) -> tuple[int, ...]:
        """Return the base tokens of one phrase or base id.

        Raises:
            DataError: no such phrase is live.
        """
        if phrase < self.base_vocab:
            return (phrase,)
        found = self._phrases.get(phrase - self.base_vocab)
        if found is None:
            raise DataError(f"phrase id {phrase!r} is not live; ids of evicted phrases cannot be expanded")
        return found.tokens

    def path(self, phrase: int) -> list[int]:
        """Return the trie nodes from the phrase's first token to the phrase itself."""
        nodes = [phrase]
        while nodes[-1] >= self.base_vocab:
            nodes.append(self._phrases[nodes[-1] - self.base_vocab].parent)
        return nodes[::-1]

    def followers(self, phrase: int) -> tuple[int, ...]:
        """Return the base tokens that cannot follow a phrase in greedy merging: they would lengthen it."""
        return tuple(self._children(phrase))

    def live(self) -> list[Phrase]:
        """Return the live phrases, parents before children."""
        return sorted(self._phrases.values(), key=lambda phrase: (len(phrase.tokens), phrase.slot))

    def __len__(self) -> int:
        return len(self._phrases)

    def _children(self, node: int) -> dict[int, int]:
        if node < self.base_vocab:
            return self._roots.get(node, {})
        return self._phrases[node - self.base_vocab].children

    # -- pricing: the counts of the output factor ------------------------------------------------------

    def price(self, merged: Sequence[int]) -> list[Choice]:
        """Return the choices a decoder faces over ``merged``. Changes nothing.

        The prior of a choice has seen every choice before it, in this window too, and none after;
        :meth:`observe` makes the counts of the window lasting.
        """
        choices: list[Choice] = []
        counts: dict[int, dict[int, float]] = {}
        for position, phrase in enumerate(merged):
            for node, taken in self._choices(phrase):
                children = self._children(node)
                if node not in counts:
                    counts[node] = dict(self._counts.get(node, ()))
                if children:
                    options = (STOP, *children.values())
                    prior = _log_prior(options, counts[node])
                    choices.append(Choice(position, options, prior, options.index(taken)))
                _count(counts[node], taken)
        return choices

    def options(self, node: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Return what may be chosen at a node and the log priors, as a choice made now would see them."""
        options = (STOP, *self._children(node).values())
        return options, _log_prior(options, self._counts.get(node, {}))

    def _choices(self, phrase: int) -> Iterator[tuple[int, int]]:
        """Yield each node that a phrase passes, and what is chosen there."""
        nodes = self.path(phrase)
        return zip(nodes, [*nodes[1:], STOP], strict=True)

    # -- learning: the table moves on ------------------------------------------------------------------

    def observe(self, merged: Sequence[int]) -> None:
        """Learn from a merged window: slide the window of pairs, promote, evict, count what was saved."""
        for phrase in merged:
            for node, taken in self._choices(phrase):
                _count(self._counts.setdefault(node, {}), taken)
            tokens = self.tokens(phrase)
            if len(tokens) > 1:
                self._use(phrase)
                self.stats.merges += 1
                self.stats.steps_saved += len(tokens) - 1
        promoted: list[Pair] = []
        for phrase in merged:
            if self._previous is not None:
                pair = Pair(*self._previous, self.tokens(phrase)[0])
                self._pairs.append(pair)
                self._pair_counts[pair] += 1
                if self._pair_counts[pair] == self.config.threshold:
                    promoted.append(pair)
                if len(self._pairs) > self.config.window:
                    self._forget(self._pairs.popleft())
            self._previous = (phrase, self._generation(phrase))
        for pair in promoted:
            if self._generation(pair.node) == pair.generation:
                self._promote(pair.node, pair.token)

    def cut(self) -> None:
        """Say that the next window does not follow on the last one: no pair spans the gap."""
        self._previous = None

    def _generation(self, node: int) -> int:
        """Return a live phrase's generation; 0 for base tokens, -1 for a phrase that is gone."""
        if node < self.base_vocab:
            return 0
        phrase = self._phrases.get(node - self.base_vocab)
        return -1 if phrase is None else phrase.generation

    def _forget(self, pair: Pair) -> None:
        self._pair_counts[pair] -= 1
        if self._pair_counts[pair] <= 0:
            del self._pair_counts[pair]

    def _use(self, phrase: int) -> None:
        self._clock += 1
        for node in self.path(phrase)[1:]:
            entry = self._phrases[node - self.base_vocab]
            entry.last_use = self._clock
        self._phrases[phrase - self.base_vocab].uses += 1

    def _promote(self, parent: int, token: int) -> None:
        children = self._children(parent)
        tokens = (*self.tokens(parent), token)
        if token in children or len(tokens) > self.config.max_length:
            return
        if not self._free and not self._evict(keep=parent):
            return
        slot = self._free.pop()
        self._generations[slot] += 1
        self._clock += 1
        phrase = Phrase(slot, self._generations[slot], parent, token, tokens, last_use=self._clock)
        self._phrases[slot] = phrase
        if parent < self.base_vocab:
            self._roots.setdefault(parent, {})[token] = self.base_vocab + slot
        else:
            self._phrases[parent - self.base_vocab].children[token] = self.base_vocab + slot
        heapq.heappush(self._leaves, (phrase.last_use, slot, phrase.generation))
        self.stats.promotions += 1
        counts = self._counts.setdefault(parent, {})
        moved = min(counts.get(STOP, 0.0), float(self.config.threshold))  # these stops will now continue
        counts[STOP] = counts.get(STOP, 0.0) - moved
        _count(counts, self.base_vocab + slot, float(self.config.threshold))

    def _evict(self, keep: int) -> bool:
        """Free the least recently used leaf other than ``keep``; False if there is none."""
        spared = []
        found = False
        while self._leaves and not found:
            last_use, slot, generation = heapq.heappop(self._leaves)
            phrase = self._phrases.get(slot)
            if phrase is None or phrase.generation != generation or phrase.children:
                continue  # a stale entry: reused, or no leaf any more
            if phrase.last_use != last_use:
                heapq.heappush(self._leaves, (phrase.last_use, slot, generation))
            elif self.base_vocab + slot == keep:
                spared.append((last_use, slot, generation))
            else:
                self._remove(phrase)
                found = True
        for entry in spared:
            heapq.heappush(self._leaves, entry)
        return found

    def _remove(self, phrase: Phrase) -> None:
        node = self.base_vocab + phrase.slot
        del self._phrases[phrase.slot]
        if phrase.parent < self.base_vocab:
            siblings = self._roots[phrase.parent]
        else:
            siblings = self._phrases[phrase.parent - self.base_vocab].children
        del siblings[phrase.token]
        self._counts.pop(node, None)
        self._counts.get(phrase.parent, {}).pop(node, None)
        if phrase.parent < self.base_vocab:
            if not siblings:
                del self._roots[phrase.parent]
        elif not siblings:
            parent = self._phrases[phrase.parent - self.base_vocab]
            heapq.heappush(self._leaves, (parent.last_use, parent.slot, parent.generation))
        self._free.append(phrase.slot)
        self.stats.evictions += 1

    # -- saving ---------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return everything as a JSON-able dictionary; :meth:`restore` continues exactly from it."""
        return {
            "base_vocab": self.base_vocab,
            "config": asdict(self.config),
            "stats": asdict(self.stats),
            "phrases": [
                [p.slot, p.generation, p.parent, p.token, p.uses, p.last_use] for p in self._phrases.values()
            ],
            "children": [[node, list(c.items())] for node, c in self._all_children()],
            "generations": list(self._generations),
            "free": list(self._free),
            "pairs": [list(pair) for pair in self._pairs],
            "previous": list(self._previous) if self._previous else None,
            "counts": [[node, list(counts.items())] for node, counts in self._counts.items()],
            "clock": self._clock,
            "leaves": [list(entry) for entry in self._leaves],
        }

    def _all_children(self) -> list[tuple[int, dict[int, int]]]:
        nodes = list(self._roots.items())
        return nodes + [(self.base_vocab + p.slot, p.children) for p in self._phrases.values() if p.children]

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Become what :meth:`snapshot` described.

        Raises:
            DataError: the snapshot is of another vocabulary.
        """
        if snapshot["base_vocab"] != self.base_vocab:
            raise DataError(
                f"these phrases are over {snapshot['base_vocab']} base tokens, not {self.base_vocab}; "
                "use the model and tokenizer they were made with"
            )
        self.config = PhraseConfig(**snapshot["config"])
        self.stats = PhraseStats(**snapshot["stats"])
        rows = {row[0]: row for row in snapshot["phrases"]}
        children = {node: {int(t): int(c) for t, c in items} for node, items in snapshot["children"]}

        def tokens(node: int) -> tuple[int, ...]:
            if node < self.base_vocab:
                return (node,)
            _, _, parent, token, _, _ = rows[node - self.base_vocab]
            return (*tokens(parent), token)

        self._phrases = {
            slot: Phrase(
                slot, generation, parent, token, tokens(self.base_vocab + slot), uses, last_use,
                children.get(self.base_vocab + slot, {}),
            )
            for slot, generation, parent, token, uses, last_use in snapshot["phrases"]
        }  # fmt: skip
        self._roots = {node: items for node, items in children.items() if node < self.base_vocab}
        self._generations = list(snapshot["generations"])
        self._free = list(snapshot["free"])
        self._pairs = deque(Pair(*pair) for pair in snapshot["pairs"])
        self._pair_counts = Counter(self._pairs)
        self._previous = tuple(snapshot["previous"]) if snapshot["previous"] else None
        self._counts = {node: {int(o): float(c) for o, c in items} for node, items in snapshot["counts"]}
        self._clock = snapshot["clock"]
        self._leaves = [(use, slot, generation) for use, slot, generation in snapshot["leaves"]]


def _log_prior(options: Sequence[int], counts: Mapping[int, float]) -> tuple[float, ...]:
    return tuple(math.log(counts.get(option, 0.0) + SMOOTHING) for option in options)


def _count(counts: dict[int, float], option: int, amount: float = 1.0) -> None:
    """Count one choice at a node; halve the node's counts when they grow past the limit."""
    counts[option] = counts.get(option, 0.0) + amount
    if sum(counts.values()) > COUNT_LIMIT:
        for key in counts:
            counts[key] /= 2
