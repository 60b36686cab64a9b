"""How every command names a source of traces, as arguments or with `--from`, and reads it to its end."""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from sttx_ccsniff import Source, claude_projects, default_source, open_source, session_files
from sttx_cli.archives import expanded
from sttx_cli.options import Name
from sttx_cli.output import count, note, say
from sttx_cli.progress import progress_bar
from sttx_core.errors import SourceError, UsageError
from sttx_core.render import render
from sttx_core.traces import Trace
from sttx_train.formats import EMBEDDED

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

AGENTS = ("claude", "codex", "opencode")
"""Names that mean an agent's own history."""

_WEIGHTS = (".safetensors", ".pth")
_SIZE_UNKNOWN = (".gz", ".zst", ".db")

SOURCES = "claude, codex, opencode, live, a file, folder or archive, or - for standard input"
SESSIONS_HELP = (
    f"Sessions to read, besides DATA: {SOURCES}. May be repeated; they are read to their end, and redacted."
)


def from_option(help: str) -> Callable[[Decorated], Decorated]:
    """Add `--from` to a command, as `from_sources`; `--ccsniff-from` is an alias."""
    return click.option(
        "--from",
        "--ccsniff-from",
        "from_sources",
        type=Name(),
        metavar="SOURCE",
        multiple=True,
        help=help,
    )


def named_sources(
    arguments: Sequence[str],
    from_sources: Sequence[str],
    *,
    beside: Path | None = None,
    model: str | None = None,
    checkpoint: str | None = None,
) -> list[str]:
    """Return the sources that were named, either way; empty if there are none.

    An archive of `sttx compress` is decompressed, and a private folder of its files is returned for it. It
    has the same path each time if it is ``beside`` a run's folder. One that was made with another model than
    goose-mini, or with what a run learned, is decompressed with the command's ``model`` and ``checkpoint``.

    Raises:
        UsageError: They were named in both ways, so that their order is unclear.
        DataError: An archive is damaged.
        SourceError: An archive needs another model or checkpoint.
    """
    if arguments and from_sources:
        raise UsageError(
            f"sources are named both as arguments ({arguments[0]!r}) and with --from ({from_sources[0]!r}): "
            "use one of the two"
        )
    return expanded(arguments or from_sources, beside=beside, model=model, checkpoint=checkpoint)


def require_data(data: Sequence[str], from_sources: Sequence[str]) -> None:
    """Check that a command which takes both data and sessions was given any, and that the data exists.

    Raises:
        UsageError: Nothing was named, or what was named does not exist.
    """
    if not data and not from_sources:
        raise UsageError("no data is named: give DATA, or --from SOURCE for an agent's sessions")
    for name in data:
        if name not in AGENTS:
            require_path(Path(name))


def require_path(path: Path) -> None:
    """Check that data exists; a pair of .bin and .idx may be named without its ending.

    Raises:
        UsageError: It does not.
    """
    if not any(os.path.lexists(f"{path}{ending}") for ending in ("", ".bin", ".idx")):
        raise UsageError(f"{str(path)!r} does not exist: name a file or a folder")


def sources_or_default(sources: list[str]) -> list[str]:
    """Return the sources; if there are none, the person's own history or the sample, and say which."""
    if sources:
        return sources
    chosen = default_source()
    say(f"source: {chosen.spec!r} ({chosen.reason})")
    return [chosen.spec]


def check_sources(sources: Sequence[str], model_option: str, embedded: str, **reading: Any) -> None:
    """Check that sources can be opened, before anything slow is loaded.

    Args:
        sources: As `open_source` takes them.
        model_option: The option that names a model, for a model that is named as a source.
        embedded: The name of the embedded model.
        reading: Further arguments of `open_source`.

    Raises:
        UsageError: A source does not exist, or is a model.
        SourceError: There is nothing to read.
    """
    for name in sources:
        if _is_model(name, embedded):
            raise UsageError(f"{name!r} is a model, not a source of sessions: use {model_option}")
    open_source(list(sources), **reading).close()


def find_sources(named: list[str], *, default: str | None = None, **reading: Any) -> list[str]:
    """Return the sources to read for a predictor, and check that they can be opened.

    Args:
        named: What was named.
        default: What to read if nothing was; None for the person's own history or the sample.
        reading: Further arguments of `open_source`.

    Raises:
        UsageError: A source does not exist, or is a model.
        SourceError: There is nothing to read.
    """
    with progress_bar("looking for the source"):
        sources = named or ([default] if default else sources_or_default(named))
        check_sources(sources, "--model", EMBEDDED, **reading)
    return sources


@contextmanager
def opened(sources: list[str], **reading: Any) -> Iterator[Source]:
    """Open sources inside the block, and say which; warnings are notes."""
    with open_source(sources, say=note, **reading) as source:
        say(f"source: {source.description}")
        yield source


def with_text(source: Source, sources: Sequence[str]) -> Iterator[Trace]:
    """Return all traces of a source, once one with text is read.

    Raises:
        SourceError: There is none.
    """
    before: list[Trace] = []
    with reading_progress(source, sources):
        for trace in source:
            before.append(trace)
            if render(trace):
                return itertools.chain(before, source)
    raise SourceError(no_text(source))


def _is_model(name: str, embedded: str) -> bool:
    path = Path(name).expanduser()
    if path.is_dir():
        return any(file.suffix in _WEIGHTS for file in path.iterdir())
    return path.suffix in _WEIGHTS if path.exists() else name == embedded


def reading_progress(source: Source, sources: Sequence[str]) -> AbstractContextManager[object]:
    """Show how much of a source is read while the block reads it to its end."""
    return progress_bar("reading", _size(sources), "bytes", poll=lambda: source.report.bytes_read)


def _size(sources: Sequence[str]) -> int | None:
    """Return how many bytes there are to read; None if only reading can tell."""
    total = 0
    for name in sources:
        path = claude_projects() if name == "claude" else Path(name).expanduser()
        if not path.exists():
            return None
        for file in session_files(path):
            if file.suffix in _SIZE_UNKNOWN or not file.is_file():
                return None
            total += file.stat().st_size
    return total


def check_records(source: Source) -> None:
    """Check that a source, read to its end, had a record in it that became a trace.

    Raises:
        SourceError: It had none; says whether it is empty or damaged, or why its records were skipped.
    """
    report = source.report
    if report.records and (report.traces.total() or report.already_delivered):
        return
    if report.records:
        reasons = ", ".join(f"{reason} {number:,}" for reason, number in report.skipped.most_common(3))
        raise SourceError(
            f"no trace in {source.description}: {count(report.records, 'record')} read, none became a trace"
            + (f" ({reasons})" if reasons else "")
        )
    if not report.malformed:
        what = "it is empty" if not report.bytes_read else "it holds blank lines only"
    else:
        reasons = ", ".join(f"{reason} {number:,}" for reason, number in report.malformed.most_common())
        what = f"nothing in it could be read ({reasons})"
    raise SourceError(f"no record in {source.description}: {what}")


def no_text(source: Source) -> str:
    """Say why a source, read to its end, had no trace with text.

    Raises:
        SourceError: It had no record that became a trace.
    """
    check_records(source)
    return (
        f"no trace with text in {source.description}: {count(source.report.records, 'record')} read, none "
        "has any; `sttx validate-data` says more"
    )
