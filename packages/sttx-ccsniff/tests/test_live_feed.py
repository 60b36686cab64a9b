"""`live` over a child that is Python: what its frames become, its life, and what happens when it fails."""

import gc
import io
import json
import os
import sys
import time
from pathlib import Path

import pytest

from sttx_ccsniff import Source
from sttx_ccsniff.follow.session_end import Ends
from sttx_ccsniff.live import feed as ccsniff
from sttx_ccsniff.live.feed import LiveFeed
from sttx_ccsniff.live.frames import frames
from sttx_core.errors import SourceError
from sttx_core.traces import Other, SessionEnd


def wait_until(condition, seconds=10.0):
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


def named(path, inode=1, fresh=False):
    said = {"path": path, "was": "", "device": "1", "inode": str(inode)}
    said |= {"fresh": fresh, "changed": time.time()}
    return frame(b"F", 0, json.dumps(said).encode())


def read(path, *lines, inode=1, at=0):
    """The frames of one file that was read to its end."""
    return named(path, inode) + frame(b"D", at, b"".join(lines)) + frame(b"E")


def child(tmp_path, body, **options):
    """A feed whose child is Python and does what `body` (with `out`, `told` and `time`) says."""
    script = (
        "import json, os, sys, time\n"
        "def out(data):\n    os.write(1, data)\n"
        "told = sys.stdin.readline()\noptions = json.loads(sys.argv[-1])\n" + body
    )
    return LiveFeed(tmp_path, command=[sys.executable, "-c", script], **options)


def quiet(said):
    del said


@pytest.fixture
def hasty(monkeypatch):
    """Nothing waits for long."""
    monkeypatch.setattr(ccsniff, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(ccsniff, "_GRACE_SECONDS", 0.2)


# Frames


def test_frames_carry_any_bytes():
    payloads = [b"", b"a\nb", bytes(range(256)), "日本".encode()]
    stream = io.BytesIO(b"".join(frame(b"L", n, payload) for n, payload in enumerate(payloads)))
    assert list(frames(stream)) == [(b"L", n, payload) for n, payload in enumerate(payloads)]


def test_a_frame_cut_short_is_no_frame():
    whole = frame(b"L", 1, b"abc")
    assert [list(frames(io.BytesIO(whole[:cut]))) for cut in range(6, len(whole))] == [[]] * (len(whole) - 6)


@pytest.mark.parametrize("said", [b"Warning: something\n", b"x" * 1000])
def test_what_is_no_frame_is_refused(said):
    with pytest.raises(SourceError, match="no frame: use `claude`"):
        list(frames(io.BytesIO(said)))


def test_files_become_traces(tmp_path):
    said = frame(b"R", 0, b"{}") + read("/p/a.jsonl", line("one", "1"))
    said += read("/p/b/subagents/agent-q.jsonl", line("two", "2"), inode=2)
    said += read("/p/a.jsonl", line("three", "3"), at=len(line("one", "1"))) + frame(b"I")
    with Source([child(tmp_path, f"out({said!r}); sys.stdin.read()", follow=False)]) as source:
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


def test_a_tail_is_taken_where_it_is_whole_and_comes_again_without_harm(tmp_path):
    first, second, third = line("one", "1"), line("two", "2")[:-1], line("three", "3")
    at = len(first)
    said = named("a") + frame(b"D", 0, first) + frame(b"T", at, second[:-1]) + frame(b"E")
    said += named("a") + frame(b"T", at, second) + frame(b"E")
    said += named("a") + frame(b"D", at, second + b"\n" + third) + frame(b"E")
    with Source([child(tmp_path, f"out({said!r}); sys.stdin.read()")]) as source:
        assert [next(source).text for _ in range(3)] == ["one", "two", "three"]
        assert source.report.records == 3
        assert source.report.malformed == {}


def test_the_only_line_may_be_a_tail_and_one_of_no_known_kind_waits(tmp_path):
    said = named("a") + frame(b"T", 0, line("one", "1")[:-1]) + frame(b"E")
    odd = b'{"nothing":"known"}\n'
    said += named("b", 2) + frame(b"T", 0, odd[:-1]) + frame(b"E")
    said += named("b", 2) + frame(b"D", 0, odd) + frame(b"T", len(odd), line("two", "2")[:-1]) + frame(b"E")
    said += named("b", 2) + frame(b"D", len(odd), line("two", "2")) + frame(b"E")
    with Source([child(tmp_path, f"out({said!r}); sys.stdin.read()")]) as source:
        assert next(source).text == "one"
        assert isinstance(next(source), Other) and next(source).text == "two"
        assert source.report.records == 3


def test_a_file_with_another_content_is_read_from_its_top_and_one_that_is_gone_is_forgotten(tmp_path):
    said = read("a", line("one", "1"), line("two", "2")) + named("a", fresh=True)
    said += frame(b"D", 0, line("two", "2") + line("three", "3")) + frame(b"E")
    said += read("b", line("four", "4"), inode=2) + frame(b"G", 0, b"b") + read("a2", line("5", "5"), inode=3)
    with Source([child(tmp_path, f"out({said!r}); sys.stdin.read()")]) as source:
        assert [next(source).text for _ in range(5)] == ["one", "two", "three", "four", "5"]
        assert set(source.cursor["origins"]) == {"a", "a2"}


def test_a_file_that_cannot_be_read_is_said(tmp_path):
    said = frame(b"U", 0, b'{"path":"/p/a.jsonl","message":"EACCES: permission denied"}') + frame(b"I")
    feed = child(tmp_path, f"out({said!r}); sys.stdin.read()", follow=False)
    with Source([feed], say=quiet) as source:
        assert list(source) == []
    assert source.report.malformed == {"unreadable file": 1}
    assert source.report.warnings == ["cannot read '/p/a.jsonl': EACCES: permission denied"]


def test_following_goes_on_after_the_history_and_a_session_ends(tmp_path):
    said, later = frame(b"I"), read("/p/a.jsonl", line("later", "1"))
    body = (
        f"out({said!r}); time.sleep(0.1); out({later!r})\n"
        f"for _ in range(100):\n    time.sleep(0.05); out({frame(b'H')!r})"
    )
    with Source([child(tmp_path, body, ends=Ends(idle=0.2))]) as source:
        assert next(source).text == "later"
        end = next(source)
        assert isinstance(end, SessionEnd) and end.meta.session == "s"


def test_a_session_ends_though_its_file_is_no_more_and_though_an_earlier_run_read_it(tmp_path):
    path = str(tmp_path / "a.jsonl")
    said, gone = read(path, line("one", "1")), frame(b"G", 0, path.encode())
    with Source([child(tmp_path, f"out({said + frame(b'I')!r})", follow=False)]) as source:
        assert len(list(source)) == 1
        cursor = source.cursor
    body = f"out({frame(b'I') + gone!r})\nfor _ in range(100):\n    time.sleep(0.05); out({frame(b'H')!r})"
    with Source([child(tmp_path, body, ends=Ends(idle=0.2))], cursor=cursor) as source:
        end = next(source)
        assert isinstance(end, SessionEnd) and end.meta.session == "s"
        assert source.cursor["origins"] == {} and source.cursor["open"] == []


def test_trouble_with_watching_is_said_with_the_way_around(tmp_path):
    said = frame(b"W", 0, b"ENOSPC: no watches left") + frame(b"I")
    feed = child(tmp_path, f"out({said!r}); sys.stdin.read()", follow=False)
    with Source([feed], say=quiet) as source:
        list(source)
    [warning] = source.report.warnings
    assert "ENOSPC: no watches left" in warning and "`claude`" in warning


# What it is told


def test_the_child_is_told_the_files_in_order_of_time_with_their_places(tmp_path):
    for name, stamp in (("b", "2026-01-01T00:00:00Z"), ("a", "2026-02-01T00:00:00Z")):
        (tmp_path / f"{name}.jsonl").write_bytes(b'{"timestamp":"%s"}\n' % stamp.encode())
    (tmp_path / "c.ndjson").write_text("{}")
    a, b = (str(tmp_path / name) for name in ("a.jsonl", "b.jsonl"))
    body = f"open({str(tmp_path / 'told')!r}, 'a').write(told); out({read(a, line('1', '1'), inode=2**60)!r})"
    body += f"; out({frame(b'I')!r}); sys.stdin.read()"
    with Source([child(tmp_path, body, follow=False)]) as source:
        list(source)
    with Source([child(tmp_path, body, follow=False)], cursor=source.cursor) as again:
        assert list(again) == []
    first, second = map(json.loads, (tmp_path / "told").read_text().splitlines())
    assert first == [[b, 0, 0, 0, "0", "0"], [a, 0, 0, 0, "0", "0"]]
    place = second[1]
    assert second[0] == first[0] and place[:3] == [a, len(line("1", "1")), len(line("1", "1"))]
    assert place[4:] == ["1", str(2**60)]


def test_more_places_than_a_pipe_holds_are_told_to_a_child_that_reads_late(tmp_path):
    for number in range(3000):
        (tmp_path / f"session-with-a-long-name-{number}.jsonl").write_bytes(b"")
    body = f"import json; assert len(json.loads(told)) == 3000; out({frame(b'I')!r}); sys.stdin.read()"
    feed = child(tmp_path, body, follow=False)
    feed._command[2] = "import time; time.sleep(0.3)\n" + feed._command[2]
    with Source([feed]) as source:
        assert list(source) == []
        assert source.report.warnings == []


# When it fails


def test_a_child_that_dies_is_started_again_where_reading_stands(tmp_path, hasty):
    count = tmp_path / "count"
    lines = [line(str(n), str(n)) for n in range(4)]
    half = frame(b"D", 0, b"".join(lines))[:-20]
    body = (
        f"count = {str(count)!r}\n"
        "n = len(open(count).read()) if os.path.exists(count) else 0\n"
        "open(count, 'a').write('x')\n"
        f"if n == 0: out({read('a', *lines[:2]) + named('a') + half!r}); sys.exit('out of\\nmemory')\n"
        f"if n == 1: os.kill(os.getpid(), 9)\n"
        f"out({named('a') + frame(b'D', 0, b''.join(lines)) + frame(b'E') + frame(b'I')!r}); sys.stdin.read()"
    )
    with Source([child(tmp_path, body, follow=False)], say=quiet) as source:
        assert [trace.text for trace in source] == ["0", "1", "2", "3"]
    assert source.report.records == 4
    assert source.report.noted == {"ccsniff's watcher started again": 2}
    first, second = source.report.warnings
    assert "status 1: 'out of memory': started again in 0.001 s" in first
    assert "status -9: ''" in second and "(restart 2)" in second


def test_a_child_that_keeps_dying_is_given_up(tmp_path, hasty):
    feed = child(tmp_path, "sys.stderr.write('x' * 9000 + ' out of\\nmemory'); sys.exit(7)")
    with (
        pytest.raises(SourceError, match=r"6 times in a row, .* status 7: 'x*.*memory'; or use `claude`"),
        Source([feed], say=quiet) as source,
    ):
        next(source)
    assert source.report.noted["ccsniff's watcher started again"] == 5


def test_a_time_of_health_forgives_failures_and_pauses_double(tmp_path, hasty, monkeypatch):
    monkeypatch.setattr(ccsniff, "_HEALTHY_SECONDS", 0.0)
    monkeypatch.setattr(ccsniff, "_LONGEST_PAUSE", 0.003)
    count = tmp_path / "count"
    body = (
        f"open({str(count)!r}, 'a').write('x')\n"
        f"if os.path.getsize({str(count)!r}) < 9: sys.exit(1)\n"
        f"out({frame(b'I')!r}); sys.stdin.read()"
    )
    with Source([child(tmp_path, body, follow=False)], say=quiet) as source:
        assert list(source) == []
    assert source.report.noted["ccsniff's watcher started again"] == 8
    count.unlink()
    monkeypatch.setattr(ccsniff, "_HEALTHY_SECONDS", 60.0)
    with pytest.raises(SourceError), Source([child(tmp_path, body)], say=quiet) as source:
        next(source)
    pauses = [warning.partition("again in ")[2].partition(" s")[0] for warning in source.report.warnings]
    assert pauses == ["0.001", "0.002", "0.003", "0.003", "0.003"]


def test_a_child_that_falls_silent_is_ended_and_started_again(tmp_path, hasty, monkeypatch):
    monkeypatch.setattr(ccsniff, "_SILENCE_SECONDS", 0.5)
    marker = tmp_path / "marker"
    body = (
        f"if not os.path.exists({str(marker)!r}):\n"
        f"    open({str(marker)!r}, 'w').write(str(os.getpid())); time.sleep(60)\n"
        f"out({read('a', line('one', '1'))!r})\n"
        f"for _ in range(100): time.sleep(0.1); out({frame(b'H')!r})"
    )
    with Source([child(tmp_path, body)], say=quiet) as source:
        assert next(source).text == "one"
        assert not alive(int(marker.read_text()))
        source._idle_timeout = 1.0
        assert list(source) == [], "heartbeats are no silence"
    assert source.report.noted == {"ccsniff's watcher started again": 1}
    assert "silence for 0.5 s" in source.report.warnings[0]


def test_a_slow_consumer_is_no_silence(tmp_path, hasty, monkeypatch):
    monkeypatch.setattr(ccsniff, "_SILENCE_SECONDS", 0.3)
    lines = [line(str(n), str(n)) for n in range(40)]
    feed = child(tmp_path, f"out({read('a', *lines) + frame(b'I')!r}); sys.stdin.read()", follow=False)
    with Source([feed], capacity=2) as source:
        next(source)
        time.sleep(0.8)
        assert len(list(source)) == 39
        assert source.report.warnings == []


def test_a_child_out_of_step_is_started_again(tmp_path, hasty):
    said = read("a", line("one", "1"), at=7) + frame(b"I")
    with pytest.raises(SourceError, match="'a' was sent from byte 7 on, where 0 were read; or use `claude`"):
        next(Source([child(tmp_path, f"out({said!r}); sys.stdin.read()")], say=quiet))


def test_an_error_that_no_new_start_would_help_is_raised_at_once(tmp_path):
    feed = child(tmp_path, f"out({frame(b'Z', 0, b'another version')!r}); sys.stdin.read()")
    with pytest.raises(SourceError, match="ccsniff: another version; or use `claude`"):
        next(Source([feed]))


def test_a_program_that_cannot_be_run(tmp_path):
    (tmp_path / "node").write_text("no program")
    with pytest.raises(SourceError, match="cannot run .*node.*; or use `claude`"):
        next(Source([LiveFeed(tmp_path, command=[str(tmp_path / "node")])]))


# The end


@pytest.mark.parametrize(
    "body",
    ["sys.stdin.read()", "time.sleep(60)", "out(b'x 0 9999999\\n' + b'x' * 9999999)"],
    ids=["listens", "does not listen", "is blocked in writing"],
)
def test_the_child_ends_with_the_source(tmp_path, body, hasty):
    body = body.replace("x 0", "X 0")
    feed = child(tmp_path, f"out({read('/p/a.jsonl', line('one', '1'), line('two', '2'))!r}); {body}")
    with Source([feed], capacity=1) as source:
        next(source)
        process_id = feed._child.process.pid
        assert alive(process_id)
    assert not alive(process_id)


def test_what_the_child_started_ends_too(tmp_path, hasty):
    pids = tmp_path / "pids"
    body = (
        "import subprocess\n"
        f"open({str(pids)!r}, 'w').write(str(subprocess.Popen(['sleep', '60']).pid))\n"
        f"out({read('a', line('one', '1'))!r}); sys.stdin.read()"
    )
    with Source([child(tmp_path, body)]) as source:
        next(source)
    wait_until(lambda: not Path(f"/proc/{pids.read_text()}").exists() or not alive(int(pids.read_text())))


def test_the_child_ends_when_the_consumer_fails_or_forgets_the_source(tmp_path, hasty):
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


def test_closing_while_a_new_start_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(ccsniff, "_FIRST_PAUSE", 30.0)
    said = []
    source = Source([child(tmp_path, "sys.exit(1)")], say=said.append)
    source._thread.start()
    wait_until(lambda: said)
    before = time.monotonic()
    source.close()
    assert time.monotonic() - before < 5 and not source._thread.is_alive()


def test_a_slow_consumer_blocks_the_child(tmp_path):
    body = (
        f"out({named('a')!r})\nat = 0\n"
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
