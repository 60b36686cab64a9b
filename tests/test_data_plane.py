"""From session files to traces, windows and tokens, and back to text: nothing is lost, added or moved."""

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest

from sttx_ccsniff import open_source
from sttx_core.render import render
from sttx_core.tokenizers import ByteTokenizer
from sttx_core.traces import trace_type
from sttx_train.formats import load_model
from sttx_train.stream.windows import TraceWindows

DATA = Path(__file__).parents[1] / "test-data"
SOURCES = {"session files": DATA / "sessions", "ccsniff's rows": DATA / "ccsniff-fixture.ndjson"}


def read(path, **options):
    """Return the traces of a source, its report and its cursor."""
    with open_source(path, say=lambda message: None, **options) as source:
        traces = list(source)
        for trace in traces:
            source.report.measure(trace)
        return traces, source.report.as_dict(), source.cursor


def taken(cursor):
    """Return how many traces of each origin a cursor counts."""
    return {name: entry["traces"] for name, entry in cursor["origins"].items() if entry["traces"]}


@pytest.fixture(scope="module")
def embedded():
    return load_model().tokenizer


@pytest.fixture(params=["bytes", "embedded"])
def tokenizer(request, embedded):
    return ByteTokenizer() if request.param == "bytes" else embedded


@pytest.mark.parametrize("path", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize(("size", "batch", "documents"), [(64, 1, 64), (256, 3, 4)])
def test_decoded_windows_are_the_rendered_traces(path, tokenizer, size, batch, documents):
    traces, report, _ = read(path)
    splitter = TraceWindows(tokenizer, size=size, batch=batch, documents=documents)
    counted: Counter[str] = Counter()
    decoded: dict[str, bytes] = {}
    texts: dict[str, str] = {}
    tokens = 0

    def take(windows):
        nonlocal tokens
        for window in windows:
            tokens += len(window.ids)
            counted[window.document] += int(splitter.byte_lengths[list(window.ids)].sum())
            decoded[window.document] = decoded.get(window.document, b"") + tokenizer.decode_bytes(window.ids)

    for trace in traces:
        texts[trace.document] = texts.get(trace.document, "") + render(trace)
        splitter.add(trace)
        while (windows := splitter.take()) is not None:
            take(windows)
    while (windows := splitter.flush()) is not None:
        take(windows)
    assert {name: data.decode() for name, data in decoded.items()} == {n: t for n, t in texts.items() if t}
    assert sum(counted.values()) == sum(map(len, decoded.values())) == report["text_bytes"]
    assert 0 < tokens <= report["text_bytes"]


@pytest.mark.parametrize("path", SOURCES.values(), ids=SOURCES)
def test_the_report_and_the_cursor_count_the_traces(path):
    traces, report, cursor = read(path)
    counted = Counter(map(trace_type, traces))
    assert {name: number for name, number in report["traces"].items() if number} == counted
    assert report["sessions"] == len({trace.meta.session for trace in traces})
    assert taken(cursor) == Counter(trace.meta.origin for trace in traces)
    assert report["text_bytes"] == sum(len(render(trace).encode()) for trace in traces)


@pytest.mark.parametrize("path", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("count", [1, 57, 10_000])
def test_a_cursor_after_any_trace_leaves_exactly_the_rest(path, count):
    traces, _, _ = read(path)
    with open_source(path, say=lambda message: None) as source:
        assert list(itertools.islice(source, count)) == traces[:count]
        cursor = json.loads(json.dumps(source.cursor))
    rest, report, after = read(path, cursor=cursor)
    assert rest == traces[count:]
    assert report["bytes_read"] < read(path)[1]["bytes_read"] or count == 1
    assert taken(after) == Counter(trace.meta.origin for trace in traces)


def test_session_files_and_ccsniffs_rows_hold_the_same_talk_and_tools():
    """The fixture is made from these sessions, and lacks what ccsniff drops."""
    files, rows = read(SOURCES["session files"])[0], read(SOURCES["ccsniff's rows"])[0]
    texts = {trace.text for trace in files if trace_type(trace) in ("user_message", "assistant_message")}
    answers = [trace.text for trace in rows if trace_type(trace) == "assistant_message"]
    assert sum(text in texts for text in answers) > 0.8 * len(answers)
    used, seen = (Counter(t.name for t in traces if trace_type(t) == "tool_use") for traces in (files, rows))
    assert seen and seen <= used
