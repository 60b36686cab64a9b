"""A model of two small layers, sessions to learn from, and the command as a function."""

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from sttx_cli import run
from sttx_core.tokenizers import ByteTokenizer
from sttx_train import save_model
from sttx_train.architectures import Architecture, build_model, new_config


class Result(NamedTuple):
    """Exit code and output of a command line."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return the one object on standard output; nothing else may be there."""
        return json.loads(self.out)


Command = Callable[..., Result]


def call(*arguments: object) -> Result:
    """Run a command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(argument) for argument in arguments])
    return Result(code, out.getvalue(), err.getvalue())


def process(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start a command line in a process of its own, with pipes for all streams."""
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [sys.executable, "-m", "sttx_cli", *map(str, arguments)]
    return subprocess.Popen(command, text=True, **(streams | options))


def write_model(folder: Path, seed: int, *, architecture: Architecture = "x070", **sizes: Any) -> Path:
    """Write a random model over bytes, with enough noise in every tensor that each path has an effect."""
    sizes = {"vocab_size": 257, "hidden_size": 64, "num_layers": 2, **sizes}
    model = build_model(new_config(architecture, **sizes), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    save_model(model, folder, tokenizer=ByteTokenizer())
    return folder


def records(session: str, turns: int) -> list[dict[str, Any]]:
    """Return a session in Claude Code's format: each turn is a request, a call, its result, and an answer."""
    result = []

    def add(kind: str, turn: int, content: object) -> None:
        time = f"2026-02-02T09:{turn:02d}:00.000Z"
        fields = {
            "uuid": f"{session}-{len(result)}",
            "sessionId": session,
            "timestamp": time,
            "cwd": "/home/ada",
        }
        result.append({"type": kind, "message": {"role": kind, "content": content}, **fields})

    for turn in range(turns):
        tool = f"{session}-tool-{turn}"
        add("user", turn, f"Please run test number {turn}.")
        call = {"type": "tool_use", "id": tool, "name": "Bash", "input": {"command": f"pytest -k {turn}"}}
        add("assistant", turn, [call])
        add("user", turn, [{"type": "tool_result", "tool_use_id": tool, "content": "1 passed in 0.02s"}])
        add("assistant", turn, [{"type": "text", "text": f"Test number {turn} passes."}])
    return result


@pytest.fixture(scope="session")
def sttx() -> Command:
    """Return the command as a function of its arguments."""
    return call


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """Return the folder of a random model of two layers of 64."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny", seed=1)


VARIANTS: dict[str, dict[str, Any]] = {
    "stored": {
        "forms": {"emb.weight": "int8", "blocks.0.att.key.weight": "ghost:32:4", "head.weight": "int4:16"}
    },
    "inner steps": {"inner_steps": 2, "inner_lr": 0.4},
    "momentum": {"inner_steps": 2, "inner_lr": 0.4, "inner_momentum": 0.5, "inner_batch": 2},
    "RWKV-6": {"architecture": "x060"},
    "RWKV-5.2": {"architecture": "x052"},
}


@pytest.fixture
def variant(request, tmp_path) -> Path:
    """Return the folder of a random model of the variant that the test names."""
    return write_model(tmp_path / "model", seed=1, **VARIANTS[request.param])


@pytest.fixture(scope="session")
def other_model(tmp_path_factory) -> Path:
    """Return the folder of another one of the same shape."""
    return write_model(tmp_path_factory.mktemp("models") / "other", seed=2)


@pytest.fixture(scope="session")
def sessions(tmp_path_factory) -> Path:
    """Return a file of two sessions whose records alternate."""
    path = tmp_path_factory.mktemp("sessions") / "talk.jsonl"
    pairs = zip(records("one", 12), records("two", 12), strict=True)
    path.write_text("".join(json.dumps(record) + "\n" for pair in pairs for record in pair))
    return path


@pytest.fixture(scope="session")
def base(tiny_model, sessions) -> list[str]:
    """Return the arguments that all short training runs share; the caller adds the folder."""
    what = ["--from", str(sessions), "--model", str(tiny_model)]
    return ["train", *what, "--device", "cpu", "--window", "64", "--steps", "8", "--json"]


@pytest.fixture(scope="session")
def finished(base, tmp_path_factory) -> Path:
    """Return the folder of a run of eight steps. Tests only read it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    result = call(*base, "--phrases", "on", "--checkpoint-dir", folder)
    assert result.code == 0, result.err
    return folder


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path) -> None:
    """Hide the sessions and settings of the person who runs the tests."""
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "no-claude"))
    for name in ("STTX_LOG_DIR", "STTX_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(
        "sttx_cli.progress.LINE_AFTER", 600.0
    )  # a slow machine prints no more than a fast one


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder except the lock, to compare it later."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def unchanged() -> Callable[[Path], contextlib.AbstractContextManager[None]]:
    """Return a context in which no byte of a folder may change."""

    @contextlib.contextmanager
    def keep(folder: Path):
        before = contents(folder)
        yield
        assert contents(folder) == before

    return keep


@pytest.fixture
def start() -> Callable[..., subprocess.Popen[str]]:
    """Return a function that starts the command in a process of its own."""
    return process
