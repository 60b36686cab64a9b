"""Models and inputs that the tests of this package share."""

import importlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from sttx_core.tokenizers import ByteTokenizer
from sttx_core.traces import AssistantMessage, Meta, ToolResult, ToolUse, UserMessage
from sttx_train.architectures import build_model, new_config
from sttx_train.formats import load_model, save_model

_RECIPE = Path(__file__).parents[1] / "recipes" / "goose_mini"


def randomize(model, seed=0):
    """Give every tensor values of its own, large enough that each path shows in the logits."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1 and name.endswith("weight"):  # a norm's
                parameter.copy_(1 + 0.2 * noise)
            elif parameter.ndim == 1 or "emb" in name or "r_k" in name:
                parameter.copy_(0.5 * noise)
            else:  # linear layers are [out, in], low-rank maps [in, out]
                parameter.copy_(noise / parameter.shape[1 if name.endswith("weight") else 0] ** 0.5)
    return model


@pytest.fixture(scope="session")
def make_model():
    """Return a function from sizes to a randomized model in evaluation mode."""

    def make(seed=0, dtype=torch.float32, architecture="x070", **sizes):
        defaults = {"vocab_size": 61, "hidden_size": 32, "num_layers": 3, "head_size": 16}
        if architecture == "x070":
            defaults |= {"v_rank": 8, "a_rank": 16}
        config = new_config(architecture, **(defaults | sizes))
        model = randomize(build_model(config, initialize=False), seed)
        return model.to(dtype).eval().requires_grad_(False)

    return make


@pytest.fixture(scope="session")
def draw_ids():
    """Return a function from a shape to token ids."""

    def draw(*shape, vocab_size=61, seed=0):
        return torch.randint(0, vocab_size, shape, generator=torch.Generator().manual_seed(seed))

    return draw


@pytest.fixture
def saved(make_model, tmp_path):
    """Return a function that saves a random model in a format and says where."""

    def save(format, *, seed=0, **sizes):
        path = tmp_path / ("model.pth" if format == "blinkdl" else format)
        save_model(make_model(seed, **sizes), path, format=format, tokenizer=ByteTokenizer())
        return path

    return save


@pytest.fixture(scope="session")
def edit_tensors():
    """Return a function that lets another change the tensors of a saved model."""

    def edited(path, edit):
        if path.suffix == ".pth":
            tensors = torch.load(path, weights_only=True)
            edit(tensors)
            torch.save(tensors, path)
        else:
            tensors = load_file(path / "model.safetensors")
            copies = {name: tensor.clone() for name, tensor in tensors.items()}
            edit(copies)
            save_file(copies, path / "model.safetensors")

    return edited


@pytest.fixture(scope="session")
def tiny(make_model, tmp_path_factory):
    """Return a function that loads a tiny random model of bytes from its folder, another for each seed."""
    folder = tmp_path_factory.mktemp("models")

    def load(seed=0, dtype=torch.float32):
        path = folder / f"tiny-{seed}"
        if not path.exists():
            sizes = {"vocab_size": 257, "hidden_size": 64, "num_layers": 2, "head_size": 32}
            save_model(make_model(seed, **sizes), path, tokenizer=ByteTokenizer())
        return load_model(path, dtype=dtype)

    return load


WORDS = ["the", "file", "was", "read", "again", "and", "the", "test", "that", "failed", "now", "passes"]


@pytest.fixture(scope="session")
def talk():
    """Return a function that makes traces of interleaved sessions that repeat themselves."""

    def make(count, *, sessions=2, seed=0):
        dice = random.Random(seed)
        traces = []
        for number in range(count):
            session = f"s{dice.randrange(sessions)}"
            meta = Meta(session=session, origin=f"/traces/{session}.jsonl", uid=str(number))
            text = " ".join(dice.choices(WORDS, k=dice.randrange(3, 9)))
            traces.append(
                (
                    UserMessage(meta=meta, text=text),
                    AssistantMessage(meta=meta, text=text),
                    ToolUse(meta=meta, name="Bash", input={"command": text}, id=str(number)),
                    ToolResult(meta=meta, name="Bash", output=text, id=str(number)),
                )[number % 4]
            )
        return traces

    return make


@pytest.fixture(scope="session")
def run():
    """Return a function that trains; it stops after so many steps as a kill would, without a last save."""

    def train(trainer, steps=None):
        losses = []
        for step in trainer.run():
            losses.append(step.loss)
            if steps is not None and len(losses) == steps:
                break
        return losses

    return train


@pytest.fixture(scope="session")
def assert_same_tensors():
    """Return a function that holds tensors by name against others, bit for bit."""

    def check(found, expected):
        assert found.keys() == expected.keys()
        assert [name for name, value in found.items() if not torch.equal(value, expected[name])] == []

    return check


@pytest.fixture(scope="module")
def recipe() -> Iterator[dict[str, ModuleType]]:
    """The recipe's modules, importable for these tests only."""
    names = [path.stem for path in _RECIPE.glob("*.py") if path.stem not in ("ship", "vocabulary")]
    sys.path.insert(0, str(_RECIPE))
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(_RECIPE))
        for name in names:
            sys.modules.pop(name, None)


@pytest.fixture
def redis_server():
    """Return a Redis server of the test's own: its ``url`` and its ``process``. Skip where there is none."""
    if (program := shutil.which("redis-server")) is None:
        pytest.skip("redis-server is not installed")
    import redis

    folder = Path(tempfile.mkdtemp(prefix="sttx-", dir="/tmp"))  # a socket's path has 108 bytes at most
    path, log = folder / "socket", folder / "log"
    options = ["--port", "0", "--unixsocket", path, "--save", "", "--dir", folder, "--logfile", log]
    process = subprocess.Popen([program, *map(str, options)])
    try:
        end = time.monotonic() + 300
        with redis.Redis(unix_socket_path=str(path)) as client:
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    assert process.poll() is None and time.monotonic() < end, log.read_text()
                    time.sleep(0.02)
        yield SimpleNamespace(url=f"unix://{path}", process=process)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


@pytest.fixture
def redis_url(redis_server):
    """Return the address of a Redis server of the test's own."""
    return redis_server.url
