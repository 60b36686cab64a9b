"""Online dynamic tokenization: phrases that are found in the stream. Knows ids and counts, no tensors.

A phrase is a base token, or a phrase followed by one base token, so the live phrases form a trie whose roots
are the base tokens, as in LZW. A frequent pair of adjacent phrases becomes a phrase, together with every
prefix that lies between them in the trie. A window is merged with the table as it was before the window, so
that a decoder can do the same; `observe` then updates the table.

`phrase_counts` has the counts that price a phrase; this file decides at which trie nodes choices are made.
"""

from __future__ import annotations

import itertools
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from sttx_core.errors import DataError, UsageError
from sttx_core.phrase_counts import STOP, Choice, ChoiceCounts

__all__ = ["STOP", "Choice", "DynamicTokenizer", "Phrase", "PhraseConfig", "PhraseStats"]


@dataclass(frozen=True, kw_only=True)
class PhraseConfig:
    """How phrases are found and how many live.

    Attributes:
        pair_window: adjacent pairs of phrases that are remembered.
        threshold: a pair becomes a phrase when it occurs this often among those remembered.
        capacity: most live phrases at once.
        max_length: most base tokens of a phrase.
    """

    pair_window: int = 512
    threshold: int = 3
    capacity: int = 256
    max_length: int = 16

    def __post_init__(self) -> None:
        for name, least in (("pair_window", 1), ("threshold", 1), ("capacity", 1), ("max_length", 2)):
            if getattr(self, name) < least:
                option = f"--phrase-{name.replace('_', '-')}"
                raise UsageError(f"{option} must be at least {least}, not {getattr(self, name)!r}")


@dataclass
class PhraseStats:
    """Counts since the start of the stream: phrases merged, promoted and evicted, and model steps saved."""

    merges: int = 0
    promotions: int = 0
    evictions: int = 0
    steps_saved: int = 0


@dataclass
class Phrase:
    """A live phrase.

    Attributes:
        slot: its index in the table; its id is ``base_vocab + slot``.
        generation: distinguishes it from earlier phrases in the same slot.
        parent: the phrase or base token that it continues.
        token: the base token that it adds to its parent.
        tokens: all its base tokens.
        path: the trie nodes from its first token to itself.
        uses: how often it occurred in a window.
        children: the phrase ids that continue it, by their last token.
    """

    slot: int
    generation: int
    parent: int
    token: int
    tokens: tuple[int, ...]
    path: tuple[int, ...]
    uses: int = 0
    children: dict[int, int] = field(default_factory=dict)


class PhrasePair(NamedTuple):
    """A phrase and the base tokens of the next one; the generation distinguishes phrases in a reused slot."""

    node: int
    generation: int
    tokens: tuple[int, ...]


class DynamicTokenizer:
    """A bounded, causal table of phrases over a base vocabulary.

    Args:
        base_vocab: number of base ids; phrase ids are ``base_vocab + slot``.
        config: the sizes; or pass the fields of :class:`PhraseConfig` as keyword arguments.

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
        self._phrases: OrderedDict[int, Phrase] = OrderedDict()  # by id, least recently used first
        self._roots: dict[int, dict[int, int]] = {}  # base token -> {next token: phrase id}
        self._generations = [0] * self.config.capacity
        self._free = list(range(self.config.capacity - 1, -1, -1))
        self._pairs: deque[PhrasePair] = deque()
        self._pair_counts: Counter[PhrasePair] = Counter()
        self._previous: tuple[int, int] | None = None  # node and generation of the last phrase seen
        self._counts = ChoiceCounts()

    # -- merging and expanding: pure -------------------------------------------------------------------

    def merge(self, ids: Sequence[int]) -> list[int]:
        """Replace base ids by live phrases: greedy longest match, from left to right. Pure.

        Raises:
            DataError: an id is not in the base vocabulary.
        """
        if len(ids) and not 0 <= min(ids) <= max(ids) < self.base_vocab:
            bad = next(one for one in ids if not 0 <= one < self.base_vocab)
            raise DataError(f"{bad!r} is not an id of the base vocabulary, which has {self.base_vocab} ids")
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
            DataError: the phrase is not live.
        """
        return (phrase,) if phrase < self.base_vocab else self._phrase(phrase).tokens

    def path(self, phrase: int) -> tuple[int, ...]:
        """Return the trie nodes from the phrase's first token to the phrase itself."""
        return (phrase,) if phrase < self.base_vocab else self._phrase(phrase).path

    def followers(self, phrase: int) -> tuple[int, ...]:
        """Return the base tokens that cannot follow a phrase: greedy merging would have made it longer."""
        return tuple(self._children(phrase))

    def live(self) -> list[Phrase]:
        """Return the live phrases, parents before children."""
        return sorted(self._phrases.values(), key=lambda phrase: (len(phrase.tokens), phrase.slot))

    def __len__(self) -> int:
        return len(self._phrases)

    def _phrase(self, phrase: int) -> Phrase:
        entry = self._phrases.get(phrase)
        if entry is None:
            raise DataError(f"phrase id {phrase!r} is not live; ids of evicted phrases cannot be expanded")
        return entry

    def _children(self, node: int) -> dict[int, int]:
        return self._roots.get(node, {}) if node < self.base_vocab else self._phrase(node).children

    # -- pricing: where choices are made -----------------------------------------------------------------

    def price(self, merged: Sequence[int]) -> list[Choice]:
        """Return the choices that a decoder makes over ``merged``. Pure.

        The prior of a choice counts every choice before it, in this window too, and none after it.
        :meth:`observe` adds the window's choices to the counts for good.
        """
        choices: list[Choice] = []
        counts = self._counts.draft()
        for position, phrase in enumerate(merged):
            for node, taken in self._choices(phrase):
                children = self._children(node)
                if children:
                    options = (STOP, *children.values())
                    prior = counts.log_prior(node, options)
                    choices.append(Choice(position, options, prior, options.index(taken)))
                    counts.add(node, taken)
        return choices

    def options(self, node: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Return the options at a node, :data:`STOP` first, and their log priors now."""
        options = (STOP, *self._children(node).values())
        return options, self._counts.log_prior(node, options)

    def _choices(self, phrase: int) -> Iterator[tuple[int, int]]:
        """Yield each node on a phrase's path and the option taken there."""
        nodes = self.path(phrase)
        return zip(nodes, (*nodes[1:], STOP), strict=True)

    # -- learning --------------------------------------------------------------------------------------

    def observe(self, merged: Sequence[int]) -> None:
        """Learn from a merged window: slide the window of pairs, promote, evict and update the counts.

        Raises:
            DataError: a phrase is not live; the table is unchanged.
        """
        lengths = [len(self.tokens(phrase)) for phrase in merged]
        for phrase, length in zip(merged, lengths, strict=True):
            for node, taken in self._choices(phrase):
                self._counts.add(node, taken)
            if length > 1:
                self._use(phrase)
                self.stats.merges += 1
                self.stats.steps_saved += length - 1
        for pair in self._slide(merged):
            if self._generation(pair.node) == pair.generation:
                self._promote(pair.node, pair.tokens)

    def cut(self) -> None:
        """Mark a gap: the next window does not continue the last one, so no pair spans them."""
        self._previous = None

    def _slide(self, merged: Sequence[int]) -> list[PhrasePair]:
        """Slide the window of pairs over the phrases; return the pairs that became frequent, in order."""
        frequent = []
        for phrase in merged:
            if self._previous is not None:
                pair = PhrasePair(*self._previous, self.tokens(phrase))
                if len(self._pairs) == self.config.pair_window:
                    self._forget(self._pairs.popleft())
                self._pairs.append(pair)
                self._pair_counts[pair] += 1
                if self._pair_counts[pair] == self.config.threshold:
                    frequent.append(pair)
            self._previous = (phrase, self._generation(phrase))
        return frequent

    def _forget(self, pair: PhrasePair) -> None:
        self._pair_counts[pair] -= 1
        if not self._pair_counts[pair]:
            del self._pair_counts[pair]

    def _generation(self, node: int) -> int:
        """Return a live phrase's generation; 0 for base tokens, -1 for an evicted phrase."""
        if node < self.base_vocab:
            return 0
        phrase = self._phrases.get(node)
        return -1 if phrase is None else phrase.generation

    def _use(self, phrase: int) -> None:
        entry = self._phrases[phrase]
        entry.uses += 1
        for node in entry.path[:0:-1]:  # parents last, so that they count as used more recently
            self._phrases.move_to_end(node)

    def _promote(self, node: int, tokens: Sequence[int]) -> None:
        """Continue a node with tokens, making a phrase for each, as far as length and capacity allow."""
        for token in tokens:
            child = self._children(node).get(token)
            child = self._grow(node, token) if child is None else child
            if child is None:
                return
            node = child

    def _grow(self, parent: int, token: int) -> int | None:
        tokens = (*self.tokens(parent), token)
        if len(tokens) > self.config.max_length or not (self._free or self._evict(keep=parent)):
            return None
        slot = self._free.pop()
        node = self.base_vocab + slot
        self._generations[slot] += 1
        path = (*self.path(parent), node)
        self._phrases[node] = Phrase(slot, self._generations[slot], parent, token, tokens, path)
        if parent < self.base_vocab:
            self._roots.setdefault(parent, {})[token] = node
        else:
            self._phrases[parent].children[token] = node
        self._counts.add_branch(parent, node, float(self.config.threshold))
        self.stats.promotions += 1
        return node

    def _evict(self, keep: int) -> bool:
        """Evict the least recently used leaf other than ``keep``; return False if there is none.

        The search is short, because using a phrase also moves its parents to the back. Only a phrase that
        was not used since its child was made can precede the first leaf.
        """
        for node, phrase in self._phrases.items():
            if not phrase.children and node != keep:
                self._remove(phrase)
                return True
        return False

    def _remove(self, phrase: Phrase) -> None:
        node = self.base_vocab + phrase.slot
        del self._phrases[node]
        siblings = self._children(phrase.parent)
        del siblings[phrase.token]
        if not siblings:
            self._roots.pop(phrase.parent, None)
        self._counts.remove(phrase.parent, node)
        self._free.append(phrase.slot)
        self.stats.evictions += 1

    # -- saving ---------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what comes next, JSON-able."""
        return {
            "base_vocab": self.base_vocab,
            "config": asdict(self.config),
            "stats": asdict(self.stats),
            "phrases": [[p.slot, p.generation, p.parent, p.token, p.uses] for p in self._phrases.values()],
            "children": [[node, list(items.values())] for node, items in self._all_children()],
            "generations": list(self._generations),
            "free": list(self._free),
            "pairs": [[pair.node, pair.generation, list(pair.tokens)] for pair in self._pairs],
            "previous": list(self._previous) if self._previous else None,
            "counts": self._counts.state_dict(),
        }

    def _all_children(self) -> list[tuple[int, dict[int, int]]]:
        return [*self._roots.items(), *((n, p.children) for n, p in self._phrases.items() if p.children)]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly from what :meth:`state_dict` returned, its config included.

        Raises:
            DataError: the state belongs to another vocabulary.
            CheckpointError: the state is damaged; the table is unchanged.
        """
        from sttx_core.phrase_state import checked_table  # not at the head: help must not load msgspec

        saved, config = checked_table(state)
        if saved.base_vocab != self.base_vocab:
            raise DataError(
                f"these phrases are over {saved.base_vocab} base tokens, not {self.base_vocab}; "
                "use the model and tokenizer they were made with"
            )
        self.config = config
        stats = saved.stats
        self.stats = PhraseStats(stats.merges, stats.promotions, stats.evictions, stats.steps_saved)
        self._generations, self._free = saved.generations, saved.free
        self._pairs = deque(PhrasePair(node, generation, tuple(ids)) for node, generation, ids in saved.pairs)
        self._pair_counts = Counter(self._pairs)
        self._previous = saved.previous
        self._counts = ChoiceCounts()
        self._counts.load_state_dict(saved.counts)
        rows = {self.base_vocab + row[0]: row for row in saved.phrases}

        def path(node: int) -> tuple[int, ...]:
            nodes = [node]
            while nodes[-1] >= self.base_vocab:
                nodes.append(rows[nodes[-1]][2])
            return tuple(reversed(nodes))

        self._phrases, self._roots = OrderedDict(), {}
        for node, (slot, generation, parent, token, uses) in rows.items():
            nodes = path(node)
            tokens = (nodes[0], *(rows[one][3] for one in nodes[1:]))
            self._phrases[node] = Phrase(slot, generation, parent, token, tokens, nodes, uses)
        for parent, nodes in saved.children:
            children = {rows[node][3]: node for node in nodes}
            if parent < self.base_vocab:
                self._roots[parent] = children
            else:
                self._phrases[parent].children = children
