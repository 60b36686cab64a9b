"""`live` without npm: the frames, the child's life, and the shim over a stand-in for ccsniff's watcher."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path

import pytest

from sttx_ccsniff import Source, ccsniff
from sttx_ccsniff.ccsniff import INTEGRITY, VERSION, LiveFeed, frames
from sttx_core.errors import SourceError

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


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
    return json.dumps({"type": "user", "uuid": uuid, "sessionId": "s", "message": {"content": word}}).encode()


def frame(letter, number, payload):
    return b"%s %d %d\n%s\n" % (letter, number, len(payload), payload)


# Frames


def test_frames_carry_any_bytes():
    payloads = [b"", b"a\nb", bytes(range(256)), "日本".encode()]
    stream = io.BytesIO(b"".join(frame(b"L", n, payload) for n, payload in enumerate(payloads)))
    assert list(frames(stream)) == [(b"L", n, payload) for n, payload in enumerate(payloads)]


def test_a_frame_cut_short_is_no_frame():
    whole = frame(b"L", 1, b"abc")
    assert [list(frames(io.BytesIO(whole[:cut]))) for cut in range(6, len(whole))] == [[]] * (len(whole) - 6)


def test_what_is_no_frame_is_refused():
    with pytest.raises(SourceError, match="no frame; or use `claude`"):
        list(frames(io.BytesIO(b"Warning: something\n")))


# The child


def child(tmp_path, body, **options):
    """A feed whose child is Python and prints what `body` (with `out` and `time`) says."""
    script = "import os, sys, time\ndef out(data):\n    os.write(1, data)\n" + body
    return LiveFeed(tmp_path, command=[sys.executable, "-c", script], **options)


def test_lines_of_several_files_become_traces(tmp_path):
    said = frame(b"R", 0, b"{}") + frame(b"F", 0, b"/p/a.jsonl") + frame(b"L", 0, line("one", "1"))
    said += frame(b"F", 1, b"/p/b/subagents/agent-q.jsonl") + frame(b"L", 1, line("two", "2"))
    said += frame(b"L", 0, line("three", "3")) + frame(b"X", 0, b"") + frame(b"I", 0, b"")
    with Source([child(tmp_path, f"out({said!r}); sys.stdin.read()", follow=False)]) as source:
        traces = list(source)
    assert [(trace.text, trace.meta.agent) for trace in traces] == [("one", ""), ("two", "q"), ("three", "")]
    counts = {name: entry["traces"] for name, entry in source.cursor["origins"].items()}
    assert counts == {"/p/a.jsonl": 2, "/p/b/subagents/agent-q.jsonl": 1}
    assert source.report.malformed == {"line over the limit": 1}
    assert source.report.formats == {"claude-code": 2}


def test_following_goes_on_after_the_history(tmp_path):
    said = frame(b"F", 0, b"/p/a.jsonl") + frame(b"I", 0, b"")
    later = frame(b"L", 0, line("later", "1"))
    feed = child(tmp_path, f"out({said!r}); time.sleep(0.1); out({later!r}); sys.stdin.read()")
    with Source([feed]) as source:
        assert next(source).text == "later"


def test_a_child_that_dies_is_an_error_with_its_last_words(tmp_path):
    feed = child(tmp_path, "sys.stderr.write('out of\\nmemory'); sys.exit(7)")
    with (
        pytest.raises(SourceError, match=r"status 7: 'out of memory'.*or use `claude`"),
        Source([feed]) as source,
    ):
        next(source)


def test_an_error_that_the_child_reports_is_raised(tmp_path):
    said = frame(b"E", 0, b"EMFILE too many open files")
    feed = child(tmp_path, f"out({said!r}); sys.stdin.read()")
    with pytest.raises(SourceError, match="ccsniff: EMFILE too many open files; or use `claude`"):
        next(Source([feed]))


def test_a_frame_of_a_file_that_was_never_named_is_an_error(tmp_path):
    feed = child(tmp_path, f"out({frame(b'L', 5, line('x', '1'))!r}); sys.stdin.read()")
    with pytest.raises(SourceError, match="file 5"):
        next(Source([feed]))


@pytest.mark.parametrize("body", ["sys.stdin.read()", "time.sleep(60)"])
def test_the_child_ends_with_the_source_also_when_it_does_not_listen(tmp_path, body, monkeypatch):
    monkeypatch.setattr(ccsniff, "_GRACE_SECONDS", 0.2)
    said = frame(b"F", 0, b"/p/a.jsonl") + frame(b"L", 0, line("one", "1"))
    feed = child(tmp_path, f"out({said!r}); {body}")
    with Source([feed]) as source:
        next(source)
        process_id = feed._process.pid
        assert alive(process_id)
    assert not alive(process_id)


def test_the_child_ends_when_the_consumer_fails(tmp_path):
    feed = child(
        tmp_path, f"out({frame(b'F', 0, b'a') + frame(b'L', 0, line('one', '1'))!r}); sys.stdin.read()"
    )
    with pytest.raises(KeyError), Source([feed]) as source:
        next(source)
        raise KeyError
    assert feed._process.returncode is not None


def test_a_slow_consumer_blocks_the_child(tmp_path):
    body = (
        f"out({frame(b'F', 0, b'a')!r})\n"
        "for n in range(1000):\n"
        '    data = b\'{"type":"user","uuid":"%d","message":{"content":"%s"}}\' % (n, b\'x\' * 1000)\n'
        "    out(b'L 0 %d\\n%s\\n' % (len(data), data))\n"
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


# What is missing


def test_no_node(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="there is no `node`: install it or use `claude`"):
        next(Source([LiveFeed(tmp_path)]))


def program(path, body):
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("said", ["v18.19.0", "v9.0.0", "nonsense"])
def test_an_old_node(tmp_path, monkeypatch, said):
    program(tmp_path / "node", f"echo {said}")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        SourceError, match=f"needs Node 20 or newer, and `node` is '{said}': update it or use `cl"
    ):
        next(Source([LiveFeed(tmp_path)]))


@pytest.mark.parametrize(
    ("npm", "message"),
    [
        (None, "needs npm"),
        ("echo 'getaddrinfo ENOTFOUND' >&2; exit 1", "ENOTFOUND.*go online or use `claude`"),
        ("exit 0", "something else than ccsniff"),
    ],
)
def test_npm_missing_offline_or_lying(tmp_path, monkeypatch, npm, message):
    program(tmp_path / "node", "echo v20.1.0")
    if npm:
        program(tmp_path / "npm", npm)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("STTX_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(SourceError, match=message):
        next(Source([LiveFeed(tmp_path)], say=lambda said: None))
    cache = tmp_path / "cache"
    assert not cache.exists() or list(cache.iterdir()) == [], "nothing half installed stays"


def install(prefix, watcher, integrity=INTEGRITY):
    """Put a stand-in for ccsniff where an installed one would be."""
    source = prefix / "node_modules" / "ccsniff" / "src"
    source.mkdir(parents=True)
    (source / "index.js").write_text(watcher)
    (source.parent / "package.json").write_text('{"type":"module"}')
    entry = {"version": VERSION, "integrity": integrity}
    lock = {"packages": {"node_modules/ccsniff": entry}}
    (prefix / "node_modules" / ".package-lock.json").write_text(json.dumps(lock))


def test_a_package_with_another_content_is_not_run(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    install(cache / f"ccsniff-{VERSION}", "process.exit(9)", integrity="sha512-other")
    program(tmp_path / "node", "echo v20.1.0")
    program(tmp_path / "npm", "exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("STTX_CACHE_DIR", str(cache))
    with pytest.raises(SourceError, match="npm could not install"):
        next(Source([LiveFeed(tmp_path)], say=lambda said: None))


def test_installing_is_said_and_done_once(tmp_path, monkeypatch):
    ready = tmp_path / "ready"
    install(ready, "")
    program(tmp_path / "npm", f'echo "$@" >> {tmp_path}/calls; cp -R {ready}/. "$3/"')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("STTX_CACHE_DIR", str(tmp_path / "cache"))
    program(tmp_path / "node", "echo v20.1.0")
    said = []
    first, second = (ccsniff.shim_command(tmp_path, said.append) for _ in range(2))
    assert first == second and Path(first[2]).is_file()
    assert len(said) == 1 and f"installing ccsniff {VERSION}" in said[0]
    [call] = (tmp_path / "calls").read_text().splitlines()
    assert "--ignore-scripts" in call and call.endswith(f"ccsniff@{VERSION}")


# The shim itself, over a stand-in that only finds files (as ccsniff's watcher does) and polls them

WATCHER = """
import fs from 'node:fs';
import path from 'node:path';
import { EventEmitter } from 'node:events';
export class JsonlWatcher extends EventEmitter {
  constructor(dir) { super(); this._dir = dir; this._timers = new Map(); }
  start() { this._scan(this._dir); this._poll = setInterval(() => this._scan(this._dir), 20); return this; }
  stop() { clearInterval(this._poll); for (const t of this._timers.values()) clearTimeout(t); }
  _scan(dir) {
    for (const d of fs.readdirSync(dir, { withFileTypes: true })) {
      const fp = path.join(dir, d.name);
      if (d.isDirectory()) this._scan(fp); else if (fp.endsWith('.jsonl')) this._debounce(fp);
    }
  }
  _debounce(fp) {}
  _read(fp) {}
  _line(line, sid, fp) {}
}
"""


@pytest.fixture
def live(tmp_path, monkeypatch):
    """Make sources of `live` over the stand-in; the folder that they watch is `folder`."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("STTX_CACHE_DIR", str(cache))

    def make(watcher=WATCHER, **options):
        prefix = cache / f"ccsniff-{VERSION}"
        shutil.rmtree(prefix, ignore_errors=True)
        install(prefix, watcher)
        return Source([LiveFeed(tmp_path / "projects", **options)], idle_timeout=10, say=lambda said: None)

    return make


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "projects" / "slug"
    made.mkdir(parents=True)
    return made


def append(path, data):
    with path.open("ab", buffering=0) as file:
        file.write(data)


@needs_node
def test_history_then_what_is_written(live, folder):
    (folder / "a.jsonl").write_bytes(line("one", "1") + b"\n" + line("two", "2") + b"\n")
    with live() as source:
        assert [next(source).text for _ in range(2)] == ["one", "two"]
        append(folder / "a.jsonl", line("three", "3") + b"\n")
        assert next(source).text == "three"
        (folder / "b" / "subagents").mkdir(parents=True)
        append(folder / "b" / "subagents" / "agent-q.jsonl", line("four", "4") + b"\n")
        trace = next(source)
        assert (trace.text, trace.meta.agent) == ("four", "q")
        assert trace.meta.origin == str(folder / "b" / "subagents" / "agent-q.jsonl")


@needs_node
def test_history_only(live, folder):
    (folder / "a.jsonl").write_bytes(b"".join(line(str(n), str(n)) + b"\n" for n in range(500)))
    with live(follow=False) as source:
        assert [trace.text for trace in source] == [str(n) for n in range(500)]


@needs_node
def test_characters_and_lines_split_over_writes_arrive_whole(live, folder):
    data = json.dumps(json.loads(line("日本語 \U0001f34e", "1")), ensure_ascii=False).encode() + b"\n"
    assert "日本語 \U0001f34e".encode() in data
    path = folder / "a.jsonl"
    path.write_bytes(b"")
    with live() as source:
        for byte in data:
            append(path, bytes([byte]))
            time.sleep(0.002)
        assert next(source).text == "日本語 \U0001f34e"
    assert source.report.noted == {}


@needs_node
def test_bytes_that_are_no_utf8_arrive_as_they_are(live, folder):
    (folder / "a.jsonl").write_bytes(
        line("x\x7fy", "1").replace(b"\\u007f", b"\x7f").replace(b"\x7f", b"\xff") + b"\n"
    )
    with live(follow=False) as source:
        assert [trace.text for trace in source] == ["x\ufffdy"]
    assert source.report.noted == {"bad UTF-8 replaced": 1}


@needs_node
def test_truncation_and_replacement_are_noticed_and_repeats_dropped(live, folder):
    path = folder / "a.jsonl"
    path.write_bytes(line("one", "1") + b"\n" + line("two", "2") + b"\n")
    with live() as source:
        assert [next(source).text for _ in range(2)] == ["one", "two"]
        path.write_bytes(line("one", "1") + b"\n")
        time.sleep(0.2)
        append(path, line("three", "3") + b"\n")
        assert next(source).text == "three"
        aside = folder / "aside"
        aside.write_bytes(line("one", "1") + b"\n" + line("three", "3") + b"\n" + line("four", "4") + b"\n")
        aside.replace(path)
        assert next(source).text == "four"


@needs_node
def test_the_folder_may_come_later(live, tmp_path):
    with live() as source:
        source._idle_timeout = 0.5
        assert list(source) == []
    said = []
    source = live()
    source.report.say = said.append
    source._thread.start()
    wait_until(lambda: said)
    assert "is not there yet" in said[0]
    time.sleep(1)
    (tmp_path / "projects" / "slug").mkdir(parents=True)
    (tmp_path / "projects" / "slug" / "a.jsonl").write_bytes(line("one", "1") + b"\n")
    with source:
        assert next(source).text == "one"


@needs_node
@pytest.mark.parametrize(
    ("watcher", "message"),
    [
        ("export class JsonlWatcher {}", "has no start: another version"),
        ("export const nothing = 1", "has no start: another version"),
        ("throw new Error('broken package')", "broken package"),
        (WATCHER.replace("20", "1e8"), "failed its self-test"),
    ],
)
def test_a_watcher_that_does_not_work_is_found_at_the_start(live, folder, watcher, message):
    with pytest.raises(SourceError, match=message), live(watcher) as source:
        next(source)


@needs_node
@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_the_shim_does_not_outlive_a_parent_that_is_killed(live, folder, tmp_path):
    live()  # installs the stand-in
    (folder / "a.jsonl").write_bytes(line("one", "1") + b"\n")
    script = (
        "import pathlib, time\nfrom sttx_ccsniff import Source\nfrom sttx_ccsniff.ccsniff import LiveFeed\n"
        f"feed = LiveFeed(pathlib.Path({str(tmp_path / 'projects')!r}))\n"
        "source = Source([feed])\nnext(source)\n"
        "print(feed._process.pid, flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    with parent:
        process_id = int(parent.stdout.readline())
        was_alive = alive(process_id)
        parent.send_signal(signal.SIGKILL)
    assert was_alive
    wait_until(lambda: not Path(f"/proc/{process_id}").exists() or not alive(process_id))


def test_the_shim_is_package_data():
    shim = resources.files("sttx_ccsniff") / "shim.mjs"
    assert "JsonlWatcher" in shim.read_text()
