"""Information: the identities hold, known sources have their known numbers, and measuring changes nothing."""

import random

import numpy as np
import pytest
import torch

from sttx_core.errors import CheckpointError, UsageError
from sttx_train.coding import CompressConfig, compress, members_of, method_of
from sttx_train.information import (
    Meter,
    chain,
    compress_size,
    conditional_entropy,
    cross_entropy,
    distances,
    entropy_rate,
    joint_entropy,
    mutual_information,
)
from sttx_train.online import LearnerConfig
from sttx_train.predict import Predictor
from sttx_train.stream import StreamConfig, StreamTrainer

CLOSE = 1e-4  # bits a token that costs may differ by if texts are split otherwise
NAMES = ["ada", "grace", "edsger", "barbara", "alan", "donald"]
WORDS = ["reads", "writes", "tests", "the", "file", "queue", "parser", "again", "and", "then"]


def prose(seed, count=120):
    dice = random.Random(seed)
    return " ".join(dice.choice(NAMES if turn % 4 == 0 else WORDS) for turn in range(count)) + "\n"


def noise(size, seed=0):
    return random.Random(seed).randbytes(size)


@pytest.fixture(scope="module")
def meter(tiny):
    """Return a meter with experts, which no test moves."""
    return Meter(Predictor(tiny()))


@pytest.fixture(scope="module")
def network(tiny):
    """Return a meter of the network alone, which no test moves."""
    return Meter(Predictor(tiny(), experts=False))


def same(one, other):
    return np.allclose(one.bits_T, other.bits_T, rtol=0, atol=CLOSE)


def test_a_cost_is_what_the_reader_pays(tiny, meter):
    text = prose(0)
    predictor = Predictor(tiny())
    ids = predictor.loaded.tokenizer.encode(text)
    prices = predictor.read().score(ids)
    cost = cross_entropy(meter, text)
    np.testing.assert_allclose(cost.bits_T, prices.bits, rtol=0, atol=CLOSE)
    np.testing.assert_allclose(cost.network_T, prices.network, rtol=0, atol=CLOSE)
    assert (cost.bytes, cost.tokens) == (len(text), len(ids))
    assert cost.code_bytes == cost.bits / 8 and cost.bits_per_byte == cost.bits / len(text)
    assert cost.bits < cost.network_bits, "the experts know the repeats"


def test_the_chain_is_the_sum_of_conditionals(meter):
    a, b, c = prose(1, 40), prose(2, 40).encode(), prose(3, 40)
    whole = chain(meter, [a, b, c])
    assert same(whole[0], cross_entropy(meter, a))
    assert same(whole[1], conditional_entropy(meter, b, a))
    assert same(whole[2], conditional_entropy(meter, c, a.encode() + b))


def test_conditional_and_prefix_are_the_concatenation(meter, network):
    x, y = prose(1), prose(2)
    for one in (meter, network):
        joint = cross_entropy(one, x + y).bits
        parts = cross_entropy(one, x).bits + conditional_entropy(one, y, x).bits
        assert parts == pytest.approx(joint, abs=CLOSE * len(x + y))


def test_reading_moves_the_meter_and_fresh_does_not(tiny):
    meter, x, y = Meter(Predictor(tiny())), prose(1, 40), prose(2, 40)
    at_start, after = cross_entropy(meter, y), conditional_entropy(meter, y, x)
    (read,) = meter.read([x])
    assert same(read, cross_entropy(meter.fresh(), x))
    assert same(cross_entropy(meter, y), after) and not same(after, at_start)
    assert same(cross_entropy(meter.fresh(), y), at_start)


def test_state_dict_and_back_changes_nothing(tiny):
    loaded, text, rest = tiny(), prose(1, 60), prose(2, 60)
    meter = Meter(Predictor(loaded))
    meter.read([text])
    before = meter.state_dict()
    expected = cross_entropy(meter, rest)
    other = Meter(Predictor(loaded))
    other.load_state_dict(before)
    assert np.array_equal(cross_entropy(other, rest).bits_T, expected.bits_T)
    after = meter.state_dict()
    assert after["meta"] == before["meta"] and after["tensors"].keys() == before["tensors"].keys()
    for name, tensor in before["tensors"].items():
        assert torch.equal(tensor, after["tensors"][name]), name
    np.testing.assert_array_equal(meter.read([rest])[0].bits_T, expected.bits_T)
    with pytest.raises(CheckpointError, match="other experts"):
        Meter(Predictor(loaded, experts=False)).load_state_dict(before)


def test_the_predictor_stays_as_it_is(tiny):
    predictor = Predictor(tiny())
    Meter(predictor).read([prose(1)])
    assert predictor.learner.mixture.experts.tokens_read == 0


def test_from_where_a_run_left_a_document(tiny, talk, tmp_path):
    learning = LearnerConfig(phrases="off", replay_rows=0)
    config = StreamConfig(window=32, experts="off", steps=6)
    StreamTrainer(tiny(), learning, config, directory=tmp_path / "run").run(talk(24))
    predictor = Predictor(tiny(), tmp_path / "run", experts=False)
    text = prose(1, 20)
    here, elsewhere = Meter(predictor, "s0"), Meter(predictor)
    expected = predictor.read("s0", go_on=True).score(predictor.loaded.tokenizer.encode(text))
    np.testing.assert_allclose(cross_entropy(here, text).bits_T, expected.bits, rtol=0, atol=CLOSE)
    assert not same(cross_entropy(here, text), cross_entropy(elsewhere, text))
    assert same(cross_entropy(here.fresh(), text), cross_entropy(elsewhere, text))


# --- known sources


def test_random_bytes_cost_eight_bits_and_a_repeat_nearly_none(meter):
    random_rate = entropy_rate(meter, noise(6000), window=500)
    assert 7.9 < random_rate.bits_per_byte < 8.6
    repeated = entropy_rate(meter, prose(1, 50) * 20, window=500)
    assert repeated.bits_per_byte < 0.1 < repeated.mean_bits_per_byte
    curve = [window.bits_per_byte for window in repeated.windows]
    assert curve[0] > 10 * curve[-1]


def test_a_fair_coin_costs_a_bit(meter):
    coins = bytes(random.Random(1).choices(b"ht", k=8000))
    assert entropy_rate(meter, coins).bits_per_byte == pytest.approx(1, abs=0.05)


def test_the_distance_of_a_text_and_itself_is_near_0_and_of_unrelated_texts_near_1(meter):
    text, other = prose(1, 300), noise(1500)
    result = distances(meter, [text, other])
    same_text, apart = result.distance_NN[0, 0], result.distance_NN[0, 1]
    assert -0.02 < same_text < 0.1 and result.distance_NN[1, 1] < 0.1
    assert 0.9 < apart < 1.1
    assert np.array_equal(result.distance_NN, result.distance_NN.T)
    cost, unlike = (cross_entropy(meter, one).bits for one in (text, other))
    joint = sum(part.bits for part in chain(meter, [text, other]))
    expected = (joint - min(cost, unlike)) / max(cost, unlike)
    assert result.ordered_NN[0, 1] == pytest.approx(expected, abs=1e-3)


def test_the_network_alone_forgets_what_it_read(network):
    """Only experts hold a text word for word; the distance to itself shows it."""
    assert distances(network, [prose(1)]).distance_NN[0, 0] > 0.5


def test_mutual_information_does_not_depend_on_the_order(meter):
    x, y = prose(1), prose(1)[:300] + prose(2)[:300]
    one, other = mutual_information(meter, x, y), mutual_information(meter, y, x)
    assert one.bits == pytest.approx(other.bits, abs=CLOSE * len(x + y))
    assert one.x_about_y == pytest.approx(other.y_about_x, abs=CLOSE * len(x + y))
    assert one.asymmetry == pytest.approx(abs(one.x_about_y - one.y_about_x))
    assert one.bits > 0.3 * one.y.bits, "half of y is in x"
    joints = [one.x.bits + one.y_after_x.bits, one.y.bits + one.x_after_y.bits]
    assert one.asymmetry == pytest.approx(abs(joints[0] - joints[1]), abs=1e-6)
    unrelated = mutual_information(meter, x, noise(600))
    assert abs(unrelated.bits) < 0.1 * unrelated.x.bits


def test_aligned_streams_cost_less_together_if_one_follows_from_the_other(meter):
    dice = random.Random(3)
    keys = [dice.randbytes(8).hex() + "\n" for _ in range(60)]
    copies = joint_entropy(meter, keys, keys)
    others = joint_entropy(meter, keys, [dice.randbytes(8).hex() + "\n" for _ in range(60)])
    assert copies.shared_bits > 0.6 * copies.x.bits and copies.y_share.bits < 0.4 * copies.y.bits
    assert abs(others.shared_bits) < 0.1 * others.x.bits
    interleaved = "".join(key + key for key in keys)
    assert copies.bits == pytest.approx(cross_entropy(meter, interleaved).bits, abs=CLOSE * len(interleaved))
    assert copies.bytes == len(interleaved) and copies.bits_per_byte == copies.bits / copies.bytes
    with pytest.raises(UsageError, match="here are 1 and 2"):
        joint_entropy(meter, ["a"], ["b", "c"])


# --- segments and edges


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_segments_add_up(network, size):
    cost = cross_entropy(network, prose(1, 40))
    segments = cost.segments(size)
    assert [one.start for one in segments] == list(range(0, cost.bytes, size))
    assert all(one.bytes == size for one in segments[:-1])
    assert sum(one.bytes for one in segments) == cost.bytes
    assert sum(one.bits for one in segments) == pytest.approx(cost.bits)
    assert max(one.most_bits for one in segments) == cost.bits_T.max()
    assert sum(one.tokens for one in segments) == cost.tokens


def test_nothing_costs_nothing(network):
    cost = cross_entropy(network, b"")
    assert (cost.bits, cost.bytes, cost.bits_per_byte, cost.segments(8)) == (0, 0, None, [])
    assert entropy_rate(network, "").bits_per_byte is None
    assert distances(network, ["", ""]).distance_NN.tolist() == [[0, 0], [0, 0]]
    assert mutual_information(network, "", "a").bits == pytest.approx(0, abs=CLOSE)


def test_progress_counts_every_byte(network):
    seen = []
    cross_entropy(network, prose(1) * 10, seen.append)
    assert sum(seen) == len(prose(1) * 10) and len(seen) > 1


@pytest.mark.parametrize("wrong", [lambda m: m.segments(0), lambda m: m.segments(-3)])
def test_a_segment_of_nothing_is_refused(network, wrong):
    with pytest.raises(UsageError, match="at least 1 byte"):
        wrong(cross_entropy(network, "a"))


def test_what_cannot_be_measured_is_refused(tiny, network):
    with pytest.raises(UsageError, match="learns"):
        Meter(Predictor(tiny(), experts=False, learning=LearnerConfig(phrases="off")))
    with pytest.raises(UsageError, match="'elsewhere'"):
        Meter(network.predictor, "elsewhere")
    with pytest.raises(UsageError, match="at least 1 byte"):
        entropy_rate(network, "a", window=0)
    with pytest.raises(UsageError, match="no text"):
        distances(network, [])


# --- the size of an archive


@pytest.mark.parametrize("segment_mb", [0, 4.0])
def test_the_size_is_what_compress_writes(tmp_path, segment_mb):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.txt").write_text(prose(number % 2) * 5)
    members, _, _ = members_of([str(folder)])
    config = CompressConfig(segment_mb=segment_mb)
    size = compress_size(members, config)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    written = compress(members, tmp_path / "a.sttx", config)
    assert size == written and size.bytes_out == (tmp_path / "a.sttx").stat().st_size


def test_the_size_of_bytes_is_their_code_length_and_a_stated_overhead():
    text = prose(1).encode() * 4
    empty, size = compress_size(b""), compress_size(text)
    assert (size.bytes_in, size.files, size.method) == (len(text), 1, "experts")
    assert 0 < empty.bytes_out < size.bytes_out < empty.bytes_out + len(text) / 3 < 2000
    with pytest.raises(UsageError, match="unknown"):
        compress_size(text, method=method_of(method="nobody"))
