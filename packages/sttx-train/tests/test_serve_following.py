"""A server follows a run: it answers from the newest checkpoint that is whole."""

import numpy as np
import pytest

from sttx_train.online import LearnerConfig
from sttx_train.predict import Predictor
from sttx_train.serve.catalog import Catalog
from sttx_train.serve.failures import RequestError
from sttx_train.serve.following import FollowedRun
from sttx_train.stream import StreamConfig, StreamTrainer

LEARNING = LearnerConfig(phrases="off", replay_rows=0)


@pytest.fixture
def training(talk, tmp_path):
    """Return a function that takes some steps of a run, and the run's folder."""
    run, traces = tmp_path / "mine", iter(talk(200))

    def train(loaded, steps):
        config = StreamConfig(experts="off", steps=steps)
        StreamTrainer(loaded, LEARNING, config, directory=run, resume=run.exists()).run(traces)

    return train, run


def test_a_run_is_served_as_it_goes_on(tiny, training):
    train, run = training
    loaded, said, left = tiny(), [], []
    catalog = Catalog.load(loaded)
    followed = FollowedRun(catalog, loaded, run, said.append, left.append)
    assert not followed.look() and followed.step is None
    with pytest.raises(RequestError):
        catalog.find(f"{loaded.id}:mine")
    train(tiny(), 2)
    assert followed.look() and followed.step == 2 and not followed.look()
    first = catalog.find(f"{loaded.id}:mine")
    assert first is catalog.default and catalog.frozen.id == loaded.id and first.step == 2
    train(tiny(), 5)
    assert followed.look() and followed.step == 5
    second = catalog.find(f"{loaded.id}:mine")
    assert second.digest != first.digest and len(list(catalog)) == 2
    assert left == [first]
    assert said == [f"serving: {one.id}, step {one.step}" for one in (first, second)]
    with pytest.raises(RequestError):
        catalog.find(first.id)
    expected = Predictor(loaded, run, experts=False).read().score([5, 6, 7]).bits
    np.testing.assert_array_equal(second.predictor.read().score([5, 6, 7]).bits, expected)
    assert first.predictor.read().score([5, 6, 7]).bits.shape == (3,), "a request may still read with it"


def test_a_checkpoint_that_cannot_be_served_changes_nothing(tiny, training, caplog):
    train, run = training
    loaded = tiny()
    catalog = Catalog.load(loaded)
    train(tiny(), 2)
    with FollowedRun(catalog, loaded, run) as followed:
        before = catalog.default
        assert before.step == 2
    train(tiny(), 4)
    damaged = next(run.glob("step-00000004/learned.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    for _ in range(3):
        assert not followed.look()
    assert catalog.default is before and caplog.text.count("step 4 of") == 1


def test_a_run_of_another_model_is_named(tiny, training, caplog):
    train, run = training
    train(tiny(1), 2)
    catalog = Catalog.load(tiny())
    assert not FollowedRun(catalog, tiny(), run).look()
    assert "is not served" in caplog.text and len(list(catalog)) == 1
