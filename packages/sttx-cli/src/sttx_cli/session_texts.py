"""Coding agents' sessions as documents to pretrain on: rendered as in training, redacted, one at a time.

Which data are sessions is told by content, so that a file of JSON lines may be either. Knows no tokenizer.
"""

import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from sttx_ccsniff import open_source
from sttx_ccsniff.claude_code.parser import SessionParser
from sttx_ccsniff.follow.folders import is_session_file, session_files
from sttx_ccsniff.parse.records import decode_line
from sttx_ccsniff.read.formats import FORMATS
from sttx_ccsniff.read.open import first_bytes
from sttx_ccsniff.redact import Redactor
from sttx_cli.output import say
from sttx_core.render import render
from sttx_core.traces import SessionEnd, Trace

AGENTS = ("claude", "codex", "opencode")
"""Words that stand for an agent's own history."""

_HEAD = 1 << 20
_MOST_OPEN = 64
_MOST_HELD = 1 << 26


class SessionTexts:
    """The texts of sessions, to be iterated over once: each document as soon as it is whole.

    Args:
        specs: What `open_source` takes; what an agent goes on to write is not waited for.
        redact: As `open_source` takes it.
        say: Called with what is read, and with each warning.

    Attributes:
        redacted: How often each rule of redaction found something, so far.
    """

    def __init__(self, specs: Sequence[str], *, redact: Redactor | bool, say: Callable[[str], None]) -> None:
        self._specs, self._redact, self._say = list(specs), redact, say
        self.redacted: Counter[str] = Counter()

    def __iter__(self) -> Iterator[str]:
        """Read the sources to their end."""
        with open_source(self._specs, follow=False, redact=self._redact, say=self._say) as source:
            self._say(f"sessions: {source.description}")
            self.redacted = source.report.redacted
            yield from document_texts(source)


def document_texts(
    traces: Iterable[Trace], *, most_open: int = _MOST_OPEN, most_held: int = _MOST_HELD
) -> Iterator[str]:
    """Yield the text of each document of a stream of traces that interleaves them.

    A document is whole when it ends, or at the end of the stream. Where too many are open, or their texts too
    long, the one that was silent longest is taken for whole; if it goes on, what follows is a new document.

    Args:
        traces: Of any number of documents.
        most_open: Documents that may be open.
        most_held: Characters that their texts may have together.
    """
    open_texts: OrderedDict[str, list[str]] = OrderedDict()
    held = 0
    for trace in traces:
        text = render(trace)
        if text:
            open_texts.setdefault(trace.document, []).append(text)
            held += len(text)
        if trace.document in open_texts:
            open_texts.move_to_end(trace.document, last=not isinstance(trace, SessionEnd))
        ended = isinstance(trace, SessionEnd) and trace.document in open_texts
        while open_texts and (ended or len(open_texts) > most_open or held > most_held):
            ended = False
            whole = "".join(open_texts.popitem(last=False)[1])
            held -= len(whole)
            yield whole
    while open_texts:
        yield "".join(open_texts.popitem(last=False)[1])


def parted(data: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Tell what is plain data from what are sessions: the paths, and the specs of `open_source`.

    `claude`, `codex` and `opencode` are sessions, and so are files that hold an agent's records, and folders
    most of whose bytes are in such files. Of other folders with such files in them, it is said that nothing
    is redacted there.
    """
    sessions = [name for name in data if name in AGENTS or _are_sessions(Path(name))]
    return [Path(name) for name in data if name not in sessions], sessions


def _are_sessions(path: Path) -> bool:
    if path.is_file():
        return is_session_file(path) and holds_sessions(path)
    if not path.is_dir():
        return False
    found = [file for file in session_files(path) if holds_sessions(file)]
    everything = sum(_size(Path(folder, name)) for folder, _, names in os.walk(path) for name in names)
    if sum(map(_size, found)) * 2 > everything:
        return True
    if found:
        say(
            f"note: {str(path)!r} is read as text, and nothing in it is redacted; {len(found):,} of its "
            f"files hold an agent's sessions, such as {str(found[0])!r}: name sessions by themselves"
        )
    return False


def holds_sessions(path: Path) -> bool:
    """Say whether the beginning of a file has a record of an agent, not a text or a list of numbers."""
    head = first_bytes(path, _HEAD)
    if head.startswith(b"SQLite format 3\0"):
        return True
    for line in head.splitlines():
        for value in decode_line(line, Counter())[0]:
            if isinstance(value, dict):
                return _is_record(value)
    return False


def _is_record(value: dict) -> bool:
    """Whether a JSON object is a record; whatever names a type is Claude Code's, unless it has a text too."""
    plain = isinstance(value.get("text"), str) or isinstance(value.get("values"), list)
    return any(kind.recognises(value) for kind in FORMATS if not (plain and kind.parser is SessionParser))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
