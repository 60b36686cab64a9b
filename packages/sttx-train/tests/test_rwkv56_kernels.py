"""The kernels of RWKV-5.2 and RWKV-6 against the definition: values, final state, every gradient."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sttx_train.rwkv56 import dispatch, wkv6, wkv6_chunked, wkv6_recurrent
from sttx_train.rwkv56.dispatch import wkv6_compiled

NAMES = ("r", "log_w", "k", "v", "u", "state")
LIMIT = 1e-9


def draw(batch, steps, heads, size, *, decay=1.5, seed=0):
    """Draw inputs; with a larger ``decay`` more channels forget at once, or never."""
    g = torch.Generator().manual_seed(seed)
    shape = (batch, steps, heads, size)
    r, k, v, w = (torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(4))
    u = torch.randn(heads, size, generator=g, dtype=torch.float64)
    state = torch.randn(batch, heads, size, size, generator=g, dtype=torch.float64)
    return [r, -(decay * w).clamp(max=5).exp(), k, v, u, state]


def relative(found, expected):
    return ((found - expected).abs().max() / expected.abs().max().clamp_min(1e-300)).item()


def run(kernel, inputs, **options):
    """Give outputs, final state and the gradients of a random mix of both by every input."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    outputs = kernel(*leaves, **options)
    g = torch.Generator().manual_seed(1)
    mixed = sum((x * torch.randn(x.shape, generator=g, dtype=torch.float64).to(x)).sum() for x in outputs)
    return [*(x.detach() for x in outputs), *torch.autograd.grad(mixed, leaves)]


def assert_same(found, expected, limit=LIMIT):
    for name, x, y in zip(("y", "final", *NAMES), found, expected, strict=True):
        assert x.shape == y.shape, name
        assert relative(x, y) < limit, (name, relative(x, y))


def draw_starts(batch, steps, share=0.15):
    return torch.rand(batch, steps, generator=torch.Generator().manual_seed(7)) < share


@pytest.mark.parametrize("kernel", [wkv6_chunked, wkv6_compiled])
@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize(
    ("batch", "steps", "heads", "size"), [(1, 64, 2, 64), (2, 50, 2, 16), (3, 33, 1, 8), (2, 1, 1, 8)]
)
def test_they_equal_the_definition(kernel, documents, batch, steps, heads, size):
    inputs = draw(batch, steps, heads, size)
    options = {"starts": draw_starts(batch, steps)} if documents else {}
    assert_same(run(kernel, inputs, **options), run(wkv6_recurrent, inputs, **options))


@pytest.mark.parametrize("chunk", [1, 2, 7, 16, 64])
def test_every_chunk_size_gives_the_same(chunk):
    inputs, starts = draw(2, 37, 2, 8), draw_starts(2, 37)
    found = run(wkv6_chunked, inputs, starts=starts, chunk=chunk)
    assert_same(found, run(wkv6_recurrent, inputs, starts=starts))


@pytest.mark.parametrize("kernel", [wkv6_chunked, wkv6_compiled])
@pytest.mark.parametrize("log_decay", [0.0, -1e-6, -148.0])
def test_decay_at_its_bounds_in_float32(kernel, log_decay):
    """A state that is kept whole, and one that is forgotten at every step, whose inverse would overflow."""
    inputs = draw(1, 200, 2, 16)
    inputs[1] = torch.full_like(inputs[1], log_decay)
    expected = run(wkv6_recurrent, inputs)
    found = run(kernel, [x.float() for x in inputs])
    for name, x, y in zip(("y", "final", *NAMES), found, expected, strict=True):
        assert torch.isfinite(x).all(), name
        assert (x.double() - y).abs().max() < 1e-4 * y.abs().max().clamp_min(1.0), name


@pytest.mark.parametrize("backend", ["recurrent", "chunked", "compiled"])
@settings(deadline=None, max_examples=6)
@given(cuts=st.lists(st.integers(1, 39), max_size=3))
def test_any_split_gives_the_same(backend, cuts):
    *sequences, u, state = draw(2, 40, 2, 8)
    starts = draw_starts(2, 40)
    y, final = wkv6(*sequences, u, state, starts, backend=backend)
    parts, ends = [], [*sorted(set(cuts)), 40]
    for first, last in zip([0, *ends], ends, strict=False):
        piece = [x[:, first:last] for x in sequences]
        part, state = wkv6(*piece, u, state, starts[:, first:last], backend=backend)
        parts.append(part)
    assert relative(torch.cat(parts, 1), y) < LIMIT and relative(state, final) < LIMIT


@pytest.mark.parametrize("kernel", [wkv6_recurrent, wkv6_chunked])
def test_gradcheck(kernel):
    inputs = [x.requires_grad_() for x in draw(1, 4, 1, 2, decay=0.5)]
    options = {} if kernel is wkv6_recurrent else {"chunk": 2}
    assert torch.autograd.gradcheck(lambda *x: kernel(*x, **options), inputs)


@pytest.mark.parametrize("backend", ["chunked", "compiled"])
def test_low_precision_inputs_run_in_the_states_dtype(backend):
    inputs = [x.to(torch.bfloat16) for x in draw(1, 20, 1, 8)]
    inputs[-1] = inputs[-1].float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, final = wkv6(*inputs, backend=backend)
    expected, _ = wkv6_recurrent(*(x.float() for x in inputs))
    assert (y.dtype, final.dtype) == (torch.float32, torch.float32)
    assert relative(y, expected) < 1e-5


@pytest.mark.parametrize("name", ["recurrent", "chunked", "compiled"])
def test_the_kernel_that_was_asked_for_runs(name, monkeypatch):
    ran = []
    for kernel in ("recurrent", "chunked", "compiled"):
        function = getattr(dispatch, f"wkv6_{kernel}")
        recorded = lambda *x, f=function, n=kernel: (ran.append(n), f(*x))[1]  # noqa: E731
        monkeypatch.setattr(dispatch, f"wkv6_{kernel}", recorded)
    wkv6(*draw(1, 3, 1, 8), backend=name)
    assert ran == [name]


def test_the_definition_equals_flas():
    """Loads the one file of fla's definition: to import the package takes half a minute."""
    fla = importlib.util.find_spec("fla")
    if fla is None:
        pytest.skip("flash-linear-attention is not installed")
    file = Path(fla.submodule_search_locations[0], "ops/rwkv6/recurrent_naive.py")
    spec = importlib.util.spec_from_file_location("definition_of_fla", file)
    naive = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(naive)
    r, log_w, k, v, u, state = (x.float() for x in draw(2, 20, 2, 8))
    sequences = (x.transpose(1, 2) for x in (r, k, v, log_w))
    expected, final = naive.naive_recurrent_rwkv6(
        *sequences, u, scale=1.0, initial_state=state.mT, output_final_state=True
    )
    y, ours = wkv6_recurrent(r, log_w, k, v, u, state)
    assert relative(y, expected.transpose(1, 2)) < 1e-5 and relative(ours, final.mT) < 1e-5


@pytest.mark.parametrize("steps", [4, 40])
@pytest.mark.parametrize("documents", [False, True])
def test_flas_kernels_are_called_as_they_want(monkeypatch, steps, documents):
    """With fla's two kernels replaced by the definition in fla's own layout; the kernels need a GPU."""
    called = []

    def kernel(name):
        def run_pieces(r, k, v, w, u, scale, initial_state, output_final_state, cu_seqlens):
            called.append(name)
            assert (scale, output_final_state) == (1.0, True)
            bounds = None if cu_seqlens is None else cu_seqlens.tolist()
            rows = [(slice(i, i + 1), slice(None)) for i in range(len(r))]
            if bounds is not None:
                rows = [(slice(0, 1), slice(a, b)) for a, b in zip(bounds, bounds[1:], strict=False)]
            parts = [
                wkv6_recurrent(r[row], w[row], k[row], v[row], u, initial_state[i : i + 1].mT)
                for i, row in enumerate(rows)
            ]
            y = torch.cat([part for part, _ in parts], dim=0 if bounds is None else 1)
            return y, torch.cat([final for _, final in parts]).mT

        return run_pieces

    module = ModuleType("fla.ops.rwkv6")
    module.chunk_rwkv6, module.fused_recurrent_rwkv6 = kernel("chunk"), kernel("fused")
    for name in ("fla", "fla.ops"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "fla.ops.rwkv6", module)
    from sttx_train.rwkv56.fla import wkv6_fla

    inputs, starts = [x.float() for x in draw(2, steps, 2, 8)], draw_starts(2, steps) if documents else None
    y, final = wkv6_fla(*inputs, starts)
    expected, expected_final = wkv6_recurrent(*inputs, starts)
    assert relative(y, expected) < 1e-5 and relative(final, expected_final) < 1e-5
    assert called == ["fused" if steps == 4 else "chunk"]
