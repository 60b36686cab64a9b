"""Logits and states equal those of the RWKV author's own package, for a random model that we write."""

import contextlib
import io
import warnings

import pytest
import torch

from sttx_train.export import export_state, state_to_export
from sttx_train.formats import TunedState, load_model, load_state, save_model
from sttx_train.rwkv7 import RecurrentState

STEPS = 256
LIMIT = 1e-4


@pytest.fixture(scope="module")
def rwkv_package():
    """Import the author's package for RWKV-7, without compiling."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("RWKV_V7_ON", "1")
        patch.setenv("RWKV_JIT_ON", "0")
        warnings.simplefilter("ignore")
        with contextlib.redirect_stdout(io.StringIO()):
            yield pytest.importorskip("rwkv.model", reason="the author's package is not installed")


@pytest.fixture
def theirs_and_ours(rwkv_package, make_model, tmp_path):
    model = make_model(vocab_size=97, hidden_size=128, num_layers=3, head_size=64, v_rank=24, a_rank=40)
    save_model(model, tmp_path / "model.pth", format="blinkdl")
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = rwkv_package.RWKV(str(tmp_path / "model"), "cpu fp32")
    return theirs, load_model(tmp_path / "model.pth").model


def as_theirs(state, row=0):
    """Give our state as the package's list of three tensors a layer."""
    layers = zip(state.att_shift, state.wkv, state.ffn_shift, strict=True)
    return [x[row].clone() for layer in layers for x in layer]


def largest_difference(state, theirs):
    return max((x - y).abs().max().item() for x, y in zip(as_theirs(state), theirs, strict=True))


@pytest.mark.parametrize("backend", ["recurrent", "chunked"])
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
    state, their_state = None, None
    for token in draw_ids(STEPS, vocab_size=97, seed=1).tolist():
        expected, their_state = theirs.forward([token], their_state)
        logits, state = ours(torch.tensor([[token]]), state)
        assert (logits[0, 0] - expected).abs().max() < LIMIT
    assert largest_difference(state, their_state) < LIMIT


def given_at_the_start(ours, file):
    """Give their starting state with a file's matrices, as RWKV programs in Python make it."""
    entries = torch.load(file, weights_only=True)
    start = [x.clone() for x in as_theirs(RecurrentState.zeros(ours.config))]
    for layer in range(3):
        start[3 * layer + 1] = entries[f"blocks.{layer}.att.time_state"].clone()
    return start


def test_from_a_tuned_state_file(theirs_and_ours, draw_ids, tmp_path):
    theirs, ours = theirs_and_ours
    s0 = torch.randn(3, 2, 64, 64, generator=torch.Generator().manual_seed(3))
    export_state(TunedState(s0=s0, metadata={"inject": "start"}), tmp_path / "state.pth", "state-pth")
    ids = draw_ids(40, vocab_size=97, seed=2)
    start = given_at_the_start(ours, tmp_path / "state.pth")
    expected, _ = theirs.forward(ids.tolist(), start, full_output=True)
    zeros = RecurrentState.zeros(ours.config)
    logits, _ = ours(ids[None], zeros.inject(load_state(tmp_path / "state.pth").s0))
    assert (logits[0] - expected).abs().max() < LIMIT
    untuned, _ = ours(ids[None])
    assert (logits - untuned).abs().max() > 0.1
    transposed, _ = ours(ids[None], zeros.inject(s0.mT.contiguous()))
    assert (transposed[0] - expected).abs().max() > 0.1


def test_from_a_state_that_was_converted_twice(theirs_and_ours, draw_ids, tmp_path):
    theirs, ours = theirs_and_ours
    s0 = torch.randn(3, 2, 64, 64, generator=torch.Generator().manual_seed(4)).half().float()
    export_state(TunedState(s0=s0), tmp_path / "state.st", "state-st")
    export_state(state_to_export(tmp_path / "state.st"), tmp_path / "state.pth", "state-pth")
    ids = draw_ids(20, vocab_size=97, seed=5)
    start = given_at_the_start(ours, tmp_path / "state.pth")
    expected, _ = theirs.forward(ids.tolist(), start, full_output=True)
    logits, _ = ours(ids[None], RecurrentState.zeros(ours.config).inject(s0))
    assert (logits[0] - expected).abs().max() < LIMIT
