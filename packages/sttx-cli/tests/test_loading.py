"""Loading a model: its kernels are compiled before work starts, and a command says so."""

import re
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sttx_cli import loading
from sttx_cli.commands import generate as generate_command
from sttx_cli.commands import serve as serve_command
from sttx_core.errors import UsageError
from sttx_train import rwkv7
from sttx_train.devices import ChosenProducts


@pytest.mark.parametrize("ready", [True, False])
def test_that_kernels_are_compiled_is_said_only_where_they_are(monkeypatch, ready):
    done = []
    monkeypatch.setattr(loading, "progress_bar", lambda title: done.append(title) or nullcontext())
    monkeypatch.setattr(rwkv7, "kernels_are_compiled", lambda *_, learns: ready)
    monkeypatch.setattr(rwkv7, "compile_kernels", lambda size, dtype, learns: done.append((size, learns)))
    model = SimpleNamespace(config=SimpleNamespace(head_size=64), dtype=None)
    for backend in ("chunked", "compiled"):
        loaded: Any = SimpleNamespace(kernel=SimpleNamespace(backend=backend), model=model)
        loading.prepare_kernels(loaded, learns=True)
    assert done == (
        [] if ready else ["compiling the kernels, for half a minute, once on this machine", (64, True)]
    )


def test_every_command_that_computes_prepares_the_kernels():
    commands = Path(generate_command.__file__).parent
    loads = {p.stem: p.read_text() for p in commands.glob("*.py") if " load(" in p.read_text()}
    assert {name for name, text in loads.items() if not re.search("prepare(d|_kernels)[(]", text)} == {
        "doctor",  # that load is the processor's
        "export",
    }


@pytest.mark.parametrize("bf16", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_slow_dtype_is_reported(tiny_model, monkeypatch, capsys, bf16, dtype):
    monkeypatch.setattr(loading, "choose_products", lambda device: ChosenProducts(bf16, "because"))
    loading.load(str(tiny_model), "cpu", dtype)
    said = capsys.readouterr().err
    assert f"dtype: {dtype} (asked for)" in said
    assert ("dtype: slow here (because)" in said) == (dtype == "bfloat16" and not bf16)


@pytest.mark.parametrize(
    "arguments", [["generate", "a", "--max-tokens", 1], ["score", "SOURCE"], ["watch", "SOURCE", "--once"]]
)
def test_weights_are_read_in_the_dtype_that_was_asked_for(sttx, sessions, tiny_model, arguments):
    arguments = [sessions if word == "SOURCE" else word for word in arguments]
    result = sttx(*arguments, "--model", tiny_model, "--dtype", "bfloat16", "--threads", 1)
    assert result.code == (3 if arguments[0] == "watch" else 0), result.err  # 3: there are loops
    assert "dtype: bfloat16 (asked for)" in result.err


def test_a_server_reads_weights_in_the_dtype_that_was_asked_for(sttx, tiny_model, monkeypatch):
    def refused(model, *, dtype, kernel):
        raise UsageError(f"loaded in {dtype}")

    monkeypatch.setattr(serve_command, "load", refused)
    result = sttx("serve", "--model", tiny_model, "--dtype", "bfloat16", "--port", 0)
    assert (result.code, "loaded in bfloat16" in result.err) == (2, True)
