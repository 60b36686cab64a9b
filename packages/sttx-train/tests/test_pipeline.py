"""`TrainingPipeline`: data of every kind, epochs that count, continuing that continues, refusals."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from sttx_core.errors import DataError, UsageError
from sttx_core.tokenizers import ByteTokenizer, IntegerTokenizer, create_vocab_file
from sttx_train.checkpoint import CheckpointStore
from sttx_train.formats import load_model, save_model
from sttx_train.pipeline import DataConfig, ModelConfig, TrainingConfig, TrainingPipeline

SMALL = ModelConfig(n_layer=1, n_embd=32, head_size_a=16, ctx_len=16)
FAST = TrainingConfig(micro_bsz=2, precision="fp32", warmup_steps=2, lr_init=3e-3, lr_final=3e-4)
TO_SIX = IntegerTokenizer(6)
ROWS = np.arange(120).reshape(10, 12) % 7


@pytest.fixture
def make(tmp_path):
    def pipeline(name="work", tokenizer=TO_SIX, model=SMALL, training=FAST, **data):
        return TrainingPipeline(
            tmp_path / name, model, training, DataConfig(**({"validation": 0.0} | data)), tokenizer
        )

    return pipeline


def weights(folder):
    return load_model(folder).model.state_dict()


@pytest.mark.parametrize("architecture", ["x060", "x070", "x052"])
def test_epochs_count(make, architecture):
    pipeline = make(model=replace(SMALL, model_type=architecture))
    report = pipeline.train(ROWS, num_epochs=3)
    an_epoch = 5  # 129 ids have a next one: two rows of five windows of 16
    assert (report.epochs, report.steps) == (3.0, 3 * an_epoch)
    assert [path.name for path in pipeline.list_checkpoints()] == ["step-00000010", "step-00000015"]
    loaded = load_model(pipeline.model_dir)
    assert loaded.model.config.vocab_size == 8 and loaded.vocabulary.vocab_size == 8
    assert pipeline.inspect_checkpoint(pipeline.model_dir)["version"] == architecture
    report = pipeline.inspect_checkpoint(pipeline.latest_checkpoint())
    assert (report["step"], report["progress"]["epochs"]) == (15, 3.0)


def test_continuing_continues_bit_for_bit(make):
    """A run of four epochs that stops after two, at an even learning rate, equals one of four."""
    even = replace(FAST, lr_final=FAST.lr_init)
    whole = make("whole", training=even)
    whole.train(ROWS, num_epochs=4, random_seed=3)
    torn = make("torn", training=even)
    assert torn.train(ROWS, num_epochs=2, random_seed=3).epochs == 2.0
    again = make("torn", training=even)
    report = again.train(num_epochs=4, continue_training=True)  # the data and the seed are in the folder
    assert report.epochs == 4.0 and report.steps == 20
    expected = weights(whole.model_dir)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(again.model_dir).items())


def test_checkpoints_are_listed_by_their_number(make):
    pipeline = make()
    assert pipeline.list_checkpoints() == [] and pipeline.latest_checkpoint() is None
    store = CheckpointStore(pipeline.run_dir, keep=9)
    for step in (9, 10, 100_000_000, 99_999_999):
        store.save(step, tensors={}, documents={}, manifest={"kind": "pretrain"})
    steps = [int(path.name.split("-")[1]) for path in pipeline.list_checkpoints()]
    assert steps == [9, 10, 99_999_999, 100_000_000]
    assert pipeline.latest_checkpoint().name == "step-100000000"


class TestData:
    def numbers(self, pipeline):
        pipeline.train(num_epochs=1)
        return json.loads((pipeline.latest_checkpoint() / "data.json").read_text())["ids"]

    def test_each_kind_gives_the_same_documents(self, make, tmp_path):
        np.save(tmp_path / "rows.npy", ROWS)
        lines = {
            "lists": ROWS.tolist(),
            "texts": [{"text": " ".join(map(str, row))} for row in ROWS.tolist()],
        }
        pipelines = {name: make(name) for name in ("array", "npy", "lists", "texts", "pair")}
        pipelines["array"].prepare_data(ROWS)
        pipelines["npy"].prepare_data_from_file(tmp_path / "rows.npy")
        for name, entries in lines.items():
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
            pipelines[name].prepare_data_from_jsonl(tmp_path / f"{name}.jsonl")
        pipelines["pair"].use_existing_data(tmp_path / "array" / "data" / "train")
        assert {self.numbers(pipeline) for pipeline in pipelines.values()} == {130}
        models = [weights(pipeline.model_dir) for pipeline in pipelines.values()]
        for other in models[1:]:
            assert all(torch.equal(other[name], tensor) for name, tensor in models[0].items())

    def test_one_sequence_is_cut_and_nothing_of_it_is_lost(self, make):
        pipeline = make(sequence_length=50)
        pipeline.prepare_data(ROWS.flatten())
        assert self.numbers(pipeline) == 120 + 3

    def test_text_with_a_vocabulary(self, make, tmp_path):
        create_vocab_file([b"hello", b" world"], tmp_path / "vocab.txt")
        (tmp_path / "text.jsonl").write_text('{"text": "hello world"}\n' * 20)
        pipeline = make()
        pipeline.prepare_data_from_jsonl(tmp_path / "text.jsonl", vocab_file_path=tmp_path / "vocab.txt")
        assert self.numbers(pipeline) == 20 * 3
        assert pipeline.tokenizer.encode("hello world") == load_model(pipeline.model_dir).tokenizer.encode(
            "hello world"
        )

    def test_what_does_not_fit_is_named(self, make, tmp_path):
        with pytest.raises((DataError, UsageError), match="value 7 at position 4 is not from 0 to 6"):
            make().prepare_data(ROWS + 3)
        (tmp_path / "text.jsonl").write_text('{"text": "seven 8"}\n')
        with pytest.raises(UsageError, match="holds text, but the tokenizer is one of numbers"):
            make().prepare_data_from_jsonl(tmp_path / "text.jsonl")
        make("a").prepare_data(ROWS)
        with pytest.raises(UsageError, match="vocabulary|tokenizer"):
            make("b", tokenizer=ByteTokenizer()).use_existing_data(tmp_path / "a" / "data" / "train")

    def test_data_may_be_prepared_again_until_there_is_a_run(self, make):
        pipeline = make()
        pipeline.prepare_data(ROWS)
        pipeline.prepare_data(ROWS[:6])
        pipeline.train(num_epochs=1)
        pipeline.prepare_data(ROWS[:6])
        with pytest.raises(UsageError, match="holds a run on other data: give the same"):
            pipeline.prepare_data(ROWS)


class TestFromCheckpoint:
    def test_sizes_are_the_checkpoints_and_options_may_be_overridden(self, make, make_model, tmp_path):
        sizes = {"vocab_size": 9, "hidden_size": 32, "num_layers": 2, "head_size": 16}
        model = make_model(architecture="x052", **sizes)
        save_model(model, tmp_path / "rwkv-10.pth", format="blinkdl")
        pipeline = make()
        pipeline.prepare_data(ROWS)
        override = {"ctx_len": 8, "lr_init": 1e-9, "lr_final": 1e-9, "weight_decay": 0.0}
        report = pipeline.train_from_checkpoint(tmp_path / "rwkv-10.pth", num_epochs=1, override=override)
        assert report.epochs == 1.0
        trained = load_model(pipeline.model_dir).model
        assert trained.config == model.config
        before = model.state_dict()
        for name, tensor in trained.state_dict().items():
            assert torch.allclose(tensor, before[name], atol=1e-6), name
        assert pipeline.inspect_checkpoint(pipeline.latest_checkpoint())["config"]["ctx"] == 8
        again = make()
        again.training_config, again.model_config = pipeline.training_config, pipeline.model_config
        assert pipeline.inspect_checkpoint(tmp_path / "rwkv-10.pth")["version"] == "x052"

    def test_what_cannot_be_overridden_is_refused(self, make, tmp_path):
        pipeline = make()
        with pytest.raises(UsageError, match="n_layer is that of 'x.pth': it cannot be overridden"):
            pipeline.train_from_checkpoint("x.pth", override={"n_layer": 5})
        with pytest.raises(UsageError, match="unknown option 'learning_rate' in override"):
            pipeline.train_from_checkpoint("x.pth", override={"learning_rate": 5})


class TestRefusals:
    @pytest.mark.parametrize(
        ("make_config", "said"),
        [
            (lambda: ModelConfig(model_type="x040"), "model_type must be one of x070, x060, x052"),
            (lambda: TrainingConfig(beta1=0.8), "beta1 is always 0.9 here, not 0.8: leave it out"),
            (lambda: TrainingConfig(strategy="deepspeed_stage_2"), "strategy is always 'auto' here"),
            (lambda: TrainingConfig(precision="fp16"), "precision must be auto, bf16 or fp32"),
            (lambda: TrainingConfig(epoch_save=0), "epoch_save must be at least 1"),
            (lambda: TrainingConfig(lr_final=1.0), "lr_final must be above 0 and at most lr_init"),
            (lambda: DataConfig(sequence_length=0), "sequence_length must be at least 1"),
            (lambda: DataConfig(validation=1.0), "validation must be a share"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_options(self, make_config, said):
        with pytest.raises(UsageError, match=said):
            make_config()

    def test_runs(self, make):
        pipeline = make()
        with pytest.raises(UsageError, match="there is no data to train on"):
            pipeline.train(num_epochs=1)
        with pytest.raises(UsageError, match="holds no run to continue: leave out continue_training"):
            pipeline.train(ROWS, num_epochs=1, continue_training=True)
        with pytest.raises(UsageError, match="num_epochs must be at least 1, not 0"):
            pipeline.train(ROWS, num_epochs=0)
        with pytest.raises(UsageError, match="vocab_size 5 is less than the 8 ids of the tokenizer"):
            make(model=replace(SMALL, vocab_size=5)).train(ROWS, num_epochs=1)
        pipeline.train(ROWS, num_epochs=1)
        with pytest.raises(UsageError, match="holds a run: continue it with train.continue_training=True"):
            pipeline.train(ROWS, num_epochs=1)
        with pytest.raises(UsageError, match="--seed"):
            pipeline.train(num_epochs=2, continue_training=True, random_seed=9)


def test_validation_is_measured_each_epoch(make):
    pipeline = make(validation=0.2)
    report = pipeline.train(ROWS, num_epochs=2)
    assert report.loss["validation"] is not None and report.epochs == 2.0
