import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from sttx_ccsniff.read.splitter import LineSplitter


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=12))
def test_any_split_into_pieces_has_the_same_lines(data, cuts):
    data = data.replace(b"\x07", b"\n")
    splitter = LineSplitter()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    lines = []
    for start, end in zip(edges, edges[1:], strict=False):
        lines += splitter.feed(data[start:end])
    assert [*lines, splitter.finish()] == data.split(b"\n")


@given(st.lists(st.integers(0, 30), max_size=10), st.integers(1, 40), st.integers(1, 20))
def test_lines_over_the_limit_are_dropped_for_any_pieces(lengths, size, limit):
    lines = [bytes([65 + n % 26]) * length for n, length in enumerate(lengths)]
    data = b"".join(line + b"\n" for line in lines)
    splitter = LineSplitter(limit)
    got, every = [], []
    for start in range(0, len(data), size):
        got += (some := splitter.feed(data[start : start + size]))
        lengths_seen = [len(line) for line in some]
        for before, length in reversed(splitter.dropped):
            lengths_seen.insert(before, length)
        every += lengths_seen
    assert every == lengths, "returned and dropped lines together are complete"
    assert got == [line for line in lines if len(line) <= limit]
    assert splitter.overlong == sum(len(line) > limit for line in lines)
    assert splitter.finish() == b""


def test_memory_is_bounded_by_the_limit():
    splitter = LineSplitter(limit=1000)
    for _ in range(100):
        assert splitter.feed(b"x" * 900) == []
        assert len(splitter._held) <= 1000
    assert splitter.feed(b"\nshort\n") == [b"short"]
    assert splitter.overlong == 1


def test_tiny_pieces_take_no_more_memory_than_large_ones():
    splitter = LineSplitter(limit=2**18)
    tracemalloc.start()
    for _ in range(2**18):
        splitter.feed(bytes((120,)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20
    assert splitter.feed(b"\n") == [b"x" * 2**18]
