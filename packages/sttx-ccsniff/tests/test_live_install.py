"""Finding and installing what `live` needs: Node, npm and the pinned ccsniff, without a network."""

import errno
import hashlib
import json
import os
import re
import shutil
import threading
import time
from pathlib import Path

import pytest

from sttx_ccsniff import Source, live_tools
from sttx_ccsniff.live import content
from sttx_ccsniff.live import install as live_install
from sttx_ccsniff.live.content import VERSION, content_hash
from sttx_ccsniff.live.feed import LiveFeed
from sttx_ccsniff.live.install import shim_command
from sttx_core.errors import SourceError


def test_no_node(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="there is no `node`: install it or use `claude`"):
        next(Source([LiveFeed(tmp_path)]))


def program(path, body):
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("printed", "problem"),
    [
        ("v18.19.0", "`node` is v18.19.0"),
        ("v9.0.0", "`node` is v9.0.0"),
        ("nonsense", "`node --version` prints 'nonsense'"),
        ("", "`node --version` prints ''"),
    ],
)
def test_an_old_or_strange_node(tmp_path, monkeypatch, printed, problem):
    program(tmp_path / "node", f"echo {printed}")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        SourceError, match=f"needs Node 20 or newer, and {problem}: update it or use `claude`"
    ):
        next(Source([LiveFeed(tmp_path)]))


@pytest.mark.parametrize(
    ("npm", "message"),
    [
        (None, "needs npm"),
        (
            "echo 'getaddrinfo ENOTFOUND' >&2; exit 1",
            "ENOTFOUND.*check the network connection or use `claude`",
        ),
        ("exit 0", "not ccsniff 1.* as published"),
    ],
)
def test_npm_missing_offline_or_wrong_content(tmp_path, monkeypatch, npm, message):
    program(tmp_path / "node", "echo v20.1.0")
    if npm:
        program(tmp_path / "npm", npm)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("STTX_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(SourceError, match=message):
        next(Source([LiveFeed(tmp_path)], say=lambda message: None))
    cache = tmp_path / "cache"
    assert not cache.exists() or list(cache.iterdir()) == [], "no partial install remains"


def install(prefix, watcher=""):
    """Put a stand-in for ccsniff where an installed one would be."""
    source = prefix / "node_modules" / "ccsniff" / "src"
    source.mkdir(parents=True, mode=0o700)
    (source / "index.js").write_text(watcher)
    (source.parent / "package.json").write_text('{"type":"module"}')
    lock = {"packages": {"node_modules/ccsniff": {"version": VERSION}}}
    (prefix / "node_modules" / ".package-lock.json").write_text(json.dumps(lock))


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Return the folder of a stand-in that counts as published; npm fails, so that nothing replaces it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("STTX_CACHE_DIR", str(tmp_path / "cache"))
    program(tmp_path / "node", "echo v20.1.0")
    program(tmp_path / "npm", "exit 1")
    folder = tmp_path / "cache" / f"ccsniff-{VERSION}"
    install(folder)
    monkeypatch.setattr(content, "PUBLISHED", content_hash(folder))
    assert shim_command(tmp_path, pytest.fail)[2] == str(
        folder / "node_modules" / "ccsniff" / "src" / "index.js"
    )
    return folder


def linked(path):
    """Put a link to the same content in place of a file or folder."""
    elsewhere = path.rename(path.parents[4] / "elsewhere")
    path.symlink_to(elsewhere)


CHANGES = {
    "another program": lambda package: (package / "src" / "index.js").write_text("process.exit(9)"),
    "one byte": lambda package: (package / "src" / "index.js").write_text(" "),
    "the kind of module": lambda package: (package / "src" / "package.json").write_text(
        '{"type":"commonjs"}'
    ),
    "one file more": lambda package: (package / "src" / "better.js").touch(),
    "a hidden file": lambda package: (package / ".hidden").touch(),
    "one file less": lambda package: (package / "package.json").unlink(),
    "another name": lambda package: (package / "package.json").rename(package / "Package.json"),
    "a link to the same file": lambda package: linked(package / "src" / "index.js"),
    "a link to the same folder": lambda package: linked(package / "src"),
    "a pipe": lambda package: os.mkfifo(package / "pipe"),
    "another main file": lambda package: (package / "package.json").write_text('{"main":"./src/other.js"}'),
    "a package of a scope beside it": lambda package: (package.parent / "@orchard" / "fs").mkdir(
        parents=True
    ),
    "packages beside its source": lambda package: (
        (package / "src" / "node_modules" / "events").mkdir(parents=True)
        or (package / "src" / "node_modules" / "events" / "index.js").touch()
    ),
    "folders of packages that others may write": lambda package: package.parent.chmod(0o775),
    "an installation that others may write": lambda package: package.parent.parent.chmod(0o775),
    "a package beside it": lambda package: (package.parent / "better-sqlite3").mkdir(),
    "its own packages": lambda package: (
        (package / "node_modules" / "fs").mkdir(parents=True)
        or (package / "node_modules" / "fs" / "index.js").touch()
    ),
    "a name with invalid bytes": lambda package: (package / "src" / "\udcff.js").touch(),
    "a file that others may write": lambda package: (package / "src" / "index.js").chmod(0o666),
    "a folder that others may write": lambda package: (package / "src").chmod(0o775),
    "folders without end": lambda package: (package / "/".join("d" * 100)).mkdir(parents=True),
}


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes, and its links need rights")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_package_with_another_content_is_not_run(planted, tmp_path, change):
    change(planted / "node_modules" / "ccsniff")
    messages = []
    with pytest.raises(SourceError, match="npm could not install"):
        shim_command(tmp_path, messages.append)
    assert (
        messages[0].endswith("as published, or others may write it: it is replaced")
        and VERSION in messages[0]
    )


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", ["src/index.js", "package.json", "src", ".", "..", "../.."])
def test_a_package_of_another_owner_is_not_run(planted, tmp_path, name):
    os.chown(planted / "node_modules" / "ccsniff" / name, 65534, -1)
    with pytest.raises(SourceError, match="npm could not install"):
        shim_command(tmp_path, lambda message: None)


def test_what_npm_adds_for_itself_is_no_change(planted, tmp_path):
    (planted / "node_modules" / ".bin").mkdir(mode=0o700)
    (planted / "node_modules" / ".package-lock.json").unlink()
    (planted / "package-lock.json").touch()
    assert shim_command(tmp_path, pytest.fail)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes, and its links need rights")
@pytest.mark.parametrize("kind", ["another content", "a link"])
def test_a_changed_package_is_replaced_by_the_published_one(planted, tmp_path, kind):
    ready = tmp_path / "ready"
    shutil.copytree(planted, ready)
    if kind == "a link":
        planted.rename(tmp_path / "elsewhere")
        planted.symlink_to(tmp_path / "elsewhere")
    else:
        (planted / "node_modules" / "ccsniff" / "src" / "index.js").write_text("process.exit(9)")
    program(tmp_path / "npm", f'/bin/cp -R {ready}/. "$3/"')
    messages = []
    assert Path(shim_command(tmp_path, messages.append)[2]).read_text() == ""
    assert len(messages) == 2 and not planted.is_symlink()
    assert kind != "a link" or (tmp_path / "elsewhere" / "node_modules").is_dir(), (
        "what it led to is left alone"
    )


def test_the_pinned_hash_is_of_names_and_contents(tmp_path):
    install(tmp_path / "one", "x")
    package = hashlib.sha256(b'{"type":"module"}').hexdigest()
    assert (
        content_hash(tmp_path / "one")
        == hashlib.sha256(
            f"package.json\0{package}\nsrc/index.js\0{hashlib.sha256(b'x').hexdigest()}\n".encode()
        ).hexdigest()
    )
    assert re.fullmatch("[0-9a-f]{64}", content.PUBLISHED)


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps access lists instead of modes")
@pytest.mark.parametrize("which", ["cache", "."])
@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757])
def test_a_cache_that_others_may_write_is_not_used(planted, tmp_path, which, mode):
    (tmp_path / which).chmod(mode)
    with pytest.raises(
        SourceError, match=r"others may write to '.*': run `chmod go-w .*`, or set STTX_CACHE_DIR"
    ):
        shim_command(tmp_path, pytest.fail)
    ready, detail = tools()["ccsniff"]
    assert not ready and detail.startswith("others may write to ")


def test_installing_is_reported_and_done_once(tmp_path, monkeypatch):
    ready = tmp_path / "ready"
    install(ready)
    monkeypatch.setattr(content, "PUBLISHED", content_hash(ready))
    program(tmp_path / "npm", f'echo "$@" >> {tmp_path}/calls; cp -R {ready}/. "$3/"')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("STTX_CACHE_DIR", str(tmp_path / "cache"))
    program(tmp_path / "node", "echo v20.1.0")
    messages = []
    first, second = (shim_command(tmp_path, messages.append) for _ in range(2))
    assert first == second and Path(first[2]).is_file()
    assert len(messages) == 1 and f"installing ccsniff {VERSION}" in messages[0]
    [call] = (tmp_path / "calls").read_text().splitlines()
    assert "--ignore-scripts" in call and call.endswith(f"ccsniff@{VERSION}")


def test_a_node_that_hangs(tmp_path, monkeypatch):
    program(tmp_path / "node", "exec sleep 60")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(live_install, "_ANSWER_SECONDS", 0.2)
    with pytest.raises(SourceError, match="does not answer within 0.2 s: update it or use `claude`"):
        next(Source([LiveFeed(tmp_path)]))


def test_an_npm_that_hangs_is_killed_with_all_that_it_started(tmp_path, monkeypatch):
    program(tmp_path / "node", "echo v20.1.0")
    program(tmp_path / "npm", f"sleep 61 & echo $! > {tmp_path}/started; wait")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("STTX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(live_install, "_INSTALL_SECONDS", 0.5)
    with pytest.raises(SourceError, match="check the network connection or use `claude`"):
        shim_command(tmp_path, lambda message: None)
    assert not runs(int((tmp_path / "started").read_text()))
    assert list((tmp_path / "cache").iterdir()) == []


def runs(process_id):
    """Return whether a process that is not our child still runs; it may take a moment to exit."""
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
    program(tmp_path / "npm", f"echo > {tmp_path}/started; exec sleep 61")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("STTX_CACHE_DIR", str(tmp_path / "cache"))
    source = Source([LiveFeed(tmp_path)], say=lambda message: None)
    waiting = threading.Thread(target=lambda: list(source))
    waiting.start()
    while not (tmp_path / "started").exists():
        time.sleep(0.01)
    before = time.monotonic()
    source.close()
    waiting.join()
    assert time.monotonic() - before < 50
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_rest_of_a_killed_installation_is_removed(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    for name, age in ((".installing-old", 7200), (".installing-now", 0)):
        (cache / name / "ccsniff").mkdir(parents=True)
        os.utime(cache / name, (time.time() - age,) * 2)
    test_installing_is_reported_and_done_once(tmp_path, monkeypatch)
    assert sorted(path.name for path in cache.iterdir()) == [".installing-now", f"ccsniff-{VERSION}"]


def test_a_cache_folder_that_cannot_be_made(tmp_path, monkeypatch):
    program(tmp_path / "node", "echo v20.1.0")
    program(tmp_path / "npm", "exit 0")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("STTX_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(
        SourceError, match="a part of the path is a file.*, or set STTX_CACHE_DIR.*, or use `claude`"
    ):
        shim_command(tmp_path, lambda message: None)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (
            "ENOSPC",
            "the disk is full: free some space, or set STTX_CACHE_DIR to another folder, or use `claude`",
        ),
        ("EACCES", "permission denied: change its permissions, or set STTX_CACHE_DIR"),
    ],
)
def test_a_disk_problem_that_npm_reports(tmp_path, monkeypatch, code, sentence):
    program(tmp_path / "node", "echo v20.1.0")
    program(tmp_path / "npm", f"echo 'npm error code {code}' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("STTX_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(
        SourceError, match=f"npm could not install ccsniff {VERSION} into '.*cache': {sentence}"
    ):
        shim_command(tmp_path, lambda message: None)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("where", ["cache folder", "temporary file"])
@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.ENOSPC, "the disk is full: free some space"),
        (errno.EACCES, "permission denied: change its permissions"),
        (errno.EROFS, "the disk is read-only: make it writable"),
    ],
    ids=["full", "no permission", "read-only"],
)
def test_a_disk_that_cannot_be_written(tmp_path, monkeypatch, where, code, sentence):
    def refuse(*args, **options):
        raise OSError(code, os.strerror(code))

    program(tmp_path / "node", "echo v20.1.0")
    program(tmp_path / "npm", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("STTX_CACHE_DIR", str(tmp_path / "cache"))
    name = "TemporaryDirectory" if where == "cache folder" else "TemporaryFile"
    monkeypatch.setattr(live_install.tempfile, name, refuse)
    with pytest.raises(SourceError, match=f"{sentence}, or .*, or use `claude`") as caught:
        next(Source([LiveFeed(tmp_path)], say=lambda message: None))
    assert "Errno" not in str(caught.value)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root can write everywhere")
def test_a_cache_folder_without_permission(tmp_path, monkeypatch):
    program(tmp_path / "node", "echo v20.1.0")
    program(tmp_path / "npm", "exit 0")
    (tmp_path / "cache").mkdir(mode=0o500)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("STTX_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(SourceError, match="permission denied: change its permissions, or set STTX_CACHE_"):
        shim_command(tmp_path, lambda message: None)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Return a function that puts a program on an otherwise empty PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("STTX_CACHE_DIR", str(tmp_path / "cache"))

    def put(name, body):
        path = folder / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    return put


def tools():
    return {tool.name: (tool.ready, tool.detail) for tool in live_tools()}


def test_missing_programs_and_what_needs_them(programs):
    assert tools()["node"] == (False, "not found: only `live` needs it (version 20 or newer)")
    assert tools()["npm"] == (False, "not found: only `live` needs it, once, to install ccsniff")


@pytest.mark.parametrize(
    ("body", "ready"),
    [("echo v20.1.0", True), ("echo v9.9.9", False), ("echo nonsense", False), ("exit 1", False)],
)
def test_which_node_is_ready(programs, body, ready):
    programs("node", body)
    assert tools()["node"][0] is ready


@pytest.mark.parametrize("installed", ["as published", "changed", "nothing"])
def test_only_the_pinned_ccsniff_counts_as_installed(programs, tmp_path, monkeypatch, installed):
    if installed != "nothing":
        folder = tmp_path / "cache" / f"ccsniff-{VERSION}"
        install(folder)
        if installed == "as published":
            monkeypatch.setattr(content, "PUBLISHED", content_hash(folder))
    before = sorted(tmp_path.rglob("*"))
    ready, detail = tools()["ccsniff"]
    assert ready and ("is installed into" in detail) is (installed != "as published")
    assert sorted(tmp_path.rglob("*")) == before
