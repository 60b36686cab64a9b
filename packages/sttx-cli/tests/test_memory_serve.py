"""`sttx memory serve` and `sttx memory prompts` on a tiny random Llama."""

import json
import signal
from urllib.request import Request, urlopen

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from sttx_train.memory import MemoryConfig, attach
from sttx_train.memory.adapter import SavedAdapter, write_run, write_sidecar

SIZES = {
    "vocab_size": 257,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "eos_token_id": 256,
}
SEES = ("--window", 64, "--overlap", 8, "--threads", 1)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Return the folder of a base whose tokens differ clearly."""
    folder = tmp_path_factory.mktemp("base")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(1)
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8 if parameter.ndim > 1 else 1)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(base, tmp_path_factory):
    """Return a sidecar with an adapter as if trained, and a run with one that is not."""
    folder = tmp_path_factory.mktemp("adapters")
    memory = attach(LlamaForCausalLM.from_pretrained(base), MemoryConfig(rank=4, chunk=16))
    write_run(SavedAdapter.of(memory), folder / "untrained")
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter += 0.5 * torch.randn(parameter.shape)
    write_sidecar(SavedAdapter.of(memory), folder / "trained.gguf")
    return folder / "trained.gguf", folder / "untrained"


@pytest.fixture
def suite(tmp_path):
    messages = [{"role": "user", "content": text} for text in ("the build failed", "why?")]
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"id": "a", "messages": messages}) + "\n")
    return path


def test_prompts_are_answered_with_and_without(base, adapters, suite, sttx):
    result = sttx("memory", "prompts", adapters[0], suite, "--base", base, "--tokens", 8, *SEES)
    assert result.code == 0, result.err
    (found,) = map(json.loads, result.out.splitlines())
    assert (found["id"], found["prompt"], found["written"]) == ("a", "User: why?", 24)
    assert found["divergence"] > 0 and found["same"] is False
    assert found["with_memory"]["tokens"] == found["without_memory"]["tokens"] == 8
    again = sttx("memory", "prompts", adapters[0], suite, "--base", base, "--tokens", 8, *SEES)
    assert again.out == result.out


def test_a_memory_without_effect_is_not_compared(base, adapters, suite, sttx):
    result = sttx("memory", "prompts", adapters[1], suite, "--base", base, *SEES)
    assert result.code == 2 and result.out == "" and "the memory is not active" in result.err
    suite.write_text("{}\n")
    result = sttx("memory", "prompts", adapters[1], suite, "--base", base)
    assert result.code == 1 and "line 1 is not a prompt" in result.err
    suite.write_text("\n")
    result = sttx("memory", "prompts", adapters[1], suite, "--base", base)
    assert result.code == 2 and "has no prompt" in result.err


def test_it_serves_until_it_is_interrupted(base, adapters, start):
    server = start("memory", "serve", adapters[0], "--base", base, "--port", 0, *SEES)
    try:
        said = []
        for line in server.stderr:
            said.append(line)
            if line.startswith("listening on "):
                break
        url = said[-1].removeprefix("listening on ").strip()
        assert url.startswith("http://127.0.0.1:"), said
        with urlopen(f"{url}/v1/memory/health", timeout=300) as response:
            assert json.load(response)["active"] is True
        with urlopen(f"{url}/v1/models", timeout=300) as response:
            name = json.load(response)["data"][0]["id"]
        assert name.startswith(f"{base.name}:trained@")
        body = {"model": name, "messages": [{"role": "user", "content": "a"}], "max_tokens": 4}
        with urlopen(
            Request(f"{url}/v1/chat/completions", json.dumps(body).encode()), timeout=300
        ) as response:
            assert json.load(response)["usage"]["completion_tokens"] >= 1
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=300)
        assert (server.returncode, out) == (0, "") and "stopping" in err and "Traceback" not in err
    finally:
        server.kill()
        server.communicate()


def test_what_does_not_fit_is_refused_beforehand(base, adapters, sttx, tmp_path):
    for options, reason in (
        (["--host", "0.0.0.0"], "--api-key-file"),
        (["--overlap", 600], "--overlap must be"),
        (["--learn"], "No such option"),
    ):
        result = sttx("memory", "serve", adapters[0], "--base", base, "--port", 0, *options)
        assert result.code == 2 and reason in result.err
