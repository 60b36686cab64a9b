"""One layer's memory beside its definition: token by token, in numpy, as the header of `core` writes it."""

import numpy as np
import pytest
import torch

from sttx_core.memory import RWKV7, block_reads, coefficients, nearest_centroid
from sttx_train.memory.core import LayerAdapter, LayerState, Writing, normalized, scan


def an_adapter(rank: int = 3, width: int = 6, scale: float = 0.5) -> LayerAdapter:
    adapter = LayerAdapter(width, rank, 5, 4, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return adapter


def unit(vector):
    return vector / max(np.linalg.norm(vector), 1e-6)


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


class Definition:
    """The same in float64, one row, one token at a time."""

    def __init__(self, adapter: LayerAdapter, slots: int, chunk: int) -> None:
        self.p = {name: one.detach().double().numpy() for name, one in adapter.named_parameters()}
        self.rank, self.capacity, self.chunk = adapter.rank, slots, chunk
        self.slots: list = []
        self.last, self.opens = np.zeros(adapter.width), True

    def token(self, h, written: bool):
        if written and (self.opens or (self.chunk and self.slots[-1][2] >= self.chunk)):
            self.opens = False
            if len(self.slots) == self.capacity > 1:
                self.merge()
            if len(self.slots) < self.capacity:
                self.slots.append([np.zeros((self.rank, self.rank)), np.zeros(self.rank), 0])
        query = unit(self.p["query"] @ h)
        readable = [slot for slot in self.slots if slot[2]]
        o = np.zeros(self.rank)
        if readable:
            o = max(readable, key=lambda slot: query @ unit(slot[1]))[0] @ query
        if written:
            self.write(h)
        return o / np.sqrt(np.mean(o**2) + 1), bool(readable)

    def write(self, h):
        p, slot = self.p, self.slots[-1]
        k = unit(p["key"] @ (h + p["shift"] * (self.last - h)))
        w = np.exp(-0.6065306597 * sigmoid(p["decay_bias"] + p["decay"] @ h))
        a = sigmoid(p["rate_bias"] + p["rate"] @ h)
        s = slot[0]
        slot[0] = s * w - np.outer(s @ k, k * a) + np.outer(p["value"] @ h, k * (1 + p["key_rate"] * (a - 1)))
        slot[1], slot[2], self.last = slot[1] + k, slot[2] + 1, h

    def merge(self):
        def increase(at):
            (_, z, n), (_, y, m) = self.slots[at : at + 2]
            return n * m / (n + m) * np.sum((z / n - y / m) ** 2)

        at = min(range(self.capacity - 1), key=increase)
        (s, z, n), (t, y, m) = self.slots[at : at + 2]
        self.slots[at : at + 2] = [[s + t, z + y, n + m]]


@pytest.mark.parametrize(("slots", "chunk"), [(1, 0), (1, 3), (2, 3), (4, 3), (4, 1), (9, 0)])
def test_scan_agrees_with_the_definition(slots: int, chunk: int):
    adapter, draws = an_adapter(), torch.Generator().manual_seed(2)
    definitions = [Definition(adapter, slots, chunk) for _ in range(3)]
    state = LayerState.empty(3, adapter, slots)
    for length in (7, 1, 12):
        h = normalized(torch.randn(3, length, 6, generator=draws))
        mask = torch.rand(3, length, generator=draws) < 0.7
        opens = torch.rand(3, generator=draws) < 0.5
        for one, opening in zip(definitions, opens.tolist(), strict=True):
            one.opens |= opening
        waiting = torch.tensor([one.opens for one in definitions])
        with torch.no_grad():
            y, found, state = scan(adapter, state, h, Writing(mask, waiting, chunk))
        for row, one in enumerate(definitions):
            for at in range(length):
                wanted, readable = one.token(h[row, at].double().numpy(), bool(mask[row, at]))
                assert bool(found[row, at]) == readable
                np.testing.assert_allclose(y[row, at].numpy(), wanted, atol=2e-5)
    for row, one in enumerate(definitions):
        assert state.counts[row].tolist() == [slot[2] for slot in one.slots] + [0] * (slots - len(one.slots))
        for at, (matrix, keys, _) in enumerate(one.slots):
            np.testing.assert_allclose(state.slots[row, at].numpy(), matrix, atol=2e-5)
            np.testing.assert_allclose(state.keys[row, at].numpy(), keys, atol=2e-5)
        np.testing.assert_allclose(state.last[row].numpy(), one.last, atol=1e-6)


def test_a_call_split_anywhere_reads_and_keeps_the_same():
    adapter = an_adapter()
    h = normalized(torch.randn(2, 11, 6, generator=torch.Generator().manual_seed(3)))
    every = torch.ones(2, 11, dtype=torch.bool)
    opens = torch.zeros(2, dtype=torch.bool)
    with torch.no_grad():
        y, _, whole = scan(adapter, LayerState.empty(2, adapter, 3), h, Writing(every, opens, 2))
        for cut in range(1, 11):
            empty = LayerState.empty(2, adapter, 3)
            first, _, state = scan(adapter, empty, h[:, :cut], Writing(every[:, :cut], opens, 2))
            second, _, state = scan(adapter, state, h[:, cut:], Writing(every[:, cut:], opens, 2))
            torch.testing.assert_close(torch.cat([first, second], dim=1), y, atol=1e-6, rtol=1e-5)
            for name, tensor in state.tensors().items():
                torch.testing.assert_close(tensor, whole.tensors()[name], atol=1e-5, rtol=1e-5)


def test_reads_are_those_of_many_states_in_numpy():
    """With a rate of 1 and one decay, these are the RWKV-7 states and the routing of `sttx_core.memory`."""
    adapter = an_adapter(rank=4)
    sigmoid_of_098 = -np.log(0.98) / 0.6065306597
    with torch.no_grad():
        for name in ("decay", "rate", "shift", "key_rate"):
            getattr(adapter, name).zero_()
        adapter.rate_bias.fill_(40.0)
        adapter.decay_bias.fill_(float(np.log(sigmoid_of_098 / (1 - sigmoid_of_098))))
        h = normalized(torch.randn(1, 12, 6, generator=torch.Generator().manual_seed(4)))
        writing = Writing(torch.ones(1, 12, dtype=torch.bool), torch.zeros(1, dtype=torch.bool), 3)
        _, _, state = scan(adapter, LayerState.empty(1, adapter, 4), h, writing)
        asked = normalized(torch.randn(1, 5, 6, generator=torch.Generator().manual_seed(5)))
        y, _, _ = scan(adapter, state, asked, None)
        keys, queries = (h @ adapter.key.T)[0], (asked @ adapter.query.T)[0]
        keys, queries = (one / one.norm(dim=1, keepdim=True) for one in (keys, queries))
        values = (h @ adapter.value.T)[0].double().numpy()
    keys, queries, starts = keys.double().numpy(), queries.double().numpy(), np.arange(0, 12, 3)
    weights = coefficients(keys[None], queries[None], [starts], RWKV7.with_decay(0.98))[0]
    reads = block_reads(weights, values, starts)
    o = reads[np.arange(5), nearest_centroid(keys, starts, queries)]
    np.testing.assert_allclose(y[0].numpy(), o / np.sqrt((o**2).mean(axis=1, keepdims=True) + 1), atol=1e-5)


def test_all_tensors_of_the_adapter_get_a_gradient_through_what_was_written():
    adapter = an_adapter()
    h = normalized(torch.randn(1, 9, 6, generator=torch.Generator().manual_seed(6)))
    writing = Writing(torch.ones(1, 9, dtype=torch.bool), torch.zeros(1, dtype=torch.bool), 4)
    _, _, state = scan(adapter, LayerState.empty(1, adapter, 2), h, writing)
    y, _, _ = scan(adapter, state, h, None)
    (y @ adapter.delta_q.T).square().sum().add((y @ adapter.delta_o.T).square().sum()).backward()
    for name, parameter in adapter.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.any()), name


def test_the_first_written_token_has_no_key_and_does_not_enlarge_the_gradient():
    """Nothing is before it, so its key is zero, where the gradient of a unit vector would be 1e6-fold."""
    adapter = LayerAdapter(6, 3, 5, 4, torch.Generator().manual_seed(0))
    h = normalized(torch.randn(1, 8, 6, generator=torch.Generator().manual_seed(1)))
    writing = Writing(torch.ones(1, 8, dtype=torch.bool), torch.ones(1, dtype=torch.bool), 0)
    y, _, state = scan(adapter, LayerState.empty(1, adapter, 2), h, writing)
    (y.square().sum() + state.keys.square().sum()).backward()
    assert adapter.shift.grad is not None and 0 < float(adapter.shift.grad.norm()) < 1e3
