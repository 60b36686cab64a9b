"""The compiled parts of the model against the same equations in torch: values, states, every gradient."""

import pytest
import torch
import torch.nn.functional as F

from sttx_train.rwkv7 import RWKV7, RecurrentState, RWKV7Config
from sttx_train.rwkv7.elementwise import gated_output, recurrence_inputs, shifted_mixes

ROWS, STEPS, HEADS, SIZE = 3, 21, 2, 16
WIDTH = HEADS * SIZE
SEQUENCE = (ROWS, STEPS, WIDTH)


@pytest.fixture(params=[1, 2], autouse=True)
def threads(request, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: request.param)


def draw(*shapes):
    g = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=g) for shape in shapes]


def assert_same(compiled, definition, inputs):
    """Compare values, and the gradients of a random mix of them, with the definition in float64."""
    single = [x.clone().requires_grad_() for x in inputs]
    double = [x.double().requires_grad_() for x in inputs]
    found, expected = compiled(*single), definition(*double)
    weights = draw(*(y.shape for y in expected))
    gradients = torch.autograd.grad(sum((y * w).sum() for y, w in zip(found, weights, strict=True)), single)
    mixed = sum((y * w).sum() for y, w in zip(expected, weights, strict=True))
    for x, y in zip([*found, *gradients], [*expected, *torch.autograd.grad(mixed, double)], strict=True):
        torch.testing.assert_close(x.double(), y, rtol=2e-5, atol=2e-6 * float(y.detach().abs().max()))


@pytest.mark.parametrize("documents", [False, True])
def test_mixtures_with_the_token_before(documents):
    starts = torch.rand(ROWS, STEPS, generator=torch.Generator().manual_seed(1)) < 0.2
    starts[1, 0] = True
    starts = starts & documents

    def definition(x, before, *shares):
        previous = torch.cat([before[:, None], x[:, :-1]], 1).masked_fill(starts.unsqueeze(-1), 0)
        return [x + (previous - x) * share for share in shares]

    def compiled(x, before, *shares):
        return shifted_mixes(x, before, starts if documents else None, shares)

    assert_same(compiled, definition, draw(SEQUENCE, (ROWS, WIDTH), *[(WIDTH,)] * 6))


@pytest.mark.parametrize("residual", [False, True])
def test_inputs_of_the_recurrence(residual):
    def definition(k, v, raw_w, raw_a, w0, a0, k_k, k_a, *others):
        w = torch.exp(-0.6065306597126334 * torch.sigmoid(w0 + raw_w))
        a = torch.sigmoid(a0 + raw_a)
        if residual:
            first_v, raw_v, v0 = others
            v = torch.lerp(v, first_v, torch.sigmoid(v0 + raw_v))
        kk = F.normalize((k * k_k).view(ROWS, STEPS, HEADS, SIZE), dim=-1).view(SEQUENCE)
        return w, k * (1 + (a - 1) * k_a), v, -kk, kk * a

    def compiled(*inputs):
        return recurrence_inputs(*inputs[:8], SIZE, inputs[8:] or None)

    more = [SEQUENCE, SEQUENCE, (WIDTH,)] if residual else []
    assert_same(compiled, definition, draw(*[SEQUENCE] * 4, *[(WIDTH,)] * 4, *more))


def test_a_key_of_zeros_has_no_direction():
    k, v, raw_w, raw_a, *vectors = draw(*[SEQUENCE] * 4, *[(WIDTH,)] * 4)
    k[0, 3] = 0
    k.requires_grad_()
    found = recurrence_inputs(k, v, raw_w, raw_a, *vectors, SIZE, None)
    (gradient,) = torch.autograd.grad(sum(x.sum() for x in found), k)
    assert not found.a[0, 3].any() and gradient.isfinite().all()


def test_the_gated_output():
    eps = 64e-5

    def definition(y, r, k, v, gate, r_k, weight, bias):
        normed = F.group_norm(y.reshape(-1, WIDTH), HEADS, weight, bias, eps).view(SEQUENCE)
        heads = (ROWS, STEPS, HEADS, SIZE)
        bonus = ((r * k).view(heads) * r_k).sum(-1, keepdim=True) * v.view(heads)
        return [(normed + bonus.view(SEQUENCE)) * gate]

    def compiled(*inputs):
        return [gated_output(*inputs, eps)]

    shapes = [(ROWS, STEPS, HEADS, SIZE), *[SEQUENCE] * 4, (HEADS, SIZE), (WIDTH,), (WIDTH,)]
    assert_same(compiled, definition, draw(*shapes))


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("documents", [False, True])
def test_the_compiled_model_equals_the_one_in_torch(padded, documents):
    config = RWKV7Config(vocab_size=50, hidden_size=WIDTH, num_layers=2, head_size=SIZE)
    model = RWKV7(config, seed=1)
    g = torch.Generator().manual_seed(2)
    with torch.no_grad():  # the published initialization starts with zeros, which hide mistakes
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=g) * 0.1)
    ids = torch.randint(0, 50, (ROWS, STEPS), generator=g)
    options = {"lengths_B": torch.tensor([STEPS, 5, 13])} if padded else {}
    if documents:
        options["starts_BT"] = torch.rand(ROWS, STEPS, generator=g) < 0.2
    known = {}
    for backend in ("chunked", "compiled"):
        model.backend = backend
        state = RecurrentState.zeros(config, ROWS)
        state.wkv.add_(0.1).requires_grad_(True)
        logits, after = model(ids, state, **options)
        if padded:
            logits = torch.cat([row[:n] for row, n in zip(logits, options["lengths_B"], strict=True)])
        nats = torch.logsumexp(logits, -1).sum() + after.wkv.square().sum()
        names, leaves = zip(("state", state.wkv), *model.named_parameters(), strict=True)
        gradients = torch.autograd.grad(nats, leaves)
        known[backend] = {"logits": logits, **dict(zip(names, gradients, strict=True)), **after.tensors()}
    for name, expected in known["chunked"].items():
        found, size = known["compiled"][name], float(expected.detach().abs().max())
        torch.testing.assert_close(
            found, expected, rtol=1e-3, atol=1e-3 * size, msg=lambda m, n=name: f"{n}: {m}"
        )
