"""`sttx serve`: a model, and what was learned of it, for OpenAI clients. Connects paths to a server."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from sttx_cli.loading import load, prepare_experts, prepare_kernels
from sttx_cli.options import Grouped, Name, PathName, build, config_options
from sttx_cli.output import say
from sttx_cli.progress import progress_bar
from sttx_cli.runs import check_model, dtype_option, kernel_option, model_option, named_learned, named_state
from sttx_cli.serving import api_key_option, api_keys, require_serving
from sttx_cli.signals import Interruptible
from sttx_cli.threads import choose_threads, threads_option, use_threads
from sttx_train.devices import DtypeName
from sttx_train.formats import EMBEDDED
from sttx_train.serve import ServeConfig
from sttx_train.wkv import Backend


@click.command("serve", cls=Grouped)
@click.option(
    "--checkpoint",
    type=Name(),
    multiple=True,
    metavar="PATH",
    help="Serve what a run has learned as well: its folder, that of one checkpoint, or RUN/latest. May be "
    "repeated; the first one is the page's model.",
)
@click.option(
    "--run",
    type=PathName(path_type=Path, file_okay=False),
    default=None,
    metavar="RUN",
    help="Serve what a run in progress has learned as well: the folder of `sttx train`, which need not exist "
    "yet. Its newest checkpoint is read again whenever it saves one.",
)
@click.option(
    "--state",
    type=PathName(path_type=Path, dir_okay=False),
    multiple=True,
    metavar="FILE",
    help="Serve a tuned state as well: a .safetensors, .pth or .st file. May be repeated.",
)
@model_option
@dtype_option
@api_key_option
@click.option(
    "--experts",
    type=click.Choice(["on", "off"]),
    default="off",
    show_default=True,
    help="Mix experts in; each request has its own, which remember what it reads.",
)
@kernel_option
@threads_option
@config_options(ServeConfig, title="Serving")
def command(
    checkpoint: tuple[str, ...],
    run: Path | None,
    state: tuple[Path, ...],
    model: str | None,
    dtype: DtypeName,
    api_key_file: Path | None,
    experts: str,
    kernel: Backend,
    threads: int,
    **options: Any,
) -> None:
    """Serve a model to programs that speak OpenAI's API.

    The model answers under its own id, and each thing that was learned of it under MODEL:NAME@DIGEST; a
    request names the one it wants. With --run, what a run learns is served while it goes on. Experts know
    what their own request reads, not what a run has read. It listens on this machine alone, unless --host and
    --api-key-file say otherwise. Ctrl-C ends it.
    """
    config = build(ServeConfig, options)
    require_serving()
    keys = api_keys(api_key_file)
    learned = [str(named_learned(path, None)) for path in checkpoint]
    learned += [str(named_state(path)) for path in state]
    check_model(model, EMBEDDED)
    with progress_bar("loading PyTorch"):
        from sttx_train.serve import Catalog, FollowedRun, Server
    with Server(config, keys) as server:
        with Interruptible(server.request_stop, server.request_stop) as interruptible:
            loaded = load(model, dtype=dtype, kernel=kernel)
            use_threads(choose_threads(threads), say)
            prepare_kernels(loaded, learns=config.learn)
            if experts == "on":
                prepare_experts(choosing=True)
            with progress_bar("preparing the models"):
                catalog = Catalog.load(loaded, learned, experts=experts == "on")
            if interruptible.signaled is None:
                server.start(catalog)
                for served in catalog:
                    say(f"serving: {served.id}")
                forget = server.service.forget
                with nullcontext() if run is None else FollowedRun(catalog, loaded, run, say, forget):
                    say(f"listening on {server.url}")
                    server.wait()
        say("stopping: requests that are not answered get an error")
