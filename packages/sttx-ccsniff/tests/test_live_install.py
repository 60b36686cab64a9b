"""What `live` needs before it runs: Node, npm and the pinned ccsniff; no network."""

import json
import os
import threading
import time
from pathlib import Path

import pytest

from sttx_ccsniff import Source
from sttx_ccsniff.live import install as ccsniff_install
from sttx_ccsniff.live.feed import LiveFeed
from sttx_ccsniff.live.install import INTEGRITY, VERSION, shim_command
from sttx_core.errors import SourceError


def test_no_node(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="there is no `node`: install it or use `claude`"):
        next(Source([LiveFeed(tmp_path)]))


def program(path, body):
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("said", ["v18.19.0", "v9.0.0", "nonsense", ""])
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
    first, second = (shim_command(tmp_path, said.append) for _ in range(2))
    assert first == second and Path(first[2]).is_file()
    assert len(said) == 1 and f"installing ccsniff {VERSION}" in said[0]
    [call] = (tmp_path / "calls").read_text().splitlines()
    assert "--ignore-scripts" in call and call.endswith(f"ccsniff@{VERSION}")


def test_a_node_that_does_not_answer(tmp_path, monkeypatch):
    program(tmp_path / "node", "exec sleep 60")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(ccsniff_install, "_ANSWER_SECONDS", 0.2)
    with pytest.raises(SourceError, match="timed out.*: update it or use `claude`"):
        next(Source([LiveFeed(tmp_path)]))


def test_an_npm_that_hangs_is_given_up_with_all_that_it_started(tmp_path, monkeypatch):
    program(tmp_path / "node", "echo v20.1.0")
    program(tmp_path / "npm", f"sleep 61 & echo $! > {tmp_path}/started; wait")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("STTX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(ccsniff_install, "_INSTALL_SECONDS", 0.5)
    with pytest.raises(SourceError, match="is it online\\? or use `claude`"):
        shim_command(tmp_path, lambda said: None)
    assert not runs(int((tmp_path / "started").read_text()))
    assert list((tmp_path / "cache").iterdir()) == []


def runs(process_id):
    """Whether a process that is nobody's child here still runs; it may take a moment to be gone."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{process_id}/stat").read_text().rpartition(") ")[2][0]
        except OSError:
            return False
        if state == "Z":
            return False
        time.sleep(0.02)
    return True


def test_closing_ends_an_installation(tmp_path, monkeypatch):
    program(tmp_path / "node", "echo v20.1.0")
    program(tmp_path / "npm", f"echo > {tmp_path}/begun; exec sleep 61")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("STTX_CACHE_DIR", str(tmp_path / "cache"))
    source = Source([LiveFeed(tmp_path)], say=lambda said: None)
    waiting = threading.Thread(target=lambda: list(source))
    waiting.start()
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    before = time.monotonic()
    source.close()
    waiting.join()
    assert time.monotonic() - before < 5
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_a_killed_installation_left_is_removed(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    for name, age in ((".installing-old", 7200), (".installing-now", 0)):
        (cache / name / "ccsniff").mkdir(parents=True)
        os.utime(cache / name, (time.time() - age,) * 2)
    test_installing_is_said_and_done_once(tmp_path, monkeypatch)
    assert sorted(path.name for path in cache.iterdir()) == [".installing-now", f"ccsniff-{VERSION}"]


def test_a_cache_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    program(tmp_path / "node", "echo v20.1.0")
    program(tmp_path / "npm", "exit 0")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("STTX_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(SourceError, match="cannot install ccsniff into .*; or use `claude`"):
        shim_command(tmp_path, lambda said: None)
