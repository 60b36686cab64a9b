"""What a stranger's text can do to a terminal: nothing."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttx_cli.plain import one_line, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;aGk=\x9cx", "x"),
        ("\x1bP1$tx\x1b\\y", "y"),
        ("\x1bc", ""),
        ("\x1b", "\\x1b"),
        ("\x9b31m", "\\x9b31m"),
        ("a\x08b\x00\x7f", "a\\x08b\\x00\\x7f"),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("\x1b]0;never ended", "0;never ended"),
        ("zażółć 漢字 🙂", "zażółć 漢字 🙂"),
    ],
)
def test_each_trick(text, shown):
    assert plain(text) == shown


tricks = st.sampled_from(
    ["\x1b", "\x1b[", "\x1b]", "\x07", "\\", "\x9b", "m", "31", "\r", "\n", "\x1b\\", "\u202e"]
)


@given(st.lists(tricks | st.text(max_size=3)).map("".join))
def test_nothing_that_a_terminal_obeys_is_left(text):
    shown = plain(text)
    assert not {char for char in shown if unicodedata.category(char) == "Cc"} - {"\n", "\t"}
    assert "\u202e" not in shown
    assert plain(shown) == shown


@given(st.text(max_size=300), st.integers(1, 40))
def test_one_line_is_one_short_line(text, most):
    shown = one_line(text, most)
    assert "\n" not in shown and len(shown) <= most + 40


def test_what_was_left_out_is_said():
    assert one_line("x" * 100, 60) == "x" * 60 + "… (40 more characters)"
    assert one_line("short", 60) == "short"
