"""The phrase table against its definition: a slow twin that counts everything again each time."""

import json
import math
import random
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sttx_core.errors import DataError, UsageError
from sttx_core.phrases import STOP, DynamicTokenizer, PhraseConfig

BASE = 30


class Twin:
    """The definition, without any optimization: it keeps every pair and every use."""

    def __init__(self, config):
        self.config = config
        self.live = {}  # tokens -> slot, generation, uses, time of last use
        self.holders = [0] * config.capacity
        self.pairs = []
        self.previous = None
        self.time = self.evictions = self.promotions = 0

    def merge(self, ids):
        merged, start = [], 0
        while start < len(ids):
            length = 1
            while start + length < len(ids) and tuple(ids[start : start + length + 1]) in self.live:
                length += 1
            merged.append(tuple(ids[start : start + length]))
            start += length
        return merged

    def observe(self, merged):
        for tokens in merged:
            self.time += 1
            for end in range(2, len(tokens) + 1):
                self.live[tokens[:end]].last_use = self.time
            if len(tokens) > 1:
                self.live[tokens].uses += 1
        frequent = []
        for tokens in merged:
            if self.previous is not None:
                self.pairs.append((*self.previous, tokens))
                if self.pairs[-self.config.pair_window :].count(self.pairs[-1]) == self.config.threshold:
                    frequent.append(self.pairs[-1])
            self.previous = (tokens, self.generation(tokens))
        for parent, generation, tokens in frequent:
            if self.generation(parent) == generation:
                self.join(parent, tokens)

    def join(self, parent, tokens):
        for end in range(len(tokens)):
            if not self.promote(parent + tokens[:end], tokens[end]):
                return

    def generation(self, tokens):
        if len(tokens) == 1:
            return 0
        return self.live[tokens].generation if tokens in self.live else -1

    def promote(self, parent, token):
        tokens = (*parent, token)
        if tokens in self.live:
            return True
        if len(tokens) > self.config.max_length:
            return False
        slot = len(self.live)
        if slot == self.config.capacity:
            parents = {other[:-1] for other in self.live}
            leaves = [other for other in self.live if other not in parents and other != parent]
            if not leaves:
                return False
            victim = min(leaves, key=lambda other: self.live[other].last_use)
            slot = self.live.pop(victim).slot
            self.evictions += 1
        self.time += 1
        self.promotions += 1
        self.holders[slot] += 1
        self.live[tokens] = SimpleNamespace(
            slot=slot, generation=self.holders[slot], uses=0, last_use=self.time
        )
        return True


configs = st.builds(
    PhraseConfig,
    pair_window=st.integers(1, 30),
    threshold=st.integers(1, 4),
    capacity=st.integers(1, 12),
    max_length=st.integers(2, 6),
)
motifs = st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=6), min_size=1, max_size=4)


@st.composite
def streams(draw, windows=25):
    """Windows that repeat a few motifs, with noise of new ids."""
    drawn = draw(motifs)
    one = st.one_of(st.sampled_from(drawn), st.lists(st.integers(0, BASE - 1), min_size=1, max_size=3))
    return [sum(parts, []) for parts in draw(st.lists(st.lists(one, max_size=8), max_size=windows))]


def learn(table, ids, times=1):
    for _ in range(times):
        table.observe(table.merge(ids))


def trained(seed=0, windows=60, **options):
    """Return a table after a stream, with a deep and branching trie."""
    table = DynamicTokenizer(BASE, **options)
    for ids in stream(windows, seed):
        learn(table, ids)
    return table


def stream(windows, seed=0, length=40):
    draw = random.Random(seed)
    repeated = [[draw.randrange(BASE) for _ in range(draw.randrange(2, 8))] for _ in range(6)]
    made = []
    for _ in range(windows):
        ids = []
        while len(ids) < length:
            ids += draw.choice(repeated) if draw.random() < 0.8 else [draw.randrange(BASE)]
        made.append(ids)
    return made


def chain(*tokens, **options):
    """Return a table with one phrase of these tokens, all its prefixes, and no pair in its window."""
    table = DynamicTokenizer(BASE, threshold=1, **options)
    for end in range(2, len(tokens) + 1):
        table.cut()
        learn(table, tokens[:end])
    table.cut()
    return table


# --- against the definition


@settings(deadline=None, max_examples=150)
@given(streams(), configs, st.integers(0, 9))
def test_a_table_agrees_with_its_definition(windows, config, cut_every):
    table, twin = DynamicTokenizer(BASE, config), Twin(config)
    for number, ids in enumerate(windows):
        merged = table.merge(ids)
        assert [table.tokens(phrase) for phrase in merged] == twin.merge(ids)
        table.observe(merged)
        twin.observe(twin.merge(ids))
        if cut_every and number % cut_every == 0:
            table.cut()
            twin.previous = None
        live = {phrase.tokens: (phrase.slot, phrase.generation, phrase.uses) for phrase in table.live()}
        assert live == {tokens: (one.slot, one.generation, one.uses) for tokens, one in twin.live.items()}
        assert (table.stats.promotions, table.stats.evictions) == (twin.promotions, twin.evictions)


@settings(deadline=None, max_examples=60)
@given(streams(), configs, st.lists(st.integers(0, BASE - 1), max_size=60))
def test_merge_and_expand_are_inverses_on_any_ids(windows, config, ids):
    table = DynamicTokenizer(BASE, config)
    for window in windows:
        learn(table, window)
    merged = table.merge(ids)
    assert table.expand(merged) == ids
    assert all(len(table.tokens(one)) <= config.max_length for one in merged)
    assert all(
        after not in table.followers(one)
        for one, after in zip(merged, first_tokens(table, merged), strict=False)
    )


def first_tokens(table, merged):
    """Return the first token of each phrase except the first."""
    return [table.tokens(phrase)[0] for phrase in merged[1:]]


def test_a_tuple_an_array_and_a_list_merge_alike():
    np = pytest.importorskip("numpy")
    table = chain(1, 2, 3)
    assert table.merge((1, 2, 3, 4)) == table.merge(np.array([1, 2, 3, 4])) == table.merge([1, 2, 3, 4])
    assert table.merge([]) == table.merge(np.array([], dtype=int)) == []


# --- the trie


def test_paths_followers_and_options_describe_the_trie():
    table = chain(1, 2, 3)
    learn(table, [1, 2, 4])
    two, three, four = (table.merge(ids)[0] for ids in ([1, 2], [1, 2, 3], [1, 2, 4]))
    assert [phrase.tokens for phrase in table.live()] == [(1, 2), (1, 2, 3), (1, 2, 4)]
    assert table.path(1) == (1,) and table.path(two) == (1, two) and table.path(four) == (1, two, four)
    assert set(table.followers(two)) == {3, 4} and table.followers(1) == (2,)
    assert table.followers(three) == table.followers(9) == ()
    assert [set(table.options(node)[0]) for node in (1, two, three, 9)] == [
        {STOP, two},
        {STOP, three, four},
        {STOP},
        {STOP},
    ]
    assert all(table.options(node)[0][0] == STOP for node in (1, two, three))


@pytest.mark.parametrize("ask", ["tokens", "path", "followers", "options"])
def test_an_id_that_is_not_live_is_refused(ask):
    table = chain(1, 2)
    with pytest.raises(DataError, match=f"{BASE + 1} is not live"):
        getattr(table, ask)(BASE + 1)
    for whole in (table.expand, table.price, table.observe):
        with pytest.raises(DataError, match="not live"):
            whole([1, BASE + 1])


def test_a_refused_window_changes_nothing():
    table = trained()
    before = table.state_dict()
    with pytest.raises(DataError):
        table.observe([1, 2, table.merge(stream(1)[0])[0], BASE + 999])
    assert table.state_dict() == before


@pytest.mark.parametrize("bad", [-1, BASE, BASE + 5])
def test_only_base_ids_are_merged(bad):
    with pytest.raises(DataError, match=f"^{bad} is not an id of the base vocabulary, which has {BASE}"):
        chain(1, 2).merge([1, 2, bad])


@pytest.mark.parametrize(
    ("option", "value"), [("pair_window", 0), ("threshold", 0), ("capacity", 0), ("max_length", 1)]
)
def test_invalid_sizes_are_refused_by_name(option, value):
    named = f"--phrase-{option.replace('_', '-')}"
    with pytest.raises(UsageError, match=f"^{named} must be at least {value + 1}, not {value}$"):
        DynamicTokenizer(BASE, **{option: value})


def test_an_empty_vocabulary_is_refused():
    with pytest.raises(UsageError, match="base_vocab"):
        DynamicTokenizer(0)


# --- pricing


def sequential(table, merged):
    """The slow twin of `price`: read the prior before each phrase, then count that phrase alone."""
    ahead = DynamicTokenizer(BASE)
    ahead.load_state_dict(json.loads(json.dumps(table.state_dict())))
    choices = []
    for position, phrase in enumerate(merged):
        nodes = ahead.path(phrase)
        for node, taken in zip(nodes, (*nodes[1:], STOP), strict=True):
            options, prior = ahead.options(node)
            if len(options) > 1:
                choices.append((position, options, prior, options.index(taken)))
        ahead.cut()  # without pairs nothing is promoted: only the counts change
        ahead.observe([phrase])
    return choices


@settings(deadline=None, max_examples=60)
@given(streams(), configs, st.integers(0, 3))
def test_prices_agree_with_counting_one_phrase_at_a_time(windows, config, times):
    table = DynamicTokenizer(BASE, config)
    for ids in windows:
        merged = table.merge(ids * times)
        before = json.dumps(table.state_dict())
        choices = table.price(merged)
        assert json.dumps(table.state_dict()) == before, "asking for the price changed the table"
        assert [tuple(choice) for choice in choices] == sequential(table, merged)
        table.observe(merged)


def test_prices_follow_counts_through_their_halving():
    """The window is long enough that a node's counts exceed their limit inside it."""
    table = trained(seed=3, threshold=2)
    merged = table.merge(stream(1, seed=3, length=3000)[0])
    assert [tuple(choice) for choice in table.price(merged)] == sequential(table, merged)


def test_the_choices_spell_the_phrase():
    table = trained()
    merged = table.merge(stream(1)[0])
    for position, phrase in enumerate(merged):
        taken = [c.options[c.taken] for c in table.price(merged) if c.position == position]
        ended = [one for one in taken if one == STOP]
        assert taken[: len(taken) - len(ended)] == list(table.path(phrase)[1:])
        assert len(ended) == bool(table.followers(phrase)), "a leaf needs no word to stop"


def test_frequent_choices_cost_less():
    table = chain(1, 2, 3)
    rare, often = [1, 2, 9], [1, 2, 3]

    def cost(ids):
        choices = table.price(table.merge(ids))
        chances = [[math.exp(prior) for prior in choice.log_prior] for choice in choices]
        return -sum(math.log(c[choice.taken] / sum(c)) for c, choice in zip(chances, choices, strict=True))

    before = cost(often)
    for _ in range(20):
        table.cut()
        learn(table, often)
    assert cost(often) < before < cost(rare)


# --- promotion


@pytest.mark.parametrize(("window", "phrases"), [(5, 0), (6, 1), (7, 1)])
def test_the_window_holds_exactly_pair_window_pairs(window, phrases):
    """The pair 1 2 is the first and the last of six pairs: 12 23 34 45 51 12."""
    table = DynamicTokenizer(BASE, threshold=2, pair_window=window)
    learn(table, [1, 2, 3, 4, 5, 1, 2])
    assert len(table) == phrases


@pytest.mark.parametrize("threshold", [1, 2, 3, 7])
def test_the_threshold_is_exact(threshold):
    table = DynamicTokenizer(BASE, threshold=threshold)
    for number in range(1, threshold + 1):
        table.cut()
        learn(table, [1, 2])
        assert len(table) == (number == threshold), number


def test_a_pair_becomes_a_phrase_with_all_prefixes_between():
    table = DynamicTokenizer(BASE, threshold=1)
    for ids in ([1, 2], [3, 4, 5], [3, 4, 5]):
        table.cut()
        learn(table, ids)
    table.cut()
    learn(table, [1, 2, 3, 4, 5])
    assert len(table.merge([1, 2, 3, 4, 5])) == 1
    assert sorted(phrase.tokens for phrase in table.live()) == [
        (1, 2), (1, 2, 3), (1, 2, 3, 4), (1, 2, 3, 4, 5), (3, 4), (3, 4, 5), (4, 5)
    ]  # fmt: skip


def test_a_pair_that_is_too_long_is_promoted_up_to_max_length():
    table = DynamicTokenizer(BASE, threshold=1, capacity=3)
    learn(table, [1, 2])
    table.cut()
    learn(table, [3, 4])
    table.cut()
    learn(table, [1, 2, 3, 4])
    assert [phrase.tokens for phrase in table.live()] == [(1, 2), (1, 2, 3), (1, 2, 3, 4)]


def test_phrases_double_in_length_up_to_max_length():
    ids = list(range(9))
    table = DynamicTokenizer(BASE, threshold=1, max_length=5)
    for length in (2, 4, 5, 5):
        table.cut()
        learn(table, ids)
        assert max(len(phrase.tokens) for phrase in table.live()) == length
        assert all(len(table.path(BASE + phrase.slot)) == len(phrase.tokens) for phrase in table.live())


def test_no_pair_spans_a_cut():
    for cut, expected in ((False, {(2, 1)}), (True, set())):
        table = DynamicTokenizer(BASE, threshold=3)
        for _ in range(3):
            learn(table, [2])
            if cut:
                table.cut()
            learn(table, [1])
        assert texts(table) == expected


# --- eviction


def texts(table):
    return {phrase.tokens for phrase in table.live()}


def test_a_parent_is_never_evicted_before_its_children():
    table = chain(1, 2, 3, 4, capacity=3)
    learn(table, [7, 8])
    assert texts(table) == {(1, 2), (1, 2, 3), (7, 8)}
    table.cut()
    learn(table, [1, 2, 9])  # using the parent does not save its unused child
    assert texts(table) == {(1, 2), (1, 2, 9), (7, 8)}


def test_using_a_child_uses_its_parents():
    table = chain(1, 2, 3, capacity=3)
    learn(table, [7, 8])
    table.cut()
    learn(table, [1, 2, 3])
    table.cut()
    learn(table, [5, 6])
    assert texts(table) == {(1, 2), (1, 2, 3), (5, 6)}


def test_a_new_phrase_does_not_evict_its_parent():
    table = chain(1, 2, capacity=1)
    learn(table, [1, 2, 3])
    assert texts(table) == {(1, 2)} and table.stats.evictions == 0
    table.cut()
    learn(table, [5, 6])
    assert texts(table) == {(5, 6)} and table.stats.evictions == 1


def test_without_another_leaf_nothing_is_evicted():
    table = chain(1, 2, 3, capacity=2)
    learn(table, [1, 2, 3, 4])
    assert texts(table) == {(1, 2), (1, 2, 3)} and table.stats.evictions == 0


def test_a_reused_slot_has_a_new_generation_and_nothing_of_the_old_phrase():
    table = chain(1, 2, capacity=1)
    (first,) = table.live()
    for _ in range(5):
        learn(table, [1, 2])
        table.cut()
    learn(table, [5, 6])
    (second,) = table.live()
    assert (first.slot, second.slot) == (0, 0) and (first.uses, second.uses) == (5, 0)
    assert second.generation == first.generation + 1
    assert table.followers(1) == () and table.merge([1, 2]) == [1, 2]
    assert table.options(BASE) == ((STOP,), (pytest.approx(math.log(0.4)),))


def test_pairs_of_an_evicted_phrase_do_not_count_for_the_next_one_in_its_slot():
    table = DynamicTokenizer(BASE, threshold=2, capacity=1, pair_window=100)
    learn(table, [1, 2, 9, 1, 2, 8])
    table.cut()
    learn(table, [1, 2, 5])  # the phrase 1 2 was followed by 5 once
    table.cut()
    learn(table, [3, 4, 9, 3, 4, 8])
    assert texts(table) == {(3, 4)}
    table.cut()
    learn(table, [3, 4, 5])  # and so was 3 4, now in the same slot
    assert texts(table) == {(3, 4)} and table.stats.evictions == 1


def test_a_pair_whose_phrase_is_evicted_in_the_same_window_is_dropped():
    table = DynamicTokenizer(BASE, threshold=1, capacity=1)
    learn(table, [1, 2])
    table.cut()
    learn(table, [1, 2, 5, 6])  # 1 2 5 does not fit, then 5 6 takes the slot of 1 2
    assert texts(table) == {(5, 6)}
    assert [table.options(node)[0] for node in (1, 5)] == [(STOP,), (STOP, BASE)]


# --- saving


@settings(deadline=None, max_examples=60)
@given(streams(), configs, st.integers(0, 25))
def test_loaded_in_mid_stream_it_continues_exactly(windows, config, stop):
    whole = DynamicTokenizer(BASE, config)
    for ids in windows[:stop]:
        learn(whole, ids)
    resumed = trained(windows=5)
    resumed.load_state_dict(json.loads(json.dumps(whole.state_dict())))
    assert resumed.config == config
    for ids in windows[stop:]:
        merged = whole.merge(ids)
        assert resumed.merge(ids) == merged
        assert resumed.price(merged) == whole.price(merged)
        assert [resumed.options(node) for node in merged] == [whole.options(node) for node in merged]
        whole.observe(merged)
        resumed.observe(merged)
    assert json.dumps(resumed.state_dict()) == json.dumps(whole.state_dict())
    assert resumed.live() == whole.live() and resumed.stats == whole.stats


def test_a_state_shares_nothing_with_the_table():
    table = trained()
    kept = table.state_dict()
    before = json.dumps(kept)
    other = DynamicTokenizer(BASE)
    other.load_state_dict(kept)
    for one in (table, other):
        learn(one, stream(1, seed=8)[0], times=5)
    assert json.dumps(kept) == before


def test_phrases_over_another_vocabulary_are_refused():
    with pytest.raises(DataError, match=f"over {BASE} base tokens, not 31"):
        DynamicTokenizer(BASE + 1).load_state_dict(trained().state_dict())


def test_a_state_of_an_earlier_version_loads():
    table = trained(pair_window=64)
    state = table.state_dict()
    state["config"]["window"] = state["config"].pop("pair_window")
    loaded = DynamicTokenizer(BASE)
    loaded.load_state_dict(state)
    assert loaded.config == table.config
    assert loaded.state_dict() == table.state_dict()


# --- over a stream


def test_repetition_saves_steps_and_noise_saves_none():
    table = trained(seed=5, windows=80)
    ids = stream(1, seed=5, length=400)[0]
    assert len(table.merge(ids)) < 0.5 * len(ids)
    noise = random.Random(1)
    table = DynamicTokenizer(4000)
    for _ in range(50):
        learn(table, [noise.randrange(4000) for _ in range(200)])
    assert table.stats.steps_saved == 0


def test_saved_steps_are_counted():
    table = trained(windows=0, threshold=2)
    saved = merges = 0
    for ids in stream(40):
        merged = table.merge(ids)
        saved += len(ids) - len(merged)
        merges += sum(one >= BASE for one in merged)
        table.observe(merged)
    assert (table.stats.steps_saved, table.stats.merges) == (saved, merges)
    assert saved > merges > 0


def test_the_state_does_not_grow_over_200_000_tokens():
    table = DynamicTokenizer(BASE, pair_window=128, capacity=64)
    sizes = []
    for part in range(8):
        for ids in stream(125, seed=part, length=200):
            learn(table, ids)
        sizes.append(len(json.dumps(table.state_dict())))
    assert table.stats.evictions > 500 and len(table) == 64
    assert max(sizes[1:]) < 1.2 * sizes[0], sizes
