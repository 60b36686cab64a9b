"""flash-linear-attention's kernels against the recurrent definition: on CUDA, and on a CPU by interpretation.

Run as a script, with TRITON_INTERPRET=1 in the environment (Triton reads it when it is imported), this file
runs fla's kernels in Triton's interpreter. Two things of fla 0.6 stand in the interpreter's way and are
replaced there: the autotuner's measuring, which needs a device (the first configuration is taken), and loop
counters on which ``.to`` is called (the interpreter's are plain ints). The kernels that gather would not run;
with a lower bound on the decay, none does.
"""

import builtins
import importlib
import json
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from sttx_core.errors import UsageError
from sttx_train.wkv import wkv, wkv_recurrent
from sttx_train.wkv.fla import DECODE_STEPS, LOWEST_LOG_DECAY, wkv_fla

CASES = [
    (DECODE_STEPS, False),
    (7, True),
    (40, False),
    (40, True),
]  # steps (a chunk has 16), gradients wanted
INTERPRETED = [case for case in CASES if case != (40, False)]  # with gradients, the outputs are the same
NAMES = ["y", "final", "r", "log_w", "k", "v", "a", "b", "state"]


def draw(batch, steps, heads, size):
    """Draw inputs like a model's, in float64; the last step is padded as the model pads."""
    g = torch.Generator().manual_seed(steps)
    shape = (batch, steps, heads, size)
    r, k, v, decay, a, gate = (torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(6))
    valid = torch.ones(batch, steps, 1, 1, dtype=torch.float64)
    valid[:, -1] = 0
    kk = F.normalize(a, dim=-1) * valid
    log_w = LOWEST_LOG_DECAY * torch.sigmoid(3 * decay) * valid
    state = torch.randn(batch, heads, size, size, generator=g, dtype=torch.float64)
    return [r, log_w, k, v * valid, -kk, kk * gate.sigmoid(), state]


def draw_starts(batch, steps):
    """Say where documents begin: at the first row's start, and in the midst of the last."""
    starts = torch.zeros(batch, steps, dtype=torch.bool)
    starts[0, 0] = starts[-1, steps // 3] = starts[-1, steps // 2] = True
    return starts


def results(kernel, tensors, learning, starts=None):
    """Give the outputs, and with learning the gradients of a fixed mix of them, by every input."""
    tensors = [x.clone().requires_grad_(learning) for x in tensors]
    outputs = kernel(*tensors, starts if starts is None else starts.to(tensors[0].device))
    if not learning:
        return outputs
    mixed = sum(
        (x.float() * torch.linspace(-1, 1, x.numel(), device=x.device).view(x.shape)).sum() for x in outputs
    )
    return [*outputs, *torch.autograd.grad(mixed, tensors)]


def errors(kernel, tensors, learning, starts=None, *, device="cpu", dtype=torch.float32):
    """Give the largest error of each output and gradient, relative to the definition's largest in float64."""
    low = [x.to(device, torch.float32 if i in (1, 6) else dtype) for i, x in enumerate(tensors)]
    expected = results(wkv_recurrent, [x.double().cpu() for x in low], learning, starts)
    found = results(kernel, low, learning, starts)
    return {
        name: ((x.double().cpu() - y).abs().max() / y.abs().max()).item()
        for name, x, y in zip(NAMES, found, expected, strict=False)
    }


def prepare_interpreter():
    """Replace what does not run in Triton's interpreter."""
    from triton.runtime.autotuner import Autotuner

    Autotuner._bench = lambda self, *args, config, **kwargs: [0.0, 0.0, 0.0]
    from fla.ops.generalized_delta_rule import dplr

    class Counter(int):
        def to(self, dtype):
            return self

    for name in ("chunk_h_fwd", "chunk_h_bwd"):
        module = importlib.import_module(f"{dplr.__name__}.{name}")
        module.range = lambda *bounds: map(Counter, builtins.range(*map(int, bounds)))


def interpreted():
    """Compare under Triton's interpreter, and print the errors of each case."""
    prepare_interpreter()
    results = []
    for documents in (False, True):
        for steps, learning in INTERPRETED:
            heads = 2 if steps < 40 else 1  # the interpreter is slow
            starts = draw_starts(2, steps) if documents else None
            results.append(errors(wkv_fla, draw(2, steps, heads, 16), learning, starts))
    sys.stdout.write(json.dumps(results))


@pytest.mark.slow
def test_interpreted_kernels_agree_with_the_definition():
    pytest.importorskip("triton", reason="Triton is not on this platform")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert [list(case) for case in found] == [
        NAMES if learning else NAMES[:2] for _, learning in INTERPRETED * 2
    ]
    assert max(max(case.values()) for case in found) < 5e-4, found


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 5e-3), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize(("steps", "learning"), [(1, False), (16, True), *CASES])
def test_cuda_kernels_agree_with_the_definition(steps, learning, documents, dtype, limit):
    starts = draw_starts(2, steps) if documents else None
    found = errors(wkv_fla, draw(2, steps, 3, 64), learning, starts, device="cuda", dtype=dtype)
    assert max(found.values()) < limit, found


def test_unsupported_inputs_are_refused():
    tensors = draw(1, 2, 1, 16)
    with pytest.raises(UsageError, match="needs a CUDA device"):
        wkv(*tensors, backend="fla")
    with pytest.raises(UsageError, match="does not support float64"):
        wkv_fla(*tensors)


if __name__ == "__main__":
    interpreted()
