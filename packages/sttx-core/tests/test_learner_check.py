"""`check_learner` passes a learner that keeps every rule, and names the rule that a broken one breaks."""

import math
import random
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import pytest

from sttx_core.checks import check_learner

WINDOWS = [f"{'abc'[number % 3]}:{'the same words again ' * 2}{number}" for number in range(9)]


@dataclass(frozen=True)
class Price:
    bits: float
    tokens: int


class CountLearner:
    """Prices the characters of a document by their counts so far; remembers the last two documents' ends."""

    def __init__(self):
        self.counts = np.ones(128)
        self.ends = OrderedDict()
        self.dice = random.Random(0)

    def score_one(self, window):
        total = self.counts.sum()
        bits = [math.log2(total / self.counts[ord(letter)]) for letter in window]
        return Price(sum(bits), len(window))

    def score_many(self, windows):
        return [self.score_one(window) for window in windows]

    def learn_one(self, window):
        for letter in window:
            self.counts[ord(letter)] += 0.5 + self.dice.random()
        self.ends[window[0]] = window[-5:]
        self.ends.move_to_end(window[0])
        while len(self.ends) > 2:
            self.ends.popitem(last=False)

    def learn_many(self, windows):
        for window in windows:
            self.learn_one(window)

    def state_dict(self):
        return {"counts": self.counts, "ends": list(self.ends.items()), "random": self.dice.getstate()}

    def load_state_dict(self, state):
        self.counts = state["counts"].copy()
        self.ends = OrderedDict(state["ends"])
        self.dice.setstate(state["random"])


def size(learner):
    return learner.counts.nbytes + sum(map(len, learner.ends.values()))


def test_a_learner_that_keeps_every_rule_passes():
    check_learner(CountLearner, WINDOWS, tolerance=0, measure=size)
    check_learner(CountLearner, WINDOWS[:4])


class ScoringLearns(CountLearner):
    def score_one(self, window):
        score = super().score_one(window)
        self.learn_one(window)
        return score


class ManyScoresLearn(CountLearner):
    def score_many(self, windows):
        scores = super().score_many(windows)
        self.dice.random()
        return scores


class ScoresByChance(CountLearner):
    noise = random.Random(1)

    def score_one(self, window):
        return Price(super().score_one(window).bits + self.noise.random(), len(window))


class Infinite(CountLearner):
    def score_one(self, window):
        return Price(math.inf, len(window))


class ManyIsAnotherPrice(CountLearner):
    def score_many(self, windows):
        return [
            Price(score.bits + 0.01 * score.tokens, score.tokens) for score in super().score_many(windows)
        ]


class ManyDropsOne(CountLearner):
    def score_many(self, windows):
        return super().score_many(windows[1:])


class LearningReturns(CountLearner):
    def learn_one(self, window):
        super().learn_one(window)
        return self


class LearnsManyTwice(CountLearner):
    def learn_many(self, windows):
        super().learn_many([*windows, *windows])


class LearnsManyInReverse(CountLearner):
    """Learns one window as it should; the order shows only when there are several."""

    def learn_many(self, windows):
        super().learn_many(windows[::-1])


class LearnsManyReturns(CountLearner):
    def learn_many(self, windows):
        super().learn_many(windows)
        return len(windows)


class LearnsNothing(CountLearner):
    def learn_one(self, window):
        pass


class UnseededDice(CountLearner):
    def __init__(self):
        super().__init__()
        self.dice = random.Random()


class ForgetsItsDice(CountLearner):
    def load_state_dict(self, state):
        self.counts, self.ends = state["counts"].copy(), OrderedDict(state["ends"])


class SavesTooLittle(CountLearner):
    """Leaves its random generator out: the loaded state looks right, but what follows differs."""

    def state_dict(self):
        return {"counts": self.counts, "ends": list(self.ends.items())}

    def load_state_dict(self, state):
        self.counts, self.ends = state["counts"].copy(), OrderedDict(state["ends"])


class SharesItsState(CountLearner):
    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.counts = state["counts"]


class LoadingChangesTheSavedOne(CountLearner):
    def load_state_dict(self, state):
        super().load_state_dict(state)
        state["counts"][0] += 1


class KeepsEverything(CountLearner):
    def __init__(self):
        super().__init__()
        self.history = []

    def learn_one(self, window):
        super().learn_one(window)
        self.history.append(window)


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (ScoringLearns, "scoring changed the state"),
        (ManyScoresLearn, "scoring changed the state"),
        (ScoresByChance, "window 0 scored twice"),
        (Infinite, "is inf bits, not finite"),
        (ManyIsAnotherPrice, "score_many and score_one differ on window 0"),
        (ManyDropsOne, "score_many gave 8 scores for 9"),
        (LearningReturns, "learn_one returns .*: it must return None"),
        (LearnsManyReturns, "learn_many returns 0: it must return None"),
        (LearnsManyTwice, "learn_many is not a loop of learn_one, on windows\\[0:1\\]"),
        (LearnsManyInReverse, "learn_many is not a loop of learn_one, on windows\\[1:3\\]"),
        (LearnsNothing, "before and after it was learned"),
        (UnseededDice, "two learners from one factory"),
        (ForgetsItsDice, "its state is different"),
        (SavesTooLittle, "it scores the rest differently"),
        (SharesItsState, "it scores the rest differently"),
        (LoadingChangesTheSavedOne, "changed the learner"),
    ],
)
def test_a_broken_learner_is_found_out(broken, complaint):
    with pytest.raises(AssertionError, match=complaint):
        check_learner(broken, WINDOWS)


def test_memory_is_checked_where_it_can_be_measured():
    check_learner(KeepsEverything, WINDOWS)
    with pytest.raises(AssertionError, match="memory grows with the stream"):
        check_learner(KeepsEverything, WINDOWS, measure=lambda learner: len(learner.history))


def test_too_few_windows_are_refused():
    with pytest.raises(AssertionError, match="3 windows are too few"):
        check_learner(CountLearner, WINDOWS[:3])
