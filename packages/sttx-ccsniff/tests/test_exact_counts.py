"""No tool call is lost: the counts equal those of a reader that shares no code with ours."""

import json
import random
from collections import Counter

import pytest

from sttx_ccsniff import open_source
from sttx_ccsniff.read.formats import AutoParser
from sttx_ccsniff.read.splitter import LineSplitter
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.traces import trace_type


def objects(line):
    """Yield the JSON objects on a line, with the standard library alone."""
    text = line.decode("utf-8", "replace").strip("\0 \r\t")
    decoder = json.JSONDecoder(strict=False)
    while text:
        try:
            value, end = decoder.raw_decode(text)
        except ValueError:
            return
        yield value
        text = text[end:].strip()


def blocks_on_disk(paths):
    """Count the blocks of each type in the files, each uuid once."""
    seen, count = set(), Counter()
    for path in paths:
        for line in path.read_bytes().split(b"\n"):
            for record in objects(line):
                if record.get("uuid", object()) in seen:
                    count["repeated"] += 1
                    continue
                seen.add(record.get("uuid"))
                content = (record.get("message") or {}).get("content")
                count.update(block["type"] for block in (content if isinstance(content, list) else ()))
                count["records"] += 1
    return count


def tools(count):
    uses = sum(count[name] for name in ("tool_use", "server_tool_use"))
    return uses, sum(number for name, number in count.items() if name.endswith("tool_result"))


@pytest.fixture(scope="session")
def files(sessions):
    return sorted(sessions.rglob("*.jsonl"))


def test_the_files_contain_the_expected_blocks(files):
    count = blocks_on_disk(files)
    assert len(files) == 12
    assert count["tool_use"] > 50 and count["tool_result"] > 50 and count["repeated"] > 5


def test_each_file_alone(files):
    for path in files:
        count = blocks_on_disk([path])
        with open_source(path, say=lambda message: None) as source:
            types = Counter(trace_type(trace) for trace in source)
        assert (types["tool_use"], types["tool_result"]) == tools(count), path
        assert source.report.skipped["duplicate uuid"] == count["repeated"]


def test_the_whole_folder(sessions, files):
    count = blocks_on_disk(files)
    with open_source(sessions) as source:
        traces = list(source)
    report = source.report.as_dict()
    assert (report["traces"]["tool_use"], report["traces"]["tool_result"]) == tools(count)
    assert report["traces"]["thinking"] + report["skipped"]["empty thinking"] == count["thinking"]
    assert report["skipped"]["duplicate uuid"] == count["repeated"]
    assert report["records"] == count["records"] + count["repeated"]
    assert report["bytes_read"] == sum(path.stat().st_size for path in files)
    assert report["malformed_by_reason"] == {"cut short": 1}
    assert report["sessions"] == 9 and report["agents"] == 3
    named = [trace for trace in traces if trace_type(trace) == "tool_result" and trace.name]
    assert len(named) == report["traces"]["tool_result"] - 1, "one result has no call in the files"


def test_the_folder_covers_every_special_case(sessions):
    with open_source(sessions) as source:
        list(source)
    report = source.report.as_dict()
    assert set(report["noted"]) == {
        "bad UTF-8 replaced",
        "lone surrogates replaced",
        "objects glued on one line",
        "persisted output read",
        "tool result without its tool use",
        "unparsable timestamp",
    }
    assert report["traces"]["other"] == 1
    assert {
        *(
            "progress",
            "queue-operation",
            "file-history-snapshot",
            "last-prompt",
            "permission-mode",
            "ai-title",
        ),
        *("summary", "pr-link", "meta message", "command", "command output", "task notification"),
        *("interruption", "compaction summary", "empty thinking", "redacted thinking", "duplicate uuid"),
        *("API error", "synthetic message", "system: compact_boundary", "attachment: todo_reminder"),
    } <= set(report["skipped"])


def test_subagents_and_segments_are_separate_documents(sessions):
    with open_source(sessions) as source:
        documents = Counter(trace.document for trace in source)
    parts = Counter("/".join(part[:0] or "agent" for part in name.split("/")[1:]) for name in documents)
    assert parts == {"": len(documents) - 3, "agent": 3}
    assert sum("#1" in name for name in documents) == 1


@pytest.mark.parametrize("seed", range(5))
def test_random_pieces_give_the_same_traces_as_whole_files(files, seed):
    chance = random.Random(seed)
    for path in files:
        data = path.read_bytes()
        with open_source(path, redact=False, say=lambda message: None) as source:
            whole = list(source)
        report, splitter = SourceReport(), LineSplitter()
        parser = AutoParser(str(path), report, Seen())
        traces, at = [], 0
        while at < len(data):
            size = chance.choice([1, 7, 100, 5000, 100_000])
            for line in splitter.feed(data[at : at + size]):
                traces += parser.feed(line)
            at += size
        traces += parser.finish(splitter.finish())
        assert traces == whole
        assert report.skipped == source.report.skipped
        assert report.malformed == source.report.malformed


def test_damaged_copies_never_crash_and_every_line_is_counted(files):
    chance = random.Random(1)
    for _ in range(500):
        data = bytearray(chance.choice(files).read_bytes()[:20_000])
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(data))
            data[at : at + chance.choice([0, 1, 50])] = chance.randbytes(chance.choice([0, 1, 20]))
        report = SourceReport(say=lambda message: None)
        parser = AutoParser("/x/damaged.jsonl", report, Seen())
        lines = bytes(data).split(b"\n")
        traces = [trace for line in lines[:-1] for trace in parser.feed(line)] + parser.finish(lines[-1])
        for trace in traces:
            report.delivered(trace)
        filled = sum(bool(line.strip(b"\0 \r\t")) for line in lines)
        assert report.records + report.malformed.total() >= filled
