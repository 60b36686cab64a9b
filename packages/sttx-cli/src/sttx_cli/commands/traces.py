"""`sttx traces`: lists the sessions of a source, shows one, or streams typed traces as JSON lines."""

import contextlib
import itertools
from collections.abc import Sequence
from pathlib import Path

import click

from sttx_ccsniff import (
    TRACES_HEADER,
    SessionSummary,
    Source,
    dump_trace,
    in_reading_order,
    list_sessions,
    open_source,
    session_traces,
)
from sttx_cli.output import (
    count,
    emit_json_lines,
    emit_line,
    emit_styled,
    emit_table,
    note,
    out_is_terminal,
    say,
)
from sttx_cli.plain import one_line
from sttx_cli.redaction import chosen_redaction, redact_options
from sttx_cli.sources import (
    SOURCES,
    check_records,
    from_option,
    named_sources,
    reading_progress,
    sources_or_default,
)
from sttx_cli.transcript import model_lines, sessions_table, transcript
from sttx_core.errors import SourceError, UsageError

_NOT_RECORDS = {"not JSON", "not an object"}
"""Why the lines of a text without sessions are malformed."""


@click.command("traces")
@click.argument("words", nargs=-1, metavar="[show SESSION] [SOURCE]...")
@from_option(f"What to read: {SOURCES}. May be repeated; the same as SOURCE.")
@click.option("--full", is_flag=True, help="With show: tools' inputs and results whole, and unknown records.")
@redact_options
@click.option("--json", "as_json", is_flag=True, help="Print the typed traces, one JSON object a line.")
def command(
    words: tuple[str, ...],
    from_sources: tuple[str, ...],
    full: bool,
    no_redact: bool,
    redact_rules: Path | None,
    as_json: bool,
) -> None:
    """List the sessions of a source, or show one.

    SOURCE is what `sttx train` reads; --from SOURCE means the same. An agent's own history is read to its end
    and not followed. Without a source, your Claude Code history is read, or a small sample if there is none.
    The newest session comes last; sub-agents are listed under the session that started them.

    With `show`, one session is printed for reading. SESSION is its identifier, or a prefix of it that no
    other session shares. To read a file named show, write ./show.

    The output of --json is itself a SOURCE.
    """
    session, arguments = _split(words)
    if full and (session is None or as_json):
        raise UsageError("--full would have no effect: it goes with show, without --json; leave it out")
    sources = sources_or_default(named_sources(arguments, from_sources))
    redact = chosen_redaction(no_redact, redact_rules)
    notes: list[str] = []  # of a source that is read whole; shown unless an error says the same
    report_note = note if session else notes.append
    with open_source(sources, follow=False, redact=redact, say=report_note) as source:
        say(f"source: {source.description}")
        if as_json:
            # On a terminal the lines themselves are the progress.
            with contextlib.nullcontext() if out_is_terminal() else reading_progress(source, sources):
                traces = source if session is None else session_traces(source, session)
                emit_json_lines(itertools.chain([TRACES_HEADER], map(dump_trace, traces)))
        elif session is None:
            with reading_progress(source, sources):
                sessions = list_sessions(source)
            _check_known(source, sources)
            _show_notes(notes)
            _list(source, sessions)
        else:
            with reading_progress(source, sources):
                traces = session_traces(source, session)
            emit_styled(transcript(in_reading_order(traces), full=full))
        _check_known(source, sources)
        _show_notes(notes)
        check_records(source)


def _show_notes(notes: list[str]) -> None:
    """Print the notes and forget them."""
    for text in notes:
        note(text)
    notes.clear()


def _check_known(source: Source, sources: Sequence[str]) -> None:
    """Check that the lines of a source, read to its end, are of a known agent.

    Raises:
        SourceError: None is.
    """
    report = source.report
    if not report.records and report.malformed and set(report.malformed) <= _NOT_RECORDS:
        names = " and ".join(map(repr, sources))
        raise SourceError(f"no session in {names}: none of its lines is a record of a known agent")


def _split(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the session to show, if any, and the sources."""
    if words[:1] != ("show",):
        return None, list(words)
    if len(words) == 1:
        raise UsageError(
            "show needs a session: `sttx traces` lists them, `sttx traces show SESSION` shows one"
        )
    return words[1], list(words[2:])


def _list(source: Source, sessions: Sequence[SessionSummary]) -> None:
    title = f"{count(len(sessions), 'session')} in {one_line(source.description, 500)}"
    if not sessions:
        emit_line(title)
        return
    report = source.report
    emit_table(title, sessions_table(sessions, report.usage_by_speaker, report.usage))
    for line in model_lines(report.usage):
        emit_line(line)
