"""Bytes to pieces: whole characters, stops that never show, and nothing withheld without a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttx_core.errors import UsageError
from sttx_train.generate import Pieces

TEXT = st.text(alphabet="aab\n€\U0001f9a9", max_size=25)


def fed(pieces, parts):
    """Add parts until the text stops; return the pieces."""
    result = []
    for part in parts:
        if pieces.stopped:
            break
        result.append(pieces.add(part))
    return result if pieces.stopped else [*result, pieces.finish()]


def slow(data, stops):
    """Return the text before the stop that ends first; the longest of those that end there."""
    for end in range(len(data) + 1):
        ending = [stop for stop in stops if data[:end].endswith(stop)]
        if ending:
            return data[: end - max(map(len, ending))].decode(errors="replace"), True
    return data.decode(errors="replace"), False


@given(TEXT, st.lists(st.text(alphabet="ab\n€", min_size=1, max_size=4), max_size=3), st.data())
def test_any_split_gives_the_same_text(text, stops, data):
    encoded = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(encoded)), max_size=6)))
    parts = [encoded[a:b] for a, b in zip([0, *cuts], [*cuts, len(encoded)], strict=True)]
    expected, stopped = slow(encoded, [stop.encode() for stop in stops])
    whole, split = Pieces(stops), Pieces(stops)
    assert "".join(fed(whole, [bytes([byte]) for byte in encoded])) == expected
    assert "".join(fed(split, parts)) == expected
    assert whole.stopped == split.stopped == stopped


@given(TEXT, st.text(alphabet="ab\n", min_size=1, max_size=4))
def test_only_a_start_of_a_stop_is_withheld(text, stop):
    pieces, shown, given_so_far = Pieces([stop]), "", ""
    for char in text:
        if pieces.stopped:
            break
        given_so_far += char
        shown += pieces.add(char.encode())
        withheld = given_so_far[len(shown) :]
        assert pieces.stopped or (withheld != stop and stop.startswith(withheld))
        assert stop not in shown


def test_incomplete_characters_are_held_back():
    pieces = Pieces()
    assert [pieces.add(bytes([byte])) for byte in "é€".encode()] == ["", "é", "", "", "€"]
    assert pieces.add(b"ok\xf0\x9f") == "ok"
    assert pieces.finish() == "", "a character that is cut off is left out"


def test_bytes_that_are_not_text_are_replaced():
    pieces = Pieces(["stop"])
    assert pieces.add(b"a\xff") == "a\ufffd"
    assert pieces.add(b"\xe2\x82stop") == "\ufffd"
    assert pieces.stopped and pieces.over == b""


def test_an_empty_stop_is_refused():
    with pytest.raises(UsageError, match="--stop must not be empty"):
        Pieces(["a", ""])
