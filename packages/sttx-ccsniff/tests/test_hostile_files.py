"""Hostile files: archives that explode, endless lines, damage anywhere."""

import gzip
import json
import os
import subprocess
import sys
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sttx_ccsniff import SourceReport, open_source
from sttx_ccsniff.read.splitter import MAX_LINE
from sttx_core.errors import SourceError
from sttx_core.render import render

pytestmark = pytest.mark.slow

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
SKIPPABLE = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip"
GIGABYTE = 2**30
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")

# Reads a file and prints by how many MB the process grew, the sizes of the texts, and the report.
MEASURED = """
import json, sys
from pathlib import Path
from sttx_ccsniff import open_source
from sttx_core.render import render

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

path = Path(sys.argv[1])
with open_source(path, say=lambda message: None, redact=False) as source:
    before = peak()
    sizes = [sum(len(text) for text in (getattr(trace, "text", ""),)) for trace in source]
    grown = peak() - before
print(json.dumps([grown, sizes, source.report.as_dict()]))
"""


def line_of(uuid, text="hello"):
    record = {"type": "user", "uuid": uuid, "sessionId": "s", "message": {"role": "user", "content": text}}
    return json.dumps(record).encode() + b"\n"


def read(path, **options):
    """Return the uids of a file's traces, the error that ended reading, and the report."""
    with open_source(path, say=lambda message: None, redact=False, **options) as source:
        traces, problem = [], ""
        try:
            for trace in source:
                render(trace).encode()
                traces.append(trace)
        except SourceError as error:
            problem = str(error)
    json.dumps(source.cursor)
    return [trace.meta.uid for trace in traces], problem, source.report


def measured(path) -> tuple[float, list[int], dict]:
    """Read a file in another process; return its growth in MB, the sizes of the texts, and the report."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return tuple(json.loads(done.stdout))


def zstd_bomb(size):
    """Return a zstandard frame of zeros, as small as possible: four bytes for each 128 kB."""

    def block(final):
        return (final | 1 << 1 | 2**17 << 3).to_bytes(3, "little") + b"\0"

    return ZSTD_MAGIC + bytes((0, 7 << 3)) + block(0) * (size // 2**17 - 1) + block(1)


def gzip_bomb(size):
    """Return consecutive gzip members of 16 MiB of zeros."""
    return gzip.compress(bytes(2**24)) * (size // 2**24)


# Archives


@on_linux
@pytest.mark.parametrize("kind", ["plain", "gzip", "zstandard"])
def test_an_endless_line_takes_bounded_memory(kind, tmp_path):
    path = tmp_path / "bomb.jsonl"
    before, after = line_of("before"), b"\n" + line_of("after")
    if kind == "plain":
        with path.open("wb") as file:
            file.write(before)
            file.truncate(2**28)
            file.seek(2**28)
            file.write(after)
    elif kind == "gzip":
        path.write_bytes(gzip.compress(before) + gzip_bomb(2**28) + gzip.compress(after))
    else:
        zstandard = pytest.importorskip("zstandard", reason="the extra `zstd` is not installed")
        around = zstandard.ZstdCompressor().compress
        path.write_bytes(around(before) + zstd_bomb(GIGABYTE) + around(after))
    grown, sizes, report = measured(path)
    assert sizes == [5, 5]
    assert report["malformed_by_reason"] == {f"line over {MAX_LINE} bytes": 1}
    assert grown < 2.5 * MAX_LINE / 2**20


@on_linux
def test_a_zstandard_frame_of_many_lines_takes_bounded_memory(tmp_path):
    zstandard = pytest.importorskip("zstandard", reason="the extra `zstd` is not installed")
    path = tmp_path / "repeats.jsonl.zst"
    with path.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as writer:
        for _ in range(2**8):
            writer.write(line_of("again", "x" * 2**20))
    assert path.stat().st_size < 2**17
    grown, sizes, report = measured(path)
    assert sizes == [2**20] and report["skipped"] == {"duplicate uuid": 2**8 - 1}
    assert grown < 48


def test_a_frame_with_a_window_of_gigabytes_is_refused(tmp_path):
    pytest.importorskip("zstandard", reason="the extra `zstd` is not installed")
    path = tmp_path / "window.jsonl.zst"
    path.write_bytes(ZSTD_MAGIC + bytes((0, 21 << 3)) + (1 | 1 << 1 | 8 << 3).to_bytes(3, "little") + b"\n")
    assert "memory" in read(path)[1]
    _, problem, report = read(tmp_path)
    assert problem == "" and report.malformed == {"unreadable file": 1} and "memory" in report.warnings[0]


def test_empty_frames_are_skipped(tmp_path):
    zstandard = pytest.importorskip("zstandard", reason="the extra `zstd` is not installed")
    path = tmp_path / "a.jsonl.zst"
    one = zstandard.ZstdCompressor().compress(line_of("a"))
    two = zstandard.ZstdCompressor().compress(line_of("b"))
    empty = zstandard.ZstdCompressor().compress(b"")
    path.write_bytes(one + SKIPPABLE + empty + two + SKIPPABLE)
    assert read(path)[:2] == (["a", "b"], "")


@pytest.mark.parametrize("compress", ["gzip", "zstandard"])
def test_a_truncated_archive_gives_its_whole_lines_and_an_error(compress, tmp_path):
    data = b"".join(line_of(f"u{number}", f"{number} " * 50) for number in range(40))
    if compress == "zstandard":
        packed = pytest.importorskip("zstandard").ZstdCompressor(write_checksum=True).compress(data)
    else:
        packed = gzip.compress(data)
    path = tmp_path / "cut.jsonl"
    for cut in range(20, len(packed), max(1, len(packed) // 25)):
        path.write_bytes(packed[:cut])
        uids, problem, _ = read(path)
        assert uids == [f"u{number}" for number in range(len(uids))]
        assert "cannot read" in problem


def test_consecutive_gzip_members_are_one_stream_and_junk_is_an_error(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    whole = line_of("a") + line_of("b")
    path.write_bytes(b"".join(gzip.compress(whole[at : at + 7]) for at in range(0, len(whole), 7)))
    assert read(path)[:2] == (["a", "b"], "")
    path.write_bytes(gzip.compress(whole) + bytes(512))
    assert read(path)[:2] == (["a", "b"], "")
    path.write_bytes(gzip.compress(whole) + b"junk")
    uids, problem, _ = read(path)
    assert uids == ["a", "b"] and "cannot read" in problem


def test_an_archive_in_an_archive_is_not_unpacked(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(gzip.compress(line_of("a"))))
    uids, problem, report = read(path)
    assert uids == [] and problem == "" and report.malformed.total() >= 1


# Lines


def picture(size):
    return b'{"type":"user","uuid":"u","message":{"content":"' + b"A" * (size - 52) + b'"}}\n'


def wide(size):
    return picture(size).replace(b"AAAA", "\U0001f600".encode(), 1)


def torn(size):
    return picture(size).replace(b"AAAAAAAAAA", "\U0001f600".encode() + rb"\ud83d", 1)


@on_linux
@pytest.mark.parametrize(("line", "times"), [(picture, 4), (wide, 14), (torn, 20)])
def test_the_longest_line_takes_a_few_times_its_length(line, times, tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_bytes(line(MAX_LINE))
    grown, [size], report = measured(path)
    assert size > MAX_LINE - 100 and report["malformed"] == 0
    assert grown < times * MAX_LINE / 2**20
    path.write_bytes(b"\n" + line(MAX_LINE + 20))
    grown, sizes, report = measured(path)
    assert sizes == [] and report["malformed_by_reason"] == {f"line over {MAX_LINE} bytes": 1}
    assert grown < 2.5 * MAX_LINE / 2**20


@on_linux
def test_a_long_line_of_small_values_takes_bounded_memory(tmp_path):
    path = tmp_path / "values.jsonl"
    path.write_bytes(
        b'{"type":"user","uuid":"u","message":{"content":[' + b"{}," * (MAX_LINE // 4) + b"1]}}\n"
    )
    grown, sizes, report = measured(path)
    assert sizes == [] and report["malformed_by_reason"] == {"too many values": 1}
    assert grown < 4 * MAX_LINE / 2**20


# Names


@on_linux
def test_names_of_files_and_folders_that_are_not_utf8(tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff project")
    folder.mkdir()
    path = folder / os.fsdecode(b"session \xfe.jsonl")
    path.write_bytes(b'{"type":"user","message":{"content":"hello"}}\n')
    for spec in (tmp_path, path):
        with open_source(spec, say=lambda message: None, redact=False) as source:
            [trace] = source
        meta = trace.meta
        for text in (meta.session, meta.project, meta.uid, meta.origin, *source.report.sessions):
            assert text.encode()
        with open_source(spec, say=lambda message: None, redact=False, cursor=source.cursor) as again:
            assert list(again) == []


# Random damage


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_damaged_files_through_the_whole_source(tmp_path_factory, data):
    texts = data.draw(st.lists(st.text(st.characters(codec="utf-8"), max_size=20), min_size=1, max_size=6))
    whole = b"".join(line_of(f"u{number}", f"text: {text}") for number, text in enumerate(texts))
    kinds = {"plain": bytes, "gzip": gzip.compress, "deflated": lambda raw: b"\x1f\x8b" + zlib.compress(raw)}
    packed = bytearray(kinds[data.draw(st.sampled_from(sorted(kinds)))](whole))
    for _ in range(data.draw(st.integers(0, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    del packed[data.draw(st.integers(len(packed) // 2, len(packed))) :]
    path = tmp_path_factory.mktemp("damaged") / data.draw(
        st.sampled_from(("a.jsonl", "a.jsonl.gz", "agent-b.jsonl"))
    )
    path.write_bytes(packed)
    uids, _, report = read(path)
    assert (
        len(set(uids)) == len(uids) and len(uids) <= report.records <= len(texts) + report.malformed.total()
    )
    again, problem, report = read(path.parent)
    assert again == uids and problem == "" and isinstance(report, SourceReport)
