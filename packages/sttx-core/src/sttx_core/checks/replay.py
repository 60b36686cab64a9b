"""What every replay buffer must keep: bounds, proportional draws, determinism and exact resume."""

import json
from collections import Counter
from collections.abc import Callable

import numpy as np

from sttx_core.checks.require import require
from sttx_core.replay import Drawn, ReplayBuffer


def check_replay(factory: Callable[..., ReplayBuffer]) -> None:
    """Raise an `AssertionError` that says what the buffers of `factory(capacity=…, seed=…)` break."""
    _check_bounds(factory)
    _check_eviction(factory)
    _check_proportion(factory)
    _check_equal_surprises(factory)
    _check_refresh(factory)
    _check_refusals(factory)
    _check_determinism(factory)
    _check_resume(factory)


def _item(value: int) -> np.ndarray:
    return np.arange(value, value + 1 + value % 5, dtype=np.int32)


def _seen(drawn: list[Drawn]) -> list[tuple[int, int, list[int], float]]:
    return [(one.slot, one.generation, one.item.tolist(), one.surprise) for one in drawn]


def _refuses(act: Callable[..., object], *given: object) -> bool:
    try:
        act(*given)
    except ValueError:
        return True
    return False


def _work(buffer: ReplayBuffer, start: int, count: int) -> list[tuple[int, int, list[int], float]]:
    """Add, draw and refresh a number of times; return all that was drawn."""
    seen = []
    for value in range(start, start + count):
        buffer.add(_item(value), (value * 37 % 101) / 10)
        drawn = buffer.draw(3)
        seen += _seen(drawn)
        buffer.refresh(drawn[0].slot, drawn[0].generation, (value * 53 % 97) / 10)
    return seen


def _check_bounds(factory: Callable[..., ReplayBuffer]) -> None:
    buffer = factory(capacity=5, seed=0)
    require(len(buffer) == 0 and buffer.draw(3) == [], "a new buffer is not empty, or it draws items")
    for count in range(1, 20):
        buffer.add(_item(count), 1.0)
        require(
            len(buffer) == min(count, 5), f"{count} items in a buffer of 5 make a length of {len(buffer)}"
        )
    require(len(buffer.draw(7)) == 7, "draw(7) did not give 7 items")
    require(buffer.draws == 7, f"7 items were drawn, but draws is {buffer.draws}")


def _check_eviction(factory: Callable[..., ReplayBuffer]) -> None:
    buffer = factory(capacity=3, seed=0)
    for value, surprise in enumerate([5.0, 1.0, 3.0, 4.0, 0.5, 2.0]):
        buffer.add(_item(value), surprise)
    kept = {one.surprise for one in buffer.draw(500)}
    require(
        kept == {5.0, 3.0, 4.0}, f"the most surprising of 0.5 to 5 are 3, 4 and 5; it kept {sorted(kept)}"
    )


def _check_proportion(factory: Callable[..., ReplayBuffer]) -> None:
    surprises = [0.0, 1.0, 2.0, 3.0, 10.0]
    buffer = factory(capacity=8, seed=1)
    for value, surprise in enumerate(surprises):
        buffer.add(_item(value), surprise)
    n = 20_000
    times = Counter(int(one.item[0]) for one in buffer.draw(n))
    require(times[0] == 0, "an item with surprise 0 was drawn although others have more")
    for value, surprise in enumerate(surprises):
        share = surprise / sum(surprises)
        deviation = (share * (1 - share) / n) ** 0.5
        off = abs(times[value] / n - share)
        require(
            off <= 5 * deviation,
            f"an item with {share:.3f} of the surprise got {times[value] / n:.3f} of the draws",
        )


def _check_equal_surprises(factory: Callable[..., ReplayBuffer]) -> None:
    buffer = factory(capacity=8, seed=2)
    for value in range(5):
        buffer.add(_item(value), 0.0)
    times = Counter(int(one.item[0]) for one in buffer.draw(5000))
    require(set(times) == set(range(5)), f"of five items without surprise only {sorted(times)} were drawn")
    require(min(times.values()) > 800, f"draws among equals are not even: {dict(times)}")


def _check_refresh(factory: Callable[..., ReplayBuffer]) -> None:
    buffer = factory(capacity=2, seed=3)
    buffer.add(_item(1), 1.0)
    buffer.add(_item(2), 2.0)
    first = next(one for one in buffer.draw(200) if one.surprise == 1.0)
    require(buffer.refresh(first.slot, first.generation, 0.0), "refreshing a live item was refused")
    require(all(one.surprise == 2.0 for one in buffer.draw(50)), "an item refreshed to 0 is still drawn")
    buffer.add(_item(3), 3.0)
    require(
        not buffer.refresh(first.slot, first.generation, 9.0),
        "a reused slot accepted another item's surprise",
    )
    kept = {one.surprise for one in buffer.draw(200)}
    require(kept == {2.0, 3.0}, f"after a reused slot the surprises are {sorted(kept)}, not 2 and 3")
    require(not buffer.refresh(99, 0, 1.0), "a slot that does not exist was refreshed")


def _check_refusals(factory: Callable[..., ReplayBuffer]) -> None:
    buffer = factory(capacity=2, seed=4)
    buffer.add(_item(1), 1.0)
    one = buffer.draw(1)[0]
    for bad in (float("nan"), float("inf"), -1.0):
        require(_refuses(buffer.add, _item(2), bad), f"add accepted the surprise {bad}")
        require(
            _refuses(buffer.refresh, one.slot, one.generation, bad), f"refresh accepted the surprise {bad}"
        )
    for name, item in (("empty", _item(2)[:0]), ("int64", np.arange(3)), ("2-D", _item(2)[None])):
        require(_refuses(buffer.add, item, 1.0), f"add accepted an item that is {name}")
    require(_seen(buffer.draw(1)) == _seen([one]), "a refused surprise changed the buffer")


def _check_determinism(factory: Callable[..., ReplayBuffer]) -> None:
    runs = [_work(factory(capacity=7, seed=seed), 0, 40) for seed in (5, 5, 6)]
    require(runs[0] == runs[1], "the same seed and calls gave different draws")
    require(runs[0] != runs[2], "different seeds gave the same draws")


def _check_resume(factory: Callable[..., ReplayBuffer]) -> None:
    for stop in (0, 3, 25):
        whole = factory(capacity=7, seed=8)
        _work(whole, 0, stop)
        state = whole.state_dict()
        meta = json.loads(json.dumps(state["meta"]))
        arrays = {name: array.copy() for name, array in state["arrays"].items()}
        expected = _work(whole, stop, 40)
        resumed = factory(capacity=7, seed=0)
        _work(resumed, 5, 9)
        resumed.load_state_dict({"arrays": arrays, "meta": meta})
        require(_work(resumed, stop, 40) == expected, f"loaded after {stop} steps, it draws differently")
        require(resumed.draws == whole.draws, f"loaded after {stop} steps, draws is {resumed.draws}")
        same = all(np.array_equal(array, state["arrays"][name]) for name, array in arrays.items())
        require(same, "a saved state changed when its buffer did")
