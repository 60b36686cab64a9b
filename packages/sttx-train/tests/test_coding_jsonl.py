"""JSON lines taken apart: every byte comes back, whatever the lines hold, and damage ends in an error."""

import base64
import io
import itertools
import json
import tracemalloc
import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sttx_train.coding import Archive, CompressConfig, Member, ToStream, compress
from sttx_train.coding.forms import form_of
from sttx_train.coding.jsonl import Damaged, LinesDecoder, LinesEncoder, is_json_lines, memory, values
from sttx_train.coding.jsonl.decoder import NEW, RAW, REPEAT, UNENDED
from sttx_train.coding.jsonl.repeats import number_bytes
from sttx_train.coding.jsonl.syntax import join, paths_of, take_apart

quick = settings(max_examples=100, deadline=None, derandomize=True)
SESSIONS = Path(__file__).parents[3] / "test-data" / "sessions"


def encoded(data, sizes=(1 << 18,)):
    """Return the text and the stored bytes of a file that is read in pieces of these sizes."""
    encoder, stream = LinesEncoder(), io.BytesIO(data)
    texts, stored = [], []
    for size in itertools.cycle(sizes):
        piece = stream.read(size)
        text, more = encoder.feed(piece) if piece else encoder.finish()
        texts.append(text)
        stored.append(more)
        if not piece:
            return b"".join(texts), b"".join(stored)


def decoded(text, stored, size=1 << 18):
    decoder = LinesDecoder()
    decoder.store(stored)
    pieces = (text[start : start + size] for start in range(0, len(text), size))
    result = b"".join(itertools.chain.from_iterable(map(decoder.feed, pieces)))
    assert decoder.is_between_lines
    return result


def check(data, sizes=(1 << 18,), size=1 << 18):
    """Check that a file comes back, however it is cut; return its text and stored bytes."""
    text, stored = encoded(data, sizes)
    assert decoded(text, stored, size) == data
    return text, stored


def line(value, **style):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), **style).encode() + b"\n"


def session(turns=30):
    """Return lines as an agent writes them, with results that repeat a file."""
    source = "\n".join(f"def function_{number}(value):\n    return value * {number}" for number in range(40))
    numbered = "\n".join(f"{number:6d}→{row}" for number, row in enumerate(source.split("\n"), 1))
    lines, before = [], None
    for turn in range(turns):
        here = str(uuid.UUID(int=turn * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128)))
        head = {"parentUuid": before, "cwd": "/home/you/project", "uuid": here}
        time = f"2026-02-02T04:{turn:02d}:22.{turn * 37 % 1000:03d}Z"
        content = [{"type": "tool_result", "content": numbered + f"\n\nnote {turn}"}]
        result = {"file": {"content": source, "lines": 80 + turn}, "notes": [f"a {turn}", 'b "quoted"']}
        lines.append({**head, "message": {"content": content}, "toolUseResult": result, "timestamp": time})
        before = here
    return b"".join(map(line, lines))


PICTURE = base64.b64encode(bytes(number * number % 251 for number in range(3000))).decode()

SHAPES = {
    "spaces": b'{ "a" : 1 ,\t"b": [ 1, 2 ] }  \n',
    "the same key twice": b'{"a":1,"a":2,"a":1}\n',
    "numbers": b'{"a":[1e5,1.0,-0,0.10,1E+2,10000000000000000000000,-7],"b":1e5,"c":007,"d":-0}\n',
    "half of a surrogate pair": rb'{"a":"\ud83d","b":"x\udc00y","c":"\ud83d\ude00"}' + b"\n",
    "escapes": rb'{"a":"\u00e9\/\u003c","b":"\n\t\r\b\f\"\\","c":"\u001b[0m","d":"\u001B","e":"\q"}' + b"\n",
    "Python's escapes": json.dumps({"a": "é✓\n", "b": ["ü", "x"]}).encode() + b"\n",
    "CRLF": b'{"a":"b"}\r\n{"a":"c"}\r\n',
    "no line end": b'{"a":"b"}\n{"a":"c"}',
    "a line cut short": b'{"a":"b"}\n{"a":"c',
    "two objects on a line": b'{"a":1}{"a":2}\n{"a":3}{"b":4}\n',
    "NUL": b'{"a":"b\0c"}\n{"a":"\\u0000\\u0001\\u0007"}\n',
    "not UTF-8": b'{"a":"\xff\xfe"}\n{"a":"\xc3"}\n',
    "blank lines": b'{"a":1}\n\n\n  \n{"a":1}\n\n',
    "other text": b'{"a":1}\nplain "text\n\x80\n]}{"\n"\n[1,2\n',
    "identifiers": b"".join(
        line({"id": f"msg_01{letters}", "hash": letters.encode().hex(), "u": f"{letters[:8]}-{'a' * 4}"})
        for letters in ("QkqBx1d862Cum6bW7cbdoT", "QkqBx1d862Cum6bW7cbdoU", "z" * 22, "Q" * 22)
    ),
    "times": b"".join(
        line({"t": time})
        for time in (
            "2026-02-02T04:31:22.077Z",
            "2026-02-02T04:31:22.078Z",
            "1969-01-01T00:00:00.000Z",
            "0001-01-01T00:00:00.000Z",
            "9999-12-31T23:59:59.999Z",
            "0000-00-00T00:00:00.000Z",
            "2026-02-30T04:31:22.077Z",
            "2026-02-02T24:00:00.000Z",
        )
    ),
    "base 64": b"".join(
        line({"data": data}) for data in (PICTURE, PICTURE[:-1], PICTURE + "AAA=", "B" * 63 + "=")
    ),
    "numbered lines": b"".join(
        line({"content": text})
        for text in (
            "     1→a\n     2→b",
            "     1→a\n     3→b",
            "1\ta\n2\tb\n",
            "     9→a\n    10→\n    11→c\nrest\n12→",
            "0→a\n1→b",
            "999999→a\n1000000→b",
        )
    ),
    "lists": b"".join(line(value) for value in ([], ["a"], ["a\n"], ["", ""], [1, "a", None], [["a"], []])),
    "nothing": b"",
    "a line end": b"\n",
}


@pytest.mark.parametrize("name", SHAPES)
def test_lines_of_every_shape_come_back(name):
    data = SHAPES[name]
    for repeated in (data, data * 3, session(3) + data + session(3) + data):
        for size in (1, 7, 1 << 18):
            check(repeated, (size,), size)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.uuids().map(str),
    st.datetimes().map(lambda time: time.isoformat(timespec="milliseconds") + "Z"),
    st.binary(min_size=48, max_size=90).map(lambda data: base64.b64encode(data).decode()),
    st.lists(st.text(max_size=12), min_size=2, max_size=6).map("\n".join),
    st.sampled_from(["msg_01QkqBx1d862Cum6bW7cbdoT", "req_011CXicdMAYeYaCcRe2KrQNm", "a" * 40]),
    st.just(session(1).decode()),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "id", 'k"', "x\n"]), inner, max_size=4)
    ),
    max_leaves=12,
)
STYLES = st.sampled_from(
    [
        {"ensure_ascii": False, "separators": (",", ":")},
        {"ensure_ascii": False},
        {"ensure_ascii": True},
        {"ensure_ascii": False, "separators": (",", ":"), "sort_keys": True},
    ]
)


@quick
@given(
    lines=st.lists(st.tuples(VALUES, STYLES) | st.binary(max_size=12), max_size=12),
    end=st.sampled_from([b"", b"\n", b"\r\n", b'{"a']),
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=4),
    size=st.integers(1, 300),
)
def test_any_lines_come_back_however_they_are_cut(lines, end, sizes, size):
    parts = [
        one if isinstance(one, bytes) else json.dumps(one[0], **one[1]).encode("utf-8", "surrogatepass")
        for one in lines
    ]
    check(b"\n".join(parts) + end, sizes, size)


@pytest.mark.parametrize("path", sorted(SESSIONS.rglob("*.jsonl")), ids=lambda path: path.name)
def test_sessions_become_less_and_come_back(path):
    data = path.read_bytes()
    text, stored = check(data, (1000, 77), 5000)
    assert len(text) + len(stored) < (0.75 if len(data) > 5000 else 0.9) * len(data)


def test_what_repeats_is_written_once():
    data = session()
    text, stored = check(data)
    assert len(text) < 0.08 * len(data)
    assert len(stored) == 30 * 16  # the identifiers, once each
    assert text.count(b"def function_7(") == 1
    assert b"\xe2\x86\x92" not in text  # numbers of lines


def test_a_picture_is_stored_packed():
    text, stored = check(line({"data": PICTURE}) * 2)
    assert len(stored) < 3000 and len(text) < 100


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("escape", lambda letter, text: '"wrong"'),
        ("time_text", lambda time: '"2026-02-02T04:31:22.077Z"'),
        ("uuid_text", lambda data: f'"{data.hex()}"'),
        ("with_numbers", lambda *parts: "".join(map(str, parts))),
    ],
)
def test_a_line_that_would_come_back_wrong_is_kept_as_it_is(monkeypatch, name, wrong):
    monkeypatch.setattr(values, name, wrong)
    data = session(5)
    text, _ = encoded(data)
    assert text.count(bytes([RAW])) >= 4
    monkeypatch.undo()
    assert decoded(text, b"") == data


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("_MOST_TEXT", 3000),
        ("_MOST_RECENT", 4),
        ("_MOST_PATHS", 3),
        ("_MOST_SHAPES", 2),
        ("MOST_TEMPLATES", 2),
        ("_MOST_SKELETONS", 300),
        ("LONGEST_LAST", 20),
        ("_MOST_PLACES", 2),
    ],
)
def test_what_is_remembered_is_bounded(monkeypatch, name, least):
    monkeypatch.setattr(memory, name, least)
    data = session(12) + b"".join(SHAPES.values()) + session(12)
    decoder = LinesDecoder()
    text, stored = check(data, (5000,), 700)
    decoder.store(stored)
    assert b"".join(decoder.feed(text)) == data
    seen = decoder.memory
    assert len(seen.templates) <= memory.MOST_TEMPLATES and len(seen.shapes) <= memory._MOST_SHAPES
    assert len(seen.recent) <= memory._MOST_RECENT and len(seen.last) <= memory._MOST_PATHS
    assert sum(map(len, seen.text.lines)) <= memory._MOST_TEXT
    assert all(len(value) <= memory.LONGEST_LAST for value in seen.last.values())


def test_more_templates_than_have_a_code_of_one_byte():
    lines = [line({f"key{number}": number}) for number in range(3000)]
    check(b"".join(lines + lines))


@pytest.mark.parametrize(
    "start",
    [
        b'{"a":' * 200_000,
        b'{"a":"' + rb"\"" * 2_000_000,
        b'{"a":[' + b'"b",' * 500_000 + b"{}]}",
        b'{"a":[' + b"1," * 500_000 + b"1]}",
        b'{"a":"' + b"x" * 32_000_000 + b'"}',
        b'{"a":"' + b"line\\n" * 150_000 + b'"}',
        b"[" * 1_000_000 + b"]" * 1_000_000,
        b'{"a":1,' + b'"a":1,' * 1_000_000 + b'"a":1}',
        b'{"a":[' + b'"a",' * 1_000_000 + b'"a"]}',
        b'{"a":"' + rb"\n" * 2_000_000 + b'"}',
    ],
    ids=[
        *("deep", "open string", "list of both", "long list", "32 MB", "many lines", "nested lists"),
        *("many keys", "list of strings", "empty lines"),
    ],
)
def test_large_lines_come_back_in_bounded_memory(start):
    check_memory(b'{"a":1}\n' + start + b"\n" + start[:100_000] + b"\n", most=300_000_000)


def test_long_strings_are_forgotten():
    letters = "abcdefghijklmnopqrst"
    check_memory(b"".join(line({"a": f"{letter} " * 600_000}) for letter in letters), most=70_000_000)


def check_memory(data, most):
    decoder, encoder = LinesDecoder(), LinesEncoder()
    parts = [data[at : at + (1 << 18)] for at in range(0, len(data), 1 << 18)]
    tracemalloc.start()
    at = 0
    for part in [*parts, None]:
        text, stored = encoder.feed(part) if part is not None else encoder.finish()
        decoder.store(stored)
        for first in range(0, len(text), 1 << 18):
            for again in decoder.feed(text[first : first + (1 << 18)]):
                assert data[at : at + len(again)] == again
                at += len(again)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert at == len(data)
    assert peak < most


@quick
@given(data=st.data())
def test_damaged_text_gives_bytes_or_an_error(data):
    text, stored = encoded(session(4) + SHAPES["identifiers"] + SHAPES["base 64"])
    places = st.lists(st.tuples(st.integers(0, len(text) - 1), st.integers(0, 255)), min_size=1, max_size=4)
    damaged = bytearray(text)
    for place, byte in data.draw(places):
        damaged[place] = byte
    decoder = LinesDecoder()
    decoder.store(stored[: data.draw(st.integers(0, len(stored)))])
    try:
        size = sum(map(len, decoder.feed(bytes(damaged))))
    except Damaged:
        return
    assert size < 100 * len(text)


@quick
@given(
    text=st.binary(max_size=60),
    stored=st.binary(max_size=40),
    start=st.sampled_from([b"", bytes([NEW, 128])]),
)
def test_any_bytes_give_bytes_or_an_error(text, stored, start):
    decoder = LinesDecoder()
    decoder.store(stored)
    try:
        for _ in decoder.feed(start + text):
            pass
    except Damaged:
        pass


def repeated(times):
    """Return a line of a string, and a line that repeats it so many times."""
    skeleton = bytes([NEW]) + number_bytes(0) + b'{"a":\1}\0S'
    whole = bytes([REPEAT]) + number_bytes(1) + number_bytes(0)
    one = b"x" * 1_000_000 + b"\n" + b"y\0"
    return skeleton + one + skeleton + (whole + number_bytes(1)) * times + b"\0"


def test_a_line_does_not_expand_without_bound():
    decoder = LinesDecoder()
    assert sum(map(len, decoder.feed(repeated(3)))) > 4_000_000
    tracemalloc.start()
    with pytest.raises(Damaged, match="longer than it may be"):
        list(LinesDecoder().feed(repeated(100_000)))
    assert tracemalloc.get_traced_memory()[1] < 100_000_000
    tracemalloc.stop()


def test_repeats_of_empty_lines_are_bounded():
    start = bytes([NEW]) + number_bytes(0) + b'{"a":\1}\0S'
    whole = bytes([REPEAT]) + number_bytes(1) + number_bytes(0) + number_bytes(1000)
    text = start + b"\n" * 1000 + b"\0" + start
    assert len(list(LinesDecoder().feed(text + whole * 130 + b"\0"))) == 2
    with pytest.raises(Damaged, match="more lines than it may have"):
        list(LinesDecoder().feed(text + whole * 132 + b"\0"))


def test_packed_bytes_do_not_expand_without_bound():
    how, packed = values.pack(bytes(100_000))
    assert values.unpack(how, packed, 100_000) == bytes(100_000)
    for size in (99_999, 100_001, memory.MOST_LINE + 1):
        with pytest.raises(Damaged):
            values.unpack(how, packed, size)
    for way in (1, 2, 3):
        with pytest.raises(Damaged):
            values.unpack(way, b"nothing", 100)


def test_what_waits_for_the_rest_of_a_line_is_bounded():
    decoder = LinesDecoder()
    start = bytes([NEW]) + number_bytes(0) + b'{"a":\1}\0S'
    assert list(decoder.feed(start)) == []
    with pytest.raises(Damaged, match="longer"):
        for _ in range(100):
            assert list(decoder.feed(b"x" * 1_000_000)) == []


@pytest.mark.parametrize(
    ("start", "is_one"),
    [
        (b'{"a":1}\n{"b"', True),
        (b'{"a":1} \r\n', True),
        (b'{"a":"long', True),
        (b'{\n  "a": 1', False),
        (b"", False),
        (b"[1]\n", False),
        (b"User: {}\n", False),
    ],
)
def test_json_lines_are_known_by_their_first_line(start, is_one):
    assert is_json_lines(start) is is_one
    assert form_of(start) == ("lines" if is_one else "bytes")


def test_a_skeleton_keeps_everything_but_values():
    text = '{"a": "b\\"c", "d":[1,"e"], "f":{"g":null,"h":[{"i":-1.5e3}]}} '
    skeleton, found = take_apart(text)
    assert skeleton == '{"a": \1, "d":\2, "f":{"g":\1,"h":[{"i":\1}]}} '
    assert found == ['"b\\"c"', '[1,"e"]', "null", "-1.5e3"]
    assert join(skeleton, found) == text
    assert [path.split("\n") for path in paths_of(skeleton)] == [
        ["", "a", "\1"],
        ["", "d", "\2"],
        ["", "f", "g", "\1"],
        ["", "f", "h", "[", "i", "\1"],
    ]


def archive_of(folder, contents, config=None):
    members = []
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        members.append(Member(name=name, path=folder / name))
    compress(members, folder / "x.sttx", config)
    return folder / "x.sttx"


def test_an_archive_says_which_files_were_taken_apart(tmp_path):
    contents = {"a": session(), "b": b"other text " * 20, "c": session()[:-7], "d": line({"data": PICTURE})}
    out = archive_of(tmp_path, contents)
    again = io.BytesIO()
    with Archive(out) as archive:
        assert [entry.form for entry in archive.entries] == ["lines", "bytes", "lines", "lines"]
        done = []
        damage = archive.read(archive.entries, lambda _: ToStream(again), done.append)
        assert sum(done) == pytest.approx(sum(map(len, contents.values())), rel=0.01)
        assert damage.lost == ()
        for name, content in contents.items():
            alone = io.BytesIO()
            archive.read(archive.named([name]), lambda _, alone=alone: ToStream(alone))
            assert alone.getvalue() == content
    assert again.getvalue() == b"".join(contents.values())
    assert out.stat().st_size < 0.1 * sum(map(len, contents.values()))


def test_a_line_longer_than_segments_comes_back(tmp_path):
    contents = {"a": line({"a": "x" * 600_000}) * 2, "b": line({"a": "y" * 300_000})}
    out = archive_of(tmp_path, contents, CompressConfig(segment_mb=0.2))
    with Archive(out) as archive:
        assert [entry.segments for entry in archive.entries] == [(0, 1), (2, 2)]
        for name, content in contents.items():
            alone = io.BytesIO()
            damage = archive.read(archive.named([name]), lambda _, alone=alone: ToStream(alone))
            assert not damage.segments and alone.getvalue() == content


def test_lost_stored_bytes_lose_what_needs_them(tmp_path):
    out = archive_of(tmp_path, {"a": session(5)})
    data = bytearray(out.read_bytes())
    data[bytes(data).index(bytes(16))] ^= 1  # the first identifier
    out.write_bytes(data)
    with Archive(out) as archive:
        damage = archive.read(archive.entries, lambda _: ToStream(io.BytesIO()))
    assert damage.lost == ("a",) and damage.segments == (0,)


def test_unended_lines_are_marked():
    assert encoded(b'{"a":1}')[0][0] == UNENDED
