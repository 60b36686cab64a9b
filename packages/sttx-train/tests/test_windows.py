"""Windows: every token once and in order, batches of different documents, bounded, saved exactly."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sttx_core.errors import UsageError
from sttx_core.render import render
from sttx_core.tokenizers import ByteTokenizer, TrieTokenizer, create_vocab_file
from sttx_core.traces import Meta, Other, Pair, SessionEnd, UserMessage
from sttx_train.byte_lengths import token_byte_lengths
from sttx_train.stream.windows import TraceWindows

BASE = ByteTokenizer()
LED = len("User: \n\n")  # what rendering adds to a message


def said(session, length):
    """Return a trace that renders to that many bytes."""
    return UserMessage(meta=Meta(session=session), text="x" * (length - LED))


def windows(**options):
    return TraceWindows(BASE, **({"size": 10} | options))


def drain(cut):
    """Return all remaining windows: the full ones, then the rest."""
    batches = []
    while (batch := cut.take() or cut.flush()) is not None:
        batches.append(batch)
    return batches


def shapes(batches):
    return [[(window.document, len(window.ids)) for window in batch] for batch in batches]


def test_no_window_until_one_is_full():
    cut = windows(size=20)
    assert cut.take() is None and cut.flush() is None
    cut.add(said("a", 19))
    assert cut.take() is None
    cut.add(said("a", 9))
    (window,) = cut.take()
    assert (window.document, len(window.ids), window.paid) == ("a", 20, None)
    assert cut.take() is None
    assert shapes([cut.flush()]) == [[("a", 8)]]
    assert cut.flush() is None


def test_the_ids_are_those_of_the_rendered_text_in_order():
    cut = windows(size=7)
    trace = UserMessage(meta=Meta(session="a"), text="Grüße an alle")
    cut.add(trace)
    ids = [token for (window,) in drain(cut) for token in window.ids]
    assert BASE.decode(ids) == render(trace) == "User: Grüße an alle\n\n"


def test_an_empty_trace_adds_nothing():
    cut = windows()
    cut.add(Other(meta=Meta(session="a"), kind="summary", raw={}))
    assert cut.flush() is None and cut.state_dict() == {"buffers": []}


def test_the_document_with_the_oldest_trace_comes_first():
    cut = windows(batch=1)
    for session in ("a", "b"):
        cut.add(said(session, 15))
    assert shapes(drain(cut)) == [[("a", 10)], [("b", 10)], [("a", 5)], [("b", 5)]]


def test_a_batch_waits_for_that_many_documents():
    cut = windows(batch=2)
    cut.add(said("a", 15))
    assert cut.take() is None, "one document of two"
    cut.add(said("b", 12))
    assert shapes([cut.take()]) == [[("a", 10), ("b", 10)]]
    assert cut.take() is None


def test_a_batch_does_not_wait_if_one_document_has_two_windows():
    cut = windows(batch=3)
    cut.add(said("a", 12))
    cut.add(said("b", 19))
    assert cut.take() is None
    cut.add(said("b", 9))
    assert shapes([cut.take()]) == [[("a", 10), ("b", 10)]]
    assert cut.take() is None


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_batch_has_each_document_once_and_not_too_many(batch):
    cut = windows(batch=batch)
    for session in "aababcab":
        cut.add(said(session, 27))
    for made in drain(cut):
        assert len(made) <= batch
        assert len({window.document for window in made}) == len(made)


def test_with_too_many_documents_the_least_recently_used_is_cut_short():
    cut = windows(documents=2)
    for session in "aba":
        cut.add(said(session, 9))
    assert shapes([cut.take()]) == [[("a", 10)]] and cut.take() is None
    cut.add(said("c", 9))
    assert shapes([cut.take()]) == [[("b", 9)]] and cut.take() is None
    assert [name for name, *_ in cut.state_dict()["buffers"]] == ["a", "c"]


def test_the_buffers_are_bounded():
    cut = windows(documents=3)
    for number in range(50):
        cut.add(said(f"s{number}", 9))
        while cut.take() is not None:
            pass
        waiting = cut.state_dict()["buffers"]
        assert len(waiting) <= 3 and all(len(ids) < 10 for _, ids, *_ in waiting)


def test_an_ended_session_does_not_wait_for_a_full_window():
    cut = windows(batch=2)
    cut.add(said("a", 14))
    cut.add(said("b", 9))
    assert cut.take() is None
    cut.add(SessionEnd(meta=Meta(session="a")))
    restored = windows(batch=2)
    restored.load_state_dict(json.loads(json.dumps(cut.state_dict())))
    for each in (cut, restored):
        assert shapes([each.take(), each.take()]) == [[("a", 10)], [("a", 4)]]
        assert each.take() is None and shapes([each.flush()]) == [[("b", 9)]]


def test_only_completions_of_pairs_are_paid():
    cut = windows(size=100)
    cut.add(Pair(meta=Meta(session="a"), prompt="2+2?", completion="4"))
    (window,) = cut.flush()
    asked, answered = "User: 2+2?\n\nAssistant:", " 4\n\n"
    assert window.paid == (False,) * len(asked) + (True,) * len(answered)
    assert BASE.decode(window.ids) == asked + answered


def test_a_window_is_paid_for_in_part_in_full_or_not():
    cut = windows(size=10)
    cut.add(Pair(meta=Meta(session="a"), prompt="x" * 7, completion="y" * 17))  # 25 unpaid, 20 paid
    flags = [window.paid for (window,) in drain(cut)]
    assert flags == [(False,) * 10, (False,) * 10, (False,) * 5 + (True,) * 5, None, None]


@pytest.mark.parametrize("options", [{"size": 0}, {"batch": 0}])
def test_sizes_below_one_are_refused(options):
    with pytest.raises(UsageError, match="--window and --batch"):
        windows(**options)


def test_byte_lengths_are_those_of_the_tokens(tmp_path):
    assert list(token_byte_lengths(BASE)) == [0] + [1] * 256
    create_vocab_file([*(bytes([i]) for i in range(256)), "für".encode()], tmp_path / "vocab.txt")
    assert list(token_byte_lengths(TrieTokenizer(tmp_path / "vocab.txt")))[-2:] == [1, 4]


def test_byte_lengths_of_unused_ids_are_zero(tmp_path):
    lines = [f"{i + 1} {bytes([i])!r} 1" for i in range(256)] + ["300 b'the' 3"]
    (tmp_path / "vocab.txt").write_text("\n".join(lines) + "\n")
    lengths = token_byte_lengths(TrieTokenizer(tmp_path / "vocab.txt"))
    assert lengths[300] == 3 and not lengths[257:300].any() and isinstance(lengths, np.ndarray)


messages = st.lists(st.tuples(st.sampled_from("abc"), st.text(max_size=60), st.booleans()), max_size=30)


def as_traces(spoken):
    return [
        Pair(meta=Meta(session=name), prompt=text[: len(text) // 2], completion=text[len(text) // 2 :])
        if paired
        else UserMessage(meta=Meta(session=name), text=text)
        for name, text, paired in spoken
    ]


@settings(max_examples=60, deadline=None)
@given(messages, st.integers(1, 40), st.integers(1, 4), st.integers(1, 4))
def test_a_documents_windows_joined_are_its_encoding(spoken, size, batch, documents):
    cut, found = windows(size=size, batch=batch, documents=documents), {}
    for trace in as_traces(spoken):
        cut.add(trace)
        while (made := cut.take()) is not None:
            for window in made:
                found[window.document] = found.get(window.document, "") + BASE.decode_bytes(window.ids).hex()
    while (made := cut.flush()) is not None:
        for window in made:
            assert 0 < len(window.ids) <= size
            found[window.document] = found.get(window.document, "") + BASE.decode_bytes(window.ids).hex()
    wanted = {}
    for trace in as_traces(spoken):
        wanted[trace.document] = wanted.get(trace.document, "") + render(trace).encode().hex()
    assert found == {name: text for name, text in wanted.items() if text}


@settings(max_examples=60, deadline=None)
@given(messages, st.integers(0, 30), st.integers(1, 40), st.integers(1, 3))
def test_saved_and_loaded_anywhere_the_windows_are_the_same(spoken, at, size, batch):
    options = {"size": size, "batch": batch, "documents": 2}
    straight, saved = windows(**options), windows(**options)
    for index, trace in enumerate(as_traces(spoken)):
        if index == at:
            state = json.loads(json.dumps(saved.state_dict()))
            saved = windows(**options)
            saved.load_state_dict(state)
        straight.add(trace)
        saved.add(trace)
        assert straight.take() == saved.take()
    assert drain(straight) == drain(saved)
