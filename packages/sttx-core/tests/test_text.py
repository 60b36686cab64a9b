"""Text that can always be encoded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttx_core.text import encodable

with_surrogates = st.text(st.characters(codec=None) | st.characters(categories=["Cs"]))


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("", ""),
        ("plain", "plain"),
        ("é日😀", "é日😀"),
        ("\ud800", "\ufffd"),
        ("\udc00\ud800", "\ufffd\ufffd"),
        ("\ud800\ud800\udc00", "\ufffd\U00010000"),
        ("a\ud83db", "a\ufffdb"),
        ("😀\ud83d", "😀\ufffd"),
    ],
)
def test_lone_surrogates_are_replaced_and_pairs_joined(text, result):
    assert encodable(text) == result


@given(with_surrogates)
def test_the_result_is_encodable_and_stable(text):
    once = encodable(text)
    assert once.encode().decode() == once
    assert encodable(once) == once


@given(with_surrogates)
def test_only_surrogates_change(text):
    def rest(value):
        return [
            char
            for char in value
            if not "\ud800" <= char <= "\udfff" and char != "\ufffd" and ord(char) < 0x10000
        ]

    assert rest(encodable(text)) == rest(text)


@given(st.text())
def test_encodable_text_is_returned_unchanged(text):
    assert encodable(text) is text
