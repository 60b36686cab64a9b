"""Every input passes the source check of core."""

import gzip
import io
import sys

import pytest

from sttx_ccsniff import Source, open_source
from sttx_ccsniff.live.feed import LiveFeed
from sttx_core.checks import check_source

ROWS = [b'{"sid":"s","role":"user","type":"text","text":"row %d","ts":1}' % n for n in range(20)]
PAIRS = [b'{"prompt":"p","completion":"%d"}' % n for n in range(20)]


def quiet(said):
    del said


def test_session_files(sessions):
    check_source(lambda cursor: open_source(sessions, cursor=cursor))
    check_source(lambda cursor: open_source(sessions, cursor=cursor, capacity=1))


def test_several_sources(sessions, session_file):
    pairs = session_file("pairs.jsonl", *PAIRS)
    check_source(lambda cursor: open_source([sessions, pairs], cursor=cursor))


@pytest.mark.parametrize("lines", [ROWS, PAIRS])
@pytest.mark.parametrize("compress", [gzip.compress, bytes])
def test_exported_rows_and_pairs(session_file, lines, compress):
    path = session_file("rows.ndjson", *lines)
    path.write_bytes(compress(path.read_bytes()))
    check_source(lambda cursor: open_source(path, cursor=cursor, say=quiet))


def test_standard_input(session_file, monkeypatch):
    path = session_file("rows.ndjson", *ROWS)

    def factory(cursor):
        file = path.open("rb")
        opened.append(file)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        return open_source("-", cursor=cursor, say=quiet)

    opened = []
    check_source(factory)
    for file in opened:
        file.close()


def test_the_live_feed(tmp_path):
    line = b'{"type":"user","uuid":"%d","sessionId":"s","message":{"content":"one"}}\n'
    lines = b"".join(line % n for n in range(10))
    said = b'{"path":"a","was":"","device":"1","inode":"1","fresh":false,"changed":0}'
    frames = b"F 0 %d\n%s\nD 0 %d\n%s\nE 0 0\n\nI 0 0\n\n" % (len(said), said, len(lines), lines)
    script = f"import os, sys; os.write(1, {frames!r}); sys.stdin.read()"
    command = [sys.executable, "-c", script]
    check_source(lambda cursor: Source([LiveFeed(tmp_path, follow=False, command=command)], cursor=cursor))
