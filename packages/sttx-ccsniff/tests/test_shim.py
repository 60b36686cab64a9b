"""The shim over a stand-in for ccsniff's watcher: files in every state, each record delivered once."""

import contextlib
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

from sttx_ccsniff import Source, open_source
from sttx_ccsniff.follow.feed import FolderFeed
from sttx_ccsniff.live import feed as live_module
from sttx_ccsniff.live.content import VERSION, content_hash
from sttx_ccsniff.live.feed import LiveFeed
from sttx_core.errors import SourceError
from sttx_core.traces import SessionEnd

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
]
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")

WATCHER = """
import fs from 'node:fs';
import path from 'node:path';
import { EventEmitter } from 'node:events';
export class JsonlWatcher extends EventEmitter {
  constructor(dir) { super(); this._dir = dir; }
  start() { this._scan(this._dir); this._poll = setInterval(() => this._scan(this._dir), 20); return this; }
  stop() { clearInterval(this._poll); }
  _scan(dir) {
    for (const d of fs.readdirSync(dir, { withFileTypes: true })) {
      const fp = path.join(dir, d.name);
      if (d.isDirectory()) this._scan(fp); else if (d.isFile() && fp.endsWith('.jsonl')) this._debounce(fp);
    }
  }
  _debounce(fp) {}
}
"""
"""Only finds files, as ccsniff's watcher does, and polls them."""


def line(word, uuid):
    record = {"type": "user", "uuid": uuid, "sessionId": "s", "message": {"content": word}}
    return json.dumps(record).encode() + b"\n"


def lines(*words):
    return b"".join(line(word, word) for word in words)


def append(path, data):
    with path.open("ab", buffering=0) as file:
        file.write(data)


def texts(source, count):
    return [next(source).text for _ in range(count)]


def wait_until(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)


def alive(process_id):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process_id}/status").read_text()
    except OSError:
        return False


def install(prefix, watcher=WATCHER):
    """Put a stand-in for ccsniff where an installed one would be."""
    source = prefix / "node_modules" / "ccsniff" / "src"
    source.mkdir(parents=True)
    (source / "index.js").write_text(watcher)
    (source.parent / "package.json").write_text('{"type":"module"}')


@pytest.fixture
def live(tmp_path, monkeypatch):
    """Return a function that makes a `live` source over the stand-in, which watches the folder `projects`."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("STTX_CACHE_DIR", str(cache))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()

    def make(watcher=WATCHER, follow=True, command=None, **options):
        prefix = cache / f"ccsniff-{VERSION}"
        shutil.rmtree(prefix, ignore_errors=True)
        install(prefix, watcher)
        monkeypatch.setattr("sttx_ccsniff.live.content.PUBLISHED", content_hash(prefix))
        feed = LiveFeed(tmp_path / "projects", follow=follow, command=command)
        return Source([feed], idle_timeout=10, **({"say": lambda message: None} | options))

    yield make
    wait_until(lambda: not list((tmp_path / "tmp").glob("sttx-selftest-*")))


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "projects" / "slug"
    made.mkdir(parents=True)
    return made


def child_of(source):
    """Return the process id of a source's shim."""
    [feed] = source._finish.peek()[2][0]
    return feed._child.process.pid


# History and new lines


def test_history_then_new_lines(live, folder):
    (folder / "a.jsonl").write_bytes(lines("one", "two"))
    with live() as source:
        assert texts(source, 2) == ["one", "two"]
        append(folder / "a.jsonl", lines("three"))
        assert next(source).text == "three"
        (folder / "b" / "subagents").mkdir(parents=True)
        append(folder / "b" / "subagents" / "agent-q.jsonl", lines("four"))
        trace = next(source)
        assert (trace.text, trace.meta.subagent) == ("four", "q")
        assert trace.meta.origin == str(folder / "b" / "subagents" / "agent-q.jsonl")
        assert source.report.warnings == []


def test_the_history_equals_reading_the_files(live, folder, sessions):
    shutil.copytree(sessions, folder, dirs_exist_ok=True)
    (folder / "cut.jsonl").write_bytes(lines("a")[:-1] + b"\n" + b'{"type":"user","mess')
    with live(follow=False) as source, open_source(folder.parent) as files:
        assert list(source) == list(files)
    assert source.report.as_dict() == files.report.as_dict()
    assert source.cursor == files.cursor


def test_lines_split_at_any_byte_arrive_whole(live, folder):
    data = json.dumps(json.loads(line("日本語 \U0001f34e", "1")), ensure_ascii=False).encode() + b"\n"
    assert "日本語 \U0001f34e".encode() in data
    path = folder / "a.jsonl"
    path.write_bytes(b"")
    with live() as source:
        for byte in data:
            append(path, bytes([byte]))
            time.sleep(0.002)
        assert next(source).text == "日本語 \U0001f34e"
    assert source.report.noted == {} and source.report.malformed == {}


def test_invalid_utf8_is_replaced(live, folder):
    (folder / "a.jsonl").write_bytes(line("x~y", "1").replace(b"~", b"\xff"))
    with live(follow=False) as source:
        assert [trace.text for trace in source] == ["x\ufffdy"]
    assert source.report.noted == {"bad UTF-8 replaced": 1}


def test_an_unterminated_last_line_is_read_once(live, folder):
    path = folder / "a.jsonl"
    path.write_bytes(lines("one") + lines("two")[:-1])
    with live() as source:
        assert texts(source, 2) == ["one", "two"]
        append(path, b"\n" + lines("three")[:-3])
        time.sleep(0.2)
        append(path, lines("three")[-3:] + lines("four"))
        assert texts(source, 2) == ["three", "four"]
        assert source.report.records == 4


def test_bursts_every_millisecond_do_not_starve(live, folder):
    path = folder / "a.jsonl"
    with live() as source:
        path.write_bytes(lines("first"))
        assert next(source).text == "first"
        end, count = time.monotonic() + 1.5, 0
        while time.monotonic() < end:
            append(path, lines(f"w{count}"))
            count += 1
            time.sleep(0.001)
            if count == 200:
                before = time.monotonic()
                assert next(source).text == "w0"
                assert time.monotonic() - before < 60
        assert texts(source, count - 1) == [f"w{n}" for n in range(1, count)]


@pytest.mark.parametrize("length", [9 * 2**20, 33 * 2**20])
def test_long_lines_within_the_limit_and_over_it(live, folder, length):
    path = folder / "a.jsonl"
    long = line("x" * length, "long")
    path.write_bytes(lines("one") + long + lines("two"))
    with live(redact=False) as source:
        kept = ["one", "x" * length, "two"] if length < 2**25 else ["one", "two"]
        assert texts(source, len(kept)) == kept
        append(path, long[:-1].replace(b'"long"', b'"other"'))
        append(path, b"\n" + lines("three"))
        assert texts(source, len(kept) - 1) == [*kept[1:-1], "three"]
    over = 0 if length < 2**25 else 2
    assert source.report.malformed.total() == over


# Files that change in other ways


def test_truncation_and_replacement(live, folder):
    path = folder / "a.jsonl"
    path.write_bytes(lines("one", "two"))
    with live() as source:
        assert texts(source, 2) == ["one", "two"]
        path.write_bytes(lines("one"))
        time.sleep(0.2)
        append(path, lines("three"))
        assert next(source).text == "three"
        aside = folder / "aside"
        aside.write_bytes(lines("one", "three", "four"))
        aside.replace(path)
        assert next(source).text == "four"
        path.unlink()
        path.write_bytes(lines("one", "a longer line than there was before", "five"))
        assert texts(source, 2) == ["a longer line than there was before", "five"]
        with path.open("r+b") as file:  # as long as before, and longer: only the content shows the change
            file.write(lines("other") + b" " * (path.stat().st_size - len(lines("other"))) + b"\n")
        append(path, lines("six"))
        assert texts(source, 2) == ["other", "six"]


def test_an_unterminated_line_that_is_read_and_then_replaced(live, folder):
    path = folder / "a.jsonl"
    path.write_bytes(lines("one") + lines("two")[:-1])
    with live() as source:
        assert texts(source, 2) == ["one", "two"]
        with path.open("r+b") as file:
            file.truncate(len(lines("one")))
            file.seek(0, os.SEEK_END)
            file.write(lines("another", "three"))
        assert texts(source, 2) == ["another", "three"]


def test_a_renamed_file_continues_and_a_deleted_one_is_forgotten(live, folder):
    path, moved = folder / "a.jsonl", folder / "b.jsonl"
    path.write_bytes(b'{"type":"user","message":{"content":"without a uuid"}}\n')
    with live() as source:
        assert next(source).text == "without a uuid"
        path.rename(moved)
        append(moved, lines("two"))
        assert next(source).text == "two"
        assert set(source.cursor["origins"]) == {str(moved)}
        moved.unlink()
        end = time.monotonic() + 30
        while str(moved) in source.cursor["origins"]:  # until the next scan
            assert time.monotonic() < end
            time.sleep(0.5)
            word = str(time.monotonic())
            append(folder / "c.jsonl", lines(word))
            assert next(source).text == word
        assert set(source.cursor["origins"]) == {str(folder / "c.jsonl")}


def test_links_are_followed_and_each_file_is_read_by_one_path(live, folder, tmp_path):
    elsewhere = tmp_path / "elsewhere" / "deep"
    elsewhere.mkdir(parents=True)
    (elsewhere / "a.jsonl").write_bytes(lines("one"))
    (folder / "link").symlink_to(elsewhere.parent)
    (folder / "loop").symlink_to(folder)
    (folder / "b.jsonl").symlink_to(elsewhere / "a.jsonl")
    (folder / "nowhere.jsonl").symlink_to(elsewhere / "nothing")
    with live() as source:
        assert next(source).text == "one"
        append(elsewhere / "a.jsonl", lines("two"))
        assert next(source).text == "two"
        (elsewhere / "new.jsonl").write_bytes(lines("three"))
        assert next(source).text == "three"
    assert source.report.records == 3


def test_other_files_are_ignored(live, folder):
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "folder.jsonl").mkdir()
    (folder / "notes.txt").write_text("x")
    (folder / "a.jsonl").write_bytes(lines("one"))
    with live(follow=False) as source:
        assert [trace.text for trace in source] == ["one"]
    assert source.report.warnings == [] and source.report.malformed == {}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root can read everything")
def test_an_unreadable_file_is_reported_once(live, folder):
    (folder / "a.jsonl").write_bytes(lines("one"))
    (folder / "a.jsonl").chmod(0)
    (folder / "b.jsonl").write_bytes(lines("two"))
    with live() as source:
        assert next(source).text == "two"
    assert source.report.malformed == {"unreadable file": 1}


def test_the_folder_may_appear_late_vanish_and_come_back(live, tmp_path):
    messages = []
    path = tmp_path / "projects" / "slug" / "a.jsonl"
    with live(say=messages.append) as source:
        source._thread.start()
        wait_until(lambda: messages)
        assert "does not exist yet" in messages[0]
        time.sleep(0.5)
        path.parent.mkdir(parents=True)
        path.write_bytes(lines("one"))
        assert next(source).text == "one"
        shutil.rmtree(tmp_path / "projects")
        time.sleep(1.5)
        path.parent.mkdir(parents=True)
        path.write_bytes(lines("two"))
        assert next(source).text == "two"


def test_files_older_than_asked_for_are_skipped(live, folder):
    for name, age in (("old", 1000), ("new", 10)):
        (folder / f"{name}.jsonl").write_bytes(lines(name))
        os.utime(folder / f"{name}.jsonl", (time.time() - age,) * 2)
    with live(since=time.time() - 100) as source:
        assert next(source).text == "new"
        append(folder / "old.jsonl", lines("late"))
        assert texts(source, 2) == ["old", "late"]


# Resuming


@pytest.mark.parametrize("first", ["live", "claude"])
@pytest.mark.parametrize("cut", [1, 20, 100, 235])
def test_live_and_claude_resume_each_other(live, folder, sessions, first, cut):
    shutil.copytree(sessions, folder, dirs_exist_ok=True)

    def claude(cursor):
        return Source([FolderFeed([folder.parent], "claude", follow=True)], cursor=cursor)

    def watched(cursor):
        return live(cursor=cursor)

    def until_idle(source):
        source._idle_timeout = 60.0  # starting may take long on a busy machine
        yield next(source)
        source._idle_timeout = 1.5
        yield from (trace for trace in source if not isinstance(trace, SessionEnd))

    sources = (watched, claude) if first == "live" else (claude, watched)
    with sources[0](None) as source:
        source._idle_timeout = 60.0
        traces = [next(source) for _ in range(cut)]
        cursor = json.loads(json.dumps(source.cursor))
    grown = max(folder.rglob("*.jsonl"), key=lambda path: path.stat().st_size)
    append(grown, b"" if grown.read_bytes().endswith(b"\n") else b"\n")
    append(grown, lines("added"))
    with sources[1](cursor) as source:
        traces += until_idle(source)
        cursor = json.loads(json.dumps(source.cursor))
    with open_source(folder.parent) as files:
        whole = list(files)
    assert sorted(trace.meta.uid for trace in traces) == sorted(trace.meta.uid for trace in whole)
    append(grown, lines("after all"))
    with sources[0](cursor) as source:
        assert [trace.text for trace in until_idle(source)] == ["after all"]


def test_resuming_in_a_huge_file_takes_little_memory(live, folder, tmp_path):
    path, size = folder / "a.jsonl", 5 * 2**30
    with path.open("wb") as file:
        file.seek(size - len(lines("before")))
        file.write(lines("before"))
    with live(follow=False) as source:  # a place at the start becomes one at the end
        aside = path.rename(tmp_path / "aside")
        path.write_bytes(lines("before"))
        assert next(source).text == "before"
        cursor = source.cursor
    aside.rename(path)
    device, inode, _, length, crc, state = cursor["origins"][str(path)]["place"]
    cursor["origins"][str(path)]["place"] = [device, inode, size, length, crc, state]
    with live(cursor=cursor) as source:
        append(path, lines("after"))
        assert next(source).text == "after"
        assert source.cursor["origins"][str(path)]["place"][2] == size + len(lines("after"))
        if Path("/proc").is_dir():
            status = Path(f"/proc/{child_of(source)}/status").read_text()
            assert int(status.split("VmHWM:")[1].split()[0]) < 200_000


@linux
def test_thousands_of_files_need_no_descriptors(live, folder):
    for number in range(1500):
        (folder / f"{number}.jsonl").write_bytes(lines(str(number)))
    with live() as source:
        texts(source, 1500)
        process = Path(f"/proc/{child_of(source)}")
        assert len(list((process / "fd").iterdir())) < 60
        append(folder / "700.jsonl", lines("more"))
        assert next(source).text == "more"


# The process


@pytest.mark.parametrize(
    ("watcher", "message"),
    [
        ("export class JsonlWatcher {}", "has no start: is it another version"),
        ("export const nothing = 1", "has no start: is it another version"),
        ("throw new Error('broken package')", "broken package"),
        (WATCHER.replace("20", "1e8"), "failed its self-test: it did not see a file grow"),
        (WATCHER.replace(".jsonl", ".other"), "failed its self-test: it did not find a file"),
    ],
)
def test_a_broken_watcher_is_found_at_the_start(live, folder, watcher, message):
    with pytest.raises(SourceError, match=message), live(watcher) as source:
        next(source)


REFUSED = WATCHER.replace(
    "start() {",
    "start() { if (!this._dir.includes('selftest')) { setTimeout(() => this.emit('error', Object.assign("
    "new Error('ENOSPC: no watches'), { code: 'ENOSPC' })), 10); return this; }",
)


@pytest.mark.parametrize("how", [REFUSED, REFUSED.replace("this.emit('error', ", "((e) => { throw e; })(")])
def test_polling_takes_over_when_watching_is_refused(live, folder, how):
    (folder / "a.jsonl").write_bytes(lines("one"))
    with live(how) as source:
        assert next(source).text == "one"
        wait_until(lambda: source.report.warnings)
        append(folder / "a.jsonl", lines("two"))
        assert next(source).text == "two"
    [warning] = source.report.warnings
    assert "ENOSPC: no watches" in warning and "use `claude`" in warning


NOTIFIED = WATCHER.replace(
    "this._poll = setInterval(() => this._scan(this._dir), 20);",
    """this._watcher = fs.watch(this._dir, { recursive: true }, (_, f) => {
      if (f && f.endsWith('.jsonl')) this._debounce(path.join(this._dir, f));
    });
    this._watcher.on('error', (error) => this.emit('error', error));""",
).replace("clearInterval(this._poll);", "this._watcher.close();")
"""Uses the system's notifications, as ccsniff's watcher does."""


def can_limit():
    command = ["unshare", "-Ur", "test", "-w", "/proc/sys/user/max_inotify_watches"]
    return sys.platform == "linux" and shutil.which("unshare") and subprocess.run(command).returncode == 0


@pytest.mark.skipif("not can_limit()")
@pytest.mark.parametrize(
    ("limit", "code"),
    [("instances=0", "EMFILE"), ("watches=2", "ENOSPC"), ("watches=4", "ENOSPC"), ("watches=30", "ENOSPC")],
)
def test_polling_takes_over_at_a_limit_of_the_system(live, folder, tmp_path, limit, code):
    (folder / "z.jsonl").write_bytes(lines("z"))
    for number in range(50):
        (folder / f"{number}.jsonl").write_bytes(lines(str(number)))
    name, _, value = limit.partition("=")
    shim = resources.files("sttx_ccsniff.live") / "shim.mjs"
    library = tmp_path / "cache" / f"ccsniff-{VERSION}" / "node_modules" / "ccsniff" / "src" / "index.js"
    script = f'echo {value} > /proc/sys/user/max_inotify_{name}; exec node "{shim}" "{library}"'
    script += f' "{folder.parent}" "$0"'
    with live(NOTIFIED, command=["unshare", "-Ur", "sh", "-c", script]) as source:
        source._idle_timeout = 60.0  # a busy machine may be slow
        texts(source, 51)
        for number in range(3):
            for path in folder.iterdir():
                append(path, lines(f"{path.stem}-{number}"))
            texts(source, 51)
        [warning] = source.report.warnings
    assert f"gets no notifications ({code}: " in warning and "use `claude`" in warning


def test_a_killed_shim_is_restarted_where_reading_stopped(live, folder, monkeypatch):
    monkeypatch.setattr(live_module, "_FIRST_PAUSE", 0.01)
    path = folder / "a.jsonl"
    path.write_bytes(b'{"type":"user","message":{"content":"without a uuid"}}\n')
    with live() as source:
        assert next(source).text == "without a uuid"
        for number in range(3):
            os.kill(child_of(source), signal.SIGKILL)
            append(path, lines(str(number)))
            assert next(source).text == str(number)
    assert source.report.noted == {"ccsniff's watcher started again": 3}


def test_a_shim_that_hangs_is_restarted(live, folder, monkeypatch):
    monkeypatch.setattr(live_module, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(live_module, "_SILENCE_SECONDS", 3.0)
    monkeypatch.setattr(live_module, "_BEAT_SECONDS", 0.3)
    path = folder / "a.jsonl"
    path.write_bytes(lines("one"))
    with live() as source:
        assert next(source).text == "one"
        source._idle_timeout = 20
        os.kill(child_of(source), signal.SIGSTOP)
        append(path, lines("two"))
        assert next(source).text == "two"
    assert "silence for 3 s" in source.report.warnings[0]


PARENT = """
import os, pathlib, signal, sys, time
from sttx_ccsniff import Source
from sttx_ccsniff.live.feed import LiveFeed
source = Source([LiveFeed(pathlib.Path(sys.argv[1]))], capacity=2)
next(source)
[feed] = source._finish.peek()[2][0]
other = 0
if sys.argv[2] == "forks":
    other = os.fork()
    if not other:
        time.sleep(60)
print(feed._child.process.pid, other, flush=True)
time.sleep(60)
"""


@linux
@pytest.mark.parametrize("amount", [1, 20000], ids=["waits", "is blocked in writing"])
@pytest.mark.parametrize("how", ["alone", "forks"])
def test_the_shim_does_not_outlive_a_killed_parent(live, folder, tmp_path, amount, how):
    live()  # installs the stand-in
    (folder / "a.jsonl").write_bytes(lines(*map(str, range(amount))))
    parent = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PARENT, str(tmp_path / "projects"), how],
        stdout=subprocess.PIPE,
    )
    with parent:
        process_id, other = map(int, parent.stdout.readline().split())
        try:
            time.sleep(0.3)
            was_alive = alive(process_id)
            parent.send_signal(signal.SIGKILL)
            parent.wait()
            assert was_alive
            wait_until(lambda: not alive(process_id))
        finally:
            with contextlib.suppress(ProcessLookupError):
                if other:
                    os.kill(other, signal.SIGKILL)


@linux
def test_few_descriptors_are_enough(live, folder, tmp_path):
    live()
    (folder / "a.jsonl").write_bytes(lines("one"))
    shim = resources.files("sttx_ccsniff.live") / "shim.mjs"
    library = tmp_path / "cache" / f"ccsniff-{VERSION}" / "node_modules" / "ccsniff" / "src" / "index.js"
    limited = f'ulimit -n 32; exec node "{shim}" "{library}" "{tmp_path / "projects"}" "$0"'
    with live(command=["sh", "-c", limited]) as source:
        assert next(source).text == "one"


def test_the_shim_is_package_data():
    shim = resources.files("sttx_ccsniff.live") / "shim.mjs"
    assert "JsonlWatcher" in shim.read_text()
