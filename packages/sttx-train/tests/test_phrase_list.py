"""The list of phrases: those that saved most steps come first, and bytes that are not text are escaped."""

import json

import pytest

from sttx_core.phrases import DynamicTokenizer
from sttx_core.tokenizers import ByteTokenizer
from sttx_train.stream.phrase_list import phrase_list

BASE = ByteTokenizer()


def table_of(*texts, **options):
    table = DynamicTokenizer(BASE.vocab_size, **({"threshold": 2, "pair_window": 200} | options))
    for text in texts:
        table.observe(table.merge(BASE.encode_bytes(text)))
    return table


def test_a_fresh_table_has_no_phrases():
    assert phrase_list(table_of(), BASE) == []


def test_every_live_phrase_is_listed_once():
    table = table_of(*[b"the file and the test and the end"] * 6)
    rows = phrase_list(table, BASE)
    assert len(rows) == len(table) > 5
    assert {row["id"] for row in rows} == {table.base_vocab + phrase.slot for phrase in table.live()}
    for row in rows:
        tokens = table.tokens(row["id"])
        assert (row["text"], row["length"]) == (BASE.decode(tokens), len(tokens))
        assert set(row) == {"id", "text", "length", "uses", "steps_saved"}
    json.dumps(rows)


def test_phrases_are_sorted_by_the_steps_they_saved():
    rows = phrase_list(table_of(*[b"the file and the test and the end"] * 8), BASE)
    saved = [row["steps_saved"] for row in rows]
    assert saved == sorted(saved, reverse=True) and saved[0] > saved[-1]
    assert all(row["steps_saved"] == row["uses"] * (row["length"] - 1) for row in rows)


def test_the_order_is_stable():
    table = table_of(*[b"abcabdabe" * 3] * 4)
    assert phrase_list(table, BASE) == phrase_list(table, BASE)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("é".encode(), "é"), (b"\xc3\xc3", "\\xc3\\xc3"), (b"\n\n", "\n\n"), (b"\x1b[", "\x1b[")],
)
def test_bytes_that_are_not_text_are_escaped(text, shown):
    rows = phrase_list(table_of(*(text + mark for mark in (b"A", b"B", b"C", b"D"))), BASE)
    assert [row["text"] for row in rows if row["length"] == 2] == [shown]
