import gc
import gzip
import io
import itertools
import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest

import sttx_ccsniff.read.lines
from sttx_ccsniff import Source, open_source
from sttx_ccsniff.feeds import Delivery
from sttx_core.errors import SourceError, UsageError
from sttx_core.traces import Meta, UserMessage


def texts(source):
    with source:
        return [trace.text for trace in source]


def spoken(record, *words):
    return [record(content=word) for word in words]


def taken(cursor):
    return sum(entry["traces"] for entry in cursor["origins"].values())


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "sttx-source"]


def wait_until(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.002)


@pytest.fixture(autouse=True)
def nothing_left_behind():
    yield
    gc.collect()
    wait_until(lambda: not threads())


# Inputs


def test_a_file(record, session_file):
    path = session_file("a.jsonl", *spoken(record, "one", "two"))
    source = open_source(path)
    assert str(path) in source.description
    assert texts(source) == ["one", "two"]
    assert source.report.as_dict()["traces"]["user_message"] == 2
    assert source.report.bytes_read == path.stat().st_size
    assert source.report.formats == {"claude-code": 1}


def test_a_last_line_without_a_line_end_is_read(record, session_file):
    assert texts(open_source(session_file("a.jsonl", *spoken(record, "one", "two"), end=b""))) == [
        "one",
        "two",
    ]


def test_a_cut_last_line_is_counted(record, session_file):
    path = session_file("a.jsonl", *spoken(record, "one"), b'{"type":"user","mess', end=b"")
    source = open_source(path)
    assert texts(source) == ["one"]
    assert source.report.as_dict()["malformed_by_reason"] == {"cut short": 1}


@pytest.mark.parametrize("lines", [0, 1])
def test_an_empty_file_ends_at_once(session_file, lines):
    assert texts(open_source(session_file("a.jsonl", *[b""] * lines))) == []


def test_a_gzip_file_with_any_name(record, session_file):
    path = session_file("a.jsonl", *spoken(record, "one", "two"))
    size = path.stat().st_size
    path.write_bytes(gzip.compress(path.read_bytes()))
    source = open_source(path)
    assert texts(source) == ["one", "two"]
    assert source.report.bytes_read == size, "bytes are counted after decompression"


def test_a_zstandard_file(record, session_file):
    zstandard = pytest.importorskip("zstandard", reason="the extra `zstd` is not installed")
    path = session_file("a.jsonl", *spoken(record, "one", "two"))
    half = path.stat().st_size // 2
    data = path.read_bytes()
    compressor = zstandard.ZstdCompressor()
    path.write_bytes(compressor.compress(data[:half]) + compressor.compress(data[half:]))
    assert texts(open_source(path)) == ["one", "two"]


@pytest.mark.parametrize("damage", ["cut short", "overwritten"])
def test_a_damaged_zstandard_file_is_an_error(record, session_file, tmp_path, damage):
    zstandard = pytest.importorskip("zstandard", reason="the extra `zstd` is not installed")
    path = session_file("a.jsonl.zst", *(record(content=os.urandom(200).hex()) for _ in range(900)))
    data = zstandard.ZstdCompressor(write_checksum=True).compress(path.read_bytes())
    half = len(data) // 2
    path.write_bytes(data[:half] if damage == "cut short" else data[:half] + b"?" * 64 + data[half + 64 :])
    with pytest.raises(SourceError, match=r"cannot read .*a\.jsonl\.zst"):
        texts(open_source(path))
    source = open_source(tmp_path, say=lambda message: None)
    texts(source)
    assert source.report.malformed == {"unreadable file": 1}


def test_a_zstandard_file_without_the_package_names_the_extra(session_file, monkeypatch):
    path = session_file("a.jsonl.zst")
    path.write_bytes(b"\x28\xb5\x2f\xfd" + b"\x00" * 8)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(SourceError, match=r"sttx-ccsniff\[zstd\]"):
        texts(open_source(path))


def test_several_sources_are_read_one_after_the_other(record, session_file, tmp_path):
    one = session_file("x/one.jsonl", *spoken(record, "1"))
    two = session_file("y/two.jsonl", *spoken(record, "2"))
    assert texts(open_source([two, str(one)])) == ["2", "1"]
    assert texts(open_source([tmp_path / "y", tmp_path])) == ["2", "1"], "a file reached twice is read once"


def test_the_claude_source_reads_the_configured_folder(record, session_file, tmp_path, monkeypatch):
    session_file("config/projects/slug/a.jsonl", *spoken(record, "one"))
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "config"))
    source = open_source("claude", follow=False)
    assert source.description == f"claude: history in {tmp_path / 'config' / 'projects'}: 1 session file"
    assert texts(source) == ["one"]


def test_the_claude_source_reads_the_home_folder(record, session_file, tmp_path, monkeypatch):
    session_file(".claude/projects/slug/a.jsonl", *spoken(record, "one"))
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert texts(open_source("claude", follow=False)) == ["one"]
    assert texts(open_source("~/.claude")) == ["one"]


# Errors


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("/no/such/file", {}, "'/no/such/file'"),
        ([], {}, "no source given"),
        ("", {}, "the name of a source is empty"),
        ("-", {"capacity": 0}, "capacity must be at least 1, not 0"),
        (["live", "live"], {}, "given twice"),
        ("-", {"follow": True}, "cannot be followed"),
        (["live", "claude"], {}, "'live' cannot be combined with another followed source"),
    ],
)
def test_usage_errors_are_raised_at_once(spec, options, message):
    with pytest.raises(UsageError, match=message):
        open_source(spec, **options)


def test_missing_input_is_an_error_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "none"))
    with pytest.raises(
        SourceError, match="no history of 'claude': .* try codex or opencode, or name a folder"
    ):
        open_source("claude", follow=False)
    with pytest.raises(SourceError, match="no session files"):
        open_source(tmp_path)


def test_a_deleted_file_is_an_error_that_names_it(record, session_file):
    path = session_file("a.jsonl", *spoken(record, "one"))
    source = open_source(path)
    path.unlink()
    with pytest.raises(SourceError, match="a.jsonl"):
        texts(source)


def test_damaged_compression_is_an_error_after_the_readable_part(record, session_file):
    path = session_file("a.jsonl", *(record(content=f"{n} {os.urandom(200).hex()}") for n in range(9000)))
    data = gzip.compress(path.read_bytes())
    path.write_bytes(data[: len(data) * 3 // 4])
    got = []
    with pytest.raises(SourceError, match="a.jsonl"), open_source(path) as source:
        got.extend(source)
    assert got


def test_a_link_to_itself_does_not_hide_other_files(record, session_file, tmp_path):
    session_file("a.jsonl", *spoken(record, "one"))
    (tmp_path / "loop").symlink_to("loop")
    assert texts(open_source(tmp_path)) == ["one"]


def test_an_unreadable_folder_is_a_warning(record, session_file, tmp_path, monkeypatch):
    session_file("a.jsonl", *spoken(record, "one"))
    closed = session_file("closed/b.jsonl", *spoken(record, "two")).parent
    scandir = os.scandir

    def refuse(folder):
        if Path(folder) == closed:
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    said = []
    source = open_source(tmp_path, say=said.append)
    assert texts(source) == ["one"]
    assert len(said) == 1 and str(closed) in said[0]
    assert source.report.malformed == {"unreadable file": 1}


def test_a_damaged_file_in_a_folder_is_a_warning(record, session_file, tmp_path):
    session_file("a.jsonl", *spoken(record, "one"))
    session_file("b.jsonl.gz", b"\x1f\x8b damaged")
    said = []
    source = open_source(tmp_path, say=said.append)
    assert texts(source) == ["one"]
    assert len(said) == 1 and "b.jsonl.gz" in said[0]
    assert source.report.malformed == {"unreadable file": 1}


# Standard input


@pytest.fixture
def piped(monkeypatch):
    """Return a pipe that writes to the standard input of this process."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as standard_input, os.fdopen(writing, "wb", buffering=0) as pipe:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(standard_input))
        yield pipe


def test_standard_input_is_read_as_it_arrives(record, piped):
    one, two = (json.dumps(each).encode() + b"\n" for each in spoken(record, "one", "two"))
    with open_source("-") as source:
        piped.write(one + two[:30])
        assert next(source).text == "one"
        piped.write(two[30:])
        trace = next(source)
        assert (trace.text, trace.meta.origin) == ("two", "-")
        piped.close()
        assert list(source) == []


def test_standard_input_compressed(record, piped):
    piped.write(gzip.compress(b"\n".join(json.dumps(one).encode() for one in spoken(record, "one", "two"))))
    piped.close()
    assert texts(open_source("-")) == ["one", "two"]


def test_closing_a_silent_standard_input_is_quick(piped):
    source = open_source("-", idle_timeout=0.05)
    start = time.monotonic()
    assert texts(source) == []
    assert time.monotonic() - start < 60


@pytest.mark.skipif(os.name != "posix", reason="no pipes with a path")
def test_a_shells_pipe_is_read_from_its_first_byte(record, piped):
    many = [json.dumps(one).encode() + b"\n" for one in spoken(record, *map(str, range(100)))]
    piped.write(b"".join(many))
    piped.close()
    with pytest.raises(UsageError, match="cannot be followed"):
        open_source(f"/dev/fd/{sys.stdin.fileno()}", follow=True)
    assert texts(open_source(f"/dev/fd/{sys.stdin.fileno()}")) == [str(number) for number in range(100)]


@pytest.mark.skipif(os.name != "posix", reason="no named pipes")
@pytest.mark.parametrize("follow", [False, True])
def test_pipes_and_devices_in_a_folder_are_never_opened(record, session_file, tmp_path, follow):
    session_file("a.jsonl", *spoken(record, "one"))
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "device.jsonl").symlink_to("/dev/zero")
    (tmp_path / "linked.jsonl").symlink_to("pipe.jsonl")
    source = open_source(tmp_path, follow=follow, idle_timeout=2)
    assert texts(source) == ["one"]
    assert source.report.malformed == {}


def test_a_closed_standard_input_is_a_usage_error(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="pipe something"):
        texts(open_source("-"))


# Back-pressure and closing


class Counted:
    """A feed of endless traces that counts them and records whether it was closed."""

    description = "counted"

    def __init__(self, error_at=None):
        self.made = 0
        self.closed = False
        self.error_at = error_at

    def batches(self, shared):
        try:
            while not shared.stop.is_set():
                if self.made == self.error_at:
                    raise RuntimeError("the feed broke")
                self.made += 1
                meta = Meta(session="s", origin="counted")
                yield Delivery("counted", [UserMessage(meta=meta, text=str(self.made))], self.made)
        finally:
            self.closed = True

    def close(self):
        pass


@pytest.mark.parametrize("capacity", [1, 2, 8, 64])
def test_reading_waits_for_the_consumer(capacity):
    feed = Counted()
    with Source([feed], capacity=capacity) as source:
        for consumed, trace in enumerate(source, 1):
            assert trace.text == str(consumed)
            assert feed.made <= consumed + max(2, capacity) + 1
            if consumed == 5 * capacity + 3:
                break
            time.sleep(0.001)
    assert feed.closed


def test_nothing_is_read_before_the_first_trace_is_requested():
    feed = Counted()
    source = Source([feed])
    time.sleep(0.02)
    assert feed.made == 0 and not threads()
    source.close()
    assert list(source) == []


def test_an_error_of_the_reader_comes_after_all_traces():
    got = []
    with pytest.raises(RuntimeError, match="the feed broke"), Source([Counted(error_at=7)]) as source:
        got += [trace.text for trace in source for _ in [got.append(None)]]
    assert len(got) == 7


def test_closing_in_mid_stream_stops_the_thread():
    source = Source([Counted()], capacity=4)
    next(source)
    assert threads()
    source.close()
    assert not threads()
    source.close()
    assert list(source) == []


def test_an_exception_of_the_consumer_stops_the_thread():
    feed = Counted()
    with pytest.raises(KeyError), Source([feed]) as source:
        next(source)
        raise KeyError
    assert feed.closed and not threads()


def test_losing_the_last_reference_stops_the_thread():
    feed = Counted()
    next(Source([feed]))
    gc.collect()
    wait_until(lambda: feed.closed and not threads())


def test_an_idle_stream_ends():
    class Silent(Counted):
        def batches(self, shared):
            yield Delivery("o", [UserMessage(meta=Meta(session="s"), text="only")], 1)
            shared.stop.wait()

    assert texts(Source([Silent()], idle_timeout=0.05)) == ["only"]


def test_a_signal_handler_may_close_before_the_consumer_waits():
    """The handler runs in the consumer's thread, which holds the lock that the reader needs to end."""

    class Late(Counted):
        def batches(self, shared):
            yield from itertools.islice(super().batches(shared), 1)
            time.sleep(0.2)
            yield from super().batches(shared)

    source = Source([Late()], capacity=1)
    next(source)
    changed = source._queue._changed
    wait = changed.wait

    def interrupted(timeout=None):
        changed.wait = wait
        source.close()
        return wait(timeout)

    changed.wait = interrupted
    start = time.monotonic()
    assert list(source) == []
    assert time.monotonic() - start < 60
    assert not threads()


# Exactly once


def test_a_cursor_resumes_after_the_last_trace(record, session_file, tmp_path):
    for name in "abc":
        session_file(f"{name}.jsonl", *spoken(record, *(f"{name}{n}" for n in range(5))))
    whole = texts(open_source(tmp_path))
    assert len(whole) == 15
    for stop in range(16):
        with open_source(tmp_path) as source:
            first = [next(source).text for _ in range(stop)]
            cursor = source.cursor
        assert taken(cursor) == stop
        rest = open_source(tmp_path, cursor=json.loads(json.dumps(cursor)))
        assert first + texts(rest) == whole
        assert rest.report.records == 15 - stop // 5 * 5, "only the partly taken file is read again"
        assert taken(rest.cursor) == 15


def test_the_cursor_counts_the_traces_of_each_origin(record, session_file):
    path = session_file("a.jsonl", *spoken(record, "one", "two"), record("assistant", content=[]))
    with open_source(path) as source:
        list(source)
    assert [(name, entry["traces"]) for name, entry in source.cursor["origins"].items()] == [(str(path), 2)]


def test_an_origin_is_absolute(record, session_file, monkeypatch):
    path = session_file("a.jsonl", *spoken(record, "one"))
    monkeypatch.chdir(path.parent)
    with open_source("a.jsonl") as source:
        assert next(source).meta.origin == str(path)


# Folders


def stamped(record, time_, word):
    return record(content=word, timestamp=f"2026-02-02T{time_}:00.000Z")


def test_a_folder_is_read_in_order_of_time(record, session_file, tmp_path):
    session_file("z/first.jsonl", stamped(record, "08:00", "1"))
    session_file("a/third.jsonl", b"not json", stamped(record, "10:00", "3"))
    path = session_file("m/deep/er/second.jsonl", stamped(record, "09:00", "2"))
    (path.parent / "second.jsonl.gz").write_bytes(
        gzip.compress(path.read_bytes().replace(b"uuid-3", b"uuid-x"))
    )
    path.unlink()
    session_file("m/notes.txt", b"not a session")
    session_file("m/other.json", b"{}")
    assert texts(open_source(tmp_path)) == ["1", "2", "3"]


def test_a_resumed_session_comes_after_the_one_it_copies(record, session_file, tmp_path):
    copied = stamped(record, "08:00", "asked")
    session_file("z-first.jsonl", copied, stamped(record, "08:01", "answered"))
    session_file("zz-resumed.jsonl", copied, stamped(record, "11:00", "asked again"))
    source = open_source(tmp_path)
    assert texts(source) == ["asked", "answered", "asked again"]
    assert source.report.skipped == {"duplicate uuid": 1}


def test_links_are_followed_without_loops_or_repeats(record, session_file, tmp_path):
    path = session_file("real/a.jsonl", *spoken(record, "one"))
    outside = session_file("../outside/b.jsonl", *spoken(record, "two"))
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "real")
    (tmp_path / "link.jsonl").symlink_to(path)
    (tmp_path / "linked").symlink_to(outside.parent)
    (tmp_path / "broken.jsonl").symlink_to(tmp_path / "nowhere")
    said = []
    source = open_source(tmp_path, say=said.append)
    assert sorted(texts(source)) == ["one", "two"]
    assert source.report.skipped == {"file already read": 1}
    assert len(said) == 1 and "broken.jsonl" in said[0]


def test_mixed_formats_in_one_folder(record, session_file, tmp_path):
    session_file("a.jsonl", *spoken(record, "one"))
    session_file("b.ndjson", b'{"sid":"s","role":"user","type":"text","text":"two","ts":1}')
    session_file("c.jsonl", b'{"prompt":"p","completion":"c"}')
    said = []
    with open_source(tmp_path, say=said.append) as source:
        assert len(list(source)) == 3
    assert source.report.formats == {"claude-code": 1, "ccsniff-rows": 1, "pairs": 1}
    assert len(said) == 1


def test_a_line_over_the_limit_is_skipped_and_counted(record, session_file, monkeypatch):
    class Short(sttx_ccsniff.read.lines.LineSplitter):
        def __init__(self):
            super().__init__(limit=2000)

    monkeypatch.setattr(sttx_ccsniff.read.lines, "LineSplitter", Short)
    source = open_source(session_file("a.jsonl", *spoken(record, "one", "x" * 5000, "two")))
    assert texts(source) == ["one", "two"]
    assert source.report.malformed == {"line over 2000 bytes": 1}


def test_warnings_are_logged_by_default(record, session_file, tmp_path, caplog):
    session_file("b.ndjson", b'{"sid":"s","role":"user","type":"text","text":"two","ts":1}')
    texts(open_source(tmp_path))
    assert [each.name for each in caplog.records] == ["sttx_ccsniff"]


def test_many_files_are_not_open_at_once(record, session_file, tmp_path):
    for number in range(300):
        session_file(f"{number}.jsonl", *spoken(record, str(number)))
    held = Path("/proc/self/fd")
    before = len(list(held.iterdir())) if held.exists() else 0
    with open_source(tmp_path) as source:
        for _ in range(250):
            next(source)
        assert not held.exists() or len(list(held.iterdir())) <= before + 3
