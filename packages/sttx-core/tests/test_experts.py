"""The experts: exact, causal, bounded, deterministic, resumable, and equal to a slow twin in plain Python."""

import importlib
import math
import subprocess
import sys

import numpy as np
import pytest

from sttx_core.errors import CheckpointError, SttxWarning, UsageError

pytest.importorskip("numba", reason="needs sttx-core[experts]")

from sttx_core.experts import Experts, ExpertsConfig, kept

SMALL = ExpertsConfig(slot_bits=16, history_bits=12, index_bits=12)
TOKENS = [b"", *(bytes([byte]) for byte in b"abcdefgh \n"), b"ab", b"the ", b"fed", b"\xc3\xa9", b"_a"]
V = len(TOKENS)  # 16 is a power of two; others are tried too


def text(count, seed=0, tokens=V):
    """Return ids in which runs come back, as in real text."""
    dice = np.random.default_rng(seed)
    phrases = [dice.integers(1, tokens, dice.integers(3, 40)) for _ in range(6)]
    return np.concatenate([phrases[dice.integers(6)] for _ in range(count // 10 + 8)])[:count]


def network(count, seed=1, tokens=V):
    """Return log-probabilities of a network that knows nothing of the text."""
    logits = np.random.default_rng(seed).standard_normal((count, tokens)) * 2
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def test_what_is_read_again_costs_less():
    experts, ids = Experts(TOKENS, SMALL), text(2000)
    bits = experts.read(experts.document(), network(2000), ids)
    assert bits[:100].mean() > 3 and bits[-500:].mean() < 1


def test_prices_are_those_of_a_distribution_that_sums_to_one():
    experts, ids, says = Experts(TOKENS, SMALL), text(300), network(300)
    document = experts.document()
    experts.read(document, says[:250], ids[:250])
    for step in range(250, 300):
        every = experts.log_probs(document, says[step])
        assert np.exp(every).sum() == pytest.approx(1, abs=1e-12)
        [bits] = experts.read(document, says[step : step + 1], ids[step : step + 1])
        assert bits == pytest.approx(-every[ids[step]] / math.log(2), abs=1e-12)


def inputs_along(experts, log_probs, ids):
    """Return what the network says at each decision: log odds of the right half, 0 without a decision."""
    low, middle, high = experts.path(ids)
    mass = np.pad(np.cumsum(np.exp(log_probs)[:, experts.order], axis=1), ((0, 0), (1, 0)))
    at_low, at_middle, at_high = (np.take_along_axis(mass, ranks, axis=1) for ranks in (low, middle, high))
    decides = middle < experts.vocab_size
    right, left = np.where(decides, at_high - at_middle, 1), np.where(decides, at_middle - at_low, 1)
    return np.log(right / left)


@pytest.mark.parametrize("size", [11, 16])
def test_slopes_are_the_derivatives_of_the_bits(size):
    """A small change of the network's distribution changes the bits by slopes times changes of the inputs."""
    experts = Experts([bytes([97 + number]) for number in range(size)], SMALL)
    document, says, ids = experts.document(), network(300, tokens=size), text(300, tokens=size)
    experts.read(document, says[:260], ids[:260])
    says[260::4, 3] += 22  # certain of one token: these inputs are at their bound
    says[260:] -= np.log(np.exp(says[260:]).sum(axis=1, keepdims=True))
    change = np.random.default_rng(2).standard_normal((300, size)) * 2e-3
    slopes, compared = np.full((300, experts.depth), np.nan), 0
    for step in range(260, 300):
        row = slice(step, step + 1)
        lower, upper = says[row] - change[row], says[row] + change[row]
        [below], [above] = (experts.score(document, near, ids[row]) for near in (lower, upper))
        [expected] = experts.score(document, says[row], ids[row])
        [bits] = experts.read(document, says[row], ids[row], slopes=slopes[row])
        moved = inputs_along(experts, upper, ids[row]) - inputs_along(experts, lower, ids[row])
        assert bits == expected
        if abs(above - 2 * bits + below) < 2e-5:  # else other weights were chosen, and the price jumped
            assert (slopes[row] * moved).sum() == pytest.approx(above - below, rel=0.02, abs=2e-5)
            compared += 1
    bounded = np.abs(inputs_along(experts, says[260:], ids[260:])) > 14
    assert compared > 30 and bounded.any()
    assert (slopes[260:][bounded] == 0).all() and (slopes[260:][~bounded] != 0).any()


def test_paths_lead_to_the_token():
    experts, every = Experts(TOKENS[:11], SMALL), np.arange(11)
    low, middle, high = experts.path(every)
    assert low.shape == (11, experts.depth) == (11, 4)
    ranks = np.argsort(experts.order)[:, None]
    assert ((low <= ranks) & (ranks < high) & (low < middle) & (middle <= high)).all()
    right = ranks >= middle
    assert (np.where(right, middle, low)[:, :-1] == low[:, 1:]).all()
    assert (np.where(right, high, middle)[:, :-1] == high[:, 1:]).all()
    assert (np.where(right, high - middle, middle - low)[:, -1] == 1).all()


@pytest.mark.parametrize("size", [2, 3, 11, 16, 100])
def test_any_size_of_vocabulary(size):
    tokens = [bytes([number]) * (number % 3) for number in range(size)]
    experts = Experts(tokens, SMALL)
    document, ids = experts.document(), text(200, tokens=size)
    assert (experts.read(document, network(200, tokens=size), ids) >= 0).all()
    assert np.exp(experts.log_probs(document, network(1, tokens=size)[0])).sum() == pytest.approx(1)


def test_a_decoder_follows_from_ids_alone():
    """It knows the earlier tokens only, prices every next one, and arrives at the same numbers."""
    ids, says = text(120), network(120)
    coder, decoder = Experts(TOKENS, SMALL), Experts(TOKENS, SMALL)
    bits = coder.read(coder.document(), says, ids)
    document = decoder.document()
    for step in range(120):
        every = decoder.log_probs(document, says[step])
        token = int(np.argmin(np.abs(-every / math.log(2) - bits[step])))  # what an entropy coder would give
        assert -every[ids[step]] / math.log(2) == pytest.approx(bits[step], abs=1e-12)
        assert token == ids[step] or every[token] == pytest.approx(every[ids[step]])
        decoder.read(document, says[step : step + 1], ids[step : step + 1])


def test_any_split_gives_the_same_bits():
    ids, says = text(700), network(700)
    whole, parts = Experts(TOKENS, SMALL), Experts(TOKENS, SMALL)
    expected = whole.read(whole.document(), says, ids)
    document, found = parts.document(), []
    for start, end in [(0, 1), (1, 256), (256, 257), (257, 257), (257, 700)]:
        found += parts.read(document, says[start:end], ids[start:end]).tolist()
    assert found == expected.tolist()
    assert (len(document), parts.tokens_read) == (700, 700)


def test_documents_in_turns_do_not_interrupt_each_other():
    """A match continues in its own document, although another was read in between."""
    tokens = [bytes([number]) for number in range(64)]
    first, second = (np.random.default_rng(seed).integers(0, 64, 600) for seed in (3, 4))
    says = np.full((600, 64), -math.log(64))
    experts = Experts(tokens, SMALL)
    documents = experts.document(), experts.document()
    for start in range(0, 600, 50):
        for document, ids in zip(documents, (first, second), strict=True):
            experts.read(document, says[start : start + 50], ids[start : start + 50])
    again = experts.read(experts.document(), says, first)
    assert again[:2].mean() > 4 and again[100:].mean() < 0.6


def test_score_changes_nothing():
    experts, ids, says = Experts(TOKENS, SMALL), text(300), network(300)
    document = experts.document()
    experts.read(document, says[:200], ids[:200])
    before = experts.state_dict(), document.state_dict()
    scored = experts.score(document, says[200:], ids[200:])
    for old, new in zip(before, (experts.state_dict(), document.state_dict()), strict=True):
        assert all(np.array_equal(old[name], new[name]) for name in old)
    assert scored.tolist() == experts.read(document, says[200:], ids[200:]).tolist()


def test_following_tokens_changes_the_place_alone():
    experts, ids, says = Experts(TOKENS, SMALL), text(300), network(301)
    document, other = experts.document(), experts.document()
    experts.read(document, says[:200], ids[:200])
    memory = experts.state_dict()
    other.load_state_dict(document.state_dict())
    experts.follow(other, ids[200:260])
    assert (len(other), len(document)) == (260, 200)
    followed = experts.log_probs(other, says[260])
    assert all(np.array_equal(array, memory[name]) for name, array in experts.state_dict().items())
    experts.read(document, says[200:260], ids[200:260])
    places = document.state_dict(), other.state_dict()
    assert all(np.array_equal(places[0][name], places[1][name]) for name in ("recent", "words", "lines"))
    learned = experts.log_probs(document, says[260])
    assert np.abs(np.exp(followed) - np.exp(learned)).sum() < 0.3, "sixty tokens teach little"
    assert np.exp(followed).sum() == pytest.approx(1, abs=1e-12)
    with pytest.raises(UsageError, match="ids must be"):
        experts.follow(other, np.array([V]))


def test_a_saved_state_continues_bit_for_bit():
    ids, says = text(600), network(600)
    experts = Experts(TOKENS, SMALL)
    document = experts.document()
    experts.read(document, says[:300], ids[:300])
    memory, place = experts.state_dict(), document.state_dict()
    expected = experts.read(document, says[300:], ids[300:])
    other = Experts(TOKENS, SMALL)
    other.load_state_dict(memory)
    resumed = other.document()
    resumed.load_state_dict(place)
    assert other.read(resumed, says[300:], ids[300:]).tolist() == expected.tolist()


def test_another_process_gives_the_same_bits():
    program = (
        "import numpy as np; from sttx_core.experts import Experts, ExpertsConfig\n"
        "experts = Experts([bytes([n]) for n in range(64)], ExpertsConfig(slot_bits=14, history_bits=12))\n"
        "ids = np.arange(900) ** 2 % 61\n"
        "says = np.log(np.linspace(1, 2, 64) / np.linspace(1, 2, 64).sum())\n"
        "print(experts.read(experts.document(), np.tile(says, (900, 1)), ids).sum().hex())"
    )
    runs = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True) for _ in range(2)]
    assert runs[0].returncode == 0, runs[0].stderr
    assert runs[0].stdout == runs[1].stdout and runs[0].stdout.startswith("0x1.")


def test_memory_is_bounded_and_old_pages_are_taken_over():
    experts = Experts(TOKENS, ExpertsConfig(slot_bits=8, history_bits=10, index_bits=8))
    size, ids, says = experts.nbytes, text(1000), network(1000)
    documents = [experts.document() for _ in range(3)]
    for number in range(12):
        assert np.isfinite(experts.read(documents[number % 3], says, ids)).all()
    assert experts.nbytes == size == sum(array.nbytes for array in experts.state_dict().values())


@pytest.mark.parametrize(
    ("name", "value"),
    [("history", 99), ("before", 16), ("after", -2), ("latest", 10**6), ("filled", 257), ("weights", np.nan)]
    + [("states", -1), ("match_n", -1), ("tokens", -1)],
)
def test_a_forged_memory_is_refused(name, value):
    experts = Experts(TOKENS, SMALL)
    state = experts.state_dict()
    state[name].flat[0] = value
    with pytest.raises(CheckpointError, match=name):
        experts.load_state_dict(state)


def test_a_state_of_other_sizes_is_refused():
    state = Experts(TOKENS, SMALL).state_dict()
    with pytest.raises(CheckpointError, match="slots is int32"):
        Experts(TOKENS, ExpertsConfig(slot_bits=15, history_bits=12, index_bits=12)).load_state_dict(state)
    with pytest.raises(CheckpointError, match="arrays"):
        Experts(TOKENS, SMALL).load_state_dict({})


@pytest.mark.parametrize(
    ("name", "at", "value"), [("at", 1, 16), ("at", 3, -1), ("match", 1, -1), ("recent", 0, V)]
)
def test_a_forged_place_is_refused(name, at, value):
    document = Experts(TOKENS, SMALL).document()
    state = document.state_dict()
    state[name].flat[at] = value
    with pytest.raises(CheckpointError, match="experts' document"):
        document.load_state_dict(state)


def test_wrong_inputs_are_refused():
    experts = Experts(TOKENS, SMALL)
    with pytest.raises(UsageError, match="shape"):
        experts.read(experts.document(), network(3), np.array([1, 2]))
    with pytest.raises(UsageError, match="from 0 to 15"):
        experts.read(experts.document(), network(1), np.array([V]))
    with pytest.raises(UsageError, match="slopes"):
        experts.read(experts.document(), network(1), np.array([1]), slopes=np.zeros((2, 4)))
    with pytest.raises(UsageError, match="two tokens"):
        Experts([b"a"])
    with pytest.raises(UsageError, match="slot_bits"):
        ExpertsConfig(slot_bits=40)
    with pytest.raises(UsageError, match="limit"):
        ExpertsConfig(limit=256)


def test_where_compiled_code_cannot_be_kept_a_warning_says_so(monkeypatch):
    import numba.core.caching as caching

    from sttx_core.experts.kept import compiled_once

    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    with pytest.warns(SttxWarning, match="set NUMBA_CACHE_DIR"):
        doubled = compiled_once(lambda x: 2 * x)
    assert doubled(4) == 8


def test_what_is_compiled_is_known_beforehand(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "to_compile.py").write_text("def double(x):\n    return x + x\n")

    def loaded():
        sys.modules.pop("to_compile", None)
        return kept.compiled_once(importlib.import_module("to_compile").double)

    first = loaded()
    assert not kept.is_kept(first), "nobody has compiled it"
    assert first(2) == 4 and kept.is_kept(first) and kept.is_kept(loaded()), "it is on the disk now"
    (tmp_path / "to_compile.py").write_text("def double(x):\n    return 2 * x + 0\n")
    importlib.invalidate_caches()
    assert not kept.is_kept(loaded()), "its file has changed"
