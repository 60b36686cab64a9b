"""All layers in one function, against the same layers one by one: values, states and gradients."""

import pytest
import torch

from sttx_core.hypernet import HyperNetwork
from sttx_core.phrases import DynamicTokenizer
from sttx_train.online.carried import Carried
from sttx_train.online.networks import Networks
from sttx_train.online.phrase_head import PhraseHead
from sttx_train.online.window import Window
from sttx_train.rwkv7 import RWKV7, RecurrentState, RWKV7Config

ROWS, STEPS = 3, 21
PARTS = ("att_shift", "wkv", "ffn_shift")


def new_model(size=16, heads=2, **options):
    config = RWKV7Config(vocab_size=50, hidden_size=size * heads, num_layers=2, head_size=size)
    model = RWKV7(config, seed=1, **options)
    g = torch.Generator().manual_seed(2)
    with torch.no_grad():  # the published initialization starts with zeros, which hide mistakes
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=g) * 0.1)
    return model.requires_grad_(False)


def read(model, *, lengths=None, starts=None, learning=None):
    """Return all results, and gradients of a mix of them, by embeddings and by the state."""
    g = torch.Generator().manual_seed(3)
    zeros = RecurrentState.zeros(model.config, ROWS)
    parts = {name: 0.3 * torch.randn(getattr(zeros, name).shape, generator=g) for name in PARTS}
    x = torch.randn(ROWS, STEPS, model.config.hidden_size, generator=g)
    leaves = [one.requires_grad_() for one in (x, *parts.values())]
    hidden, after = model.hidden(x, RecurrentState(**parts), lengths, starts, learning=learning)
    real = torch.ones(ROWS, STEPS) if lengths is None else torch.arange(STEPS) < lengths[:, None]
    hidden = hidden * real.unsqueeze(-1)
    results = [hidden, *(getattr(after, name).transpose(0, 1) for name in PARTS)]
    mixed = sum((one * torch.randn(one.shape, generator=g))[:learning].sum() for one in results)
    gradients = torch.autograd.grad(mixed, leaves)
    return [*results, *gradients]


def assert_same(found, expected):
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5 * float(y.detach().abs().max()))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [16, 64])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("documents", [False, True])
def test_it_equals_the_layers_one_by_one(monkeypatch, threads, size, padded, documents):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    model = new_model(size)
    if size == 64:  # as published weights are: the matrix unit multiplies, where there is one
        model.bfloat16().float()
    lengths = torch.tensor([STEPS, 5, 13]) if padded else None
    starts = None
    if documents:
        starts = torch.rand(ROWS, STEPS, generator=torch.Generator().manual_seed(4)) < 0.2
        starts[1, 0] = True
        starts &= (
            torch.ones(ROWS, STEPS, dtype=torch.bool)
            if lengths is None
            else torch.arange(STEPS) < lengths[:, None]
        )
    for learning in (None, 2):
        model.backend = "compiled"
        assert model.reads_whole
        found = read(model, lengths=lengths, starts=starts, learning=learning)
        model.backend = "chunked"
        assert not model.reads_whole
        assert_same(found, read(model, lengths=lengths, starts=starts, learning=learning))


def test_only_s0_needs_a_gradient():
    model, ids = new_model(), torch.arange(ROWS * STEPS).view(ROWS, STEPS) % 50
    found = []
    for backend in ("compiled", "chunked"):
        model.backend = backend
        s0 = torch.zeros(2, 2, 16, 16, requires_grad=True)
        logits, after = model(ids, RecurrentState.zeros(model.config, ROWS).inject(s0))
        (gradient,) = torch.autograd.grad(logits.logsumexp(-1).sum() + after.wkv.square().sum(), s0)
        found.append([logits, gradient])
    assert_same(*found)


def test_a_row_does_not_depend_on_the_others_nor_on_padding():
    model = new_model()
    g = torch.Generator().manual_seed(5)
    x = torch.randn(ROWS, STEPS, model.config.hidden_size, generator=g)
    together, after = model.hidden(x, None, torch.tensor([STEPS, 5, 13]))
    for row, length in enumerate((STEPS, 5, 13)):
        alone, state = model.hidden(x[row : row + 1, :length])
        assert_same([together[row, :length], after.wkv[:, row]], [alone[0], state.wkv[:, 0]])
    assert not together[1, 5:].any()


def test_weights_that_learn_are_read_layer_by_layer_and_seen_as_they_are():
    model = new_model()
    weight = model.blocks[1].att.w0
    weight.requires_grad_(True)
    assert not model.reads_whole
    with torch.no_grad():
        assert model.reads_whole
        before, _ = model(torch.zeros(1, 3, dtype=torch.long))
    logits, _ = model(torch.zeros(1, 3, dtype=torch.long))
    logits.square().sum().backward()
    torch.optim.AdamW([weight], lr=1.0, fused=True).step()
    with torch.no_grad():
        after, _ = model(torch.zeros(1, 3, dtype=torch.long))
        model.backend = "chunked"
        expected, _ = model(torch.zeros(1, 3, dtype=torch.long))
    assert not torch.allclose(before, after)
    assert_same([after], [expected])


@pytest.mark.parametrize("phrases", [False, True])
def test_both_networks_in_one_pass(phrases):
    model = new_model()
    table = DynamicTokenizer(50)
    while not len(table):
        table.observe(table.merge((1, 2) * 20))
    head = PhraseHead(model, HyperNetwork(32), table)
    s0 = torch.full((2, 2, 16, 16), 0.1, requires_grad=True)
    networks = Networks(
        head, PhraseHead(model, head.hypernet, table), s0=s0, inject="every", bias=None, every=True
    )
    windows = [Window(document="a", ids=(1, 2, 3, 1, 2)), Window(document="b", ids=(4, 1, 2))]
    carried = [Carried(None, (0,)), Carried(None, (0,))]
    found = []
    for backend in ("compiled", "chunked"):
        model.backend = backend
        batch, learned, frozen = networks.read_both(windows, carried, phrases=phrases)
        (gradient,) = torch.autograd.grad(learned.nats_B.sum(), s0)
        assert not frozen.nats_B.requires_grad and (batch.steps[0] < 5) is phrases
        found.append(
            [
                learned.nats_B,
                learned.log_p_MV,
                learned.state.wkv,
                frozen.nats_B,
                frozen.log_p_MV,
                frozen.state.wkv,
                gradient,
            ]
        )
    assert_same(*found)
