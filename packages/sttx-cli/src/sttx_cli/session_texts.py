"""Coding agents' sessions as documents to pretrain on: rendered as in training, redacted, one at a time.

A file that is named like a session file (*.jsonl, *.ndjson, opencode*.db) holds sessions if its content does;
JSON lines may be either. Knows no tokenizer.
"""

import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from sttx_ccsniff import holds_sessions, open_source, session_files
from sttx_ccsniff.redact import Redactor
from sttx_cli.output import note
from sttx_cli.sources import AGENTS, check_records
from sttx_core.render import render
from sttx_core.traces import SessionEnd, Trace

_MOST_OPEN = 64
_MOST_CHARACTERS = 1 << 26


class SessionTexts:
    """The texts of sessions; iterate over it once. Each document comes as soon as it is complete.

    Args:
        sources: As `open_source` takes them; they are read to their end and not followed.
        redact: As `open_source` takes it.
        say: Called with what is read, and with each warning.

    Attributes:
        redacted: How often each redaction rule matched so far.
    """

    def __init__(
        self, sources: Sequence[str], *, redact: Redactor | bool, say: Callable[[str], None]
    ) -> None:
        self._sources, self._redact, self._say = list(sources), redact, say
        self.redacted: Counter[str] = Counter()

    def __iter__(self) -> Iterator[str]:
        """Read the sources to their end.

        Raises:
            SourceError: there is no record in any of them.
        """
        with open_source(self._sources, follow=False, redact=self._redact, say=self._say) as source:
            self._say(f"sessions: {source.description}")
            self.redacted = source.report.redacted
            yield from document_texts(source)
            check_records(source)


def document_texts(
    traces: Iterable[Trace], *, most_open: int = _MOST_OPEN, most_characters: int = _MOST_CHARACTERS
) -> Iterator[str]:
    """Yield the text of each document of a stream of interleaved documents.

    A document is complete when it ends, or at the end of the stream. If too many are open, or their texts are
    too long, the one idle for longest counts as complete; traces that follow later start a new document.

    Args:
        traces: Of any number of documents.
        most_open: How many documents may be open at once.
        most_characters: How many characters their texts may have in total.
    """
    open_texts: OrderedDict[str, list[str]] = OrderedDict()
    characters = 0
    for trace in traces:
        text = render(trace)
        if text:
            open_texts.setdefault(trace.document, []).append(text)
            characters += len(text)
        if trace.document in open_texts:
            open_texts.move_to_end(trace.document, last=not isinstance(trace, SessionEnd))
        ended = isinstance(trace, SessionEnd) and trace.document in open_texts
        while open_texts and (ended or len(open_texts) > most_open or characters > most_characters):
            ended = False
            complete = "".join(open_texts.popitem(last=False)[1])
            characters -= len(complete)
            yield complete
    while open_texts:
        yield "".join(open_texts.popitem(last=False)[1])


def split_sessions(data: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Split what was named into plain data (paths) and sessions (sources for `open_source`).

    Sessions are `claude`, `codex` and `opencode`, files that hold an agent's records, and folders of which
    such files make up most of the bytes. Other folders with such files in them are plain data; a note says
    that nothing in them is redacted.
    """
    sessions = [name for name in data if name in AGENTS or _are_sessions(Path(name))]
    return [Path(name) for name in data if name not in sessions], sessions


def _are_sessions(path: Path) -> bool:
    if path.is_file():
        return holds_sessions(path)
    if not path.is_dir():
        return False
    files = [file for file in session_files(path) if holds_sessions(file)]
    total = sum(_size(Path(folder, name)) for folder, _, names in os.walk(path) for name in names)
    if sum(map(_size, files)) * 2 > total:
        return True
    if files:
        note(
            f"{str(path)!r} is read as text and nothing in it is redacted; {len(files):,} of its files hold "
            f"an agent's sessions, such as {str(files[0])!r}: name those with --from"
        )
    return False


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
