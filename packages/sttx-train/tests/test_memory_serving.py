"""Readers of a served memory: what they read and write, twins, saving, damage, health, and comparing."""

import json
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sttx_core.errors import CheckpointError, DataError, SttxError, UsageError
from sttx_train.generate import SamplingConfig
from sttx_train.memory import SessionConfig
from sttx_train.memory.health import PROBE, REFERENCE, check_health
from sttx_train.memory.serving import MemoryPredictor, _seal
from sttx_train.memory.suite import compare_answers, read_prompts, require_active
from sttx_train.serve.bodies import Message

from .memory_served import END, base_of, predictor_of, write_base

TEXT = REFERENCE + PROBE
GREEDY = SamplingConfig(temperature=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def predictor(folder):
    return predictor_of(base_of(folder))


@pytest.fixture(scope="module")
def ids(predictor):
    return predictor.tokenizer.encode(TEXT)


def tail(predictor, text="what now?"):
    return predictor.tokenizer.encode(text)


def after(reader, ids):
    """Return everything that is expected while a reader reads, and at the end."""
    return np.array([*reader.read(ids), reader.log_probs()])


@pytest.mark.parametrize("cut", ["chunk", "block"])
def test_however_a_text_is_split_the_memory_is_the_same(folder, ids, cut):
    predictor = predictor_of(base_of(folder), cut=cut)
    whole, pieces = predictor.read(), predictor.read()
    expected = after(whole, ids)
    found = [row for at in range(0, len(ids), 7) for row in pieces.read(ids[at : at + 7])]
    np.testing.assert_allclose(np.array(found), expected[:-1], atol=2e-3)
    assert whole.state.keys() == pieces.state.keys() and len(whole.state)
    for name, tensor in whole.state.items():
        torch.testing.assert_close(pieces.state[name], tensor, atol=1e-3, rtol=1e-3)


def test_with_the_cut_block_each_message_opens_a_slot(folder):
    predictor = predictor_of(base_of(folder), cut="block")
    reader = predictor.read()
    first, second = (predictor.tokenizer.encode(text) for text in ("User: a\n\n", "User: the build\n\n"))
    reader.advance([*first, *second])
    assert reader.state["0.counts"].tolist() == [[len(first), len(second), 0]]


def test_prices_are_those_of_the_distributions(predictor, ids):
    prices = predictor.read().advance(ids)
    rows = list(predictor.read().read(ids))
    bits = [-row[token] / np.log(2) for token, row in zip(ids, rows, strict=True)]
    np.testing.assert_array_equal(prices.bits, bits)
    np.testing.assert_allclose([np.exp(row).sum() for row in rows], 1)
    assert prices.bits[0] == pytest.approx(np.log2(len(predictor.tokens)))  # nothing comes before it
    assert np.isnan(prices.frozen).all()


def test_a_reader_without_memory_is_the_base(folder, predictor, ids):
    model = base_of(folder).model
    with torch.no_grad():
        base = torch.log_softmax(model(torch.tensor([ids[:40]])).logits[0].double(), -1).numpy()
    bare = predictor.read(writes=False)
    np.testing.assert_array_equal(after(bare, ids[:40])[1:], base)
    assert not bare.state
    remembering = after(predictor.read(), ids[:40])[1:]
    assert np.abs(remembering - base)[5:].max(axis=1).min() > 1e-3


def test_readers_take_turns_and_do_not_disturb_each_other(predictor, ids):
    alone = [after(predictor.read(), part) for part in (ids, ids[::-1])]
    one, other = predictor.read(), predictor.read()
    batch, found = predictor.batch([one, other]), [[], []]
    for at in range(len(ids)):
        batch.advance_with_expected(
            [[ids[at]], [ids[::-1][at]]], lambda row, token, expected: found[row].append(expected)
        )
    for row, expected in zip(found, alone, strict=True):
        np.testing.assert_allclose(np.array(row), expected[:-1], atol=2e-3)
    with pytest.raises(UsageError, match="twice"):
        predictor.batch([one, one])


@pytest.mark.parametrize("at", [0, 1, 30, 47, 48, 60])
def test_a_copy_and_a_restored_reader_continue_bit_for_bit(predictor, ids, at):
    going = predictor.read()
    going.advance(ids[:at])
    saved = going.state_dict()
    saved = {"tensors": dict(saved["tensors"]), "meta": json.loads(json.dumps(saved["meta"]))}
    twin = going.copy()
    expected = after(going, tail(predictor))
    np.testing.assert_array_equal(after(twin, tail(predictor)), expected)
    restored = predictor.read()
    restored.advance(ids[5:9])
    restored.load_state_dict(saved)
    np.testing.assert_array_equal(after(restored, tail(predictor)), expected)
    assert restored.ids == going.ids and restored.nbytes == going.nbytes > 0


def test_texts_are_generated_and_end(predictor, ids):
    reader, again = predictor.read(), predictor.read()
    for one in (reader, again):
        one.advance(ids)
    generation = reader.generate(GREEDY, max_tokens=12)
    text = "".join(generation)
    assert text == "".join(again.generate(GREEDY, max_tokens=12))
    assert reader.ids[: len(ids)] == ids and len(reader.ids) == len(ids) + len(generation.ids) - 1
    assert predictor.tokens[END] == b"" and predictor.tokens[-1] == b""


def test_special_tokens_in_a_text_are_plain_text(predictor):
    text = "a <|end|> b\n\nüñ"
    ids = predictor.tokenizer.encode(text)
    assert END not in ids and predictor.tokenizer.decode(ids) == text
    assert predictor.tokenizer.vocab_size == len(predictor.tokens) - 3
    with pytest.raises(UsageError, match="not an id"):
        predictor.tokenizer.token_bytes(len(predictor.tokens))


def test_a_window_without_room_is_refused(predictor):
    with pytest.raises(UsageError, match="overlap"):
        SessionConfig(window=8, overlap=8)
    assert (
        MemoryPredictor(predictor.memory, predictor.tokenizer, SessionConfig(window=9, overlap=8)).digest
        != predictor.digest
    )


@pytest.fixture(scope="module")
def saved(predictor, ids):
    reader = predictor.read()
    reader.advance(ids[:50])
    return reader.state_dict()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.data())
def test_a_changed_state_is_refused_and_nothing_changes(predictor, saved, ids, place):
    tensors, meta = dict(saved["tensors"]), json.loads(json.dumps(saved["meta"]))
    kind = place.draw(st.sampled_from(["bit", "drop", "rename", "shape", "document", "seal"]))
    name = place.draw(st.sampled_from(sorted(tensors)))
    match kind:
        case "bit":
            data = tensors[name].clone().flatten().view(torch.uint8)
            data[place.draw(st.integers(0, len(data) - 1))] ^= place.draw(st.integers(1, 255))
            tensors[name] = data.view(tensors[name].dtype).view(tensors[name].shape)
        case "drop":
            del tensors[name]
        case "rename":
            tensors["x" + name] = tensors.pop(name)
        case "shape":
            tensors[name] = tensors[name][None]
        case "document":
            field = place.draw(st.sampled_from(sorted(meta["session"])))
            meta["session"][field] = place.draw(st.none() | st.integers() | st.lists(st.integers(0, 400)))
            if meta["session"] == saved["meta"]["session"]:
                return
        case "seal":
            meta["sha256"] = place.draw(st.sampled_from(["", "0" * 64, None, 5]))
    reader = predictor.read()
    reader.advance(ids[:3])
    with pytest.raises(CheckpointError):
        reader.load_state_dict({"tensors": tensors, "meta": meta})
    assert reader.ids == ids[:3]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.data())
def test_a_forged_state_with_a_right_seal_never_crashes(predictor, saved, place):
    tensors, session = dict(saved["tensors"]), json.loads(json.dumps(saved["meta"]["session"]))
    field = place.draw(st.sampled_from([*sorted(session), "tensors"]))
    value = st.integers(-2, 1 << 40) | st.lists(st.integers(0, 60), max_size=60) | st.none()
    value |= st.lists(st.tuples(st.integers(0, 99), st.booleans()), max_size=9)
    if field == "tensors":
        name = place.draw(st.sampled_from(sorted(tensors)))
        tensors[name] = torch.zeros(place.draw(st.lists(st.integers(0, 4), max_size=4)))
    else:
        session[field] = json.loads(json.dumps(place.draw(value)))
    meta = {"session": session, "sha256": _seal(predictor.digest, tensors, session)}
    with suppress(SttxError):
        predictor.read().load_state_dict({"tensors": tensors, "meta": meta})


def test_a_trained_memory_is_active_and_an_untrained_one_is_not(folder, predictor):
    health = check_health(predictor)
    assert health.active and not health.reason
    assert [check.name for check in health.checks] == ["effect", "content", "restore", "corruption"]
    idle = check_health(predictor_of(base_of(folder), trained=False))
    assert [check.passed for check in idle.checks] == [False, False, True, True]
    with pytest.raises(UsageError, match="not active, so there is nothing to compare"):
        require_active(idle)
    require_active(health)


def test_a_prompt_with_and_without_memory(predictor):
    messages = [Message(role="user", content="the build"), Message(role="user", content="what?")]
    found = compare_answers(predictor, messages, GREEDY, max_tokens=10)
    assert found["prompt"] == "User: what?" and found["divergence"] > 1e-3 and not found["same"]
    assert found["written"] == len(predictor.tokenizer.encode("User: the build\n\n"))
    bare = predictor.read(writes=False)
    bare.advance(predictor.tokenizer.encode("User: what?\n\n"))
    bare.advance(predictor.tokenizer.encode("Assistant:"))
    text = "".join(bare.generate(GREEDY, max_tokens=10, stop=("\n\n",)))
    assert found["without_memory"]["text"] == text.strip()
    with pytest.raises(UsageError, match="memory would be empty"):
        compare_answers(predictor, messages[1:], GREEDY, max_tokens=10)
    with pytest.raises(UsageError, match="has no text"):
        compare_answers(predictor, [messages[0], Message(role="user", content="")], GREEDY, max_tokens=10)


def test_a_suite_is_read_line_by_line():
    line = json.dumps({"id": 3, "messages": [{"role": "user", "content": "a"}] * 2}).encode()
    first, second = read_prompts([line, b" \n", line])
    assert first.id == second.id == 3 and len(first.messages) == 2
    for lines, reason in (
        ([line, b"{"], "line 2 is not a prompt"),
        ([b'{"messages": []}'], "line 1 has no message before"),
        ([b'{"messages": [], "more": 1}'], "line 1 is not a prompt"),
        ([b"\xff"], "line 1 is not a prompt"),
        ([b"[" * 100_000], "line 1 is not a prompt"),
    ):
        with pytest.raises(DataError, match=reason):
            list(read_prompts(lines))
