"""`sttx watch`: what each round of live sessions costs, and an alarm for loops.

Connects a source to a watcher, and what it says to a table, lines of JSON and a hook.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sttx_ccsniff import Source
from sttx_cli.arrivals import Arrivals
from sttx_cli.hook import Hook, parsed_command
from sttx_cli.loading import load, prepared
from sttx_cli.options import FiniteFloat, Moment, Name
from sttx_cli.output import (
    SCREEN,
    Drawn,
    count,
    emit_json_lines,
    emit_line,
    emit_table,
    emit_text,
    number,
    out_is_terminal,
    say,
)
from sttx_cli.progress import progress_bar
from sttx_cli.redaction import chosen_redaction, redact_options
from sttx_cli.rounds_table import RoundsTable, alarm_sentence, round_facts, round_line
from sttx_cli.runs import check_model, dtype_option, learned_options, model_option, named_learned
from sttx_cli.signals import Interruptible
from sttx_cli.sources import SOURCES, find_sources, from_option, named_sources, no_text, opened
from sttx_cli.summary import redacted_line
from sttx_cli.threads import lower_priority, threads_option
from sttx_core.errors import SourceError, UsageError
from sttx_train.devices import DtypeName
from sttx_train.formats import EMBEDDED

if TYPE_CHECKING:
    from sttx_train.watch import Watched, Watcher

ALARM = 3
"""The exit code of `--once` where the alarm fired."""

_RECENT = 3600.0  # seconds of history that are read where sessions are followed
_TAIL_KB = 16
_KB = 1000
_MOST = 1024  # characters of each trace that are priced


@click.command("watch")
@click.argument("arguments", nargs=-1, type=Name(), metavar="[SOURCE]...")
@from_option(f"What to watch: {SOURCES}. May be repeated; the same as SOURCE.")
@click.option("--once", is_flag=True, help="Read to the end and stop; exit code 3 if there was an alarm.")
@click.option(
    "--since",
    type=Moment(),
    default=None,
    metavar="TIME",
    help="Skip older traces. A date (2026-01-31), a time (2026-01-31T09:00), or an age: 30m, 12h, 7d. By "
    "default 1h, and nothing is skipped with --once.",
)
@click.option(
    "--tail",
    type=click.IntRange(min=1),
    default=None,
    metavar="KB",
    help="Text of each session that may wait to be priced; older text is skipped, at the start and while "
    f"more arrives than can be priced. By default {_TAIL_KB} kB; with --once nothing is skipped.",
)
@click.option(
    "--threshold",
    type=FiniteFloat(),
    default=None,
    metavar="LEVEL",
    help="Evidence at which the alarm fires: less is sooner, with more false alarms.",
)
@click.option(
    "--exec",
    "hook",
    type=Name(),
    default=None,
    metavar="CMD",
    help="Run a program for each alarm, without a shell; it gets the alarm as JSON on standard input.",
)
@learned_options("Price")
@model_option
@dtype_option
@threads_option
@redact_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line for each round.")
def command(
    arguments: tuple[str, ...],
    from_sources: tuple[str, ...],
    once: bool,
    since: float | None,
    tail: int | None,
    threshold: float | None,
    hook: str | None,
    checkpoint: str | None,
    state: Path | None,
    model: str | None,
    dtype: DtypeName,
    threads: int,
    no_redact: bool,
    redact_rules: Path | None,
    as_json: bool,
) -> int:
    """Watch live sessions, and warn of loops.

    SOURCE is what `sttx train` reads; --from SOURCE means the same. It is followed until Ctrl-C. A round is a
    call of a tool and its result; the rounds of a session that repeats itself cost ever fewer bits, and the
    alarm fires once for each loop. Nothing is learned and no file is written.
    """
    if once and tail is not None:
        raise UsageError("--tail would have no effect with --once, which reads everything: leave it out")
    named = named_sources(arguments, from_sources, model=model, checkpoint=checkpoint)
    words = parsed_command(hook) if hook is not None else None
    learned = named_learned(checkpoint, state)
    check_model(model, EMBEDDED)
    redact = chosen_redaction(no_redact, redact_rules)
    from sttx_train.watch import AlarmConfig  # not at the head of the file: help must not load msgspec

    alarm = AlarmConfig() if threshold is None else AlarmConfig(threshold=threshold)
    if since is None:
        since = 0.0 if once else time.time() - _RECENT
    reading: dict[str, Any] = {"follow": not once, "since": since, "redact": redact}
    sources = find_sources(named, default=None if once else "claude", **reading)
    if not once and (priority := lower_priority()):
        say(f"priority: {priority} (live work comes first)")
    with progress_bar("loading PyTorch"):
        from sttx_train.watch import Watcher, clipped
    watcher = prepared(
        load(model, dtype=dtype),
        lambda loaded: Watcher(loaded, learned, alarm=alarm, most=_MOST),
        threads=threads,
        most_threads=2 if once else 1,
    )
    with opened(sources, **reading) as source:
        waiting = None if once else (tail or _TAIL_KB) * _KB
        arrivals = Arrivals(source, tail=waiting, clip=lambda trace: clipped(trace, _MOST))
        with Hook(words) as running:
            watch = _Watch(watcher, source, arrivals, running, once=once, as_json=as_json)
            code = watch.run()
        watch.summarize()  # once all commands of the hook have ended, so that their failures are counted
        return code


class _Watch:
    """One run of the command: takes traces until the end, and shows what they cost."""

    def __init__(
        self,
        watcher: "Watcher",
        source: Source,
        arrivals: Arrivals,
        hook: Hook,
        *,
        once: bool,
        as_json: bool,
    ) -> None:
        self._watcher, self._source, self._arrivals, self._hook = watcher, source, arrivals, hook
        self._once, self._as_json = once, as_json
        self._table = RoundsTable()
        self._live = SCREEN.is_terminal and not once and not (as_json and out_is_terminal())
        self._started = time.monotonic()

    def run(self) -> int:
        """Watch until the source ends or a signal comes; return the exit code."""

        def release() -> None:
            self._arrivals.close()
            self._source.close()

        with Interruptible(lambda: None, release) as interruptible:
            try:
                with self._arrivals:
                    self._draw()
                    while (trace := self._arrivals.take()) is not None:
                        self._show(self._watcher.add(trace))
                    if interruptible.signaled is None:
                        self._show(self._watcher.end())
            finally:
                SCREEN.clear()
        if self._once and not self._watcher.traces and interruptible.signaled is None:
            raise SourceError(no_text(self._source))
        return ALARM if self._once and self._table.alarms else 0

    def _show(self, rounds: "list[Watched]") -> None:
        for watched in rounds:
            self._table.add(watched)
            if self._as_json:
                emit_json_lines([round_line(watched)])
            if watched.verdict.fires:
                self._alarm(watched)
        if rounds:
            self._draw()

    def _alarm(self, watched: "Watched") -> None:
        sentence = alarm_sentence(watched)
        if self._as_json or self._live or self._once:
            say(sentence)
        else:
            emit_line(sentence)
        self._hook.alarm(round_facts(watched))

    def _draw(self) -> None:
        if self._live:
            SCREEN.show(
                Drawn(self._table.table(SCREEN.rows) if self._table.rounds else "waiting for a round")
            )

    def summarize(self) -> None:
        """Print what the run was, as its last lines."""
        table = self._table
        if self._once and not self._as_json and table.rounds:
            emit_table(f"last rounds of {count(table.rows, 'agent')}", table.table())
            emit_line("")
        rate = number(table.bits / table.bytes) if table.bytes else "-"
        lines = [
            f"Watched {count(table.rounds, 'round')} of {count(table.agents, 'agent')} for "
            f"{time.monotonic() - self._started:.0f} s: {count(table.alarms, 'alarm')}, {rate} bits per byte."
        ]
        if self._arrivals.dropped:
            lines.append(
                f"Skipped {self._arrivals.dropped:,} bytes of text, the oldest of what waited (--tail)."
            )
        if self._hook.failures:
            lines.append(f"--exec failed for {count(self._hook.failures, 'alarm')}.")
        lines.append(redacted_line(self._source.report.redacted))
        emit_text("\n".join(line for line in lines if line), err=self._as_json)
