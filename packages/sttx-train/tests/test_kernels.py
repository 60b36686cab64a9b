"""The kernels against the recurrent definition: values, final state, every gradient."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sttx_core.errors import UsageError
from sttx_train.wkv import BACKENDS, choose_backend, compiled, dispatch, wkv, wkv_chunked, wkv_recurrent
from sttx_train.wkv.compiled import wkv_compiled

NAMES = ("r", "log_w", "k", "v", "a", "b", "state")
LIMIT = 1e-9


def draw(batch, steps, heads, size, *, decay=3.0, seed=0):
    """Draw inputs like a model's; a larger decay reaches its bounds more often."""
    g = torch.Generator().manual_seed(seed)
    shape = (batch, steps, heads, size)
    r, k, v, w, a, gate = (torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(6))
    kk = F.normalize(a, dim=-1)
    state = torch.randn(batch, heads, size, size, generator=g, dtype=torch.float64)
    return [r, -0.6065306597126334 * torch.sigmoid(decay * w), k, v, -kk, kk * gate.sigmoid(), state]


def relative(found, expected):
    return ((found - expected).abs().max() / expected.abs().max().clamp_min(1e-300)).item()


def run(kernel, inputs, seed=1, **options):
    """Give outputs, final state and the gradients of a random mix of both by every input."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    outputs = kernel(*leaves, **options)
    g = torch.Generator().manual_seed(seed)
    mixed = sum((x * torch.randn(x.shape, generator=g, dtype=torch.float64).to(x)).sum() for x in outputs)
    return [*(x.detach() for x in outputs), *torch.autograd.grad(mixed, leaves)]


def assert_same(found, expected, limit=LIMIT):
    for name, x, y in zip(("y", "final", *NAMES), found, expected, strict=True):
        assert x.shape == y.shape, name
        assert relative(x, y) < limit, (name, relative(x, y))


@pytest.mark.parametrize(
    ("batch", "steps", "heads", "size"),
    [(1, 64, 2, 64), (2, 100, 2, 16), (3, 33, 1, 8), (1, 31, 3, 16), (2, 1, 1, 8), (1, 2, 1, 4)],
)
def test_chunked_equals_recurrent(batch, steps, heads, size):
    inputs = draw(batch, steps, heads, size)
    assert_same(run(wkv_chunked, inputs), run(wkv_recurrent, inputs))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("share", [0.0, 0.1])
@pytest.mark.parametrize(
    ("batch", "steps", "heads", "size"),
    [(1, 64, 2, 64), (2, 50, 1, 64), (3, 33, 1, 8), (2, 1, 3, 16), (1, 17, 1, 5)],
)
def test_compiled_equals_recurrent(batch, steps, heads, size, share, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    inputs = draw(batch, steps, heads, size)
    starts = draw_starts(batch, steps, share) if share else None
    expected = run(partial(wkv_recurrent, starts=starts), inputs)
    assert_same(run(partial(wkv, starts=starts, backend="compiled"), inputs), expected, 1e-12)
    single = run(partial(wkv, starts=starts, backend="compiled"), [x.float() for x in inputs])
    assert_same([x.double() for x in single], expected, 2e-6)


def test_the_compiled_kernel_takes_transposed_inputs_and_keeps_its_own():
    inputs = [x.float() for x in draw(2, 20, 2, 8)]
    odd = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in inputs[:-1]] + [
        inputs[-1].mT.contiguous().mT
    ]
    kept = [x.clone() for x in odd]
    assert_same(run(wkv_compiled, odd), run(wkv_compiled, inputs), 1e-30)
    assert all(torch.equal(x, y) for x, y in zip(odd, kept, strict=True))


def test_states_are_kept_only_for_gradients(monkeypatch):
    kept, share = [], compiled._share
    monkeypatch.setattr(
        compiled, "_share", lambda *x: (kept.append(x[11].shape[0] * x[11].shape[2]), share(*x))[1]
    )
    inputs = [x.requires_grad_() for x in draw(1, 20, 1, 4)]
    wkv_compiled(*inputs)
    for quiet in (torch.no_grad, torch.inference_mode):
        with quiet():
            wkv_compiled(*inputs)
    assert kept == [2, 0, 0]


def test_no_rows_are_no_error():
    y, final = wkv_compiled(*draw(0, 5, 2, 8))
    assert y.shape == (0, 5, 2, 8) and final.shape == (0, 2, 8, 8)


def test_a_row_gives_the_same_bits_in_any_batch():
    inputs = [x.float() for x in draw(3, 20, 2, 16)]
    together = wkv(*inputs, backend="compiled")
    alone = wkv(*(x[1:2] for x in inputs), backend="compiled")
    *first, state = (x[1:2] for x in inputs)
    halves = [wkv(*(x[:, :7] for x in first), state, backend="compiled")]
    halves.append(wkv(*(x[:, 7:] for x in first), halves[0][1], backend="compiled"))
    assert all(torch.equal(x[1:2], y) for x, y in zip(together, alone, strict=True))
    assert torch.equal(torch.cat([y for y, _ in halves], 1), alone[0]) and torch.equal(halves[1][1], alone[1])


@pytest.mark.parametrize("chunk", [1, 2, 5, 8, 16, 32, 64])
def test_every_chunk_size_gives_the_same(chunk):
    inputs = draw(2, 40, 2, 8)
    assert_same(run(wkv_chunked, inputs, chunk=chunk), run(wkv_recurrent, inputs))


@pytest.mark.parametrize("log_decay", [0.0, -0.6065306597126334])
def test_decay_at_its_bounds(log_decay):
    inputs = draw(1, 96, 2, 16)
    inputs[1] = torch.full_like(inputs[1], log_decay)
    assert_same(run(wkv_chunked, inputs), run(wkv_recurrent, inputs))


@settings(deadline=None, max_examples=15)
@given(
    cuts=st.lists(st.integers(1, 69), max_size=4, unique=True),
    backend=st.sampled_from(["recurrent", "chunked", "compiled"]),
)
def test_any_split_gives_the_same(cuts, backend):
    *sequence, state = draw(2, 70, 2, 8)
    y, final = wkv(*sequence, state, backend=backend)
    pieces = []
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), 70], strict=True):
        piece, state = wkv(*(x[:, start:end] for x in sequence), state, backend=backend)
        pieces.append(piece)
    assert relative(torch.cat(pieces, dim=1), y) < LIMIT
    assert relative(state, final) < LIMIT


def draw_starts(batch, steps, share, seed=0):
    """Draw where documents start; each row's first step continues from the state."""
    starts = torch.rand(batch, steps, generator=torch.Generator().manual_seed(seed)) < share
    starts[:, 0] = False
    return starts


@pytest.mark.parametrize("share", [0.02, 0.2, 1.0])
@pytest.mark.parametrize("chunk", [1, 7, 32])
def test_documents_in_chunks_equal_the_definition(share, chunk):
    inputs, starts = draw(3, 75, 2, 8), draw_starts(3, 75, share)
    found = run(partial(wkv_chunked, starts=starts), inputs, chunk=chunk)
    assert_same(found, run(partial(wkv_recurrent, starts=starts), inputs))


def test_a_document_does_not_depend_on_the_one_before_it():
    *sequence, state = draw(1, 60, 2, 8)
    starts = torch.zeros(1, 60, dtype=torch.bool)
    starts[0, [10, 45]] = True
    y, final = wkv_recurrent(*sequence, state, starts)
    pieces, current = [], state
    for start, end in ((0, 10), (10, 45), (45, 60)):
        piece, current = wkv_recurrent(*(x[:, start:end] for x in sequence), current)
        pieces.append(piece)
        left, current = current, torch.zeros_like(state)
    assert relative(torch.cat(pieces, dim=1), y) < LIMIT
    assert relative(left, final) < LIMIT


def test_rows_and_heads_are_independent():
    inputs = draw(3, 40, 2, 8)
    y, final = wkv_chunked(*inputs)
    for row in range(3):
        for head in range(2):
            alone = [x[row : row + 1, :, head : head + 1] for x in inputs[:-1]]
            y_alone, final_alone = wkv_chunked(*alone, inputs[-1][row : row + 1, head : head + 1])
            assert relative(y_alone[0, :, 0], y[row, :, head]) < LIMIT
            assert relative(final_alone[0, 0], final[row, head]) < LIMIT


def test_the_definition_matches_the_paper():
    *sequence, state = draw(1, 1, 1, 4)
    r, log_w, k, v, a, b = (x[0, 0, 0] for x in sequence)
    expected = state[0, 0] @ (torch.diag(log_w.exp()) + torch.outer(a, b)) + torch.outer(v, k)
    y, final = wkv_recurrent(*sequence, state)
    assert relative(final[0, 0], expected) < LIMIT
    assert relative(y[0, 0, 0], expected @ r) < LIMIT


def test_padding_steps_change_nothing():
    inputs = draw(2, 50, 2, 8)
    padded = [torch.cat([x, torch.randn_like(x[:, :9])], dim=1) for x in inputs[:-1]]
    for i in (1, 3, 4, 5):  # log_w, v, a, b are zero where the model pads
        padded[i][:, 50:] = 0
    y, final = wkv_chunked(*inputs)
    y_padded, final_padded = wkv_chunked(*padded, inputs[-1])
    assert relative(y_padded[:, :50], y) < LIMIT
    assert relative(final_padded, final) < LIMIT


def test_float32_stays_near_float64_at_the_strongest_decay():
    inputs = draw(1, 256, 2, 64)
    inputs[1] = torch.full_like(inputs[1], -0.6065306597126334)
    expected = run(wkv_recurrent, inputs)
    found = run(wkv_chunked, [x.float() for x in inputs])
    for name, x, y in zip(("y", "final", *NAMES), found, expected, strict=True):
        assert relative(x.double(), y) < 2e-4, (name, relative(x.double(), y))


@pytest.mark.parametrize("backend", ["chunked", "compiled"])
def test_low_precision_inputs_run_in_the_states_dtype(backend):
    inputs = [x.to(torch.bfloat16) for x in draw(1, 20, 1, 8)]
    inputs[-1] = inputs[-1].float()
    y, final = wkv(*inputs, backend=backend)
    expected, _ = wkv_recurrent(*(x.float() for x in inputs))
    assert (y.dtype, final.dtype) == (torch.float32, torch.float32)
    assert relative(y, expected) < 1e-5


@pytest.mark.parametrize("backend", ["chunked", "compiled"])
def test_autocast_leaves_the_kernel_alone(backend):
    inputs = [x.float() for x in draw(1, 40, 1, 16)]
    expected = wkv(*inputs, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = wkv(*inputs, backend=backend)
    assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))


def test_each_choice_has_a_reason():
    cpu = torch.device("cpu")
    assert choose_backend(cpu).backend == "compiled"
    assert choose_backend(torch.device("mps")).backend == "chunked"
    assert "cpu" in choose_backend(cpu).reason
    assert choose_backend(cpu, "recurrent") == ("recurrent", "asked for")
    with pytest.raises(UsageError, match="'fla' needs a CUDA device"):
        choose_backend(cpu, "fla")
    with pytest.raises(UsageError, match="'compiled' needs a CPU, not 'mps'"):
        choose_backend(torch.device("mps"), "compiled")
    assert set(BACKENDS) == {"auto", "recurrent", "chunked", "compiled", "fla"}


@pytest.mark.parametrize("name", ["recurrent", "chunked", "compiled"])
def test_the_kernel_that_was_asked_for_runs(name, monkeypatch):
    ran = []
    for module, kernel in ((dispatch, "recurrent"), (dispatch, "chunked"), (compiled, "compiled")):
        function = getattr(module, f"wkv_{kernel}")
        monkeypatch.setattr(
            module, f"wkv_{kernel}", lambda *x, f=function, n=kernel: (ran.append(n), f(*x))[1]
        )
    wkv(*draw(1, 3, 1, 8), backend=name)
    assert ran == [name]
