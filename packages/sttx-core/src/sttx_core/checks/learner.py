"""What every learner must keep: pure scoring, batch equal to loop, exact resume, bounded memory.

Windows are opaque: the caller makes them and only the learner reads them. State may hold arrays or tensors
of any library, as long as they have `.tolist()`: they are compared value by value, without numpy or torch.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from sttx_core.checks.require import require

_ROUNDS = 8
"""Passes over the windows in the check of memory; the first half may still fill what is bounded."""


class WindowScore(Protocol):
    """What a learner returns for a window: at least the price in bits and the number of tokens."""

    @property
    def bits(self) -> float:
        """The price."""
        ...

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        ...


class Learner(Protocol):
    """The two verbs of a learner, for one window and for many, and its state."""

    def score_one(self, window: Any) -> WindowScore:
        """Return the price of a window now; pure."""
        ...

    def score_many(self, windows: Sequence[Any]) -> Sequence[WindowScore]:
        """Return the price of each window now, as a loop of `score_one` would; pure."""
        ...

    def learn_one(self, window: Any) -> None:
        """Learn from a window."""
        ...

    def learn_many(self, windows: Sequence[Any]) -> None:
        """Learn from windows in order, as a loop of `learn_one` would."""
        ...

    def state_dict(self) -> Mapping[str, Any]:
        """Return everything that decides what comes next."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly from a state, and share nothing with it."""
        ...


Factory: TypeAlias = Callable[[], Learner]


def check_learner(
    factory: Factory,
    windows: Sequence[Any],
    *,
    tolerance: float = 1e-4,
    measure: Callable[[Any], float] | None = None,
) -> None:
    """Raise an `AssertionError` that says what a learner breaks.

    Args:
        factory: Makes a new learner, equal to every other one that it makes.
        windows: At least four windows that the learner can learn from one after the other.
        tolerance: Largest difference between `score_many` and the loop, in bits a token; 1e-4 suits float32.
        measure: Returns the size of what a learner holds, in any unit. With it, memory is checked too: over
            eight passes over the windows, the last four may not need more than 1% more than the first four.
    """
    require(len(windows) >= 4, f"{len(windows)} windows are too few to check a learner: give at least 4")
    _check_scoring(factory, windows)
    _check_determinism(factory, windows)
    _check_score_many(factory, windows, tolerance)
    _check_learn_many(factory, windows)
    _check_learning(factory, windows)
    _check_resume(factory, windows)
    if measure is not None:
        _check_memory(factory, windows, measure)


def _check_scoring(factory: Factory, windows: Sequence[Any]) -> None:
    learner = factory()
    for number, window in enumerate(windows):
        before = _plain(learner.state_dict())
        first, many = learner.score_one(window), learner.score_many(windows)
        second, again = learner.score_one(window), learner.score_many(windows)
        require(_plain(learner.state_dict()) == before, f"scoring changed the state, at window {number}")
        require(_plain(first) == _plain(second), f"window {number} scored twice: {first!r}, then {second!r}")
        require(_plain(list(many)) == _plain(list(again)), f"score_many gave two results, at window {number}")
        require(math.isfinite(first.bits), f"the score of window {number} is {first.bits!r} bits, not finite")
        learner.learn_one(window)


def _check_determinism(factory: Factory, windows: Sequence[Any]) -> None:
    one, other = factory(), factory()
    same = _follow(one, windows) == _follow(other, windows)
    require(same, "two learners from one factory learned the same windows and score differently")
    require(
        _plain(one.state_dict()) == _plain(other.state_dict()),
        "two learners from one factory learned the same windows and their states differ",
    )


def _check_score_many(factory: Factory, windows: Sequence[Any], tolerance: float) -> None:
    learner = factory()
    require(len(learner.score_many([])) == 0, "score_many of no windows has scores")
    for number, window in enumerate(windows):
        together = learner.score_many(windows)
        require(len(together) == len(windows), f"score_many gave {len(together)} scores for {len(windows)}")
        for index, (one, each) in enumerate(zip(map(learner.score_one, windows), together, strict=True)):
            difference = abs(one.bits - each.bits) / max(one.tokens, 1)
            require(
                one.tokens == each.tokens and difference <= tolerance,
                f"score_many and score_one differ on window {index} after {number}: {each!r} and {one!r}",
            )
        learner.learn_one(window)


def _check_learn_many(factory: Factory, windows: Sequence[Any]) -> None:
    """Learn the windows in groups of 0, 1, 2, … windows, and after each compare with the loop."""
    loop, many = factory(), factory()
    start, size = 0, 0
    while start < len(windows):
        group = windows[start : start + size]
        for window in group:
            result: Any = loop.learn_one(window)
            require(result is None, f"learn_one returns {result!r}: it must return None")
        result = many.learn_many(group)
        require(result is None, f"learn_many returns {result!r}: it must return None")
        same, stop = _plain(loop.state_dict()) == _plain(many.state_dict()), start + len(group)
        require(same, f"learn_many is not a loop of learn_one, on windows[{start}:{stop}]")
        start, size = stop, size + 1


def _check_learning(factory: Factory, windows: Sequence[Any]) -> None:
    learner = factory()
    before = learner.score_one(windows[0])
    learner.learn_one(windows[0])
    after = learner.score_one(windows[0])
    require(before.bits != after.bits, f"a window costs {after.bits!r} bits before and after it was learned")


def _check_resume(factory: Factory, windows: Sequence[Any]) -> None:
    """Load each state into a used learner, and let the saved one learn on first: nothing may be shared."""
    whole = factory()
    expected = _follow(whole, windows)
    for cut in (0, len(windows) // 2, len(windows) - 1):
        saved, resumed = factory(), factory()
        _learn(saved, windows[:cut])
        _learn(resumed, windows[-2:])
        before = _plain(saved.state_dict())
        resumed.load_state_dict(saved.state_dict())
        require(_plain(saved.state_dict()) == before, f"saving after {cut} windows changed the learner")
        require(_plain(resumed.state_dict()) == before, f"loaded after {cut} windows, its state is different")
        _learn(saved, windows[cut:])
        scores = _follow(resumed, windows[cut:])
        require(scores == expected[cut:], f"loaded after {cut} windows, it scores the rest differently")
        same = _plain(resumed.state_dict()) == _plain(whole.state_dict())
        require(same, f"loaded after {cut} windows, it ends in another state")


def _check_memory(factory: Factory, windows: Sequence[Any], measure: Callable[[Any], float]) -> None:
    learner = factory()
    sizes: list[float] = []
    for _ in range(_ROUNDS):
        _learn(learner, windows)
        sizes.append(measure(learner))
    largest = max(sizes[: _ROUNDS // 2])
    require(max(sizes) <= 1.01 * largest, f"memory grows with the stream: its sizes were {sizes}")


def _learn(learner: Learner, windows: Sequence[Any]) -> None:
    for window in windows:
        learner.learn_one(window)


def _follow(learner: Learner, windows: Sequence[Any]) -> list[str]:
    """Score and learn each window; return the scores, comparable."""
    scores = []
    for window in windows:
        scores.append(_plain(learner.score_one(window)))
        learner.learn_one(window)
    return scores


def _plain(value: Any) -> str:
    """Write a value so that equal text means equal values, NaN and the shapes of arrays included."""
    match value:
        case Mapping():
            return "{" + ", ".join(sorted(f"{key!r}: {_plain(inner)}" for key, inner in value.items())) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_plain, value)) + "]"
        case _ if hasattr(value, "tolist"):
            return f"{getattr(value, 'dtype', '')} {tuple(getattr(value, 'shape', ()))} {value.tolist()!r}"
        case _:
            return repr(value)
