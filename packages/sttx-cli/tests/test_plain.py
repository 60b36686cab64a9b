"""What a stranger's text can do to a terminal: nothing."""

import json
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sttx_cli.plain import one_line, plain, visible, visible_json, visible_line

few = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "\\x1b]0;title\\x07after"),
        ("\x1b]8;;http://x\x1b\\link", "\\x1b]8;;http://x\\x1b\\link"),
        ("\x1b]52;c;aGk=\x9cx", "\\x1b]52;c;aGk=\\x9cx"),
        ("\x1bP1$tx", "\\x1bP1$tx"),
        ("\x1bc\x1b[2J", "\\x1bc\\x1b[2J"),
        ("\x1b", "\\x1b"),
        ("\x9b31m", "\\x9b31m"),
        ("a\x08b\x00\x7f", "a\\x08b\\x00\\x7f"),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("\x1b]0;never ended", "\\x1b]0;never ended"),
        ("zażółć 漢字 🙂", "zażółć 漢字 🙂"),
        ("a\u200bb\ufeffc\u00add", "a\\u200bb\\ufeffc\\xadd"),
        ("\U000e0041\U000e007f", "\\U000e0041\\U000e007f"),
        ("one\u2028two\u2029\x85", "one\\u2028two\\u2029\\x85"),
        ("\udcff.jsonl \ud83d", "\\udcff.jsonl \\ud83d"),
        ("می\u200cخواهم 👩\u200d👧 ❤\ufe0f\u200d🔥", "می\u200cخواهم 👩\u200d👧 ❤\ufe0f\u200d🔥"),
        ("a\u200db \u200d漢\u200c\u200c字", "a\\u200db \\u200d漢\\u200c\\u200c字"),
    ],
)
def test_each_trick(text, shown):
    assert plain(text) == shown


tricks = st.sampled_from(
    ["\x1b", "\x1b[", "\x1b]", "\x07", "\\", "\x9b", "m", "31", "\r", "\n", "\x1b\\", "\u202e"]
)


@few
@given(st.lists(tricks | st.text(max_size=3)).map("".join))
def test_nothing_that_a_terminal_obeys_is_left(text):
    shown = plain(text)
    assert not {char for char in shown if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")} - {
        "\n",
        "\t",
    }
    assert "\u202e" not in shown
    assert plain(shown) == shown == visible(shown)


@few
@given(st.text(max_size=300), st.integers(1, 40))
def test_one_line_is_one_short_line(text, most):
    shown = one_line(text, most)
    assert "\n" not in shown and len(shown) <= most + 40


def test_what_was_left_out_is_said():
    assert one_line("x" * 100, 60) == "x" * 60 + "… (40 more characters)"
    assert one_line("short", 60) == "short"


def test_every_character_that_hides_or_reorders_is_an_escape():
    formats = {char for char in map(chr, range(0x110000)) if unicodedata.category(char) == "Cf"}
    seen = {char for char in formats if visible(char) == char}  # signs of Arabic, hieroglyphs and the like
    assert all(
        unicodedata.bidirectional(char) not in ("BN", "LRE", "RLE", "LRI", "PDI") for char in seen - _JOIN
    )
    assert (
        not {"\u200e", "\u200f", "\u061c", *map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)])} & seen
    )


_JOIN = set(map(chr, range(0x13430, 0x13440)))  # join hieroglyphs


def test_a_line_stays_one_line():
    assert visible_line("saved\nsttx: done\r\n") == "saved\\nsttx: done\\r\\n"


@few
@given(
    st.lists(tricks | st.text(max_size=3) | st.sampled_from("\x7f\u200d\u2066\U000e0041\ud800")).map("".join)
)
def test_json_for_a_terminal_has_the_same_value(text):
    line = json.dumps([text], ensure_ascii=False)
    assert json.loads(visible_json(line)) == [text]
    assert visible(visible_json(line)) == visible_json(line)
