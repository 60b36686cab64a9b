"""`sttx memory chat`: a conversation with a frozen model and its memory, saved after every answer."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sttx_cli.memory_options import DTYPES, answer_options, open_base, own_base_options
from sttx_cli.options import Grouped, PathName, build, config_options
from sttx_cli.output import count, emit_text, say
from sttx_cli.progress import progress_bar
from sttx_cli.threads import choose_threads, threads_option, use_threads
from sttx_core.errors import UsageError
from sttx_core.render import render
from sttx_core.traces import Meta, UserMessage
from sttx_train.memory import SessionConfig

if TYPE_CHECKING:
    from sttx_train.memory import Base, OnlineMemorySession

_ANSWER, _END = "Assistant:", "\n\n"
_SENTENCE_ENDS = frozenset(".!?\n")
_FORGET = "/forget"


@click.command("chat", cls=Grouped)
@click.argument("adapter", type=PathName(path_type=Path), metavar="RUN")
@click.option(
    "--session",
    "folder",
    type=PathName(path_type=Path, file_okay=False),
    default=None,
    metavar="DIR",
    help="Folder of the conversation: it is continued if it exists, and saved after every answer.",
)
@own_base_options
@answer_options(200)
@config_options(SessionConfig)
@threads_option
def chat(
    adapter: Path,
    folder: Path | None,
    base: str | None,
    dtype: str | None,
    tokens: int,
    temperature: float,
    seed: int,
    threads: int,
    **options: Any,
) -> None:
    """Talk to a frozen model with a memory.

    RUN is a run of `sttx memory train`, or a sidecar of `sttx memory export`. Each line of standard input is
    a message; /forget forgets the conversation. The model sees the latest tokens only; of all before, the
    memory stays. With --session the conversation can be left, and continued exactly where it was.
    """
    config = build(SessionConfig, options)
    with progress_bar("loading PyTorch"):
        from sttx_train.memory import OnlineMemorySession, attach, read_adapter
    saved = read_adapter(adapter)
    named, of_type = base_of(adapter, base, dtype)
    opened = open_base(named, of_type)
    use_threads(choose_threads(threads), say)
    memory = attach(opened.model, saved.config)
    saved.put_on(memory)
    session = OnlineMemorySession(
        memory, config, start=opened.vocabulary.start, ends_sentence=_sentence_ends(opened)
    )
    if folder is not None and (folder / "latest").exists():
        session.load(folder)
        say(f"continued: {count(len(session.ends), 'message')}, {count(len(session.ids), 'token')}")
    choose = _chooser(temperature, seed)
    for line in _lines():
        if line == _FORGET:
            session.reset()
            say("forgotten")
        else:
            emit_text(_answered(session, opened, line, tokens, choose))
        if folder is not None:
            session.save(folder)


def base_of(adapter: Path, base: str | None, dtype: str | None) -> tuple[str, str]:
    """Return the base's name and data type, those of the run where nothing else is asked for."""
    from sttx_train.checkpoint import CheckpointStore

    manifest = CheckpointStore(adapter).manifest() if adapter.is_dir() else {}
    name, of_type = base or manifest.get("base"), dtype or manifest.get("dtype", "auto")
    if not isinstance(name, str) or of_type not in DTYPES:
        raise UsageError(f"{str(adapter)!r} does not name its base: give --base MODEL")
    return name, of_type


def _sentence_ends(opened: "Base") -> Any:
    return lambda token: bool(_SENTENCE_ENDS & set(opened.vocabulary.decode([token])))


def _chooser(temperature: float, seed: int) -> Any:
    if not temperature:
        return None
    import torch

    generator = torch.Generator().manual_seed(seed)

    def choose(logits: "torch.Tensor") -> int:
        shares = torch.softmax(logits.cpu() / temperature, dim=0)
        return int(torch.multinomial(shares, 1, generator=generator))

    return choose


def _lines() -> Any:
    """Yield the lines of standard input that are not empty, without their ends.

    Raises:
        UsageError: a line is not UTF-8.
    """
    try:
        for line in sys.stdin:
            if line.strip():
                yield line.strip()
    except UnicodeDecodeError as error:
        raise UsageError("standard input is not UTF-8: write it again") from error


def _answered(session: "OnlineMemorySession", opened: "Base", line: str, tokens: int, choose: Any) -> str:
    """Read a message, and generate the answer; both are messages of the session."""
    vocabulary, end = opened.vocabulary, opened.model.config.eos_token_id
    ends = set(end if isinstance(end, list) else [end])
    session.ingest(vocabulary.encode(render(UserMessage(meta=Meta(session="chat"), text=line))))
    session.ingest(vocabulary.encode(_ANSWER), end=False)
    made = session.generate(tokens, choose, lambda made: made[-1] in ends or _END in vocabulary.decode(made))
    text = vocabulary.decode([token for token in made if token not in ends])
    session.ingest([] if _END in text else vocabulary.encode(_END))
    return text.partition(_END)[0].strip()
