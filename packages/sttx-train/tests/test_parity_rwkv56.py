"""Logits and states of RWKV-5.2 and RWKV-6 equal those of the author's package, for random models."""

import contextlib
import importlib.util
import io
import warnings

import pytest
import torch

from sttx_train.export import export_state
from sttx_train.formats import TunedState, load_model, load_state, save_model
from sttx_train.rwkv7 import RecurrentState

STEPS = 256
LIMIT = 1e-4
LAYERS = 3


@pytest.fixture(scope="module")
def rwkv_package():
    """Load the author's package for models before RWKV-7, under another name than for RWKV-7."""
    found = importlib.util.find_spec("rwkv")
    if found is None:
        pytest.skip("the author's package is not installed")
    path = f"{found.submodule_search_locations[0]}/model.py"
    spec = importlib.util.spec_from_file_location("rwkv_before_7", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        for name in ("RWKV_V7_ON", "RWKV_JIT_ON", "RWKV_CUDA_ON"):
            patch.setenv(name, "0")
        warnings.simplefilter("ignore")
        with contextlib.redirect_stdout(io.StringIO()):
            spec.loader.exec_module(module)
        yield module


def as_the_package_runs_it(package, path):
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return package.RWKV(str(path.with_suffix("")), "cpu fp32", verbose=False)


@pytest.fixture(params=["x060", "x052"])
def theirs_and_ours(request, rwkv_package, make_model, tmp_path):
    sizes = {"vocab_size": 97, "hidden_size": 128, "num_layers": LAYERS, "head_size": 64}
    save_model(make_model(architecture=request.param, **sizes), tmp_path / "model.pth", format="blinkdl")
    theirs = as_the_package_runs_it(rwkv_package, tmp_path / "model.pth")
    assert theirs.version == {"x060": 6.0, "x052": 5.2}[request.param]
    return theirs, load_model(tmp_path / "model.pth").model


def largest_difference(state, theirs):
    """Compare our state with the package's list of three tensors a layer, whose matrices are [key, value].

    Matrices that hardly forget are large, so a difference is a share of the largest number above 1.
    """
    layers = zip(state.att_shift[:, 0], state.wkv[:, 0].mT, state.ffn_shift[:, 0], strict=True)
    ours = [x for layer in layers for x in layer]
    return max(
        ((x - y).abs().max() / y.abs().max().clamp_min(1)).item() for x, y in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("backend", ["recurrent", "chunked", "compiled"])
def test_in_one_call(theirs_and_ours, draw_ids, backend):
    theirs, ours = theirs_and_ours
    ours.backend = backend
    ids = draw_ids(STEPS, vocab_size=97)
    expected, their_state = theirs.forward(ids.tolist(), None, full_output=True)
    logits, state = ours(ids[None])
    assert expected.abs().mean() > 0.5  # a silent model would agree with anything
    assert (logits[0] - expected).abs().max() < LIMIT
    assert largest_difference(state, their_state) < LIMIT


def test_token_by_token(theirs_and_ours, draw_ids):
    theirs, ours = theirs_and_ours
    state, their_state = RecurrentState.zeros(ours.config), None
    for token in draw_ids(STEPS, vocab_size=97, seed=1).tolist():
        expected, their_state = theirs.forward([token], their_state)
        logits, state = ours.step(torch.tensor([token]), state)
        assert (logits[0] - expected).abs().max() < LIMIT
    assert largest_difference(state, their_state) < LIMIT


def test_from_a_tuned_state_file(theirs_and_ours, rwkv_package, draw_ids, tmp_path):
    """The package reads the entries of a tuned state in a model's file, and turns them for its own use."""
    _, ours = theirs_and_ours
    s0 = torch.randn(LAYERS, 2, 64, 64, generator=torch.Generator().manual_seed(3))
    export_state(TunedState(s0=s0, metadata={"inject": "start"}), tmp_path / "state.pth", "state-pth")
    entries = torch.load(tmp_path / "state.pth", weights_only=True)
    torch.save(torch.load(tmp_path / "model.pth", weights_only=True) | entries, tmp_path / "tuned.pth")
    tuned = as_the_package_runs_it(rwkv_package, tmp_path / "tuned.pth")
    ids = draw_ids(40, vocab_size=97, seed=2)
    expected, _ = tuned.forward(ids.tolist(), None, full_output=True)
    zeros = RecurrentState.zeros(ours.config)
    logits, _ = ours(ids[None], zeros.inject(load_state(tmp_path / "state.pth", config=ours.config).s0))
    assert (logits[0] - expected).abs().max() < LIMIT
    untuned, _ = ours(ids[None])
    assert (logits - untuned).abs().max() > 0.1
    transposed, _ = ours(ids[None], zeros.inject(s0.mT.contiguous()))
    assert (transposed[0] - expected).abs().max() > 0.1


def test_the_packages_running_state_is_ours_transposed(theirs_and_ours, draw_ids):
    theirs, ours = theirs_and_ours
    s0 = torch.randn(LAYERS, 2, 64, 64, generator=torch.Generator().manual_seed(5))
    zeros, start = RecurrentState.zeros(ours.config), []
    for matrix in s0:
        start += [torch.zeros(128), matrix.mT.contiguous(), torch.zeros(128)]
    ids = draw_ids(30, vocab_size=97, seed=4)
    expected, _ = theirs.forward(ids.tolist(), start, full_output=True)
    logits, _ = ours(ids[None], zeros.inject(s0))
    assert (logits[0] - expected).abs().max() < LIMIT
