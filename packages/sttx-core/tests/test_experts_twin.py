"""The experts pay what a slow twin in plain Python pays, with dictionaries and the library's functions."""

import math
from collections import defaultdict

import numpy as np
import pytest

pytest.importorskip("numba", reason="needs sttx-core[experts]")

from sttx_core.experts import Experts
from sttx_core.experts.memory import LEAST_LENGTHS

TOKENS = [b"", *(bytes([byte]) for byte in b"abc:fgZ7 \n"), b"ab", b"the ", b"fed", b"\xc3\xa9", b"_a"]
V = len(TOKENS)


def stretch(p):
    return math.log(p / (1 - p))


def squash(x):
    return 1 / (1 + math.exp(-x))


def squash_roughly(x):
    """Return the value of the middle of one of 4096 ranges from -14 to 14."""
    return squash((min(int((x + 14) / 28 * 4096), 4095) + 0.5) * 28 / 4096 - 14)


def within(x, least, most):
    return min(max(x, least), most)


def dot(weights, values):
    return sum(float(weight) * value for weight, value in zip(weights, values, strict=True))


def moved(known, hit, limit):
    """Move an adaptive probability [p, n] toward an outcome."""
    p, n = known
    known[:] = np.float32(float(p) + (hit - float(p)) / (n + 1.5)), min(n + 1, limit)


def length_class(n):
    return n if n <= 8 else 10 + (n > 12) + (n >= 16) + (n >= 20) + (n >= 24) + (n >= 32)


def kind(byte):
    """Return what a byte is in a word, or None."""
    if byte >= 128:
        return "beyond"
    letter = chr(byte)
    if letter.isdigit() or letter.isupper():
        return "digit" if letter.isdigit() else "capital"
    return "hex" if letter in "abcdef" else "letter" if letter.islower() or letter == "_" else None


SHAPES = {"digit": 48, "capital": 65, "hex": 97, "letter": 97, "beyond": 128, None: None}


class Twin:
    """The same experts, for one document."""

    def __init__(self):
        self.order = sorted(range(V), key=lambda token: (TOKENS[token], token))
        self.rank = {token: rank for rank, token in enumerate(self.order)}
        self.counts = {}  # n0, n1, last bit, adaptive probability
        self.states = {}
        self.match_p = defaultdict(lambda: [np.float32(0.75), 0])
        self.weights = defaultdict(lambda: np.array([0.6, 0, 0] + [0.12, 0.06] * 3 + [0.04] * 38, np.float32))
        self.final = defaultdict(lambda: np.full(8, 1 / 8, np.float32))
        self.ids: list[int] = []
        self.places: list[dict] = [{} for _ in LEAST_LENGTHS]
        self.match = [[-1, 0, 0] for _ in LEAST_LENGTHS]
        self.text = b""
        self.word = self.earlier = self.earliest = ()
        self.former = self.record = None

    def contexts(self):
        before = [*([None] * 4), *self.ids][-4:]
        four, three, two, one = before
        orders = [(order, *before[4 - order :]) for order in range(5)]
        *_, over, line = [b"", *self.text.split(b"\n")]
        pair = self.word, self.earlier
        words = [("w", *pair), ("v", *pair, self.earliest), ("u", self.word)]
        gaps = [("g", two, three), ("h", one, three), ("f", line[:3], one), ("l", line[:6], over[:6])]
        so_far = self.kinds(), min(len(self.word), 48)
        runs = [("r", so_far, self.former), ("b", so_far, self.text[-1:])]
        rest = line.lstrip(b" \t")
        indented = ("i", len(line) - len(rest), bool(rest), self.word)
        above = over[len(line) : len(line) + 3].ljust(3, b"\0") if len(line) < 253 else None
        shape = bytes(SHAPES[kind(byte)] or byte for byte in self.text[-5:])
        columns = [("a", above, one), ("c", above, len(line)), ("s", self.record, shape)]
        return [*orders, *words, *gaps, ("k", two, three, four), *runs, indented, *columns]

    def seek(self):
        for model, least in enumerate(LEAST_LENGTHS):
            match = self.match[model]
            if match[2] > 8:
                match[:] = -1, 0, 0
            if len(self.ids) < least or (match[0] >= 0 and match[1] >= least and not match[2]):
                continue
            place = self.places[model].get(tuple(self.ids[-least:]))
            length = 0 if place is None else self.common_length(place)
            if place is not None and length >= least and (length > match[1] or match[0] < 0):
                match[:] = place, length, 0

    def common_length(self, place):
        length = 0
        while length < min(60, place) and self.ids[place - 1 - length] == self.ids[-1 - length]:
            length += 1
        return length

    def price(self, probabilities, token):
        """Return the bits of a token, and learn it."""
        self.seek()
        contexts = self.contexts()
        ranks = [self.rank[self.ids[match[0]]] if match[0] >= 0 else -1 for match in self.match]
        classes = [length_class(match[1]) + 16 * min(match[2], 3) for match in self.match]
        low, high, node, bits, lessons = 0, V, 1, 0.0, []
        for depth in range(4):
            middle, right = (low + high) // 2, self.rank[token] >= (low + high) // 2
            inputs, chosen, final = self.look(probabilities, contexts, ranks, classes, depth, node, low, high)
            outputs = [within(dot(self.weights[row], inputs), -14, 14) for row in chosen]
            p = squash(within(dot(self.final[final], outputs), -14, 14))
            p = within(p, 2**-18, 1 - 2**-18)
            bits -= math.log2(p if right else 1 - p)
            lessons.append((depth, node, low, middle, high, int(right), p, inputs, outputs, chosen, final))
            low, high, node = (middle, high, 2 * node + 1) if right else (low, middle, 2 * node)
        for lesson in lessons:
            self.learn(contexts, ranks, classes, *lesson)
        self.append(token)
        return bits

    def look(self, probabilities, contexts, ranks, classes, depth, node, low, high):
        """Return a decision's inputs, its rows of weights, and its row of the second layer."""
        middle = (low + high) // 2
        halves = range(low, middle), range(middle, high)
        mass = [sum(probabilities[self.order[rank]] for rank in half) for half in halves]
        inputs = [stretch(within(mass[1] / sum(mass), 1e-6, 1 - 1e-6)), 0.3, 0.0]
        matched, order, marks = 3, 0, []
        for model, rank in enumerate(ranks):
            pair = [0.0, 0.0]
            if low <= rank < high:
                p, sign = float(self.match_p[model, classes[model], depth][0]), 1 if rank >= middle else -1
                pair = [sign * stretch(within(p, 1e-4, 1 - 1e-4)), sign * 2 * (p - 0.5)]
                matched = min(matched, model)
            inputs += pair
        for number, context in enumerate(contexts):
            pair = [0.0, 0.0]
            if (number, context, node) in self.counts:
                n0, n1, last, p = self.counts[number, context, node]
                prior = [int((n1 + 0.4) / (n0 + n1 + 0.8) * 2**22), 0]
                known = self.states.setdefault((number, n0, n1, last), prior)
                middle_p = (known[0] // 1024 + 0.5) / 4096
                pair = [stretch(middle_p), 2 * (p / 65536 - 0.5)]
                order = number if 0 < number < 5 else order
                marks.append(number)
            inputs += pair
        longest = max([length_class(match[1]) for match in self.match if match[0] >= 0], default=0)
        by_match = 0, depth, matched, longest if matched < 3 else 0
        sure, latest = min(int(2 * abs(inputs[0])), 23), self.ids[-1] + 1 if self.ids else 0
        chosen = [by_match, (1, depth, order), (2, node), (3, latest), (4, depth, sure, matched < 3)]
        agreement = None
        if matched < 3:
            toward = inputs[0] if ranks[matched] >= middle else -inputs[0]
            agreement = classes[matched] % 16, classes[matched] >= 16, int(within(1.5 * toward + 10, 0, 29))
        marks = [number for number in marks if number in (2, 3, 4, 5, 6, 11)]
        chosen += [(5, agreement), (6, self.text[-1:] or b"\0", depth // 2), (7, depth, str(marks))]
        return inputs, chosen, (depth, order, matched < 3)

    def learn(self, contexts, ranks, classes, *lesson):
        depth, node, low, middle, high, bit, p, inputs, outputs, chosen, final = lesson
        rate = 0.01 + 0.02 / (1 + len(self.ids) / 250)
        for row, output in zip(chosen, outputs, strict=True):
            step = (bit - squash_roughly(output)) * rate
            self.weights[row] = (self.weights[row].astype(float) + step * np.array(inputs)).astype(np.float32)
        step = (bit - p) * 0.0015
        self.final[final] = (self.final[final] + step * np.array(outputs)).astype(np.float32)
        for model, rank in enumerate(ranks):
            if low <= rank < high:
                right = float((rank >= middle) == bool(bit))
                moved(self.match_p[model, classes[model], depth], right, 510)
        for number, context in enumerate(contexts):
            self.count((number, context, node), number, depth, bit)

    def count(self, key, number, depth, bit):
        """Add a bit to a count; a surprising bit halves the other one."""
        if key in self.counts:
            known = self.states[(number, *self.counts[key][:3])]
            moving = int((bit * 2**22 - known[0]) / (known[1] + 1.5))
            known[:] = min(known[0] + moving, 2**22 - 1), min(known[1] + 1, 255)
        n0, n1, _, p = self.counts.get(key, (0, 0, 0, 32768))
        share = 131072 // (2 * (n0 + n1) + 3)
        if bit:
            p += (65535 - p) * share // 65536
            n0, n1 = (n0 + 3) // 2 if n0 > 2 else n0, min(n1 + 1, 15)
        else:
            p -= p * share // 65536
            n0, n1 = min(n0 + 1, 15), (n1 + 3) // 2 if n1 > 2 else n1
        self.counts[key] = n0, n1, bit, p

    def append(self, token):
        for model, least in enumerate(LEAST_LENGTHS):
            if len(self.ids) >= least:
                self.places[model][tuple(self.ids[-least:])] = len(self.ids)
        for match in self.match:
            if match[0] < 0:
                continue
            if self.ids[match[0]] == token:
                match[1] += 1
                match[2] = 0 if match[1] > 16 else match[2]
            else:
                match[1:] = 0, match[2] + 1
            match[0] += 1
            if match[0] == len(self.ids):  # the token there is this one, which was not yet in the history
                match[:] = -1, 0, 0
        self.ids.append(token)
        for byte in TOKENS[token]:
            self.read(byte)

    def kinds(self):
        return tuple(sorted({str(kind(byte)) for byte in self.word}))

    def read(self, byte):
        *earlier, line = self.text.split(b"\n")
        if kind(byte):
            self.word = (*self.word, byte)
        else:
            self.former = self.kinds(), min(len(self.word), 48), byte
            if self.word:
                self.earliest, self.earlier = self.earlier, self.word
            self.word = ()
            self.earlier = self.earlier if byte == ord(" ") else (*self.earlier, byte)
        if byte == ord(":") and earlier[-1:] == [b""] and len(line) < 13:
            self.record = self.earlier
        self.text += bytes([byte])


def test_a_slow_twin_pays_the_same():
    dice = np.random.default_rng(5)
    phrases = [dice.integers(1, V, dice.integers(3, 40)) for _ in range(6)]
    ids = np.concatenate([phrases[dice.integers(6)] for _ in range(60)])[:400]
    logits = dice.standard_normal((400, V)) * 2
    says = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    experts, twin = Experts(TOKENS), Twin()
    expected = [twin.price(np.exp(row), token) for row, token in zip(says, ids.tolist(), strict=True)]
    bits = experts.read(experts.document(), says, ids)
    np.testing.assert_allclose(bits, expected, atol=1e-4)
