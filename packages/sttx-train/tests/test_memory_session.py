"""Sessions of a memory: units, windows, following a conversation, saving and restoring bit for bit."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sttx_core.errors import CheckpointError, SttxError, UsageError
from sttx_train.checkpoint import CheckpointStore
from sttx_train.memory import AttachedMemory, MemoryConfig, OnlineMemorySession, SessionConfig, attach
from sttx_train.memory.session_files import session_parts

from .memory_models import FAMILIES, VOCABULARY, a_model, train_at_random

UNITS = ("token", "message", "sentence")
_SENTENCE_END = 5


def some_messages(count: int = 7, seed: int = 9) -> list[list[int]]:
    draws = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 12, (count,), generator=draws).tolist()
    return [torch.randint(3, VOCABULARY, (length,), generator=draws).tolist() for length in lengths]


def a_memory(family: str = "llama", cut: str = "chunk", dtype=torch.float32, scale=0.3) -> AttachedMemory:
    memory = attach(a_model(family, dtype), MemoryConfig(rank=4, slots=3, cut=cut, chunk=4))  # type: ignore[arg-type]
    train_at_random(memory, scale)
    return memory


def a_session(memory: AttachedMemory, unit: str = "message", start=()) -> OnlineMemorySession:
    config = SessionConfig(unit=unit, window=16, overlap=3)  # type: ignore[arg-type]
    return OnlineMemorySession(
        memory, config, start=start, ends_sentence=lambda token: token % 7 == _SENTENCE_END
    )


def same(first: OnlineMemorySession, second: OnlineMemorySession) -> None:
    assert (first.ids, first.ends, first.written) == (second.ids, second.ends, second.written)
    assert torch.equal(first.next_logits(), second.next_logits())
    one, other = first.memory.state_tensors(), second.memory.state_tensors()
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize(
    ("family", "unit", "cut"),
    [*((family, unit, "chunk") for family in FAMILIES for unit in UNITS)]
    + [("llama", unit, "block") for unit in UNITS],
)
def test_a_session_that_is_saved_and_loaded_continues_bit_for_bit(family, unit, cut, tmp_path: Path):
    messages, start = some_messages(), (1,) if family == "gemma3" else ()
    whole = a_session(a_memory(family, cut), unit, start)
    saving = a_session(a_memory(family, cut), unit, start)
    for number, message in enumerate(messages):
        whole.ingest(message)
        saving.ingest(message[:-1], end=False)
        saving.save(tmp_path / "session")
        saving = a_session(a_memory(family, cut), unit, start)  # as after a kill: nothing is left in memory
        saving.load(tmp_path / "session")
        saving.ingest(message[-1:])
        assert saving.ends == whole.ends, number
    same(saving, whole)
    assert whole.written == len(whole.ids) and len(whole.ids) > 2 * whole.config.window
    assert whole.generate(5) == saving.generate(5)
    same(saving, whole)


@pytest.mark.parametrize("unit", UNITS)
def test_a_session_in_bfloat16_continues_bit_for_bit(unit, tmp_path: Path):
    whole, half = (a_session(a_memory("qwen3", dtype=torch.bfloat16), unit) for _ in range(2))
    for message in some_messages():
        whole.ingest(message)
        half.ingest(message)
        half.save(tmp_path)
        half = a_session(a_memory("qwen3", dtype=torch.bfloat16), unit)
        half.load(tmp_path)
    same(half, whole)


def test_units_write_when_they_are_complete():
    sentence = [3, 4, 7 + _SENTENCE_END, 6, 6]
    for unit, written in (("token", 5), ("sentence", 3), ("message", 0)):
        session = a_session(a_memory(), unit)
        session.ingest(sentence, end=False)
        assert session.written == written
        session.ingest([], end=True)
        assert session.written == 5 and session.ends == [5]


def test_blocks_are_messages_or_sentences():
    counts = {}
    for unit in UNITS:
        session = a_session(a_memory(cut="block"), unit)
        session.ingest([3, 4, 7 + _SENTENCE_END, 6, 6])
        session.ingest([6, 6])
        counts[unit] = session.memory.state[0].counts[0].tolist()
    assert counts == {"token": [5, 2, 0], "message": [5, 2, 0], "sentence": [3, 2, 2]}


def test_a_conversation_that_goes_on_reads_only_what_is_new_and_another_is_read_anew():
    messages = some_messages()
    session, other = a_session(a_memory()), a_session(a_memory())
    total = sum(map(len, messages))
    first = sum(map(len, messages[:4]))
    assert session.follow(messages[:4]) == (0, first, False)
    assert session.follow(messages) == (first, total - first, False)
    assert session.follow(messages) == (total, 0, False)
    other.follow(messages)
    same(session, other)
    changed = [*messages[:3], some_messages(1, 10)[0], *messages[4:]]
    assert session.follow(changed) == (0, sum(map(len, changed)), True)
    other.reset()
    other.follow(changed)
    same(session, other)
    assert session.follow(messages[:2]).rebuilt  # fewer messages than it has read


def test_the_memory_is_what_tells_of_dropped_windows():
    """Conversations with the same last window continue differently after a different beginning."""
    ends = some_messages(1)[0] + [3] * 40
    logits = []
    for beginning in ([10] * 30, [40] * 30):
        session = a_session(a_memory())
        session.follow([beginning, ends])
        assert not set(beginning) & set(session.ids[session.seen.first - 3 :])
        logits.append(session.next_logits())
    assert not torch.equal(*logits)


def test_generating_is_what_the_logits_say_and_writes_by_unit():
    for unit in UNITS:
        session, slow = a_session(a_memory(scale=1.0), unit), a_session(a_memory(scale=1.0), unit)
        for one in (session, slow):
            one.ingest(some_messages(1)[0])
        made = session.generate(6, stop=lambda made: len(made) == 4)
        assert len(made) == 4 and session.ids[-4:] == made and len(session.ends) == 1
        for token in made:
            assert int(slow.next_logits().argmax()) == token
            slow.ingest([token], end=False)
        assert slow.written == session.written
    with pytest.raises(UsageError, match="nothing was read"):
        a_session(a_memory()).generate(1)


def saved_session(folder: Path) -> OnlineMemorySession:
    session = a_session(a_memory())
    session.follow(some_messages())
    session.save(folder)
    return session


def test_a_session_refuses_what_was_saved_with_something_else(tmp_path: Path):
    kept = saved_session(tmp_path)
    other = a_memory()
    train_at_random(other, 0.1)
    for memory, message in (
        (a_memory("qwen3"), "another base"),
        (other, "another adapter"),
    ):
        session = a_session(memory)
        session.ingest([3, 4])
        with pytest.raises(CheckpointError, match=message):
            session.load(tmp_path)
        assert session.ids == [3, 4]
    with pytest.raises(CheckpointError, match="give the same options"):
        a_session(a_memory(), "token").load(tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        kept.load(tmp_path / "none")
    CheckpointStore(tmp_path / "other").save(1, tensors={}, documents={}, manifest={})
    with pytest.raises(CheckpointError, match="not the folder of a session"):
        kept.load(tmp_path / "other")


def test_saving_replaces_the_older_session(tmp_path: Path):
    session = saved_session(tmp_path)
    session.follow([[3, 4, 5]])
    session.save(tmp_path)
    assert len(CheckpointStore(tmp_path).folders()) == 1
    again = a_session(a_memory())
    again.load(tmp_path)
    same(again, session)


def forge(folder: Path, document=None, manifest=None, tensors=None) -> None:
    """Save a session again with changed parts, and with digests that fit."""
    store = CheckpointStore(folder, keep=1)
    saved = store.load()
    own = ("format", "step", "created", "files", "sha256")
    fields = {name: value for name, value in saved.manifest.items() if name not in own}
    store.save(
        saved.step + 1,
        tensors={name: {**group, **(tensors or {}).get(name, {})} for name, group in saved.tensors.items()},
        documents={"session": saved.documents["session"] | (document or {})},
        manifest=fields | (manifest or {}),
    )


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    saved_session(folder)
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"document": {"ids": [99999]}}, "."),
        ({"document": {"ids": "x"}}, "expected"),
        ({"document": {"ends": [4, 4]}}, "do not increase"),
        ({"document": {"ends": [4000]}}, "after the last token"),
        ({"document": {"written": 10**6}}, "more than there is"),
        ({"document": {"calls": [[1, False]]}}, "are not what it has written"),
        ({"document": {"context": [3, 3, 3]}}, "begins with other tokens"),
        ({"document": {"first": 0, "calls": [[2, False]]}}, "."),
        ({"manifest": {"session_version": 2}}, "update sttx"),
        ({"manifest": {"session_version": "1"}}, "expected"),
        ({"manifest": {"session_config": {}}}, "same options"),
        ({"tensors": {"state": {"0.slots": torch.full((1, 3, 4, 4), float("nan"))}}}, "not finite"),
        ({"tensors": {"state": {"0.slots": torch.zeros(1, 3, 4, 5)}}}, "needs float32"),
        ({"tensors": {"state": {"0.slots": torch.zeros(1, 3, 4, 4)}}}, "not what this base writes"),
        ({"tensors": {"state": {"0.counts": torch.zeros(1, 3, dtype=torch.int64)}}}, "does not count"),
        ({"tensors": {"window": {"1.keys": torch.ones(1, 3, 4) * 9}}}, "not what this base writes"),
        ({"tensors": {"state": {"9.keys": torch.ones(1)}}}, "belongs to nothing"),
    ],
)
def test_forged_sessions_are_refused_and_leave_the_session_as_it_was(change, message, original, tmp_path):
    shutil.copytree(original, tmp_path / "forged")
    forge(tmp_path / "forged", **change)
    session, twin = a_session(a_memory()), a_session(a_memory())
    for one in (session, twin):
        one.ingest([3, 4, 5, 6])
    with pytest.raises(SttxError, match=message):
        session.load(tmp_path / "forged")
    same(session, twin)
    for one in (session, twin):
        one.ingest([7, 8])
    same(session, twin)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_hostile_sessions_never_crash_or_load(data, original: Path, tmp_path: Path):
    folder = tmp_path / "hostile"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(original, folder)
    forged = data.draw(st.booleans())
    if forged:  # a document with digests that fit; it may by chance be one that a session writes
        names = ["ids", "ends", "written", "first", "context", "calls", "extra"]
        changed = data.draw(st.dictionaries(st.sampled_from(names), _JSON, min_size=1, max_size=3))
        forge(folder, document=changed)
    else:  # damaged bytes
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
        path = data.draw(st.sampled_from(files))
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        damage = data.draw(
            st.binary(max_size=16).filter(lambda new: new != bytes(content[at : at + len(new)]))
        )
        path.write_bytes(bytes(content[:at]) + damage + bytes(content[at + max(len(damage), 1) :]))
    session = a_session(_SHARED)
    try:
        session.load(folder)
    except SttxError:
        assert session.ids == [] and session.memory.is_empty
    else:
        written = folder if forged else original  # damage that changes nothing, such as a space, is harmless
        document = CheckpointStore(written).load().documents["session"]
        assert json.loads(json.dumps(session_parts(session)[1])) == document
        assert session.next_logits().isfinite().all()
        session.reset()


_SHARED = a_memory()


def test_what_cannot_work_is_refused():
    memory = a_memory()
    with pytest.raises(UsageError, match="not an id of the base, which has 64"):
        a_session(memory).ingest([64])
    with pytest.raises(UsageError, match="nothing says where a sentence ends"):
        OnlineMemorySession(memory, SessionConfig(unit="sentence"))
    memory.detach()
    silent = attach(memory.model, MemoryConfig(write_reads=False))
    with pytest.raises(UsageError, match="--unit token would never read"):
        OnlineMemorySession(silent, SessionConfig(unit="token"))
    with pytest.raises(UsageError, match="--window must be above 3 here"):
        OnlineMemorySession(memory, SessionConfig(window=3, overlap=2), start=[1])
    for config, message in (
        ({"unit": "word"}, "--unit must be one of"),
        ({"window": 1}, "--window must be from 2"),
        ({"overlap": 512}, "--overlap must be"),
    ):
        with pytest.raises(UsageError, match=message):
            SessionConfig(**config)


def test_the_saved_document_is_small_and_plain(tmp_path: Path):
    saved_session(tmp_path)
    (folder,) = CheckpointStore(tmp_path).folders()
    document = json.loads((folder / "session.json").read_text())
    assert sorted(document) == ["calls", "context", "ends", "first", "ids", "written"]
    assert all(first < second for first, second in pairwise(document["ends"]))
