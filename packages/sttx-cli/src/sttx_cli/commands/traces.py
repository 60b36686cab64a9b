"""`sttx traces`: lists the sessions of a source, shows one, or streams typed traces as JSON lines."""

import contextlib
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from sttx_ccsniff import Source, default_source, open_source
from sttx_ccsniff.listing import in_reading_order, list_sessions, session_traces
from sttx_ccsniff.parse.trace_json import HEADER, dump_trace
from sttx_ccsniff.redact import Redactor
from sttx_cli.output import emit_table, say
from sttx_cli.plain import one_line
from sttx_cli.redaction import chosen_redaction, redact_options
from sttx_cli.transcript import sessions_table, tokens_in_words, transcript
from sttx_core.errors import SourceError, UsageError
from sttx_core.traces import Trace


@click.command("traces")
@click.argument("words", nargs=-1, metavar="[show SESSION] [SOURCE]...")
@click.option("--full", is_flag=True, help="With show: tools' inputs and results whole, and unknown records.")
@redact_options
@click.option("--json", "as_json", is_flag=True, help="Print the typed traces, one JSON object a line.")
def command(
    words: tuple[str, ...], full: bool, no_redact: bool, redact_rules: Path | None, as_json: bool
) -> None:
    """List the sessions of a source, or show one.

    SOURCE is what --ccsniff-from of `sttx train` takes; an agent's own sessions end where the history does.
    Without one, your Claude Code history is read, or a small sample where there is none. The newest session
    comes last, and sub-agents stand under the session that started them.

    With `show`, one session is printed to be read: SESSION is its identity, or as much of its beginning as no
    other shares. A file named show is read as ./show.

    What --json prints is itself a SOURCE.
    """
    name, sources = _taken_apart(words)
    if full and (name is None or as_json):
        raise UsageError("--full would have no effect: it goes with show, without --json; leave it out")
    redact = chosen_redaction(no_redact, redact_rules)
    with _reader_may_leave(), _opened(sources, redact) as source:
        if as_json:
            _stream(source if name is None else session_traces(source, name))
        elif name is None:
            _list(source)
        else:
            _show(in_reading_order(session_traces(source, name)), full)
        if source.report.malformed and not source.report.records:
            raise SourceError(f"no record could be read in {source.description}")


def _taken_apart(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The session to show, if any, and the sources."""
    if words[:1] != ("show",):
        return None, list(words)
    if len(words) == 1:
        raise UsageError(
            "show needs a session: `sttx traces` lists them, `sttx traces show SESSION` shows one"
        )
    return words[1], list(words[2:])


@contextlib.contextmanager
def _opened(sources: Sequence[str], redact: Redactor | bool) -> Iterator[Source]:
    if not sources:
        chosen = default_source()
        say(f"note: {chosen.reason}")
        sources = [chosen.spec]
    with open_source(sources, follow=False, redact=redact, say=lambda text: say(f"note: {text}")) as source:
        say(f"source: {source.description}")
        yield source


@contextlib.contextmanager
def _reader_may_leave() -> Iterator[None]:
    """End quietly where whoever reads our output has seen enough, as `head` does."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stream(traces: Iterable[Trace]) -> None:
    out = getattr(sys.stdout, "buffer", None)  # JSON is UTF-8, whatever the terminal's encoding
    for line in itertools.chain([HEADER], map(dump_trace, traces)):
        if out is None:
            sys.stdout.write(f"{line.decode()}\n")
        else:
            out.write(line + b"\n")


def _list(source: Source) -> None:
    sessions = list_sessions(source)
    count = len(sessions)
    title = f"{count:,} session{'' if count == 1 else 's'} in {one_line(source.description, 500)}"
    if sessions:
        emit_table(title, sessions_table(sessions, source.report.usage_by_speaker))
    else:
        click.echo(title)
    for model, tokens in sorted(source.report.usage.items()):
        click.echo(f"{one_line(model, 80)}: {tokens_in_words(tokens)}")


def _show(ordered: Iterable[tuple[int, Trace]], full: bool) -> None:
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    for line in transcript(ordered, full=full):
        click.echo(_rendered(console, line))


def _rendered(console: Console, line: Text) -> str:
    with console.capture() as captured:
        console.print(line, soft_wrap=True)
    return captured.get().removesuffix("\n")
