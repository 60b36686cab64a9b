import json
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sttx_ccsniff.parse.records import LARGE, MOST_VALUES, decode_line

WHOLE = b'{"type":"user","uuid":"u1","message":{"content":"whole"}}'
NEXT = b'{"type":"user","uuid":"u2","message":{"content":"next"}}'
BOM = b"\xef\xbb\xbf"
BLANK = " \t\r\n\x00\ufeff"  # allowed between records; other white space of Unicode is not part of JSON


def decode(line):
    noted = Counter()
    values, problem = decode_line(line, noted)
    return values, problem, dict(noted)


def uuids(values):
    return [value["uuid"] for value in values]


def test_a_plain_line_is_one_value():
    assert decode(WHOLE) == ([json.loads(WHOLE)], "", {})


@pytest.mark.parametrize("line", [b"", b"   ", b"\r", b"\x00" * 64, b" \x00\r", BOM, BOM + b" "])
def test_a_blank_line_has_no_values(line):
    assert decode(line) == ([], "", {})


@pytest.mark.parametrize("between", [b"", b" ", b"\x00\x00", b"\r"])
def test_all_objects_on_one_line_are_read(between):
    values, problem, noted = decode(WHOLE + between + NEXT + between + WHOLE)
    assert uuids(values) == ["u1", "u2", "u1"]
    assert problem == ""
    assert noted == {"objects glued on one line": 2}


@pytest.mark.parametrize("cut", range(1, len(WHOLE)))
def test_a_line_cut_anywhere_is_malformed_and_has_no_values(cut):
    assert decode(WHOLE[:cut]) == ([], "cut short", {})


@pytest.mark.parametrize("cut", range(1, len(WHOLE)))
def test_a_record_after_a_cut_one_is_recovered(cut):
    values, problem, _ = decode(WHOLE[:cut] + NEXT)
    assert uuids(values) == ["u2"]
    assert problem == "cut short"


def test_a_block_inside_a_cut_record_is_not_a_record():
    block = b'{"type":"tool_use","id":"t","name":"Bash","input":{}}'
    values, problem, _ = decode(b'{"uuid":"u","message":{"content":[' + block)
    assert (values, problem) == ([], "cut short")


def test_a_whole_record_before_a_cut_one_is_kept():
    values, problem, _ = decode(WHOLE + NEXT[:20])
    assert (uuids(values), problem) == (["u1"], "cut short")


@pytest.mark.parametrize(
    "line", [b"# tailing...", b"hello", b"}", b"\xff\xfe", b"\x0b", b"\x0c", b"\x1c", b"\xc2\xa0"]
)
def test_a_line_that_is_not_json_has_a_reason(line):
    values, problem, _ = decode(line)
    assert (values, problem) == ([], "not JSON")


def test_bad_utf8_is_replaced_and_noted():
    values, problem, noted = decode(b'{"a":"x\xffy"}')
    assert (values, problem, noted) == ([{"a": "x\ufffdy"}], "", {"bad UTF-8 replaced": 1})


@pytest.mark.parametrize("escape", [rb"\ud83d", rb"\uDE00", rb"\ude00\ud83d"])
def test_lone_surrogates_become_replacement_characters(escape):
    values, problem, noted = decode(b'{"' + escape + b'":["a' + escape + b'b"]}')
    [(key, [text])] = values[0].items()
    halves = escape.count(b"\\u")
    assert (key, text) == ("\ufffd" * halves, "a" + "\ufffd" * halves + "b")
    assert problem == "" and noted["lone surrogates replaced"] == 2
    text.encode()


def test_paired_surrogates_are_one_character():
    values, _, noted = decode(rb'{"a":"\ud83d\ude00","b":"\ud83d"}')
    assert values == [{"a": "\U0001f600", "b": "\ufffd"}]
    assert noted == {"lone surrogates replaced": 1}


def test_raw_control_characters_in_strings_are_read():
    assert decode(b'{"a":"tab\there \x00 \x1b[0m"}')[0] == [{"a": "tab\there \x00 \x1b[0m"}]


def test_a_byte_order_mark_is_not_content():
    assert decode(BOM + WHOLE)[0] == [json.loads(WHOLE)]


@pytest.mark.parametrize("depth", [2_000, 200_000])
def test_nesting_that_is_too_deep_has_a_reason(depth):
    values, problem, _ = decode(b'{"a":' * depth + b"1" + b"}" * depth)
    assert (values, problem) == ([], "nested too deep")


def test_gigantic_numbers_do_not_crash():
    values, _, _ = decode(b'{"a":' + b"9" * 300 + b"}")
    assert values[0]["a"] == pytest.approx(1e300, rel=1e-9)
    assert decode(b'{"a":' + b"9" * 10_000 + b"}") == ([{"a": "9" * 10_000}], "", {})


def test_the_slow_decoder_reads_numbers_as_the_fast_one():
    numbers = b"18446744073709551615,18446744073709551616,-9223372036854775809,12345678901234567890123,1.5,-0"
    [fast], [slow] = decode(b"[" + numbers + b"]")[0], decode(b"[" + numbers + b"]\x00")[0]
    assert fast == slow and list(map(type, fast)) == list(map(type, slow))
    [odd] = decode(b'{"a":1e400,"b":NaN,"c":-Infinity}')[0]
    assert odd == {"a": "1e400", "b": "NaN", "c": "-Infinity"}


@pytest.mark.parametrize(
    "unit", [b"{},", b"1,", b'"",', b"[],", b'{"a":"\\"",', b'["\\\\",'], ids=lambda unit: unit.decode()
)
def test_a_long_line_of_many_values_is_refused(unit):
    line = b'{"type":"user","x":[' + unit * MOST_VALUES + b"1]}"
    if len(line) <= LARGE:
        line += b" " * LARGE
    assert decode(line)[:2] == ([], "too many values")


def test_separators_inside_strings_are_not_counted_as_values():
    text = '{"a":[1,2,"' * MOST_VALUES
    line = json.dumps({"type": "user", "toolUseResult": {"originalFile": text}}).encode()
    assert decode(line) == ([{"type": "user", "toolUseResult": {"originalFile": text}}], "", {})


@pytest.mark.parametrize("unit", [b"{}", b"1 ", b'"" '], ids=lambda unit: unit.decode())
def test_values_on_one_line_are_bounded(unit):
    values, problem, _ = decode(unit * 2 * max(MOST_VALUES, LARGE // len(unit)))
    assert problem == "too many values" and len(values) <= MOST_VALUES


@pytest.mark.parametrize("between", [b"\x0b", b"\xc2\xa0", b","])
def test_other_white_space_between_objects_is_malformed(between):
    values, problem, _ = decode(WHOLE + between + NEXT)
    assert (uuids(values), problem) == (["u1", "u2"], "not JSON")


@given(st.binary(max_size=80))
@example(b"\x0b")
@example(BOM)
def test_any_bytes_are_decoded_or_refused(line):
    values, problem, _ = decode(line)
    blank = not line.decode(errors="replace").strip(BLANK)
    assert bool(values or problem) != blank


@given(st.binary(max_size=30), st.integers(0, 57))
def test_damage_in_a_record_never_crashes(junk, at):
    values, problem, _ = decode(WHOLE[:at] + junk + WHOLE[at:])
    assert values or problem
