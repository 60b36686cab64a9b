"""`open_source` opens any input as one stream of traces behind a bounded queue.

A thread reads, parses and redacts; the consumer iterates. The reader waits while the queue is full.
`close()`, the end of the `with` block or the loss of the last reference stops the thread and every child
process, even in mid-stream. An error of the reader is raised in the consumer, after all traces that were read
before it. `Source.cursor` says how far the consumer has read; a source opened with it resumes exactly there.

This file does not know how anything is read; feeds do (`feeds.py`).
"""

import contextlib
import copy
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from sttx_ccsniff.bounded_queue import BoundedQueue, Closed
from sttx_ccsniff.cursor import Advance, Ledger, Place, key_of
from sttx_ccsniff.environment import claude_projects, codex_sessions, opencode_stores
from sttx_ccsniff.feeds import Delivery, Feed, Shared
from sttx_ccsniff.follow.feed import FileFeed, FolderFeed
from sttx_ccsniff.follow.folders import session_files
from sttx_ccsniff.follow.session_end import IDLE_SECONDS, EndDetector
from sttx_ccsniff.live.feed import LiveFeed
from sttx_ccsniff.read.lines import StreamFeed, line_place
from sttx_ccsniff.redact import Redactor
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.saved_places import check_places
from sttx_core.errors import SourceError, UsageError
from sttx_core.os_errors import explain
from sttx_core.traces import Trace

Spec = str | Path
_Item = tuple[Trace | None, Advance | None]
_AGENTS: dict[str, Callable[[], list[Path]]] = {
    "claude": lambda: [claude_projects()],
    "codex": lambda: [codex_sessions()],
    "opencode": opencode_stores,
}
_JOIN_SECONDS = 10.0


def open_source(
    spec: Spec | Sequence[Spec],
    *,
    capacity: int = 64,
    cursor: Mapping[str, Any] | None = None,
    follow: bool | None = None,
    since: float = 0.0,
    redact: Redactor | bool = True,
    session_idle: float = IDLE_SECONDS,
    idle_timeout: float | None = None,
    say: Callable[[str], None] | None = None,
) -> "Source":
    """Open a stream of traces. Reading starts when the first trace is requested.

    Args:
        spec: "claude" (Claude Code's session files, followed natively), "live" (the same, watched by
            ccsniff), "codex" or "opencode" (those agents' own stores), the path of a file or folder, "-"
            (standard input), or a list of these. A list is read in order, except that followed inputs
            come last.
        capacity: How many traces may wait for the consumer before reading pauses.
        cursor: The `Source.cursor` of an earlier run, to resume where that run stopped.
        follow: Whether to wait for new traces after the history. By default agents' stores are followed
            and files and folders are not.
        since: Unix seconds; older traces are dropped.
        redact: How to remove secrets and private names from every trace before anything else sees it:
            with a given redactor, with the default rules (True), or not at all (False).
        session_idle: Seconds of silence after which a followed session counts as ended.
        idle_timeout: Seconds without a trace after which the stream ends.
        say: Called with each warning, from the reading thread; by default warnings are logged.

    Raises:
        UsageError: The spec or an option is invalid.
        SourceError: There is nothing to read.
        CheckpointError: The cursor is damaged, or of another version.
    """
    if capacity < 1:
        raise UsageError(f"capacity must be at least 1, not {capacity!r}")
    specs = [spec] if isinstance(spec, (str, Path)) else list(spec)
    if not specs:
        raise UsageError(
            "no source given: name an agent ('claude', 'codex', …), 'live', a file, a folder or '-'"
        )
    if len(set(map(str, specs))) < len(specs):
        raise UsageError(f"a source is given twice in {list(map(str, specs))!r}: name each once")
    source = Source(
        _feeds(specs, follow, session_idle),
        capacity=capacity,
        cursor=cursor,
        since=since,
        redact=redact,
        idle_timeout=idle_timeout,
        say=say,
    )
    check_places(source.places)
    return source


class Source:
    """A stream of traces: an iterator and a context manager.

    Attributes:
        report: Counts of what was read, kept up to date while reading.
        description: What is read, as a short text for people.
    """

    def __init__(
        self,
        feeds: Sequence[Feed],
        *,
        capacity: int = 64,
        cursor: Mapping[str, Any] | None = None,
        since: float = 0.0,
        redact: Redactor | bool = True,
        idle_timeout: float | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.report = SourceReport(say=say)
        self.description = "; then ".join(feed.description for feed in feeds)
        self._idle_timeout = idle_timeout
        self._ledger = Ledger(cursor)
        self._queue: BoundedQueue[_Item] = BoundedQueue(capacity)
        self._taken: deque[_Item] = deque()
        shared = _shared(self._ledger, self.report, since)
        reader = _Reader(feeds, shared, self._queue, _redactor(redact, self.report))
        self._thread = threading.Thread(target=reader.run, name="sttx-source", daemon=True)
        self._finish = weakref.finalize(self, _shut, feeds, shared, self._queue, self._thread)

    @property
    def cursor(self) -> dict[str, Any]:
        """The position after the last trace that the consumer took, JSON-able."""
        return self._ledger.cursor()

    @property
    def places(self) -> dict[str, Place]:
        """The place of each origin after the last trace that the consumer took."""
        return self._ledger.places()

    def __iter__(self) -> "Source":
        return self

    def __next__(self) -> Trace:
        if not self.wait():
            raise StopIteration
        trace, advance = self._taken.popleft()
        assert trace is not None
        self._ledger.delivered(trace)
        if advance is not None:
            self._ledger.advance(advance)
        self.report.delivered(trace)
        return trace

    def wait(self) -> bool:
        """Wait for the next trace without taking it; return False if the stream has ended."""
        while self._finish.alive:
            while self._taken:
                trace, advance = self._taken[0]
                if trace is not None:
                    return True
                assert advance is not None
                self._ledger.advance(advance)
                self._taken.popleft()
            self._taken.extend(self._take())
            if not self._taken:
                break
        return False

    def _take(self) -> list[_Item]:
        if self._thread.ident is None:
            self._thread.start()
        try:
            taken = self._queue.take(self._idle_timeout)
        except TimeoutError:
            taken = None
        except BaseException:
            self.close()
            raise
        if taken is None:
            self.close()
            self._thread.join(_JOIN_SECONDS)  # a signal handler that called close() could not wait
        return taken or []

    def close(self) -> None:
        """Stop reading, and end the thread and every child process.

        May be called again, also from `finally` and from a signal handler.
        """
        self._finish()

    def __enter__(self) -> "Source":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Reader:
    """Runs in a thread: reads every feed into the queue, and passes any error to the consumer."""

    def __init__(
        self,
        feeds: Sequence[Feed],
        shared: Shared,
        queue: BoundedQueue[_Item],
        redactor: Redactor | None,
    ) -> None:
        self._feeds, self._shared, self._queue = feeds, shared, queue
        self._redactor = redactor

    def run(self) -> None:
        try:
            for feed in self._feeds:
                with contextlib.closing(feed.batches(self._shared)) as batches:
                    for delivery in batches:
                        self._queue.put(self._items(delivery))
                if self._shared.stop.is_set():
                    break
            self._queue.end()
        except Closed:
            self._queue.end()
        except BaseException as error:  # noqa: BLE001  passed to the consumer's thread, which raises it
            self._queue.end(error)

    def _items(self, delivery: Delivery) -> list[_Item]:
        """Return the traces of a delivery, the last one with the `Advance` that taking it implies."""
        partly = self._shared.partly_taken
        taken = partly and {key for trace in delivery.traces if (key := key_of(trace)) in partly}
        traces = self._wanted(delivery, taken) if delivery.traces else []
        advance = Advance(delivery.origin, delivery.place, self._shared.seen.take_journal(), taken)
        if not traces:
            return [(None, advance)]
        items: list[_Item] = [(trace, None) for trace in traces]
        items[-1] = (traces[-1], advance)
        return items

    def _wanted(self, delivery: Delivery, taken: set[str]) -> list[Trace]:
        """Drop the traces that an earlier run took and those that are too old; redact the rest."""
        report, traces = self._shared.report, delivery.traces
        if since := self._shared.since:
            traces = [trace for trace in traces if not 0 < trace.meta.time < since]
            for _ in range(len(delivery.traces) - len(traces)):
                report.skip("from before the time asked for")
        if taken:
            traces = [trace for trace in traces if key_of(trace) not in taken]
            report.already_delivered += len(taken)
            self._shared.partly_taken -= taken
        return traces if self._redactor is None else [self._redactor.redact(trace) for trace in traces]


def _feeds(specs: Sequence[Spec], follow: bool | None, session_idle: float) -> list[Feed]:
    """Return a feed for each spec. All natively followed specs share one feed, which comes last."""
    once: list[Feed] = []
    followed: list[Path] = []
    watched: list[Feed] = []
    registry = claude_projects().parent / "sessions"
    for spec in specs:
        if spec == "live":
            watched.append(LiveFeed(follow=follow is not False, ends=EndDetector(registry, session_idle)))
        elif spec == "-":
            once.append(StreamFeed())
        elif spec not in _AGENTS and _is_pipe(path := Path(spec).expanduser()):
            once.append(FileFeed(path))
        elif follow or (follow is None and spec in _AGENTS):
            own = isinstance(spec, str) and spec in _AGENTS
            followed += _AGENTS[str(spec)]() if own else [_existing(spec)]
        else:
            once.append(_read_once(spec))
    if watched and followed:
        raise UsageError("'live' cannot be combined with another followed source: name one of them")
    if follow and not watched and not followed:
        raise UsageError("standard input ('-') and pipes cannot be followed: read them without following")
    if followed:
        ends = EndDetector(registry if "claude" in specs else None, session_idle)
        names = ", ".join(map(str, followed))
        watched.append(FolderFeed(followed, f"following {names}", follow=True, ends=ends))
    return once + watched


def _is_pipe(path: Path) -> bool:
    """Whether a path is a pipe or device, such as a shell's `<(…)`, which can be read only once."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def _read_once(spec: Spec) -> Feed:
    if isinstance(spec, str) and spec in _AGENTS:
        paths = _AGENTS[spec]()
        path = paths[0]
        if not _is_there(path):
            others = " or ".join(agent for agent in _AGENTS if agent != spec)
            raise SourceError(
                f"no history of {spec!r}: {str(path)!r} does not exist; try {others}, or name a folder"
            )
        if len(paths) > 1:
            return FolderFeed(paths, f"{spec}: " + ", ".join(map(str, paths)))
        return _folder(path, f"{spec}: history in") if os.path.isdir(path) else FileFeed(path)
    path = _existing(spec)
    return _folder(path, "folder") if os.path.isdir(path) else FileFeed(path)


def _folder(folder: Path, what: str) -> Feed:
    count = len(session_files(folder))
    if not count:
        raise SourceError(
            f"no session files (*.jsonl or *.ndjson, also .gz or .zst; opencode*.db; sessions in .json) in "
            f"{str(folder)!r}"
        )
    return FolderFeed([folder], f"{what} {folder}: {count} session file{'s' if count > 1 else ''}")


def _existing(spec: Spec) -> Path:
    if spec == "":
        raise UsageError("the name of a source is empty; is a variable unset? ('.' is the current folder)")
    path = Path(spec).expanduser()
    if not _is_there(path):
        raise UsageError(
            f"no such source: {str(spec)!r} is neither 'claude', 'live', 'codex', 'opencode', '-' nor an "
            "existing path"
        )
    return path


def _is_there(path: Path) -> bool:
    """Return whether a path exists.

    Raises:
        SourceError: Nobody can tell, for example because a folder above it may not be entered.
    """
    try:
        os.lstat(path)
    except PermissionError as error:
        raise SourceError(f"cannot read {str(path)!r}: {explain(error)}") from error
    except (OSError, ValueError):
        return False
    return True


def _shared(ledger: Ledger, report: SourceReport, since: float) -> Shared:
    """Return what the feeds share, restored from the ledger of an earlier run."""
    seen = copy.deepcopy(ledger.seen)  # the reader's copy is ahead of what the consumer took
    shared = Shared(
        report=report,
        seen=seen,
        places=ledger.places(),
        partly_taken=ledger.partly_taken(),
        open=ledger.open(),
        since=since,
    )
    for origin, saved in shared.places.items():
        if (place := line_place(saved)) and place.inode:
            shared.files[place.device, place.inode] = origin
    return shared


def _redactor(redact: Redactor | bool, report: SourceReport) -> Redactor | None:
    if redact is False:
        return None
    redactor = Redactor(say=report.warn) if redact is True else redact
    report.redacted = redactor.counts
    return redactor


def _shut(
    feeds: Iterable[Feed], shared: Shared, queue: BoundedQueue[_Item], thread: threading.Thread
) -> None:
    shared.stop.set()
    may_wait = queue.close()
    for feed in feeds:
        feed.close()
    if may_wait and thread.ident is not None and thread is not threading.current_thread():
        thread.join(_JOIN_SECONDS)
