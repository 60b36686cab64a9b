"""`sttx memory serve` and `sttx memory prompts`: a frozen model with its memory, for clients and people."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sttx_cli.memory_chat import base_of
from sttx_cli.memory_options import answer_options, open_base, own_base_options
from sttx_cli.options import Grouped, PathName, build, config_options
from sttx_cli.output import emit_json_lines, say
from sttx_cli.progress import progress_bar
from sttx_cli.serving import api_key_option, api_keys, require_serving
from sttx_cli.signals import Interruptible
from sttx_cli.threads import choose_threads, threads_option, use_threads
from sttx_core.errors import UsageError
from sttx_train.generate import SamplingConfig
from sttx_train.memory import SessionConfig
from sttx_train.serve import ServeConfig

if TYPE_CHECKING:
    from sttx_train.memory import MemoryPredictor

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_NOT_HERE = ("learn", "tenants", "state_store", "state_bytes")


def _memory_options(command: Decorated) -> Decorated:
    """Add the adapter, its base, and what the base sees."""
    command = config_options(SessionConfig, title="Memory", skip=("unit",))(command)
    return click.argument("adapter", type=PathName(path_type=Path), metavar="RUN")(own_base_options(command))


@click.command("serve", cls=Grouped)
@_memory_options
@api_key_option
@threads_option
@config_options(ServeConfig, title="Serving", skip=_NOT_HERE)
def serve(
    adapter: Path,
    base: str | None,
    dtype: str | None,
    window: int,
    overlap: int,
    api_key_file: Path | None,
    threads: int,
    **options: Any,
) -> None:
    """Serve a frozen model with its memory to programs that speak OpenAI's API.

    RUN is a run of `sttx memory train`, or a sidecar of `sttx memory export`. Each conversation has a memory
    of its own, which a slot saves and restores. GET /v1/memory/health proves that the memory is active, and
    the page compares answers with and without it. It listens on this machine alone, unless --host and
    --api-key-file say otherwise. Ctrl-C ends it.
    """
    config = build(ServeConfig, options)
    sees = SessionConfig(window=window, overlap=overlap)
    require_serving()
    keys = api_keys(api_key_file)
    with progress_bar("loading PyTorch"):
        from sttx_train.memory import MemoryRoutes
        from sttx_train.serve import Catalog, Served, Server
    with Server(config, keys, MemoryRoutes()) as server:
        with Interruptible(server.request_stop, server.request_stop) as interruptible:
            name, predictor = _predictor(adapter, base, dtype, sees, threads)
            if interruptible.signaled is None:
                served = Served(id=name, predictor=predictor, digest=predictor.digest)
                server.start(Catalog([served]))
                say(f"serving: {served.id}")
                say(f"listening on {server.url}")
                server.wait()
        say("stopping: requests that are not answered get an error")


@click.command("prompts", cls=Grouped)
@_memory_options
@click.argument("file", type=PathName(path_type=Path, exists=True, dir_okay=False))
@answer_options(64)
@threads_option
def prompts(
    adapter: Path,
    file: Path,
    base: str | None,
    dtype: str | None,
    window: int,
    overlap: int,
    tokens: int,
    temperature: float,
    seed: int,
    threads: int,
) -> None:
    """Answer prompts with and without the memory, side by side.

    Each line of FILE is {"messages": [...]}, as OpenAI's API has them, and may have an "id". All messages but
    the last are written into the memory; the base sees the last one alone, and answers it with the memory and
    without. A line of JSON is printed for each. If the memory is not active, nothing is compared.
    """
    require_serving()
    with progress_bar("loading PyTorch"):
        from sttx_train.memory import (
            answer_line,
            check_health,
            compare_answers,
            read_prompts,
            require_active,
        )
    with file.open("rb") as lines:
        found = list(read_prompts(lines))
    if not found:
        raise UsageError(f"{str(file)!r} has no prompt: write one on each line")
    sampling = SamplingConfig(temperature=temperature, seed=seed)
    _, predictor = _predictor(adapter, base, dtype, SessionConfig(window=window, overlap=overlap), threads)
    require_active(check_health(predictor))
    for prompt in found:
        compared = compare_answers(predictor, prompt.messages, sampling, max_tokens=tokens)
        emit_json_lines([json.dumps(answer_line(prompt, compared)).encode()])


def _predictor(
    adapter: Path, base: str | None, dtype: str | None, sees: SessionConfig, threads: int
) -> "tuple[str, MemoryPredictor]":
    """Return a name and the predictor of an adapter beside its base.

    Raises:
        UsageError: there is no such base or adapter.
        ModelError, CheckpointError: one cannot be read, or they do not fit.
    """
    from sttx_train.memory import MemoryPredictor, attach, read_adapter, served_vocabulary

    saved = read_adapter(adapter)
    opened = open_base(*base_of(adapter, base, dtype))
    use_threads(choose_threads(threads), say)
    memory = attach(opened.model, saved.config)
    saved.put_on(memory)
    predictor = MemoryPredictor(memory, served_vocabulary(opened), sees)
    name = Path(opened.name).name
    return f"{name}:{adapter.stem}@{predictor.digest[:12]}", predictor
