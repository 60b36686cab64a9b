"""A bank of states: a document starts from the mean state of its project, and resuming changes nothing."""

import copy
import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sttx_core.errors import CheckpointError, UsageError
from sttx_core.memory.bank import EARLY, LONGEST, SHORTEST
from sttx_core.traces import Meta, UserMessage
from sttx_train.inspect import inspect_path
from sttx_train.online import LearnerConfig, OnlineLearner, Window
from sttx_train.online.bank import StateBank
from sttx_train.online.carried import Carried
from sttx_train.predict import Predictor
from sttx_train.rwkv7 import RecurrentState, RWKV7Config
from sttx_train.stream import StreamConfig, StreamTrainer

SIZES = RWKV7Config(vocab_size=9, hidden_size=8, num_layers=1, head_size=4)
NEW = Carried(None, (0,))


def filled(value):
    """Return a state of which all numbers are the same."""
    zeros = RecurrentState.zeros(SIZES)
    filled = {name: torch.full_like(tensor, value) for name, tensor in zeros.tensors().items()}
    return RecurrentState(**filled)


def window(document="a", project="p", ids=(1,)):
    return Window(document=document, ids=ids, project=project)


def read(bank, document, project, values, prices=None):
    """Show a bank a document whose states are filled with the values, and that pays the prices."""
    carried = NEW
    for index, value in enumerate(values):
        state = filled(value)
        bank.learn(window(document, project), carried, state, prices[index] if prices else 1.0, 1)
        carried = Carried(state, (1,))


def mean_of(bank, project):
    return float(bank.means[project].state.wkv.mean())


class TestWhatABankTakesIn:
    def test_it_is_empty_until_a_part_ends(self):
        bank = StateBank(4)
        read(bank, "a", "p", [1.0] * (LONGEST - 1))
        assert bank.start(window("b"), NEW) is NEW
        assert bank.nbytes == 0

    def test_the_state_after_a_full_part_is_the_start_of_the_next_document(self):
        bank = StateBank(4)
        read(bank, "a", "p", range(1, LONGEST + 1))
        start = bank.start(window("b"), NEW)
        assert start.state is not None and start.context == NEW.context and start.frozen is None
        for tensor in start.state.tensors().values():
            assert bool((tensor == LONGEST).all())

    def test_a_surprising_window_ends_a_part_before_it(self):
        bank = StateBank(4)
        values = range(1, SHORTEST + 3)
        read(bank, "a", "p", values, [1.0] * SHORTEST + [2.0, 1.0])
        assert mean_of(bank, "p") == SHORTEST

    def test_states_are_averaged(self):
        bank = StateBank(4)
        for document, value in (("a", 3.0), ("b", 5.0), ("c", 10.0)):
            read(bank, document, "p", [value] * LONGEST)
        assert mean_of(bank, "p") == pytest.approx(6.0)
        assert bank.report()["taken_in"] == 3

    def test_late_windows_of_a_document_are_left_out(self):
        bank = StateBank(4)
        read(bank, "a", "p", [1.0] * EARLY + [9.0] * 4 * LONGEST)
        assert mean_of(bank, "p") == 1.0

    def test_a_document_that_goes_on_keeps_its_state(self):
        bank = StateBank(4)
        read(bank, "a", "p", [1.0] * LONGEST)
        carried = Carried(filled(7.0), (3,))
        assert bank.start(window("a"), carried) is carried

    def test_what_it_returned_does_not_change_later(self):
        bank = StateBank(4)
        read(bank, "a", "p", [1.0] * LONGEST)
        start = bank.start(window("b"), NEW).state
        assert start is not None
        read(bank, "c", "p", [9.0] * LONGEST)
        assert bool((start.wkv == 1.0).all())


class TestBounds:
    def test_projects_are_kept_apart_and_the_least_recently_used_is_dropped(self):
        bank = StateBank(2)
        for document, project, value in (("a", "p", 1.0), ("b", "q", 2.0), ("c", "p", 3.0), ("d", "r", 4.0)):
            read(bank, document, project, [value] * LONGEST)
        assert list(bank.means) == ["p", "r"] and bank.evictions == 1
        assert mean_of(bank, "p") == 2.0
        assert bank.start(window("e", "q"), NEW) is NEW

    def test_its_memory_does_not_grow(self):
        bank = StateBank(3)
        for number in range(9):
            read(bank, str(number), str(number), [1.0] * LONGEST)
        assert bank.nbytes == bank.report()["bytes"] == 3 * filled(0.0).nbytes
        bank.keep_only({"8"})
        assert list(bank.parts) == ["8"]

    def test_no_room_at_all_is_refused(self):
        with pytest.raises(UsageError, match="--bank-states must be at least 1, not 0"):
            StateBank(0)


@pytest.fixture
def make(make_model):
    """Return a function that makes a learner with a bank."""

    def learner(capacity=2, **options):
        config = LearnerConfig(**({"phrases": "off", "max_documents": 3} | options))
        made = OnlineLearner(make_model(), np.ones(61, dtype=int), config)
        made.carried.bank = StateBank(capacity) if capacity else None
        return made

    return learner


def stream(count, *, documents=6):
    """Yield windows of documents of two projects, one document after another."""
    dice = np.random.default_rng(1)
    each = count // documents
    for number in range(count):
        document = number // each
        ids = tuple(int(one) for one in dice.integers(1, 9, 6))
        yield Window(document=str(document), ids=ids, project="pq"[document % 2])


def learned(learner, windows):
    for one in windows:
        learner.learn_one(one)
    return learner


def saved(learner):
    state = learner.state_dict()
    tensors = {file: {n: t.clone() for n, t in group.items()} for file, group in state["tensors"].items()}
    return {"tensors": tensors, "documents": json.loads(json.dumps(state["documents"], allow_nan=False))}


class TestInALearner:
    def test_a_new_document_starts_from_its_project(self, make):
        learner = learned(make(), stream(40, documents=2))
        unknown, known = window("new", "nothing", (1, 2, 3)), window("new", "p", (1, 2, 3))
        assert learner.score_one(known).bits != learner.score_one(unknown).bits
        mean = learner.carried.bank.means["p"].state
        learner.carried.put("new", Carried(mean, (0,)))
        assert learner.score_one(unknown).bits == learner.score_one(known).bits

    def test_the_frozen_network_starts_from_nothing(self, make):
        learner = learned(make(), stream(40, documents=2))
        known, unknown = window("new", "p", (1, 2, 3)), window("new", "nothing", (1, 2, 3))
        assert learner.score_one(known).frozen_bits == learner.score_one(unknown).frozen_bits

    def test_scoring_is_pure(self, make):
        learner = learned(make(), stream(40))
        before = saved(learner)
        learner.score_many([window("new", "p", (1, 2)), window("other", "q", (3,))])
        after = saved(learner)
        assert after["documents"] == before["documents"]
        assert all(torch.equal(t, after["tensors"]["bank"][n]) for n, t in before["tensors"]["bank"].items())

    @pytest.mark.parametrize("options", [{}, {"scope": (), "inject": "none", "replay_rows": 0}])
    def test_loaded_in_mid_stream_it_goes_on_bit_for_bit(self, make, options):
        whole, windows = make(**options), list(stream(72, documents=4))
        learned(whole, windows[:43])
        resumed = make(**options)
        resumed.load_state_dict(saved(whole))
        for one in windows[43:]:
            assert resumed.step([one]).score == whole.step([one]).score
        ours, theirs = saved(resumed), saved(whole)
        assert ours["documents"] == theirs["documents"]
        for file, group in theirs["tensors"].items():
            assert all(torch.equal(tensor, ours["tensors"][file][name]) for name, tensor in group.items())
        assert set(theirs["tensors"]["bank"]) == {"att_shift", "wkv", "ffn_shift"}

    def test_a_learner_without_one_leaves_a_saved_bank_out(self, make):
        plain = make(capacity=None)
        plain.load_state_dict(saved(learned(make(), stream(40))))
        assert plain.carried.bank is None and "bank" not in plain.state_dict()["tensors"]

    def test_a_state_without_a_bank_is_refused_by_a_learner_with_one(self, make):
        with pytest.raises(
            CheckpointError, match="bank of states does not fit: the run was saved without one"
        ):
            make().load_state_dict(saved(learned(make(capacity=None), stream(12))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda bank, tensors: bank["means"].append(bank["means"][0]), "there twice"),
        (lambda bank, tensors: bank["means"].append(["x", 1]), "more states than"),
        (lambda bank, tensors: bank["parts"].append(["x", 0, 1, 1.0, 1]), "not carried"),
        (lambda bank, tensors: bank["means"][0].__setitem__(1, 0), "int"),
        (lambda bank, tensors: bank.update(evictions=-1), "int"),
        (lambda bank, tensors: tensors.pop("wkv"), "no tensor 'wkv'"),
        (lambda bank, tensors: tensors.update(wkv=tensors["wkv"][:, :1]), "'wkv' is float32"),
        (lambda bank, tensors: tensors["wkv"].view(-1)[:1].fill_(float("nan")), "not finite"),
    ],
)
def test_a_damaged_bank_is_refused(make, change, message):
    state = saved(learned(make(), stream(40, documents=2)))
    assert len(state["documents"]["learner"]["bank"]["means"]) == 2
    change(state["documents"]["learner"]["bank"], state["tensors"]["bank"])
    with pytest.raises(CheckpointError, match=message):
        make().load_state_dict(state)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(where=st.sampled_from(["means", "parts", "evictions", None]), value=JSON)
def test_a_forged_bank_loads_as_it_is_or_is_refused(where, value):
    bank = StateBank(2)
    read(bank, "a", "p", [1.0] * (LONGEST + 1))
    state = copy.deepcopy(bank.state_dict())
    if where is None:
        state["meta"] = value
    else:
        state["meta"][where] = value
    other = StateBank(2)
    try:
        other.load_state_dict(state)
    except CheckpointError:
        return
    assert json.dumps(other.state_dict()["meta"]) == json.dumps(json.loads(json.dumps(state["meta"])))


@pytest.fixture
def trainer(tiny, tmp_path):
    """Return a function that makes a trainer with a bank."""

    def make(directory, *, resume=False, steps=0, learning: Any = None, **stream: Any):
        options: dict[str, Any] = {
            "memory": "bank",
            "bank_states": 2,
            "experts": "off",
            "window": 8,
        }
        return StreamTrainer(
            tiny(0),
            LearnerConfig(phrases="off", **(learning or {})),
            StreamConfig(checkpoint_every=30, steps=steps, **(options | stream)),
            directory=tmp_path / directory,
            resume=resume,
        )

    return make


def talk(start=0):
    """Return traces of four sessions of two projects, about 20 windows each."""
    traces = []
    for session in range(4):
        for number in range(8):
            meta = Meta(session=str(session), project="pq"[session % 2], origin="talk")
            traces.append(UserMessage(meta=meta, text=f"Is {number} plus {session} even?"))
    return traces[start:]


class TestRuns:
    def test_a_run_that_was_ended_goes_on_bit_for_bit(self, trainer, tmp_path):
        whole = trainer("whole")
        whole.run(talk())
        trainer("parts", steps=45).run(talk())
        parts = trainer("parts", resume=True)
        parts.run(talk(sum(parts.taken.values())))
        assert parts.totals == whole.totals
        for name in ("bank.safetensors", "learned.safetensors", "sessions.safetensors", "learner.json"):
            assert (parts.checkpoint / name).read_bytes() == (whole.checkpoint / name).read_bytes(), name

    def test_it_is_counted_in_the_report_and_by_inspect(self, trainer, tmp_path):
        run = trainer("run")
        run.run(talk())
        bank = run.report()["bank"]
        assert bank["states"] == 2 == bank["capacity"] and bank["taken_in"] >= 2
        assert bank["bytes"] == run.learner.carried.bank.nbytes > 0
        assert inspect_path(tmp_path / "run")["bank"] == bank

    def test_runs_with_another_bank_do_not_go_on(self, trainer):
        trainer("run").run(talk())
        for options in ({"bank_states": 3}, {"memory": "none", "bank_states": 16}):
            with pytest.raises(UsageError, match="--memory|--bank-states"):
                trainer("run", resume=True, **options)

    def test_readers_of_the_run_start_from_nothing(self, trainer, tiny, tmp_path):
        trainer("run").run(talk())
        predictor = Predictor(tiny(0), tmp_path / "run", experts=False)
        assert predictor.learner.carried.bank is None
        assert predictor.read().carried.state is None

    def test_s0_at_the_start_only_is_refused(self, trainer):
        with pytest.raises(UsageError, match="--memory bank does not go with --inject start"):
            trainer("run", learning={"inject": "start"})

    def test_unknown_kinds_of_memory_are_refused(self):
        with pytest.raises(UsageError, match="--memory must be none or bank, not 'palace'"):
            StreamConfig(memory="palace")  # pyright: ignore[reportArgumentType]
