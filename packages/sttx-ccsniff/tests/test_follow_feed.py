"""Following files natively: every record is delivered once, and soon, however the files change."""

import contextlib
import json
import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest

import sttx_ccsniff.follow.feed
import sttx_ccsniff.follow.watch
from sttx_ccsniff import Source, dump_trace
from sttx_ccsniff.feeds import Shared
from sttx_ccsniff.follow.feed import FolderFeed
from sttx_ccsniff.follow.session_end import EndDetector, running_sessions
from sttx_ccsniff.report import SourceReport
from sttx_core.traces import Meta, SessionEnd, UserMessage

SECONDS = 60.0


class Follower:
    """A source that follows a folder in a thread of its own, and its warnings."""

    def __init__(self, folder, *, cursor=None, **options):
        self.warnings = []
        feed = FolderFeed([folder], "followed", follow=True, **options)
        self.source = Source([feed], cursor=cursor, redact=False, say=self.warnings.append)
        self.traces = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        for trace in self.source:
            self.traces.append(trace)

    @property
    def texts(self):
        return [trace.text for trace in self.traces if not isinstance(trace, SessionEnd)]

    def wait(self, *words):
        """Wait until exactly these texts were delivered, in any order."""
        end = time.monotonic() + SECONDS
        while sorted(self.texts) != sorted(words):
            assert time.monotonic() < end, f"{self.texts} are not {words}"
            assert len(self.texts) <= len(words), f"{self.texts} are more than {words}"
            time.sleep(0.005 + len(words) / 5000)

    def close(self):
        self.source.close()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()


@pytest.fixture(params=["notified", "polling"])
def follow(request, tmp_path):
    """Return a function that follows a folder, with notifications and with polling."""
    started = []

    def start(folder=None, **options):
        options.setdefault("polling", request.param == "polling")
        started.append(Follower(folder or tmp_path, **options))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def line(record):
    def make(word, **fields):
        return json.dumps(record(content=word, **fields), ensure_ascii=False).encode() + b"\n"

    return make


def append(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(data)


def test_history_first_then_new_lines(follow, line, tmp_path):
    append(tmp_path / "a.jsonl", line("one") + line("two"))
    follower = follow()
    follower.wait("one", "two")
    append(tmp_path / "a.jsonl", line("three"))
    follower.wait("one", "two", "three")
    assert follower.texts == ["one", "two", "three"]


def test_writes_that_split_a_line_or_a_character(follow, line, tmp_path):
    path = tmp_path / "a.jsonl"
    append(path, line("one"))
    follower = follow()
    follower.wait("one")
    data = line("zwei Äpfel 🍎") + line("three")
    cut = data.index("🍎".encode()) + 2
    for piece in (data[:20], data[20:cut], data[cut : cut + 1], data[cut + 1 :]):
        append(path, piece)
        time.sleep(0.06)
    follower.wait("one", "zwei Äpfel 🍎", "three")
    assert follower.source.report.malformed == {} and follower.source.report.noted == {}


def test_an_unterminated_last_line_is_read_once(follow, line, tmp_path):
    path = tmp_path / "a.jsonl"
    append(path, line("one") + line("two")[:-1])
    follower = follow()
    follower.wait("one", "two")
    append(path, b"\n" + line("three")[:-1])
    follower.wait("one", "two", "three")
    append(path, b"\n")
    time.sleep(0.1)
    follower.wait("one", "two", "three")


def test_truncation(follow, line, tmp_path):
    path = tmp_path / "a.jsonl"
    first, second, third = line("one"), line("two"), line("three")
    append(path, first + second)
    follower = follow()
    follower.wait("one", "two")
    with path.open("r+b") as file:
        file.truncate(len(first))
    time.sleep(0.1)
    append(path, third)
    follower.wait("one", "two", "three")


def test_replacement_by_rename(follow, line, tmp_path):
    path, aside = tmp_path / "a.jsonl", tmp_path / "a.tmp"
    data = line("one") + line("two")
    append(path, data)
    follower = follow()
    follower.wait("one", "two")
    append(aside, data + line("three"))
    aside.replace(path)
    follower.wait("one", "two", "three")
    append(path, line("four"))
    follower.wait("one", "two", "three", "four")


def test_a_file_deleted_and_created_again(follow, line, tmp_path):
    path = tmp_path / "a.jsonl"
    append(path, line("one"))
    follower = follow()
    follower.wait("one")
    path.unlink()
    time.sleep(0.1)
    append(path, line("two"))
    follower.wait("one", "two")


def test_deleted_files_are_forgotten(line, tmp_path):
    shared = Shared(report=SourceReport())
    for number in range(3):
        append(tmp_path / f"{number}.jsonl", line(str(number)))
    feed = FolderFeed([tmp_path], "x")
    assert len(list(feed.batches(shared))) == 3
    assert len(shared.places) == len(shared.files) == len(shared.recognized) == 3
    for number in range(2):
        (tmp_path / f"{number}.jsonl").unlink()
    assert [delivery.place for delivery in feed.batches(shared)] == [None, None]
    assert list(shared.places) == list(shared.files.values()) == list(shared.recognized)
    assert list(shared.places) == [str(tmp_path / "2.jsonl")]


def test_a_renamed_file_continues_at_its_place(follow, line, tmp_path):
    pair = b'{"prompt":"p","completion":"%s"}\n'
    append(tmp_path / "a.jsonl", pair % b"one")
    follower = follow()
    end = time.monotonic() + SECONDS
    while len(follower.traces) < 1 and time.monotonic() < end:
        time.sleep(0.01)
    (tmp_path / "a.jsonl").rename(tmp_path / "b.jsonl")
    time.sleep(0.1)
    append(tmp_path / "b.jsonl", pair % b"two")
    while len(follower.traces) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.2)
    assert [trace.completion for trace in follower.traces] == ["one", "two"]
    follower.close()
    assert list(follower.source.cursor["origins"]) == [str(tmp_path / "b.jsonl")]


PAIR = b'{"prompt":"p","completion":"%s"}\n'  # without a uuid that would show a repeat


def completions(traces):
    return [trace.completion for trace in traces]


def read_twice(folder, change):
    """Read a folder, change it, and read it again from the cursor."""
    warnings = []
    with Source([FolderFeed([folder], "first")], redact=False, say=warnings.append) as source:
        first = completions(source)
    change()
    with Source(
        [FolderFeed([folder], "again")], cursor=source.cursor, redact=False, say=warnings.append
    ) as again:
        return first, completions(again)


def replaced(path, data):
    """Replace a file by a new one, and keep the old inode as `old.jsonl`, which has an older time."""
    old, aside = path.with_name("old.jsonl"), path.with_suffix(".tmp")
    os.link(path, old)
    aside.write_bytes(data)
    aside.replace(path)
    return old


def test_a_new_file_that_has_the_inode_of_a_replaced_one(tmp_path):
    path = tmp_path / "a.jsonl"
    append(path, PAIR % b"one")

    def change():
        old = replaced(path, PAIR % b"one" + PAIR % b"two")
        old.write_bytes(PAIR % b"another")
        os.utime(old, (1.0e9, 1.0e9))

    assert read_twice(tmp_path, change) == (["one"], ["another", "two"])


def test_a_replaced_file_that_lives_on_under_another_name(tmp_path):
    path = tmp_path / "a.jsonl"
    append(path, PAIR % b"one")

    def change():
        os.utime(replaced(path, PAIR % b"one" + PAIR % b"two"), (1.0e9, 1.0e9))

    assert read_twice(tmp_path, change) == (["one"], ["two"])


def test_a_folder_that_is_unreachable_for_a_while(tmp_path):
    folder, aside = tmp_path / "projects" / "p", tmp_path / "aside"
    append(folder / "a.jsonl", PAIR % b"one")

    with Source([FolderFeed([folder.parent], "x")], redact=False, say=lambda message: None) as source:
        assert completions(source) == ["one"]
    cursor = source.cursor
    folder.rename(aside)
    folder.symlink_to("p")
    with Source([FolderFeed([folder.parent], "x")], cursor=cursor, redact=False) as source:
        assert completions(source) == []
    cursor = source.cursor
    folder.unlink()
    aside.rename(folder)
    append(folder / "a.jsonl", PAIR % b"two")
    with Source([FolderFeed([folder.parent], "x")], cursor=cursor, redact=False) as source:
        assert completions(source) == ["two"]


def test_a_file_is_retried_after_a_temporary_error(follow, line, tmp_path, monkeypatch):
    refused = []
    read_file = sttx_ccsniff.follow.feed.read_file

    def refuse(path, *args, **options):
        if len(refused) < 2:
            refused.append(path)
            raise OSError(24, "Too many open files")
        yield from read_file(path, *args, **options)

    monkeypatch.setattr(sttx_ccsniff.follow.feed, "read_file", refuse)
    append(tmp_path / "a.jsonl", line("one"))
    follower = follow()
    follower.wait("one")
    assert len(refused) == 2 and sum("cannot read" in warning for warning in follower.warnings) == 1
    assert follower.source.report.malformed == {"unreadable file": 1}


def test_rewritten_at_the_same_length_and_time(follow, line, tmp_path):
    path = tmp_path / "a.jsonl"
    append(path, line("one"))
    before = path.stat()
    follower = follow()
    follower.wait("one")
    path.write_bytes(line("two"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    follower.wait("one", "two")


def test_new_files_projects_and_the_folder_itself(follow, line, tmp_path):
    folder = tmp_path / "later" / "projects"
    follower = follow(folder)
    time.sleep(0.1)
    append(folder / "slug" / "a.jsonl", line("one"))
    follower.wait("one")
    append(folder / "slug" / "b.jsonl", line("two"))
    append(folder / "other" / "deep" / "c.jsonl", line("three"))
    follower.wait("one", "two", "three")


def test_a_replaced_folder(follow, line, tmp_path):
    folder = tmp_path / "projects"
    append(folder / "a.jsonl", line("one"))
    follower = follow(folder)
    follower.wait("one")
    folder.rename(tmp_path / "old")
    append(folder / "b.jsonl", line("two"))
    follower.wait("one", "two")
    append(folder / "b.jsonl", line("three"))
    follower.wait("one", "two", "three")


def test_symbolic_links(follow, line, tmp_path):
    outside = tmp_path / "outside"
    append(outside / "a.jsonl", line("one"))
    folder = tmp_path / "projects"
    folder.mkdir()
    (folder / "linked").symlink_to(outside)
    (folder / "again.jsonl").symlink_to(outside / "a.jsonl")
    (folder / "broken.jsonl").symlink_to("nowhere")
    follower = follow(folder)
    follower.wait("one")
    append(outside / "a.jsonl", line("two"))
    follower.wait("one", "two")


def test_a_subagent_has_its_own_document(follow, line, tmp_path):
    follower = follow()
    append(tmp_path / "s.jsonl", line("parent"))
    append(tmp_path / "s" / "subagents" / "agent-q.jsonl", line("child", agentId="q", isSidechain=True))
    append(tmp_path / "s.jsonl", line("parent again"))
    follower.wait("parent", "child", "parent again")
    documents = {trace.text: trace.document for trace in follower.traces}
    assert documents == {"parent": "s", "child": "s/q", "parent again": "s"}


def test_bursts_of_writes(follow, line, tmp_path):
    words = [str(number) for number in range(400)]
    follower = follow()
    for number, word in enumerate(words):
        append(tmp_path / f"{number % 3}.jsonl", line(word))
        time.sleep(0.001)
    follower.wait(*words)


@pytest.mark.slow
def test_hundreds_of_files_need_no_descriptors(follow, line, tmp_path):
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("no /proc")
    for number in range(600):
        append(tmp_path / f"{number % 20}" / f"{number}.jsonl", line(str(number)))
    before = len(list(descriptors.iterdir()))
    follower = follow()
    follower.wait(*map(str, range(600)))
    append(tmp_path / "7" / "7.jsonl", line("more"))
    follower.wait(*map(str, range(600)), "more")
    assert len(list(descriptors.iterdir())) < before + 12


def test_interleaved_sessions_keep_their_identity(follow, line, tmp_path):
    follower = follow()
    for turn in range(10):
        for session in "abc":
            append(tmp_path / f"{session}.jsonl", line(f"{session}{turn}", sessionId=session))
    follower.wait(*(f"{session}{turn}" for turn in range(10) for session in "abc"))
    for session in "abc":
        own = [trace.text for trace in follower.traces if trace.meta.session == session]
        assert own == [f"{session}{turn}" for turn in range(10)]


def test_following_resumes_from_a_cursor(follow, line, tmp_path):
    path = tmp_path / "a.jsonl"
    append(path, line("one") + line("two")[:20])
    follower = follow()
    follower.wait("one")
    follower.close()
    cursor = json.loads(json.dumps(follower.source.cursor))
    path.write_bytes(path.read_bytes()[:-20] + line("two"))
    append(tmp_path / "b.jsonl", line("three"))
    again = follow(cursor=cursor)
    again.wait("two", "three")


def test_files_and_records_older_than_asked_for_are_skipped(line, tmp_path):
    old, young = "2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z"
    append(tmp_path / "old.jsonl", line("old", timestamp=old))
    append(tmp_path / "both.jsonl", line("older", timestamp=old) + line("young", timestamp=young))
    os.utime(tmp_path / "old.jsonl", (1.0e9, 1.0e9))
    with Source([FolderFeed([tmp_path], "all")], since=1.77e9, redact=False) as source:
        assert [trace.text for trace in source] == ["young"]
    assert source.report.skipped == {
        "file from before the time asked for": 1,
        "from before the time asked for": 1,
    }


def test_polling_takes_over_when_notifications_are_refused(line, tmp_path, monkeypatch):
    def refuse(*args, **options):
        del args, options
        raise OSError(28, "No space left on device")
        yield

    monkeypatch.setattr(sttx_ccsniff.follow.watch.watchfiles, "watch", refuse)
    follower = Follower(tmp_path)
    try:
        append(tmp_path / "a.jsonl", line("one"))
        follower.wait("one")  # the first scan reads it, before notifications are refused
        append(tmp_path / "a.jsonl", line("two"))
        follower.wait("one", "two")
        assert sum("No space left" in warning for warning in follower.warnings) == 1
    finally:
        follower.close()


# The end of a session


def test_silence_ends_a_session(follow, line, tmp_path):
    append(tmp_path / "a.jsonl", line("one"))
    follower = follow(ends=EndDetector(idle=0.3))
    end = time.monotonic() + SECONDS
    while not any(isinstance(trace, SessionEnd) for trace in follower.traces):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert [type(trace).__name__ for trace in follower.traces] == ["UserMessage", "SessionEnd"]
    assert follower.traces[1].document == follower.traces[0].document
    append(tmp_path / "a.jsonl", line("two"))
    follower.wait("one", "two")


def test_a_session_left_open_by_one_run_ends_in_the_next(follow, line, tmp_path):
    append(tmp_path / "a.jsonl", line("one"))
    first = follow(ends=EndDetector(idle=1e9))
    first.wait("one")
    first.close()
    os.utime(tmp_path / "a.jsonl", (1e9, 1e9))
    second = follow(ends=EndDetector(idle=10.0), cursor=json.loads(json.dumps(first.source.cursor)))
    end = time.monotonic() + SECONDS
    while not second.traces:
        assert time.monotonic() < end
        time.sleep(0.02)
    second.close()
    assert [type(trace) for trace in second.traces] == [SessionEnd]
    assert second.traces[0].document == first.traces[0].document
    assert first.source.cursor["open"] and not second.source.cursor["open"]


def test_only_followed_sessions_end_in_a_resumed_run(line, tmp_path):
    append(tmp_path / "once" / "a.jsonl", line("one", sessionId="a"))
    append(tmp_path / "followed" / "z.jsonl", line("two", sessionId="z"))
    feeds = [FolderFeed([tmp_path / "once"], "once")]
    with Source(feeds, redact=False) as source:
        list(source)
        cursor = json.loads(json.dumps(source.cursor))
    assert [meta["session"] for meta in cursor["open"]] == ["a"]
    feeds.append(FolderFeed([tmp_path / "followed"], "followed", follow=True, ends=EndDetector(idle=0.0)))
    with Source(feeds, redact=False, cursor=cursor, idle_timeout=1.0) as source:
        assert [type(trace).__name__ for trace in source] == ["UserMessage", "SessionEnd"]


def test_a_session_whose_file_was_deleted_ends_too(follow, line, tmp_path):
    append(tmp_path / "a.jsonl", line("one"))
    follower = follow(ends=EndDetector(idle=1.0))
    follower.wait("one")
    (tmp_path / "a.jsonl").unlink()
    end = time.monotonic() + SECONDS
    while len(follower.traces) < 2 or follower.source.cursor["origins"]:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert isinstance(follower.traces[1], SessionEnd)


def test_the_end_of_a_session_whose_file_was_deleted_is_delivered_without_a_place():
    shared = Shared(report=SourceReport(), places={"/p/there.jsonl": ["a place"]})
    ends = EndDetector(idle=0.0)
    for name in ("there", "deleted"):
        meta = Meta(session=name, origin=f"/p/{name}.jsonl", uid=name)
        ends.observe([UserMessage(meta=meta, text="hi")], when=100.0)
    delivered = {delivery.traces[0].document: delivery for delivery in ends.deliveries(shared)}
    assert [type(delivery.traces[0]) for delivery in delivered.values()] == [SessionEnd, SessionEnd]
    assert delivered["there"].place == ["a place"] and delivered["deleted"].place is None


def running(registry, pid, session, **more):
    registry.mkdir(exist_ok=True)
    (registry / f"{pid}.json").write_text(json.dumps({"pid": pid, "sessionId": session, **more}))


def test_running_sessions(tmp_path):
    registry = tmp_path / "sessions"
    assert running_sessions(registry) == set()
    running(registry, os.getpid(), "mine")
    running(registry, 2**22 + 1, "gone")
    running(registry, 1, "another's", procStart="no such time")
    (registry / "odd.json").write_text("[1]")
    (registry / "torn.json").write_text('{"pid":')
    assert running_sessions(registry) == {"mine"}


def test_a_session_ends_with_its_process(tmp_path, line):
    registry = tmp_path / "sessions"
    running(registry, os.getpid(), "s")
    ends = EndDetector(registry)
    with Source([FolderFeed([tmp_path], "x")], redact=False) as source:
        append(tmp_path / "a.jsonl", line("one"))
        ends.observe(list(source), when=100.0)
    assert ends.ended(now=110.0) == []
    (registry / f"{os.getpid()}.json").unlink()
    assert [end.document for end in ends.ended(now=120.0)] == ["s"]
    assert ends.ended(now=130.0) == []
    with Source([FolderFeed([tmp_path], "x")], redact=False) as source:
        ends.observe(list(source), when=130.0)
    assert ends.ended(now=140.0) == [], "another process resumed it"


def test_a_clock_that_is_set_back_does_not_delay_an_end(tmp_path, line):
    append(tmp_path / "a.jsonl", line("one"))
    ends = EndDetector(idle=10.0)
    assert ends.ended(now=5000.0) == []
    with Source([FolderFeed([tmp_path], "x")], redact=False) as source:
        ends.observe(list(source), when=100.0)
    assert ends.ended(now=105.0) == []
    assert [end.document for end in ends.ended(now=111.0)] == ["s"]


def test_a_session_ends_in_all_its_documents(tmp_path, line):
    """Also a sub-agent's and the one after a compaction; every end has a uid of its own."""
    cut = json.dumps({"type": "system", "subtype": "compact_boundary", "sessionId": "s"}).encode() + b"\n"
    blocks = [{"type": "text", "text": "two"}, {"type": "text", "text": "and more"}]
    append(tmp_path / "s.jsonl", line("one") + cut + line(blocks, type="assistant"))
    append(tmp_path / "s" / "subagents" / "agent-q.jsonl", line("child", agentId="q", isSidechain=True))
    ends = EndDetector(idle=10.0)
    with Source([FolderFeed([tmp_path], "x")], redact=False) as source:
        traces = list(source)
    ends.observe(traces, when=100.0)
    closed = ends.ended(now=200.0)
    assert sorted(end.document for end in closed) == ["s", "s#1", "s/q"]
    aside = tmp_path / "traces.jsonl"
    aside.write_bytes(b"\n".join(map(dump_trace, [*traces, *closed])))
    with Source([FolderFeed([aside], "x")], redact=False) as source:
        assert len(list(source)) == len(traces) + 3


def test_an_opencode_database_is_followed(follow, tmp_path):
    database = tmp_path / "opencode.db"
    with contextlib.closing(sqlite3.connect(database)) as store:
        store.executescript(
            "CREATE TABLE session (id, parent_id, directory, time_created);"
            "CREATE TABLE message (id, session_id, time_created, time_updated, data);"
            "CREATE TABLE part (id, message_id, session_id, time_created, time_updated, data);"
            "INSERT INTO session VALUES ('s', NULL, '/home/ada/orchard', 1000);"
        )
        follower = follow(database)
        for number, word in enumerate(["one", "two"], 1):
            part = json.dumps({"type": "text", "text": word})
            store.execute(
                "INSERT INTO message VALUES (?, 's', ?, ?, ?)",
                (f"m{number}", number, number, '{"role":"user"}'),
            )
            store.execute("INSERT INTO part VALUES (?, ?, 's', 1, 1, ?)", (f"p{number}", f"m{number}", part))
            store.commit()
            follower.wait(*["one", "two"][:number])
