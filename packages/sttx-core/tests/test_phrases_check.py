"""`check_dynamic_tokenizer` passes our phrase table and names the rule that each broken one breaks."""

import random

import pytest

from sttx_core.checks import check_dynamic_tokenizer
from sttx_core.phrases import DynamicTokenizer


def test_conformance():
    check_dynamic_tokenizer(DynamicTokenizer)


class MergeLearns(DynamicTokenizer):
    def merge(self, ids):
        merged = super().merge(ids)
        super().observe(merged)
        return merged


class LosesTheLast(DynamicTokenizer):
    def expand(self, phrases):
        expanded = super().expand(phrases)
        return expanded[:-1] if len(expanded) > 40 else expanded


class ReadsItsFuture(DynamicTokenizer):
    """Merges a window with phrases found in the same window, which a decoder does not have yet."""

    def merge(self, ids):
        ahead = DynamicTokenizer(self.base_vocab, self.config)
        ahead.load_state_dict(self.state_dict())
        ahead.observe(ahead.merge(ids))
        self.ahead = ahead
        return ahead.merge(ids)

    def expand(self, phrases):
        return self.ahead.expand(phrases) if hasattr(self, "ahead") else super().expand(phrases)

    def observe(self, merged):
        super().observe(super().merge(self.expand(merged)))


class NeverLearns(DynamicTokenizer):
    def observe(self, merged):
        pass


class Eager(DynamicTokenizer):
    def __init__(self, base_vocab, **options):
        super().__init__(base_vocab, **{**options, "threshold": 2})


class Greedy(DynamicTokenizer):
    def __init__(self, base_vocab, **options):
        super().__init__(base_vocab, **{**options, "capacity": options.get("capacity", 256) + 5})


class LongPhrases(DynamicTokenizer):
    def __init__(self, base_vocab, **options):
        super().__init__(base_vocab, **{**options, "max_length": 50})


class LongMemory(DynamicTokenizer):
    def __init__(self, base_vocab, **options):
        super().__init__(base_vocab, **{**options, "pair_window": 5000})


class EvictsTheOldest(DynamicTokenizer):
    """Ignores uses, so it evicts the oldest phrase."""

    def _use(self, phrase):
        pass


class ShiftsIds(DynamicTokenizer):
    def merge(self, ids):
        return [one + 1000 if one >= self.base_vocab else one for one in super().merge(ids)]

    def expand(self, phrases):
        return super().expand([one - 1000 if one >= 1000 else one for one in phrases])

    def observe(self, merged):
        super().observe([one - 1000 if one >= 1000 else one for one in merged])


class Miscounts(DynamicTokenizer):
    def observe(self, merged):
        super().observe(merged)
        self.stats.steps_saved += len(merged) > 30


class CountsTooManyEvictions(DynamicTokenizer):
    def _remove(self, phrase):
        super()._remove(phrase)
        self.stats.evictions += 1


class Random(DynamicTokenizer):
    def observe(self, merged):
        if random.random() < 0.9 or len(self) == 0 or not merged:
            super().observe(merged)
        else:
            super().observe([])


class ForgetsItsPairs(DynamicTokenizer):
    def load_state_dict(self, state):
        super().load_state_dict(state)
        self._pairs.clear()
        self._pair_counts.clear()


class Grows(DynamicTokenizer):
    def __init__(self, *given, **options):
        super().__init__(*given, **options)
        self.seen = []

    def observe(self, merged):
        super().observe(merged)
        self.seen += merged

    def state_dict(self):
        return {**super().state_dict(), "seen": list(self.seen)}

    def load_state_dict(self, state):
        super().load_state_dict({name: value for name, value in state.items() if name != "seen"})
        self.seen = list(state["seen"])


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (MergeLearns, "seen twice"),
        (LosesTheLast, r"expand\(merge\(x\)\) is not x"),
        (ReadsItsFuture, "a decoder that saw only the earlier windows cannot expand"),
        (NeverLearns, "seen three times made 0"),
        (Eager, "seen twice"),
        (Greedy, "live are"),
        (LongPhrases, "tokens, not 2 to 3"),
        (LongMemory, "occurs only once"),
        (EvictsTheOldest, "least recently"),
        (ShiftsIds, "9 1 2 9"),
        (Miscounts, "but steps_saved is"),
        (CountsTooManyEvictions, "but evictions is 2"),
        (ForgetsItsPairs, "it merges differently"),
        (Grows, "grows with the stream"),
    ],
)
def test_a_broken_table_is_caught(broken, complaint):
    with pytest.raises(AssertionError, match=complaint):
        check_dynamic_tokenizer(broken)


def test_randomness_is_caught():
    random.seed(1)
    with pytest.raises(AssertionError, match="differ|save|seen"):
        check_dynamic_tokenizer(Random)
