"""The source `live` over a stand-in process in Python: frames, life of the process, and failures."""

import gc
import io
import json
import os
import sys
import time
from pathlib import Path

import pytest

from sttx_ccsniff import Source
from sttx_ccsniff.follow.session_end import EndDetector
from sttx_ccsniff.live import feed as live_feed
from sttx_ccsniff.live.feed import LiveFeed
from sttx_ccsniff.live.frames import read_frames
from sttx_core.errors import SourceError
from sttx_core.traces import Other, SessionEnd


def wait_until(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)


def alive(process_id):
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{process_id}/status").read_text()


def line(word, uuid):
    record = {"type": "user", "uuid": uuid, "sessionId": "s", "message": {"content": word}}
    return json.dumps(record).encode() + b"\n"


def frame(letter, number=0, payload=b""):
    return b"%s %d %d\n%s\n" % (letter, number, len(payload), payload)


def file_frame(path, inode=1, fresh=False):
    file = {"path": path, "was": "", "device": "1", "inode": str(inode)}
    file |= {"fresh": fresh, "changed": time.time()}
    return frame(b"F", 0, json.dumps(file).encode())


def read(path, *lines, inode=1, at=0):
    """Return the frames of one file that is read to its end."""
    return file_frame(path, inode) + frame(b"D", at, b"".join(lines)) + frame(b"E")


def child(tmp_path, body, **options):
    """Return a feed whose process is Python and runs `body`, which may use `out`, `first_line` and `time`."""
    script = (
        "import json, os, sys, time\n"
        "def out(data):\n    os.write(1, data)\n"
        "first_line = sys.stdin.readline()\noptions = json.loads(sys.argv[-1])\n" + body
    )
    return LiveFeed(tmp_path, command=[sys.executable, "-c", script], **options)


def ignore(message):
    del message


@pytest.fixture
def short_waits(monkeypatch):
    """Shorten the pauses between restarts."""
    monkeypatch.setattr(live_feed, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(live_feed, "_GRACE_SECONDS", 0.2)


# Frames


def test_frames_carry_any_bytes():
    payloads = [b"", b"a\nb", bytes(range(256)), "日本".encode()]
    stream = io.BytesIO(b"".join(frame(b"L", n, payload) for n, payload in enumerate(payloads)))
    assert list(read_frames(stream)) == [(b"L", n, payload) for n, payload in enumerate(payloads)]


def test_an_incomplete_frame_is_dropped():
    whole = frame(b"L", 1, b"abc")
    assert [list(read_frames(io.BytesIO(whole[:cut]))) for cut in range(6, len(whole))] == [[]] * (
        len(whole) - 6
    )


@pytest.mark.parametrize("printed", [b"Warning: something\n", b"x" * 1000])
def test_other_output_is_refused(printed):
    with pytest.raises(SourceError, match="not a frame: use `claude`"):
        list(read_frames(io.BytesIO(printed)))


def test_files_become_traces(tmp_path):
    printed = frame(b"R", 0, b"{}") + read("/p/a.jsonl", line("one", "1"))
    printed += read("/p/b/subagents/agent-q.jsonl", line("two", "2"), inode=2)
    printed += read("/p/a.jsonl", line("three", "3"), at=len(line("one", "1"))) + frame(b"I")
    with Source([child(tmp_path, f"out({printed!r}); sys.stdin.read()", follow=False)]) as source:
        traces = list(source)
    assert [(trace.text, trace.meta.subagent) for trace in traces] == [
        ("one", ""),
        ("two", "q"),
        ("three", ""),
    ]
    counts = {name: entry["traces"] for name, entry in source.cursor["origins"].items()}
    assert counts == {"/p/a.jsonl": 2, "/p/b/subagents/agent-q.jsonl": 1}
    assert source.report.formats == {"claude-code": 2}
    assert source.report.bytes_read == sum(map(len, (line("one", "1"), line("two", "2"), line("three", "3"))))


def test_an_unterminated_last_line_is_read_once(tmp_path):
    first, second, third = line("one", "1"), line("two", "2")[:-1], line("three", "3")
    at = len(first)
    printed = file_frame("a") + frame(b"D", 0, first) + frame(b"T", at, second[:-1]) + frame(b"E")
    printed += file_frame("a") + frame(b"T", at, second) + frame(b"E")
    printed += file_frame("a") + frame(b"D", at, second + b"\n" + third) + frame(b"E")
    with Source([child(tmp_path, f"out({printed!r}); sys.stdin.read()")]) as source:
        assert [next(source).text for _ in range(3)] == ["one", "two", "three"]
        assert source.report.records == 3
        assert source.report.malformed == {}


def test_an_unterminated_only_line_is_read_once_its_format_is_known(tmp_path):
    printed = file_frame("a") + frame(b"T", 0, line("one", "1")[:-1]) + frame(b"E")
    odd = b'{"nothing":"known"}\n'
    printed += file_frame("b", 2) + frame(b"T", 0, odd[:-1]) + frame(b"E")
    printed += (
        file_frame("b", 2) + frame(b"D", 0, odd) + frame(b"T", len(odd), line("two", "2")[:-1]) + frame(b"E")
    )
    printed += file_frame("b", 2) + frame(b"D", len(odd), line("two", "2")) + frame(b"E")
    with Source([child(tmp_path, f"out({printed!r}); sys.stdin.read()")]) as source:
        assert next(source).text == "one"
        assert isinstance(next(source), Other) and next(source).text == "two"
        assert source.report.records == 3


def test_a_replaced_file_is_read_from_its_start_and_a_deleted_one_is_forgotten(tmp_path):
    printed = read("a", line("one", "1"), line("two", "2")) + file_frame("a", fresh=True)
    printed += frame(b"D", 0, line("two", "2") + line("three", "3")) + frame(b"E")
    printed += (
        read("b", line("four", "4"), inode=2) + frame(b"G", 0, b"b") + read("a2", line("5", "5"), inode=3)
    )
    with Source([child(tmp_path, f"out({printed!r}); sys.stdin.read()")]) as source:
        assert [next(source).text for _ in range(5)] == ["one", "two", "three", "four", "5"]
        assert set(source.cursor["origins"]) == {"a", "a2"}


def test_an_unreadable_file_is_reported(tmp_path):
    printed = frame(b"U", 0, b'{"path":"/p/a.jsonl","message":"EACCES: permission denied"}') + frame(b"I")
    feed = child(tmp_path, f"out({printed!r}); sys.stdin.read()", follow=False)
    with Source([feed], say=ignore) as source:
        assert list(source) == []
    assert source.report.malformed == {"unreadable file": 1}
    assert source.report.warnings == ["cannot read '/p/a.jsonl': permission denied: change its permissions"]


def test_following_continues_after_the_history_and_a_session_ends(tmp_path):
    printed, later = frame(b"I"), read("/p/a.jsonl", line("later", "1"))
    body = (
        f"out({printed!r}); time.sleep(0.1); out({later!r})\n"
        f"for _ in range(100):\n    time.sleep(0.05); out({frame(b'H')!r})"
    )
    with Source([child(tmp_path, body, ends=EndDetector(idle=0.2))]) as source:
        assert next(source).text == "later"
        end = next(source)
        assert isinstance(end, SessionEnd) and end.meta.session == "s"


def test_a_session_ends_though_its_file_was_deleted_and_an_earlier_run_read_it(tmp_path):
    path = str(tmp_path / "a.jsonl")
    history, deleted = read(path, line("one", "1")), frame(b"G", 0, path.encode())
    with Source([child(tmp_path, f"out({history + frame(b'I')!r})", follow=False)]) as source:
        assert len(list(source)) == 1
        cursor = source.cursor
    body = f"out({frame(b'I') + deleted!r})\nfor _ in range(100):\n    time.sleep(0.05); out({frame(b'H')!r})"
    with Source([child(tmp_path, body, ends=EndDetector(idle=0.2))], cursor=cursor) as source:
        end = next(source)
        assert isinstance(end, SessionEnd) and end.meta.session == "s"
        assert source.cursor["origins"] == {} and source.cursor["open"] == []


def test_missing_notifications_are_reported(tmp_path):
    printed = frame(b"W", 0, b"ENOSPC: no watches left") + frame(b"I")
    feed = child(tmp_path, f"out({printed!r}); sys.stdin.read()", follow=False)
    with Source([feed], say=ignore) as source:
        list(source)
    [warning] = source.report.warnings
    assert "ENOSPC: no watches left" in warning and "`claude`" in warning


# The first line of its input


def test_the_process_gets_the_files_in_time_order_with_their_places(tmp_path):
    for name, stamp in (("b", "2026-01-01T00:00:00Z"), ("a", "2026-02-01T00:00:00Z")):
        (tmp_path / f"{name}.jsonl").write_bytes(b'{"timestamp":"%s"}\n' % stamp.encode())
    (tmp_path / "c.ndjson").write_text("{}")
    a, b = (str(tmp_path / name) for name in ("a.jsonl", "b.jsonl"))
    body = f"open({str(tmp_path / 'lines')!r}, 'a').write(first_line)"
    body += f"; out({read(a, line('1', '1'), inode=2**60)!r})"
    body += f"; out({frame(b'I')!r}); sys.stdin.read()"
    with Source([child(tmp_path, body, follow=False)]) as source:
        list(source)
    with Source([child(tmp_path, body, follow=False)], cursor=source.cursor) as again:
        assert list(again) == []
    first, second = map(json.loads, (tmp_path / "lines").read_text().splitlines())
    assert first == [[b, 0, 0, 0, "0", "0"], [a, 0, 0, 0, "0", "0"]]
    place = second[1]
    assert second[0] == first[0] and place[:3] == [a, len(line("1", "1")), len(line("1", "1"))]
    assert place[4:] == ["1", str(2**60)]


def test_more_places_than_a_pipe_holds_reach_a_process_that_reads_late(tmp_path):
    for number in range(3000):
        (tmp_path / f"session-with-a-long-name-{number}.jsonl").write_bytes(b"")
    body = f"import json; assert len(json.loads(first_line)) == 3000; out({frame(b'I')!r}); sys.stdin.read()"
    feed = child(tmp_path, body, follow=False)
    feed._command[2] = "import time; time.sleep(0.3)\n" + feed._command[2]
    with Source([feed]) as source:
        assert list(source) == []
        assert source.report.warnings == []


# Failures


def test_a_process_that_dies_is_restarted_where_reading_stopped(tmp_path, short_waits):
    count = tmp_path / "count"
    lines = [line(str(n), str(n)) for n in range(4)]
    half = frame(b"D", 0, b"".join(lines))[:-20]
    body = (
        f"count = {str(count)!r}\n"
        "n = len(open(count).read()) if os.path.exists(count) else 0\n"
        "open(count, 'a').write('x')\n"
        f"if n == 0: out({read('a', *lines[:2]) + file_frame('a') + half!r}); sys.exit('out of\\nmemory')\n"
        f"if n == 1: os.kill(os.getpid(), 9)\n"
        f"out({read('a', *lines) + frame(b'I')!r}); sys.stdin.read()"
    )
    with Source([child(tmp_path, body, follow=False)], say=ignore) as source:
        assert [trace.text for trace in source] == ["0", "1", "2", "3"]
    assert source.report.records == 4
    assert source.report.noted == {"ccsniff's watcher started again": 2}
    first, second = source.report.warnings
    assert "status 1: 'out of memory': restarting in 0.001 s" in first
    assert "status -9: ''" in second and "(restart 2)" in second


def test_the_source_gives_up_after_six_failures(tmp_path, short_waits):
    feed = child(tmp_path, "sys.stderr.write('x' * 9000 + ' out of\\nmemory'); sys.exit(7)")
    with (
        pytest.raises(SourceError, match=r"6 times in a row, .* status 7: 'x*.*memory'; or use `claude`"),
        Source([feed], say=ignore) as source,
    ):
        next(source)
    assert source.report.noted["ccsniff's watcher started again"] == 5


def test_a_healthy_run_clears_the_failures_and_pauses_double(tmp_path, short_waits, monkeypatch):
    monkeypatch.setattr(live_feed, "_HEALTHY_SECONDS", 0.0)
    monkeypatch.setattr(live_feed, "_LONGEST_PAUSE", 0.003)
    count = tmp_path / "count"
    body = (
        f"open({str(count)!r}, 'a').write('x')\n"
        f"if os.path.getsize({str(count)!r}) < 9: sys.exit(1)\n"
        f"out({frame(b'I')!r}); sys.stdin.read()"
    )
    with Source([child(tmp_path, body, follow=False)], say=ignore) as source:
        assert list(source) == []
    assert source.report.noted["ccsniff's watcher started again"] == 8
    count.unlink()
    monkeypatch.setattr(live_feed, "_HEALTHY_SECONDS", 60.0)
    with pytest.raises(SourceError), Source([child(tmp_path, body)], say=ignore) as source:
        next(source)
    pauses = [warning.partition("restarting in ")[2].partition(" s")[0] for warning in source.report.warnings]
    assert pauses == ["0.001", "0.002", "0.003", "0.003", "0.003"]


def test_a_silent_process_is_killed_and_restarted(tmp_path, short_waits, monkeypatch):
    monkeypatch.setattr(live_feed, "_SILENCE_SECONDS", 3.0)
    marker = tmp_path / "marker"
    body = (
        f"if not os.path.exists({str(marker)!r}):\n"
        f"    open({str(marker)!r}, 'w').write(str(os.getpid())); time.sleep(60)\n"
        f"out({read('a', line('one', '1'))!r})\n"
        f"for _ in range(100): time.sleep(0.1); out({frame(b'H')!r})"
    )
    with Source([child(tmp_path, body)], say=ignore) as source:
        assert next(source).text == "one"
        assert not alive(int(marker.read_text()))
        source._idle_timeout = 1.0
        assert list(source) == [], "a heartbeat ends a silence"
    assert source.report.noted == {"ccsniff's watcher started again": 1}
    assert "silence for 3 s" in source.report.warnings[0]


def test_a_slow_consumer_does_not_count_as_silence(tmp_path, short_waits, monkeypatch):
    lines = [line(str(n), str(n)) for n in range(40)]
    feed = child(tmp_path, f"out({read('a', *lines) + frame(b'I')!r}); sys.stdin.read()", follow=False)
    with Source([feed], capacity=2) as source:
        next(source)
        monkeypatch.setattr(live_feed, "_SILENCE_SECONDS", 0.3)  # the process wrote everything at once
        time.sleep(0.8)
        assert len(list(source)) == 39
        assert source.report.warnings == []


def test_a_wrong_offset_restarts_the_process(tmp_path, short_waits):
    printed = read("a", line("one", "1"), at=7) + frame(b"I")
    with pytest.raises(SourceError, match="'a' was sent from byte 7, but read up to 0; or use `claude`"):
        next(Source([child(tmp_path, f"out({printed!r}); sys.stdin.read()")], say=ignore))


def test_a_fatal_error_is_raised_at_once(tmp_path):
    feed = child(tmp_path, f"out({frame(b'Z', 0, b'another version')!r}); sys.stdin.read()")
    with pytest.raises(SourceError, match="ccsniff: another version; or use `claude`"):
        next(Source([feed]))


def test_a_program_that_cannot_run(tmp_path):
    (tmp_path / "node").write_text("not a program")
    with pytest.raises(SourceError, match="cannot run .*node.*; or use `claude`"):
        next(Source([LiveFeed(tmp_path, command=[str(tmp_path / "node")])]))


# Stopping


@pytest.mark.parametrize(
    "body",
    ["sys.stdin.read()", "time.sleep(60)", "out(b'x 0 9999999\\n' + b'x' * 9999999)"],
    ids=["reads its input", "ignores its input", "is blocked in writing"],
)
def test_the_process_ends_with_the_source(tmp_path, body, short_waits):
    body = body.replace("x 0", "X 0")
    feed = child(tmp_path, f"out({read('/p/a.jsonl', line('one', '1'), line('two', '2'))!r}); {body}")
    with Source([feed], capacity=1) as source:
        next(source)
        process_id = feed._child.process.pid
        assert alive(process_id)
    assert not alive(process_id)


def test_processes_that_it_started_end_too(tmp_path, short_waits):
    pids = tmp_path / "pids"
    body = (
        "import subprocess\n"
        f"open({str(pids)!r}, 'w').write(str(subprocess.Popen(['sleep', '60']).pid))\n"
        f"out({read('a', line('one', '1'))!r}); sys.stdin.read()"
    )
    with Source([child(tmp_path, body)]) as source:
        next(source)
    wait_until(lambda: not Path(f"/proc/{pids.read_text()}").exists() or not alive(int(pids.read_text())))


def test_the_process_ends_when_the_consumer_fails_or_drops_the_source(tmp_path, short_waits):
    body = f"out({read('a', line('one', '1'))!r}); sys.stdin.read()"
    feed = child(tmp_path, body)
    with pytest.raises(KeyError), Source([feed]) as source:
        next(source)
        raise KeyError
    assert feed._child.process.returncode is not None
    forgotten = child(tmp_path, body)
    source = Source([forgotten])
    next(source)
    process_id = forgotten._child.process.pid
    del source
    gc.collect()
    wait_until(lambda: not alive(process_id))


def test_closing_during_the_pause_before_a_restart(tmp_path, monkeypatch):
    monkeypatch.setattr(live_feed, "_FIRST_PAUSE", 30.0)
    messages = []
    source = Source([child(tmp_path, "sys.exit(1)")], say=messages.append)
    source._thread.start()
    wait_until(lambda: messages)
    before = time.monotonic()
    source.close()
    assert time.monotonic() - before < 25 and not source._thread.is_alive()


def test_a_slow_consumer_blocks_the_process(tmp_path):
    body = (
        f"out({file_frame('a')!r})\nat = 0\n"
        "for n in range(1000):\n"
        '    data = b\'{"type":"user","uuid":"%d","message":{"content":"%s"}}\\n\' % (n, b\'x\' * 1000)\n'
        "    out(b'D %d %d\\n%s\\n' % (at, len(data), data))\n"
        "    at += len(data)\n"
        f"    open({str(tmp_path / 'progress')!r}, 'w').write(str(n))\n"
        "sys.stdin.read()"
    )
    progress = tmp_path / "progress"
    with Source([child(tmp_path, body)], capacity=8) as source:
        next(source)
        wait_until(lambda: progress.exists() and progress.read_text() != "")
        time.sleep(0.3)
        assert int(progress.read_text() or 0) < 700, "the pipe should have filled up"
        assert sum(1 for _, _ in zip(range(999), source, strict=False)) == 999
