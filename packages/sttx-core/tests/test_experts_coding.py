"""Coding by the experts: both coders equal slow ones in plain Python, and every token is restored."""

import hashlib

import constriction
import numpy as np
import pytest

pytest.importorskip("numba", reason="needs sttx-core[experts]")

from sttx_core.errors import UsageError
from sttx_core.experts import Experts, ExpertsConfig, rows_without_experts

SMALL = ExpertsConfig(slot_bits=14, history_bits=12, index_bits=10)
TOKENS = [b"", *(bytes([byte]) for byte in b"abcdefgh \n"), b"ab", b"the ", b"fed", b"\xc3\xa9", b"_a"]
V = len(TOKENS)
TOTAL, ONES = 1 << 24, (1 << 64) - 1
CODERS = ("ac", "rans")


def text(count, seed=0, tokens=V):
    """Return ids in which runs come back, then some that do not."""
    dice = np.random.default_rng(seed)
    phrases = [dice.integers(1, tokens, dice.integers(3, 40)) for _ in range(6)]
    again = np.concatenate([phrases[dice.integers(6)] for _ in range(count // 10 + 8)])
    return np.concatenate([again[: count * 3 // 4], dice.integers(0, tokens, count - count * 3 // 4)])


def encoded(ids, coder, tokens=TOKENS):
    experts = Experts(tokens, SMALL)
    return experts.encode(experts.document(), ids, coder)


def decisions(ids, tokens=TOKENS):
    """Return the probability of a 1 at each decision, in 2^-24, and the answers."""
    experts = Experts(tokens, SMALL)
    noted = experts.decisions(experts.document(), ids)
    return (noted >> 1).tolist(), (noted & 1).tolist()


def slow_range(parts, bits):
    """Encode by an interval of whole numbers from 0 to 2^64 - 1; bytes leave as soon as they are certain."""
    low, high, out = 0, ONES, bytearray()
    for part, bit in zip(parts, bits, strict=True):
        middle = low + (high - low) * part // TOTAL
        low, high = (low, middle) if bit else (middle + 1, high)
        while low >> 56 == high >> 56:
            out.append(low >> 56)
            low, high = low << 8 & ONES, high << 8 & ONES | 255
    return bytes(out) + (bytes([(low >> 56) + 1]) if low else b"")


def slow_range_decoded(data, parts):
    low, high, value, bits = 0, ONES, int.from_bytes(data[:8].ljust(8, b"\0")), []
    rest = iter(data[8:])
    for part in parts:
        middle = low + (high - low) * part // TOTAL
        bits.append(int(value <= middle))
        low, high = (low, middle) if bits[-1] else (middle + 1, high)
        while low >> 56 == high >> 56:
            low, high = low << 8 & ONES, high << 8 & ONES | 255
            value = value << 8 & ONES | next(rest, 0)
    return bits


def slow_rans(parts, bits):
    """Encode from the end into one number of 31 to 63 bits, of which 32 leave when it would grow further."""
    value, words = 1 << 31, []
    for part, bit in zip(reversed(parts), reversed(bits), strict=True):
        start, width = (0, part) if bit else (part, TOTAL - part)
        if value >= width << 39:
            words.append(value & 0xFFFFFFFF)
            value >>= 32
        value = (value // width << 24) + value % width + start
    return value.to_bytes(8) + b"".join(word.to_bytes(4) for word in reversed(words))


@pytest.mark.parametrize("tokens", [TOKENS, TOKENS[:11], TOKENS[:2]], ids=len)
@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("count", [0, 1, 1500])
def test_every_token_comes_back(tokens, coder, count):
    ids = text(count, tokens=len(tokens)) if count else np.zeros(0, np.int64)
    data = encoded(ids, coder, tokens)
    experts = Experts(tokens, SMALL)
    assert np.array_equal(experts.decode(experts.document(), data, count, coder), ids)


@pytest.mark.parametrize("seed", range(3))
def test_the_coders_equal_slow_ones(seed):
    ids = text(1200, seed)
    parts, bits = decisions(ids)
    assert encoded(ids, "ac") == slow_range(parts, bits)
    assert encoded(ids, "rans") == slow_rans(parts, bits)
    assert slow_range_decoded(encoded(ids, "ac"), parts) == bits


@pytest.mark.parametrize("coder", CODERS)
def test_what_is_written_is_what_the_decisions_cost(coder):
    ids = text(20000)
    parts, bits = decisions(ids)
    probable = np.where(np.array(bits) == 1, parts, TOTAL - np.array(parts)) / TOTAL
    ideal = -np.log2(probable).sum() / 8
    assert ideal < len(encoded(ids, coder)) < 1.001 * ideal + 9


def test_another_library_needs_as_many_bytes():
    ids = text(20000)
    parts, bits = decisions(ids)
    answers, probable = np.array(bits, np.int32), np.array(parts) / TOTAL
    model = constriction.stream.model.Bernoulli(perfect=False)
    queue, stack = constriction.stream.queue.RangeEncoder(), constriction.stream.stack.AnsCoder()
    queue.encode(answers, model, probable)
    stack.encode_reverse(answers, model, probable)
    for coder, theirs in zip(CODERS, (queue, stack), strict=True):
        assert len(encoded(ids, coder)) == pytest.approx(theirs.get_compressed().nbytes, rel=1e-3, abs=12)


def test_decisions_cost_what_reading_with_a_network_that_knows_nothing_costs():
    ids = text(1500)
    parts, bits = decisions(ids)
    probable = np.where(np.array(bits) == 1, parts, TOTAL - np.array(parts)) / TOTAL
    experts = Experts(TOKENS, SMALL)
    even = np.zeros((len(ids), len(TOKENS)))
    paid = experts.read(experts.document(), even - np.log(len(TOKENS)), ids)
    assert -np.log2(probable).sum() == pytest.approx(paid.sum(), rel=1e-4)


def test_blocks_of_documents_in_turns_are_decoded_like_they_were_encoded():
    first, second = text(600, 1), text(600, 2)
    writer, reader = Experts(TOKENS, SMALL), Experts(TOKENS, SMALL)
    places = writer.document(), writer.document()
    again = reader.document(), reader.document()
    for start in range(0, 600, 200):
        for ids, place, other in zip((first, second), places, again, strict=True):
            part = ids[start : start + 200]
            data = writer.encode(place, part)
            assert np.array_equal(reader.decode(other, data, len(part)), part)
    same = zip(writer.state_dict().items(), reader.state_dict().values(), strict=True)
    assert all(np.array_equal(one, other) for (_, one), other in same)


@pytest.mark.parametrize("coder", CODERS)
def test_damaged_bytes_give_tokens_of_the_vocabulary(coder):
    ids, dice = text(400), np.random.default_rng(5)
    for data in (b"", b"\xff" * 40, dice.bytes(300), encoded(ids, coder)[:-20]):
        experts = Experts(TOKENS, SMALL)
        wrong = experts.decode(experts.document(), data, 400, coder)
        assert wrong.min() >= 0 and wrong.max() < len(TOKENS)


def test_unknown_ids_are_refused_before_anything_is_learned():
    experts = Experts(TOKENS, SMALL)
    with pytest.raises(UsageError, match="ids must be"):
        experts.encode(experts.document(), np.array([1, len(TOKENS)]))
    assert experts.tokens_read == 0


def test_the_bytes_are_the_same_on_every_machine():
    """If this fails, archives that were written before cannot be read: see EXPERTS_VERSION."""
    ids = np.arange(3000) ** 2 // 7 % len(TOKENS)
    digest = hashlib.sha256(encoded(ids, "ac") + encoded(ids, "rans"))
    assert digest.hexdigest()[:16] == "10dae376bce22a91"


def said(row, step):
    """Return logits that depend on row and step, as a network's do."""
    return np.random.default_rng((row, step)).normal(size=V).astype(np.float32)


def in_rows(blocks, coder, payloads=None, *, alone=False):
    """Code blocks side by side, each row of them as long as it lasts; return payloads or tokens."""
    count = len(blocks)
    rows = rows_without_experts(TOKENS, count, coder) if alone else Experts(TOKENS, SMALL).rows(count, coder)
    active = list(range(count))
    ends = np.cumsum([0, *map(len, payloads or blocks)]).tolist()
    if payloads is None:
        rows.start_encoding(ends[-1])
    else:
        rows.start_decoding(b"".join(payloads))
    for row in active:
        rows.start(row, ends[row], ends[row + 1])
    done, found = [b""] * len(blocks), [[] for _ in blocks]
    for step in range(max(map(len, blocks))):
        for row in reversed(range(len(active))):
            if len(blocks[active[row]]) == step:
                done[active[row]] = rows.payload(row) if payloads is None else b""
                rows.move(len(active) - 1, row)
                active[row] = active[-1]
                active.pop()
        ids = np.array([blocks[block][step] if payloads is None else 0 for block in active])
        rows.code(ids, np.stack([said(block, step) for block in active]))
        for block, token in zip(active, ids, strict=True):
            found[block].append(token)
    done[active[0]] = rows.payload(0) if payloads is None else b""
    return found if payloads else done


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("coder", CODERS)
def test_rows_of_different_lengths_come_back(coder, alone):
    blocks = [text(count, count) for count in (40, 90, 10, 70)]
    payloads = in_rows(blocks, coder, alone=alone)
    unknown = [np.zeros(len(block), np.int64) for block in blocks]
    found = in_rows(unknown, coder, payloads, alone=alone)
    assert [list(block) for block in blocks] == found


@pytest.mark.parametrize("coder", CODERS)
def test_a_network_alone_costs_what_it_says(coder):
    ids = text(3000)
    logits = np.stack([said(0, step) for step in range(len(ids))]).astype(np.float64)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    bits = -log_probs[np.arange(len(ids)), ids].sum() / np.log(2)
    [payload] = in_rows([ids], coder, alone=True)
    assert bits - 1 <= 8 * len(payload) <= 1.001 * bits + 64


def test_a_row_costs_what_reading_with_its_network_costs():
    ids = text(1500)
    logits = np.stack([said(0, step) for step in range(len(ids))])
    experts = Experts(TOKENS, SMALL)
    wide = logits.astype(np.float64)
    paid = experts.read(experts.document(), wide - np.log(np.exp(wide).sum(-1, keepdims=True)), ids).sum()
    [payload] = in_rows([ids], "ac")
    assert 8 * len(payload) == pytest.approx(paid, rel=1e-3, abs=70)


def test_experts_start_with_what_others_knew():
    first = Experts(TOKENS, SMALL)
    first.encode(first.document(), text(900))
    known = first.known()
    assert sum(part.nbytes for pair in known.values() for part in pair) < first.nbytes / 2
    again = Experts(TOKENS, SMALL, known)
    assert all((array == again.state_dict()[name]).all() for name, array in first.state_dict().items())
    more = text(300, seed=1)
    payload = first.encode(first.document(), more)
    assert payload == again.encode(again.document(), more) != encoded(more, "ac")
    assert payload == Experts(TOKENS, SMALL, known).encode(first.document(), more), "what is known changed"
