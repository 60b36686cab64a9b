"""`open_source`: any way in, one stream of traces behind a bounded queue.

A thread reads and parses; the consumer iterates. The reader waits while the consumer is slower, and ends with
it: `close()` (or the `with` block, or losing the last reference) stops the thread and every child process,
also in mid-stream. What the reader could not do is raised in the consumer, after everything it had read.

This file does not know what is read: `feeds`, `folders` and `ccsniff` do.
"""

import contextlib
import os
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from sttx_ccsniff.ccsniff import LiveFeed
from sttx_ccsniff.environment import claude_projects
from sttx_ccsniff.feeds import Feed, FileFeed, Shared
from sttx_ccsniff.folders import FolderFeed
from sttx_ccsniff.handover import Closed, Handover
from sttx_ccsniff.report import SourceReport
from sttx_core.errors import SourceError, UsageError
from sttx_core.traces import Trace

Spec = str | Path
_JOIN_SECONDS = 10.0


def open_source(
    spec: Spec | Sequence[Spec],
    *,
    capacity: int = 64,
    cursor: Mapping[str, int] | None = None,
    follow: bool | None = None,
    idle_timeout: float | None = None,
    say: Callable[[str], None] | None = None,
) -> "Source":
    """Open a stream of traces. Nothing is read before the first trace is asked for.

    Args:
        spec: "live" (ccsniff watching Claude Code's files), "claude" (those files as they are now), the path
            of a file or folder, "-" (standard input), or several of these, read one after the other, live
            last.
        capacity: How many traces may wait for the consumer before reading pauses.
        cursor: Traces that an earlier run already had, as `Source.cursor` gave them: that many first traces
            of each origin are not delivered again.
        follow: Whether to go on after the history. Only "live" can; it does by default.
        idle_timeout: End a stream after this many seconds without a trace.
        say: Called with each warning as it is said, from the thread that reads; by default they are logged.

    Raises:
        UsageError: The spec or an option makes no sense.
        SourceError: There is nothing to read.
    """
    if capacity < 1:
        raise UsageError(f"capacity must be at least 1, not {capacity!r}")
    specs = [spec] if isinstance(spec, (str, Path)) else list(spec)
    if not specs:
        raise UsageError("no source given: name 'live', 'claude', a file, a folder or '-'")
    if len(set(map(str, specs))) < len(specs):
        raise UsageError(f"a source is given twice in {list(map(str, specs))!r}")
    if follow and "live" not in specs:
        raise UsageError("only the source 'live' can follow")
    feeds = [_feed(one, follow) for one in sorted(specs, key=lambda one: str(one) == "live")]
    return Source(feeds, capacity=capacity, cursor=cursor, idle_timeout=idle_timeout, say=say)


class Source:
    """A stream of traces: an iterator and a context manager.

    Attributes:
        report: Counts of what came in, kept up to date while reading.
        description: What is read, in words.
    """

    def __init__(
        self,
        feeds: Sequence[Feed],
        *,
        capacity: int = 64,
        cursor: Mapping[str, int] | None = None,
        idle_timeout: float | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.report = SourceReport(say=say)
        self.description = "; then ".join(feed.description for feed in feeds)
        self._idle_timeout = idle_timeout
        self._cursor: Counter[str] = Counter(cursor or {})
        self._handover: Handover[Trace] = Handover(capacity)
        self._taken: Iterator[Trace] = iter(())
        shared = Shared(report=self.report)
        self._thread = threading.Thread(
            target=_produce,
            args=(feeds, shared, self._handover, dict(self._cursor)),
            name="sttx-source",
            daemon=True,
        )
        self._finish = weakref.finalize(self, _shut, feeds, shared, self._handover, self._thread)

    @property
    def cursor(self) -> dict[str, int]:
        """How many traces of each origin have been delivered, by earlier runs and this one."""
        return dict(self._cursor)

    def __iter__(self) -> "Source":
        return self

    def __next__(self) -> Trace:
        trace = next(self._taken, None)
        if trace is None:
            self._taken = iter(self._take())
            trace = next(self._taken)
        self._cursor[trace.meta.origin] += 1
        self.report.delivered(trace)
        return trace

    def _take(self) -> list[Trace]:
        if not self._finish.alive:
            return []
        if self._thread.ident is None:
            self._thread.start()
        try:
            taken = self._handover.take(self._idle_timeout)
        except TimeoutError:
            taken = None
        except BaseException:
            self.close()
            raise
        if taken is None:
            self.close()
        return taken or []

    def close(self) -> None:
        """Stop reading, end the thread and every child process. May be called again, and from `finally`."""
        self._taken = iter(())
        self._finish()

    def __enter__(self) -> "Source":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _feed(spec: Spec, follow: bool | None) -> Feed:
    if str(spec) == "live":
        return LiveFeed(follow=follow is not False)
    if str(spec) == "claude":
        folder = claude_projects()
        if not folder.is_dir():
            raise SourceError(
                f"no Claude Code history: {str(folder)!r} is not there; name a file or folder instead"
            )
        return FolderFeed(folder, "claude: history in")
    if str(spec) == "-":
        return FileFeed(None)
    if spec == "":
        raise UsageError("a source's name is empty; is a variable unset? ('.' is the folder at hand)")
    path = Path(spec).expanduser()
    if path.is_dir():
        return FolderFeed(path)
    if not os.path.lexists(path):
        raise UsageError(
            f"no such source: {str(spec)!r} is neither 'live', 'claude', '-' nor an existing path"
        )
    return FileFeed(path)


def _produce(feeds: Sequence[Feed], shared: Shared, handover: Handover[Trace], had: dict[str, int]) -> None:
    """Run in a thread: read every feed into the hand-over, and carry any error to the consumer."""
    try:
        for feed in feeds:
            with contextlib.closing(feed.batches(shared)) as batches:
                for traces in batches:
                    handover.put(_new_ones(traces, had, shared.report) if had else traces)
            if shared.stop.is_set():
                break
        handover.end()
    except Closed:
        pass
    except BaseException as error:  # noqa: BLE001  carried over to the consumer's thread, which raises it
        handover.end(error)


def _new_ones(traces: list[Trace], had: dict[str, int], report: SourceReport) -> list[Trace]:
    """Drop as many first traces of each origin as the cursor says an earlier run had."""
    new: list[Trace] = []
    for trace in traces:
        origin = trace.meta.origin
        left = had.get(origin, 0)
        if left:
            had[origin] = left - 1
            report.already_delivered += 1
        else:
            new.append(trace)
    return new


def _shut(feeds: Sequence[Feed], shared: Shared, handover: Handover[Trace], thread: threading.Thread) -> None:
    shared.stop.set()
    handover.close()
    for feed in feeds:
        feed.close()
    if thread.ident is not None and thread is not threading.current_thread():
        thread.join(_JOIN_SECONDS)
