"""`sttx next`: the likeliest next tool calls and shell commands. Connects a source to a predictor."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
from click.core import ParameterSource
from rich.table import Table
from rich.text import Text

from sttx_ccsniff.redact import Redactor
from sttx_cli.loading import load, prepared
from sttx_cli.options import Name
from sttx_cli.output import emit_json, emit_table, number, say
from sttx_cli.plain import one_line
from sttx_cli.progress import progress_bar
from sttx_cli.redaction import chosen_redaction, redact_options
from sttx_cli.runs import check_model, learned_options, model_option, named_learned
from sttx_cli.sources import (
    SOURCES,
    find_sources,
    from_option,
    named_sources,
    no_text,
    opened,
    reading_progress,
)
from sttx_cli.tails import Tail, Tails
from sttx_cli.threads import threads_option
from sttx_core.errors import SourceError, UsageError
from sttx_core.traces import Meta, UserMessage
from sttx_train.formats import EMBEDDED

if TYPE_CHECKING:
    from sttx_train.suggest import CallHabits, Suggestions

_TEXT = "-"
_WIDEST = 76

Choice = Literal["auto", "on", "off"]

_ABOUT_PREDICTOR = ("checkpoint", "state", "model", "experts", "context", "threads")
"""Options that only the predictor knows."""


@click.command("next")
@click.argument("arguments", nargs=-1, type=Name(), metavar="[SOURCE|-]...")
@from_option(f"What to read: {SOURCES}. May be repeated; the same as SOURCE.")
@click.option(
    "--session",
    type=Name(),
    default=None,
    metavar="ID",
    help="The session: its identity, or a prefix that no other shares; by default the latest.",
)
@click.option(
    "--top", type=click.IntRange(min=1), default=5, show_default=True, help="Most tools, and most commands."
)
@click.option(
    "--min-confidence",
    type=click.FloatRange(0.0, 1.0),
    default=0.2,
    show_default=True,
    metavar="P",
    help="Least probability of what is shown; if nothing reaches it, nothing is.",
)
@click.option(
    "--predictor",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    show_default=True,
    help="Ask the predictor, besides what usually follows; auto asks it for text, where no call is known, and"
    " if an option about it is given.",
)
@click.option(
    "--context",
    type=click.IntRange(min=1),
    default=24_000,
    show_default=True,
    metavar="BYTES",
    help="How much of the session's text the predictor reads, from its end. More takes longer.",
)
@learned_options("Predict")
@model_option
@click.option(
    "--experts",
    type=click.Choice(["on", "off"]),
    default="on",
    show_default=True,
    help="Mix experts in; they remember what was read.",
)
@threads_option
@redact_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    arguments: tuple[str, ...],
    from_sources: tuple[str, ...],
    session: str | None,
    top: int,
    min_confidence: float,
    predictor: Choice,
    context: int,
    checkpoint: str | None,
    state: Path | None,
    model: str | None,
    experts: str,
    threads: int,
    no_redact: bool,
    redact_rules: Path | None,
    as_json: bool,
) -> None:
    """Show the likeliest next tool calls and shell commands.

    SOURCE is what `sttx train` reads; --from SOURCE means the same. Without a source, your Claude Code
    history is read, or a small sample if there is none. The session that was written to last is continued.
    With - as the only argument, standard input is plain text: what a user says at the start of a session.

    They follow from what usually came next in this session and in all of the source; with --predictor on,
    also from what the session says. A probability is that of a call, given that the next trace is a call.
    """
    is_text = _reads_text(arguments, from_sources, session)
    _asks_predictor(predictor, is_text, knows_calls=True)  # finds mistakes
    named = named_sources(arguments, from_sources, model=model, checkpoint=checkpoint)
    learned = named_learned(checkpoint, state)
    check_model(model, EMBEDDED)
    redact = chosen_redaction(no_redact, redact_rules)
    from sttx_train.suggest import CallHabits, suggest_by_habits

    habits = CallHabits()
    if is_text:
        tail = _text_tail(context, redact)
    else:
        sources = find_sources(named, follow=False, redact=redact)
        tail = _session_tail(sources, redact, Tails(context, session), habits)
    say(tail.description())
    asks, reason = _asks_predictor(predictor, is_text, bool(habits.next_tools(tail.document)["all"]))
    say(f"predictor: {'on' if asks else 'off'} ({reason})")
    if asks:
        say(tail.part())
        found = _predicted(tail, habits, model, learned, threads, experts == "on")
    else:
        found = suggest_by_habits(habits, tail.document)
    _show(found, tail, top, min_confidence, as_json)


def _asks_predictor(choice: Choice, is_text: bool, knows_calls: bool) -> tuple[bool, str]:
    """Return whether to ask the predictor, and why.

    Raises:
        UsageError: It is not asked, and an option is given that is about it.
    """
    context = click.get_current_context()
    about = [
        name for name in _ABOUT_PREDICTOR if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    if choice == "off" and (about or is_text):
        what = f"--{about[0]} would have no effect" if about else "nothing is known of a text"
        raise UsageError(f"{what} with --predictor off: leave one of the two out")
    if choice != "auto":
        return choice == "on", "asked for"
    if about and not is_text:
        return True, f"--{about[0]} is about it"
    if is_text or not knows_calls:
        return True, "no call is known that something usually follows"
    return False, "what usually follows is about as good; --predictor on asks it too"


def _predicted(
    tail: Tail, habits: "CallHabits", model: str | None, learned: str | None, threads: int, experts: bool
) -> "Suggestions":
    """Return what the predictor and habits say together."""
    with progress_bar("loading PyTorch"):
        from sttx_train import Predictor
        from sttx_train.suggest import suggest_next
    loaded = load(model)
    predictor = prepared(
        loaded,
        lambda loaded: Predictor(loaded, learned, experts=experts),
        threads=threads,
        experts=experts,
    )
    with progress_bar("predicting"):
        reader = predictor.read(tail.document)
        reader.advance([token for text in tail.texts for token in loaded.tokenizer.encode(text)])
        return suggest_next(reader, habits)


def _reads_text(arguments: tuple[str, ...], from_sources: tuple[str, ...], session: str | None) -> bool:
    """Return whether to read standard input as text.

    Raises:
        UsageError: Something else is named too.
    """
    if _TEXT not in (*arguments, *from_sources):
        return False
    if len(arguments) + len(from_sources) > 1:
        raise UsageError("- is text from standard input, in place of a source: name one of the two")
    if session is not None:
        raise UsageError("--session would have no effect with -, the text of standard input; leave it out")
    return True


def _text_tail(context: int, redact: Redactor | bool) -> Tail:
    """Return what stands on standard input, as what a user says at the start of a session.

    Raises:
        UsageError: It is empty, or a session's records.
    """
    data = sys.stdin.buffer.read()
    text = data.decode(errors="replace")
    if not text.strip():
        raise UsageError("standard input is empty: - reads a text from it; write one there")
    if _is_record(text.lstrip().partition("\n")[0]):
        raise UsageError(
            "standard input holds records, and - reads plain text: write them to a file, and give that"
        )
    trace = UserMessage(meta=Meta(session="standard input"), text=text)
    if redact:
        redactor = redact if isinstance(redact, Redactor) else Redactor()
        trace = redactor.redact(trace)
    tails = Tails(context)
    tails.add(trace)
    tail = tails.latest()
    assert tail is not None
    return tail


def _is_record(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _session_tail(sources: list[str], redact: Redactor | bool, tails: Tails, habits: "CallHabits") -> Tail:
    """Read sources to their end; return the session, and count the calls of all.

    Raises:
        SourceError: There is no text in them.
    """
    with opened(sources, follow=False, redact=redact) as source:
        with reading_progress(source, sources):
            for trace in source:
                tails.add(trace)
                habits.add(trace)
        tail = tails.latest()
        if tail is None:
            raise SourceError(no_text(source))
    return tail


def _show(found: "Suggestions", tail: Tail, top: int, least: float, as_json: bool) -> None:
    sure = found.sure(least, top)
    if not sure.tools and not sure.commands:
        say(_unsure(found, least))
    if as_json:
        emit_json(
            {
                "session": tail.session,
                "document": tail.document,
                "call": found.call,
                "left": found.left,
                "tools": [{"name": name, "p": p} for name, p in sure.tools],
                "commands": [{"text": each.text, "p": each.p, "whole": each.whole} for each in sure.commands],
            }
        )
        return
    if sure.tools:
        title = "next tool, if one is called"
        if found.call is not None:
            title += f" (probability {found.call:.3f})"
        emit_table(title, _table([(name, p) for name, p in sure.tools]))
    if sure.commands:
        rows = [(each.text if each.whole else f"{each.text} …", each.p) for each in sure.commands]
        emit_table("next shell command, if a tool is called", _table(rows))


def _unsure(found: "Suggestions", least: float) -> str:
    if not found.tools:
        return "unsure: no tool call was found to suggest"
    name, p = found.tools[0]
    return (
        f"unsure: the likeliest tool, {one_line(name, 60)}, has probability {p:.2f}, which is less than "
        f"--min-confidence {least:g}"
    )


def _table(rows: list[tuple[str, float]]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for text, p in rows:
        table.add_row(number(p), Text(one_line(text, _WIDEST)))
    return table
