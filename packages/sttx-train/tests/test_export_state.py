"""Exported states: where they come from, how web-rwkv programs read them, and what is refused."""

import json

import pytest
import torch
from safetensors import safe_open

from sttx_core.errors import CheckpointError, ModelError, SttxWarning, UsageError
from sttx_train import LearnerConfig, Predictor, StreamConfig, StreamTrainer
from sttx_train.export import (
    MODEL_KINDS,
    check_out,
    chosen_dtype,
    export_model,
    export_state,
    model_to_export,
    state_to_export,
)
from sttx_train.formats import TunedState, load_state
from sttx_train.predict import check_origin
from sttx_train.wkv import wkv

HEADS, SIZE = 2, 16


@pytest.fixture
def trained(tiny, talk, tmp_path):
    """Return a function that trains for some steps and returns the trainer and its folder."""

    def train(folder="run", *, state=None, **learning):
        options = {"phrases": "off", "replay_rows": 0} | learning
        trainer = StreamTrainer(
            tiny(),
            LearnerConfig(**options),
            StreamConfig(window=32, steps=4, experts="off"),
            directory=tmp_path / folder,
            state=state,
        )
        trainer.run(talk(40))
        return trainer

    return train


def read_by_web_rwkv(path, layer):
    """Return ``[key, H * N + value]`` of a layer, as web-rwkv lays the file's memory out.

    Its dimensions start with the fastest: a file's ``[H, A, B]`` is its ``[B, A, H]``. Its loader swaps the
    last two, and joins the first two into channels: row A of the result has B of each head in turn.
    """
    with safe_open(path, framework="pt") as file:
        entry = file.get_tensor(f"blocks.{layer}.att.time_state")
    assert entry.dtype == torch.float16
    memory, (heads, rows, columns) = entry.float().flatten(), entry.shape
    result = torch.empty(rows, heads * columns)
    for head in range(heads):
        for row in range(rows):
            start = (head * rows + row) * columns
            result[row, head * columns : (head + 1) * columns] = memory[start : start + columns]
    return result


def one_step_of_web_rwkv(state_KC, r, w, k, v, a, b):
    """Return y ``[C]`` of one token: for each channel of the value, a loop over the keys of its head."""
    y = torch.zeros(HEADS * SIZE)
    for channel in range(HEADS * SIZE):
        first = channel // SIZE * SIZE
        keys = slice(first, first + SIZE)
        column = state_KC[:, channel]
        sa = (a[keys] * column).sum()
        column = column * w[keys] + sa * b[keys] + k[keys] * v[channel]
        y[channel] = (r[keys] * column).sum()
    return y


@pytest.mark.parametrize("transposed", [False, True])
def test_web_rwkv_reads_values_of_the_right_orientation(tmp_path, transposed):
    generator = torch.Generator().manual_seed(0)
    s0 = torch.randn(2, HEADS, SIZE, SIZE, generator=generator).half().float()
    written = s0.mT.contiguous() if transposed else s0
    export_state(TunedState(s0=written), tmp_path / "s.st", "state-st")
    r, k, v, a, b = torch.randn(5, HEADS * SIZE, generator=generator)
    w = torch.rand(HEADS * SIZE, generator=generator)
    given = [x.view(1, 1, HEADS, SIZE) for x in (r, w.log(), k, v, a, b)]
    ours, _ = wkv(*given, s0[1][None], backend="recurrent")
    theirs = one_step_of_web_rwkv(read_by_web_rwkv(tmp_path / "s.st", 1), r, w, k, v, a, b)
    agrees = torch.allclose(ours.flatten(), theirs, atol=1e-4)
    assert agrees is not transposed


def test_a_run_gives_its_state_and_where_it_was_added(trained, tmp_path):
    trainer = trained()
    exported = export_state(state_to_export(tmp_path / "run"), tmp_path / "s.pth", "state-pth")
    assert torch.equal(load_state(tmp_path / "s.pth").s0, trainer.learner.average.value / 2)
    assert exported.files == (tmp_path / "s.pth", tmp_path / "s.pth.json")
    identity = json.loads((tmp_path / "s.pth.json").read_text())
    assert identity == exported.identity
    assert identity["model_sha256"] == trainer.loaded.sha256
    assert (identity["inject"], identity["window"]) == ("every", "32")
    assert "learned by injection at every window" in exported.notes[0]
    of_start = export_state(
        state_to_export(trained("other", inject="start").checkpoint), tmp_path / "t.st", "state-st"
    )
    assert (of_start.identity["inject"], of_start.identity["opening"]) == ("start", "eot")
    assert len(of_start.notes) == 1 and "give token 0 first" in of_start.notes[0]
    assert load_state(tmp_path / "t.st").metadata == of_start.identity


def test_a_state_reads_as_its_run_did(trained, tmp_path):
    trainer = trained()
    export_state(state_to_export(tmp_path / "run"), tmp_path / "s.pth", "state-pth")
    with pytest.warns(SttxWarning, match="no start state for other programs"):
        again = Predictor(trainer.loaded, tmp_path / "s.pth", experts=False)
    ids = trainer.loaded.tokenizer.encode("User: the file was read again " * 5)
    from_run = Predictor(trainer.loaded, tmp_path / "run", experts=False)
    assert again.read().score(ids).bits == pytest.approx(from_run.read().score(ids).bits, abs=1e-6)


class TestStartingFromAState:
    def test_training_starts_from_it_and_resumes_only_with_it(self, trained, tmp_path, tiny):
        trained()
        export_state(state_to_export(tmp_path / "run"), tmp_path / "s.pth", "state-pth")
        still = trained("still", state=tmp_path / "s.pth", lr_state=0.0, weight_decay=0.0)
        assert torch.equal(still.learner.s0, load_state(tmp_path / "s.pth").s0)
        again = [tiny(), LearnerConfig(phrases="off", replay_rows=0, lr_state=0.0, weight_decay=0.0)]
        config = StreamConfig(window=32, steps=4, experts="off")
        with pytest.raises(UsageError, match="made with a --state of SHA-256"):
            StreamTrainer(*again, config, directory=tmp_path / "still", resume=True)
        resumed = StreamTrainer(
            *again, config, directory=tmp_path / "still", resume=True, state=tmp_path / "s.pth"
        )
        assert resumed.totals.steps == 4

    def test_another_place_than_it_was_learned_for_is_said(self, trained, tmp_path):
        save = TunedState(s0=torch.ones(2, 2, 32, 32), metadata={"inject": "start"})
        export_state(save, tmp_path / "s.pth", "state-pth")
        with pytest.warns(SttxWarning, match="for the start of a document, and is added by injection"):
            trained(state=tmp_path / "s.pth")

    @pytest.mark.parametrize("learning", [{"scope": ("bias",)}, {"inject": "none"}])
    def test_without_effect_it_is_refused(self, trained, tmp_path, learning):
        export_state(TunedState(s0=torch.ones(2, 2, 32, 32)), tmp_path / "s.pth", "state-pth")
        with pytest.raises(UsageError, match="--state would have no effect"):
            trained(state=tmp_path / "s.pth", **learning)


class TestRefusals:
    def test_runs_without_a_state(self, trained, tmp_path):
        trained("bias", scope=("bias",))
        with pytest.raises(UsageError, match="learned with --scope bias"):
            state_to_export(tmp_path / "bias")
        trained("none", inject="none")
        with pytest.raises(UsageError, match="is zero|never used"):
            state_to_export(tmp_path / "none")
        with pytest.raises(CheckpointError, match="no checkpoint"):
            state_to_export(tmp_path)

    def test_names(self, tmp_path):
        with pytest.raises(UsageError, match=r"must end in '\.pth'"):
            check_out("state-pth", tmp_path / "s.st")
        (tmp_path / "s.st").touch()
        with pytest.raises(UsageError, match="exists already"):
            check_out("state-st", tmp_path / "s.st")
        (tmp_path / "s.pth.json").touch()
        with pytest.raises(UsageError, match=r"s\.pth\.json' exists already"):
            check_out("state-pth", tmp_path / "s.pth")
        check_out("blinkdl", tmp_path / "s.pth")

    def test_values_that_float16_cannot_hold(self, tmp_path):
        with pytest.raises(UsageError, match="float16 cannot hold"):
            export_state(TunedState(s0=torch.full((1, 1, 2, 2), 7e4)), tmp_path / "s.st", "state-st")
        assert not (tmp_path / "s.st").exists()

    def test_another_models_state(self, tiny, tmp_path):
        metadata = {"inject": "start", "model": "other", "model_sha256": "0" * 64}
        export_state(
            TunedState(s0=torch.ones(2, 2, 32, 32), metadata=metadata), tmp_path / "s.st", "state-st"
        )
        with pytest.warns(SttxWarning, match="learned with the model 'other'"):
            Predictor(tiny(), tmp_path / "s.st", experts=False)
        wrong = {"vocabulary_sha256": "0" * 64}
        export_state(TunedState(s0=torch.ones(2, 2, 32, 32), metadata=wrong), tmp_path / "v.st", "state-st")
        with pytest.raises(UsageError, match="another vocabulary"):
            Predictor(tiny(), tmp_path / "v.st", experts=False)
        odd = {"inject": "every", "window": "-3"}
        export_state(TunedState(s0=torch.ones(2, 2, 32, 32), metadata=odd), tmp_path / "o.st", "state-st")
        with pytest.warns(SttxWarning), pytest.raises(ModelError, match="windows have '-3' tokens"):
            Predictor(tiny(), tmp_path / "o.st", experts=False)


def test_what_was_read_first_is_compared(tiny, tmp_path):
    loaded = tiny()
    for opening, first in (("eot", "the end-of-text token"), ("text", "the text itself")):
        state = TunedState(s0=torch.ones(2, HEADS, SIZE, SIZE), metadata={"opening": opening})
        exported = export_state(state, tmp_path / f"{opening}.pth", "state-pth")
        assert bool(exported.notes) == (opening == "eot")
        other = "text" if opening == "eot" else "eot"
        with pytest.warns(SttxWarning, match=f"was learned before {first}, and is given before"):
            check_origin(tmp_path / "s.pth", state, loaded, used="start", opening=other)
        check_origin(tmp_path / "s.pth", state, loaded, used="start", opening=opening)  # no warning


def test_a_damaged_state_is_not_to_be_downloaded(tmp_path):
    for name in ("s.pth", "s.st"):
        export_state(TunedState(s0=torch.ones(2, HEADS, SIZE, SIZE)), tmp_path / name, f"state-{name[2:]}")
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ModelError, match="export it again, or copy it again from where it was$"):
            load_state(tmp_path / name)


def test_a_model_is_written_with_its_own_vocabulary_beside_nothing_else(tiny, tmp_path):
    (tmp_path / "m.vocabulary-of-mine").write_text("not of the export")
    exported = export_model(model_to_export(tiny()), tmp_path / "m.pth", "blinkdl", "float32")
    assert [file.name for file in exported.files] == ["m.pth", "m.vocab.txt"]
    (tmp_path / "m.pth").unlink()
    with pytest.raises(UsageError, match=r"m\.vocab\.txt' exists already"):
        check_out("blinkdl", tmp_path / "m.pth")


def test_what_was_learned_is_not_rounded_by_default():
    assert [chosen_dtype(kind, None, learned=True) for kind in MODEL_KINDS] == ["float32"] * 3
    assert chosen_dtype("blinkdl", "bfloat16", learned=True) == "bfloat16"
