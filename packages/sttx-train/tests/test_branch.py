"""Branches: what a reader would say after tokens that it has not read; nothing changes and nothing learns."""

import numpy as np
import pytest
import torch

from sttx_core.errors import UsageError
from sttx_train import Predictor
from sttx_train.predict import Branch, branch_log_probs

TEXT = list(b"User: read the file\n\nTool call: Read again and again, again and ag")


def start(loaded, **options):
    """Return a reader at place 50 of the text, whose network has learned something."""
    predictor = Predictor(loaded, window=16, **options)
    with torch.no_grad():
        predictor.learner.s0.normal_(generator=torch.Generator().manual_seed(1))
    reader = predictor.read()
    reader.advance(TEXT[:50])
    return reader


def along(reader):
    """Return what a branch says before each token of the rest of the text, past the end of a window."""
    branch, said = Branch(reader), []
    for token in TEXT[50:]:
        said.append(branch.log_probs())
        branch = branch.after(token)
    return said


def test_a_branch_of_networks_says_what_the_reader_would_say(tiny):
    reader = start(tiny(), experts=False)
    for token, log_probs in zip(TEXT[50:], along(reader), strict=True):
        assert np.allclose(np.exp(log_probs), np.exp(reader.log_probs()), atol=1e-5)
        reader.advance([token])


def test_experts_follow_a_branch_without_learning(tiny):
    reader, network = start(tiny()), start(tiny(), experts=False)
    experts = reader.predictor.learner.mixture.experts
    memory, place = experts.state_dict(), experts.document()
    place.load_state_dict(reader.place.state_dict())
    said = along(reader)
    assert all(np.array_equal(array, memory[name]) for name, array in experts.state_dict().items())
    assert np.array_equal(said[0], reader.log_probs())
    for token, log_probs in zip(TEXT[50:], said, strict=True):
        expected = experts.log_probs(place, network.log_probs())
        assert np.allclose(np.exp(log_probs), np.exp(expected), atol=1e-4)
        assert np.exp(log_probs).sum() == pytest.approx(1)
        experts.follow(place, np.array([token]))
        network.advance([token])


def test_branches_do_not_disturb_each_other_nor_the_reader(tiny):
    predictor = Predictor(tiny())
    reader, twin = predictor.read(), predictor.read()
    reader.advance(TEXT[:40])
    root = Branch(reader)
    children = [root.after(token) for token in b"abc"]
    together = branch_log_probs(children)
    for child, row in zip(children, together, strict=True):
        assert np.allclose(child.log_probs(), row)
    assert np.allclose(root.after(ord("a")).log_probs(), together[0], atol=1e-5)
    fresh = Predictor(tiny())
    twin = fresh.read()
    twin.advance(TEXT[:40])
    prices = twin.advance(TEXT[40:]).bits
    assert np.allclose(reader.advance(TEXT[40:]).bits, prices, atol=1e-4)


def test_wrong_branches_are_refused(tiny):
    first, second = (Branch(Predictor(tiny(), experts=False).read()) for _ in range(2))
    with pytest.raises(UsageError, match="one predictor"):
        branch_log_probs([first, second])
    with pytest.raises(UsageError, match="one predictor"):
        branch_log_probs([])
    with pytest.raises(UsageError, match="ids must be"):
        first.after(257)
