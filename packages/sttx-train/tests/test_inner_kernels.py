"""Inner steps: the chunked and the folded form against the definition, token by token."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from sttx_core.errors import UsageError
from sttx_train.wkv import InnerSteps, LayerState, choose_backend, folded, inner_wkv, wkv
from sttx_train.wkv.inner import bounded, inner_chunked, inner_recurrent

ALL = [
    InnerSteps(1),
    InnerSteps(3),
    InnerSteps(1, 0.9),
    InnerSteps(3, 0.5),
    InnerSteps(1, 0.0, 4),
    InnerSteps(2, 0.9, 3),
]
WIDE = [inner for inner in ALL if not inner.folds]


def draw(inner, batch=2, steps=37, heads=2, size=8, seed=0, dtype=torch.float64):
    """Return r, log_w, k, v, a and b like a model's, a memory that is not empty, and rates."""
    g = torch.Generator().manual_seed(seed)
    shape = (batch, steps, heads, size)
    r, k, v, w, x, gate = (torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(6))
    x, gate = F.normalize(x, dim=-1), gate.sigmoid()
    state, velocity = torch.randn(2, batch, heads, size, size, generator=g, dtype=torch.float64)
    recent = torch.randn(batch, inner.batch - 1, 3, heads, size, generator=g, dtype=torch.float64)
    recent[:, :, 0] = F.normalize(recent[:, :, 0], dim=-1)
    recent[:, :, 1] = recent[:, :, 0] * 0.7
    memory = (state, velocity if inner.momentum else None, recent if inner.batch > 1 else None)
    rate = torch.linspace(0.2, 0.9, heads, dtype=torch.float64)
    found = ([r, -0.6065 * torch.sigmoid(3 * w), k, v, -x, x * gate], memory, rate)
    return (
        [x.to(dtype) for x in found[0]],
        LayerState(*(x if x is None else x.to(dtype) for x in memory)),
        rate.to(dtype),
    )


def run(kernel, operands, memory, rate, inner, **options):
    """Return all outputs, and the gradients of a random mix of them by all inputs."""
    leaves = [x.clone().requires_grad_() for x in (*operands, rate)]
    carried = LayerState(*(x if x is None else x.clone().requires_grad_() for x in memory))
    y, after = kernel(*leaves[:-1], carried, leaves[-1], inner, **options)
    outputs = [y, *(x for x in after if x is not None)]
    g = torch.Generator().manual_seed(1)
    mixed = sum((x * torch.randn(x.shape, generator=g, dtype=torch.float64).to(x)).sum() for x in outputs)
    inputs = [*leaves, *(x for x in carried if x is not None)]
    return [x.detach() for x in outputs] + list(torch.autograd.grad(mixed, inputs))


def assert_close(found, expected, limit=1e-9):
    for i, (x, y) in enumerate(zip(found, expected, strict=True)):
        assert x.shape == y.shape
        error = ((x - y).abs().max() / y.abs().max().clamp_min(1e-9)).item()
        assert error < limit, (i, error)


def documents(batch, steps):
    starts = torch.zeros(batch, steps, dtype=torch.bool)
    starts[0, [0, 5, 6, 20]] = True
    starts[-1, 3] = True
    return starts


@pytest.mark.parametrize("starts", [False, True])
@pytest.mark.parametrize("inner", WIDE)
def test_chunks_equal_the_definition(inner, starts):
    operands, memory, rate = draw(inner)
    options = {"starts": documents(2, 37) if starts else None}
    expected = run(inner_recurrent, operands, memory, rate, inner, **options)
    assert_close(run(inner_chunked, operands, memory, rate, inner, **options), expected)


@pytest.mark.parametrize("backend", ["recurrent", "chunked", "compiled"])
@pytest.mark.parametrize("steps", [1, 3, 8])
def test_steps_on_the_token_alone_are_a_step_of_every_kernel(steps, backend):
    inner = InnerSteps(steps)
    operands, memory, rate = draw(inner)
    starts = documents(2, 37)
    expected = run(inner_recurrent, operands, memory, rate, inner, starts=starts)
    assert_close(
        run(partial(inner_wkv, backend=backend), operands, memory, rate, inner, starts=starts), expected
    )


@pytest.mark.parametrize("inner", [InnerSteps(1, 0.99), InnerSteps(2, 0.05), InnerSteps(64, 0.05, 2), *WIDE])
def test_chunks_are_exact_enough_in_float32(inner):
    operands, memory, rate = draw(inner, steps=150)
    expected, _ = inner_recurrent(*operands, memory, rate, inner)
    operands, memory, rate = draw(inner, steps=150, dtype=torch.float32)
    assert_close([inner_chunked(*operands, memory, rate, inner)[0].double()], [expected], 1e-4)


@pytest.mark.parametrize("inner", ALL)
def test_any_split_gives_the_same(inner):
    operands, memory, rate = draw(inner)
    whole, after = inner_wkv(*operands, memory, rate, inner)
    for cut in (1, 2, 20, 36):
        parts, carried = [], memory
        for piece in (slice(None, cut), slice(cut, None)):
            y, carried = inner_wkv(*(x[:, piece] for x in operands), carried, rate, inner)
            parts.append(y)
        assert_close([torch.cat(parts, 1), *filter(_given, carried)], [whole, *filter(_given, after)])


def _given(x):
    return x is not None


@pytest.mark.parametrize("kernel", [inner_recurrent, inner_wkv])
@pytest.mark.parametrize("inner", ALL)
def test_padding_changes_nothing(inner, kernel):
    operands, memory, rate = draw(inner, steps=12)
    lengths = torch.tensor([12, 7])
    valid = (torch.arange(12) < lengths.unsqueeze(1)).double()
    padded = [x * valid[..., None, None] if i in (1, 3, 4, 5) else x for i, x in enumerate(operands)]
    _, after = kernel(*padded, memory, rate, inner, valid=valid)
    short = LayerState(*(x if x is None else x[1:] for x in memory))
    _, expected = kernel(*(x[1:, :7] for x in operands), short, rate, inner)
    assert_close([x[1:] for x in after if x is not None], [x for x in expected if x is not None])


@pytest.mark.parametrize("inner", ALL)
def test_gradients(inner):
    operands, memory, rate = draw(inner, batch=1, steps=5, heads=1, size=3)
    given = [x for x in memory if x is not None]
    which = [x is not None for x in memory]

    def outputs(kernel, *inputs):
        rest = iter(inputs[7:])
        carried = LayerState(*(next(rest) if there else None for there in which))
        y, after = kernel(*inputs[:6], carried, inputs[6], inner)
        return (y, *(x for x in after if x is not None))

    inputs = [x.clone().requires_grad_() for x in (*operands, rate, *given)]
    for kernel in (inner_recurrent, inner_wkv):
        assert torch.autograd.gradcheck(partial(outputs, kernel), inputs)


@pytest.mark.parametrize("inner", ALL)
def test_a_rate_of_0_is_plain_to_the_last_bit(inner):
    operands, memory, rate = draw(inner, dtype=torch.float32)
    memory = LayerState(*(x if x is None or i == 0 else torch.zeros_like(x) for i, x in enumerate(memory)))
    for backend in ["recurrent", "chunked", "compiled"] if inner.folds else ["recurrent"]:
        y, after = inner_wkv(*operands, memory, rate * 0, inner, backend=backend)
        plain, state = wkv(*operands, memory.wkv, backend=backend)
        assert torch.equal(y, plain) and torch.equal(after.wkv, state)
        assert after.velocity is None or not after.velocity.any()
    y, _ = inner_wkv(*operands, memory, rate * 0, inner)
    assert_close([y], [plain], 1e-5)


@pytest.mark.parametrize("inner", [InnerSteps(1), InnerSteps(5), InnerSteps(20, 0.5)])
def test_the_steps_lower_the_loss_of_the_token(inner):
    operands, memory, _ = draw(inner, steps=1)
    operands[1], operands[5] = torch.zeros_like(operands[1]), -operands[4] * 0.5  # no decay; a rate of a half
    losses = []
    for rate in (0.0, 0.3, 0.9):
        _, after = inner_wkv(*operands, memory, torch.full((2,), rate).double(), inner)
        read = torch.einsum("bhvk,bhk->bhv", after.wkv, -operands[4][:, 0])
        losses.append((read - operands[3][:, 0]).square().sum().item())
    assert losses[0] > losses[1]
    if not inner.momentum:
        assert losses[1] > losses[2] >= 0
        assert losses[2] == pytest.approx(losses[0] * (1 - 0.9 * 0.5) ** (2 * inner.steps))


@pytest.mark.parametrize("inner", ALL)
@pytest.mark.parametrize("rate", [1.0, 5.0])
def test_it_stays_finite_over_many_tokens_at_the_largest_rate(inner, rate):
    operands, memory, rates = draw(inner, batch=1, steps=3000, heads=1, size=4, dtype=torch.float32)
    operands[1] = operands[1] * 1e-3  # next to no decay
    keys = operands[4]
    keys[:] = keys[:, torch.arange(3000) % 3]  # which return again and again
    operands[5] = -keys * 0.99
    y, after = inner_wkv(*operands, memory, torch.full_like(rates, rate), inner)
    assert y.abs().max() < 1e3 and after.wkv.abs().max() < 1e3


def test_a_rate_counts_as_the_nearer_end_and_finds_back():
    rate = torch.tensor([-0.5, -0.5, 0.0, 0.5, 1.0, 1.5, 1.5], requires_grad=True)
    assert bounded(rate).tolist() == [0, 0, 0, 0.5, 1, 1, 1]
    (gradient,) = torch.autograd.grad(bounded(rate), rate, torch.tensor([1.0, -1, 1, 1, -1, 1, -1]))
    assert gradient.tolist() == [0, -1, 1, 1, -1, 1, 0]


def test_the_folded_operands_cost_no_kernel_of_their_own():
    operands, _, rate = draw(InnerSteps(2))
    *_, k, _, a, b = operands
    new_b, new_k = folded(a, b, k, rate, 2)
    assert not torch.equal(new_b, b) and not torch.equal(new_k, k)


def test_the_kernel_of_a_momentum_is_chosen_and_named():
    cpu = torch.device("cpu")
    assert choose_backend(cpu, plain=False).backend == "chunked"
    assert "inner steps" in choose_backend(cpu, plain=False).reason
    assert choose_backend(cpu, "recurrent", plain=False).backend == "recurrent"
    with pytest.raises(UsageError, match="'compiled' cannot compute inner steps with a momentum or a batch"):
        choose_backend(cpu, "compiled", plain=False)
    with pytest.raises(UsageError, match="'fla' cannot compute inner steps"):
        choose_backend(torch.device("cuda"), "fla", plain=False)
