"""What trains, learns, tunes, predicts and generates with RWKV-7 does so with RWKV-5.2 and RWKV-6."""

import json

import numpy as np
import pytest
import torch

from sttx_core.errors import UsageError
from sttx_core.tokenizers import ByteTokenizer
from sttx_train import LearnerConfig, Predictor, StreamConfig, StreamTrainer
from sttx_train.architectures import architecture_of
from sttx_train.export import export_slot, export_state, state_to_export
from sttx_train.formats import TunedState, load_model, load_state, save_model
from sttx_train.generate import SamplingConfig
from sttx_train.inspect import inspect_path
from sttx_train.online.scope import weights_in_scope
from sttx_train.pretrain import PretrainConfig, Pretrainer
from sttx_train.tune import TuneConfig, Tuner, read_examples

pytestmark = pytest.mark.parametrize("architecture", ["x060", "x052"])


@pytest.fixture
def load(make_model, tmp_path, architecture):
    """Return a function that loads a tiny random model of bytes."""

    def loaded():
        if not (tmp_path / "model").exists():
            sizes = {"vocab_size": 257, "hidden_size": 32, "num_layers": 2, "head_size": 16}
            save_model(
                make_model(architecture=architecture, **sizes), tmp_path / "model", tokenizer=ByteTokenizer()
            )
        return load_model(tmp_path / "model")

    return loaded


def left(traces, taken):
    """Yield what a source delivers to a resumed run: the traces after the first ones of each origin."""
    had = dict(taken)
    for trace in traces:
        if had.get(trace.meta.origin, 0):
            had[trace.meta.origin] -= 1
        else:
            yield trace


def pretrainer(architecture, folder, **options):
    sizes = {"hidden_size": 32, "layers": 2, "head_size": 16, "ctx": 16, "batch": 2}
    how = {"warmup": 2, "checkpoint_every": 3, "validation": 0.0, "lr": 3e-3, "bf16": False}
    resume = options.pop("resume", False)
    config = PretrainConfig(architecture=architecture, **sizes, **(how | options))
    return Pretrainer(config, folder, resume=resume)


def test_pretraining_learns_and_resumes_bit_for_bit(tmp_path, architecture, assert_same_tensors):
    data = np.arange(400).reshape(10, 40) % 7
    whole = pretrainer(architecture, tmp_path / "whole", steps=20)
    losses: list[float] = []
    whole.fit(data, on_step=lambda step: losses.append(step.loss))
    assert losses[-1] < 0.8 * losses[0]
    torn = pretrainer(architecture, tmp_path / "torn", steps=20)
    torn.fit(data, stop=lambda: torn.trainer.step == 7)
    again, later = pretrainer(architecture, tmp_path / "torn", steps=20, resume=True), []
    again.fit(data, on_step=lambda step: later.append(step.loss))
    assert later == losses[7:]
    assert_same_tensors(dict(again.model.state_dict()), dict(whole.model.state_dict()))
    report = inspect_path(tmp_path / "whole")
    assert report["config"]["architecture"] == report["model"]["architecture"] == architecture
    again.save_model(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert architecture_of(loaded.model.config) == architecture
    doubled = [group for group in again.trainer.optimizer.param_groups if group["lr_scale"] == 2.0]
    assert [p.shape for p in doubled[0]["params"]] == [again.model.blocks[0].att.time_decay.shape] * 2
    more = Pretrainer(PretrainConfig(steps=2, ctx=16, batch=2, validation=0.0), start=tmp_path / "model")
    more.fit(data)
    assert more.trainer.config.architecture == architecture
    with pytest.raises(UsageError, match=f"--architecture '?{architecture}"):
        pretrainer("x070", tmp_path / "whole", steps=20, resume=True).fit(data)


def test_a_state_is_learned_from_a_stream(load, talk, tmp_path, architecture, assert_same_tensors):
    loaded = load()
    before = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
    learning = LearnerConfig(phrases="off", replay_rows=0, lr_state=0.1)

    def trainer(folder, steps, **options):
        config = StreamConfig(steps=steps, window=32, experts="off")
        return StreamTrainer(load(), learning, config, directory=tmp_path / folder, **options)

    whole = trainer("whole", 60)
    whole.run(talk(200))
    assert whole.totals.bpb_paid < whole.totals.bpb_frozen
    assert_same_tensors(dict(whole.learner.model.state_dict()), before)
    trainer("torn", 20).run(talk(200))
    torn = trainer("torn", 60, resume=True)
    torn.run(left(talk(200), torn.taken))
    assert torch.equal(torn.learner.s0, whole.learner.s0) and torn.totals == whole.totals
    exported = state_to_export(tmp_path / "whole")
    export_state(exported, tmp_path / "state.pth", "state-pth")
    assert torch.equal(load_state(tmp_path / "state.pth", config=loaded.model.config).s0, exported.s0)


def test_a_state_is_tuned_for_the_start(load, tmp_path, architecture):
    rows = [{"prompt": "What is it?", "completion": "meow " * 3} for _ in range(6)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded, config = load(), TuneConfig(epochs=6, batch=3, warmup=1, lr=0.05, bf16=False, patience=0)
    examples = read_examples(tmp_path / "pairs.jsonl", loaded.tokenizer, config).examples
    losses: list[float] = []
    Tuner(loaded, config, examples, directory=tmp_path / "tuned").run(lambda step: losses.append(step.loss))
    assert losses[-1] < losses[0]
    text = "User: What is it?\n\nAssistant: meow"
    ids = loaded.tokenizer.encode(text)

    def bits(learned):
        return sum(Predictor(load(), learned, experts=False).read("d").score(ids).bits)

    assert bits(tmp_path / "tuned") < bits(None)


def test_a_reader_scores_what_its_distributions_say(load, architecture):
    predictor = Predictor(load(), experts=False)
    scored, stepped = predictor.read("a"), predictor.read("b")
    ids = load().tokenizer.encode("some text")
    for token, bits in zip(ids, scored.score(ids).bits, strict=True):
        assert -stepped.log_probs()[token] / np.log(2) == pytest.approx(float(bits), abs=1e-3)
        stepped.advance([token])


def test_generation_takes_the_likeliest_token(load, architecture):
    loaded = load()
    reader = Predictor(loaded, experts=False).read("d")
    reader.advance(loaded.tokenizer.encode("a"))
    result = reader.generate(SamplingConfig(temperature=0), max_tokens=5)
    assert "".join(result) == result.text
    ids = [0, *loaded.tokenizer.encode("a")]
    for token in result.ids:
        assert int(loaded.model(torch.tensor([ids]))[0][0, -1].argmax()) == token
        ids.append(token)


def test_scopes_name_the_vectors(load, architecture):
    names = {name.split(".")[-1] for name in weights_in_scope(load().model, ["vectors"]) if ".att." in name}
    assert {"time_decay", "time_faaaa", "weight", "bias"} <= names
    assert not names & {"time_maa_w1", "time_decay_w2"}


def test_slots_of_llama_are_for_rwkv7(load, tmp_path, architecture):
    state = TunedState(s0=torch.zeros(2, 2, 16, 16))
    with pytest.raises(
        UsageError, match=r"slots are written for RWKV-7 alone, so export with --to state-pth"
    ):
        export_slot(state, load(), tmp_path / "slot", tmp_path / "out")
