"""`sttx memory train`, `eval` and `chat` on a tiny random Llama in a folder of Transformers."""

import io
import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from sttx_train.checkpoint import CheckpointStore

QUICK = (
    *("--steps", 4, "--batch", 2, "--write", 24, "--score", 12, "--lead", 4, "--warmup", 1, "--lr", 0.05),
    *("--rank", 4, "--slots", 3, "--chunk", 6, "--checkpoint-every", 2),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=256,
        eos_token_id=256,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sessions(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sessions")
    for number in range(5):
        said = {"role": "user", "content": f"Please run test {number} again. " * 4}
        lines = [
            {
                "type": "user",
                "uuid": f"{number}-{at}",
                "sessionId": f"s{number}",
                "timestamp": f"2026-01-0{number + 1}T00:00:0{at}Z",
                "message": said,
            }
            for at in range(3)
        ]
        (folder / f"s{number}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory, sttx, base, sessions) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    named = []
    for name, more in (("one", ()), ("two", ("--seed", 1)), ("control", ("--control",))):
        result = sttx("memory", "train", sessions, "--base", base, "--out", folder / name, *QUICK, *more)
        assert result.code == 0, result.err
        named.append(folder / name)
    return tuple(named)


def test_training_reports_and_continues_where_it_was_saved(sttx, base, sessions, runs, tmp_path):
    arguments = ("memory", "train", sessions, "--base", base, "--out", tmp_path / "run", *QUICK)
    result = sttx(*arguments, "--json")
    assert result.code == 0, result.err
    assert result.json["steps"] == 4 and result.json["sessions"] == {"trained": 3, "validation": 2}
    assert result.json["bpb"] > 0 and "memory: " in result.err
    assert sttx(*arguments).code == 2  # there is a run already
    CheckpointStore(tmp_path / "half").save(
        2, tensors=_at(runs[0], 2).tensors, documents={}, manifest=_fields(_at(runs[0], 2).manifest)
    )
    resumed = sttx(
        *("memory", "train", sessions, "--base", base, "--out", tmp_path / "half", *QUICK, "--resume")
    )
    assert resumed.code == 0 and "resumed: at step 2 of 4" in resumed.err
    one, other = (CheckpointStore(path).load().tensors["adapter"] for path in (tmp_path / "half", runs[0]))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def _at(run: Path, step: int):
    store = CheckpointStore(run)
    return store.load(next(folder for folder in store.folders() if folder.name.endswith(f"{step}")))


def _fields(manifest: dict) -> dict:
    own = ("format", "step", "created", "files", "sha256")
    return {name: value for name, value in manifest.items() if name not in own}


def test_the_evaluation_has_all_arms_and_a_verdict(sttx, sessions, runs):
    one, two, control = runs
    result = sttx(
        *("memory", "eval", one, two, "--from", sessions, "--control", control, "--control", control),
        *("--windows", 2, "--pieces", 1, "--piece", 8, "--json"),
    )
    assert result.code == 0, result.err
    report = result.json
    arms = {"correct", "zero", "donor", "shuffled", "permuted", "low-rank", "prefix", "bm25"}
    assert set(report["arms"]) == arms and len(report["by_run"]) == 2 and report["sessions"] == 2
    assert report["effects"].keys() >= {"memory", "content", "order", "layers", "training"}
    assert report["verdict"].startswith("The content of the state ")
    assert "3 sessions left out, which were trained on" in result.err
    assert report["verdict"] in result.err
    alone = sttx("memory", "eval", one, "--from", sessions, "--windows", 1)
    assert alone.code == 0 and "correct - donor: " in alone.out and "low-rank" not in alone.out


def test_runs_that_cannot_be_compared_are_refused(sttx, base, sessions, runs, tmp_path):
    one, _, control = runs
    other = tmp_path / "other"
    arguments = ("memory", "train", sessions, "--base", base, "--out", other, *QUICK, "--steps", 2)
    assert sttx(*arguments).code == 0
    for refused, message in (
        ((one, other), "with steps 2, and"),
        ((control,), "is not a run of sttx memory train:"),
        ((one, "--control", one), "is not one of sttx memory train --control"),
        ((one, "--control", control, "--control", control), "2 controls for 1 run"),
    ):
        result = sttx("memory", "eval", *refused, "--from", sessions)
        assert result.code == 2 and message in result.err, result.err


def talk(sttx, monkeypatch, lines: str, *arguments: object):
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    return sttx("memory", "chat", *arguments, "--tokens", 5, "--window", 64, "--overlap", 8)


def test_a_chat_that_is_left_and_continued_answers_as_one_that_was_not(sttx, monkeypatch, runs, tmp_path):
    whole = talk(sttx, monkeypatch, "Hello there\n\nAnd now?\nOnce more\n", runs[0])
    assert whole.code == 0, whole.err
    session = ("--session", tmp_path / "session")
    first = talk(sttx, monkeypatch, "Hello there\nAnd now?\n", runs[0], *session)
    second = talk(sttx, monkeypatch, "Once more\n", runs[0], *session)
    assert second.code == 0 and "continued: 4 messages, " in second.err
    assert whole.out == first.out + second.out
    forgotten = talk(sttx, monkeypatch, "/forget\nHello there\n", runs[0], *session)
    assert "forgotten" in forgotten.err
    assert forgotten.out.splitlines()[0] == whole.out.splitlines()[0]
    refused = talk(sttx, monkeypatch, "Hi\n", runs[1], *session)
    assert refused.code == 1 and "another adapter" in refused.err


def test_random_answers_follow_the_seed(sttx, monkeypatch, runs):
    said = [
        talk(
            sttx, monkeypatch, "Hello\n", runs[0], "--temperature", 1.5, "--seed", seed, "--unit", "token"
        ).out
        for seed in (1, 1, 2)
    ]
    assert said[0] == said[1] != said[2]


def test_a_base_that_is_not_there_is_named(sttx, sessions, tmp_path):
    arguments = ("memory", "train", sessions, "--out", tmp_path / "run", *QUICK)
    result = sttx(*arguments, "--base", tmp_path / "none")
    assert result.code == 2 and "is not a folder with a model of Transformers" in result.err
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    result = sttx(*arguments, "--base", tmp_path / "broken")
    assert result.code == 1 and "cannot be read as a tokenizer" in result.err
    result = sttx(*arguments, "--base", tmp_path, "--layers", "1,x")
    assert result.code == 2 and "is not a list of numbers such as 10,15,20" in result.err
