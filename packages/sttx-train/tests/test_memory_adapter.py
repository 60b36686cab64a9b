"""Adapters as files: nothing changes on the way, and damaged, foreign or forged ones are refused."""

import re
import struct
import tracemalloc
from dataclasses import replace

import gguf
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sttx_core.errors import CheckpointError, DataError, ModelError, UsageError
from sttx_train.checkpoint import CheckpointStore
from sttx_train.memory import MemoryConfig, attach
from sttx_train.memory.adapter import (
    SavedAdapter,
    differences,
    read_adapter,
    write_run,
    write_sidecar,
)
from sttx_train.memory.gguf_file import MOST_BYTES, read_gguf_file, write_gguf_file

from .memory_models import a_model, train_at_random

CONFIG = MemoryConfig(rank=4, slots=3, cut="block", chunk=5, layers=(1,), write_reads=False, seed=9)


@pytest.fixture(scope="module")
def memory():
    memory = attach(a_model(), CONFIG)
    train_at_random(memory)
    return memory


@pytest.fixture(scope="module")
def adapter(memory):
    return SavedAdapter.of(memory, step=7)


@pytest.fixture(scope="module")
def data(adapter, tmp_path_factory):
    path = tmp_path_factory.mktemp("sidecars") / "whole.gguf"
    write_sidecar(adapter, path)
    return path.read_bytes()


@pytest.fixture
def refused(tmp_path):
    """Return a function that reads a sidecar of some bytes, and returns why it is refused."""
    path = tmp_path / "some.gguf"

    def refused(data):
        path.write_bytes(data)
        with pytest.raises(ModelError) as caught:
            read_adapter(path)
        return str(caught.value)

    return refused


def same(one, other):
    return (
        one.config == other.config
        and (one.base_sha256, one.step) == (other.base_sha256, other.step)
        and one.tensors.keys() == other.tensors.keys()
        and all(torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())
    )


def test_an_adapter_is_equal_after_sidecar_and_run(memory, adapter, tmp_path):
    write_sidecar(adapter, tmp_path / "one.gguf")
    found = read_adapter(tmp_path / "one.gguf")
    assert same(found, adapter) and found.sha256() == memory.adapter_digest()
    folder = write_run(found, tmp_path / "run")
    assert same(read_adapter(tmp_path / "run"), adapter)
    assert same(read_adapter(folder), adapter)
    assert set(differences(found, adapter).values()) == {0.0}


def test_the_same_adapter_gives_the_same_bytes(adapter, data, tmp_path):
    write_sidecar(adapter, tmp_path / "again.gguf")
    assert (tmp_path / "again.gguf").read_bytes() == data


def test_another_reader_of_gguf_finds_the_same(adapter, data, tmp_path):
    (tmp_path / "one.gguf").write_bytes(data)
    reader = gguf.GGUFReader(tmp_path / "one.gguf")
    for tensor in reader.tensors:
        wanted = adapter.tensors[tensor.name].numpy()
        assert tensor.shape.tolist() == list(wanted.shape[::-1])
        np.testing.assert_array_equal(tensor.data.reshape(wanted.shape), wanted)
    assert len(reader.tensors) == len(adapter.tensors)
    assert reader.get_field("sttx.memory.base_sha256").contents() == adapter.base_sha256
    assert reader.get_field("sttx.memory.config.layers").contents() == [1]


def test_an_adapter_from_a_file_acts_as_the_one_that_was_written(memory, data, tmp_path):
    (tmp_path / "one.gguf").write_bytes(data)
    adapter = read_adapter(tmp_path / "one.gguf")
    other = attach(a_model(), adapter.config)
    adapter.put_on(other)
    ids, logits = torch.arange(3, 20)[None], []
    for one in (memory, other):
        one.reset()
        with torch.no_grad(), one.writing():
            one.model(ids)
        with torch.no_grad():
            logits.append(one.model(ids).logits)
        one.reset()
    assert torch.equal(*logits)


def test_an_adapter_is_refused_beside_another_base_or_config(adapter):
    changed = a_model()
    with torch.no_grad():
        changed.lm_head.weight[0, 0] += 1
    with pytest.raises(ModelError, match="base with the SHA-256 .* same base"):
        adapter.put_on(attach(changed, CONFIG))
    with pytest.raises(ModelError, match="a memory with"):
        adapter.put_on(attach(a_model(), replace(CONFIG, slots=4)))


def test_differences_are_named(adapter):
    tensors = dict(adapter.tensors)
    name = "layers.1.key"
    tensors[name] = tensors[name] + 0.5
    assert differences(adapter, replace(adapter, tensors=tensors))[name] == pytest.approx(0.5, abs=1e-6)
    tensors[name] = tensors[name][:2]
    assert differences(adapter, replace(adapter, tensors=tensors))[name] == "another shape"
    del tensors[name]
    assert differences(adapter, replace(adapter, tensors=tensors))[name] == "missing"


def rewritten(adapter, path, *, fields=(), tensors=(), drop=()):
    """Write a sidecar whose digest is right, with other fields or tensors."""
    write_sidecar(replace(adapter, tensors={**adapter.tensors, **dict(tensors)}), path)
    file = read_gguf_file(path)
    kept = {name: value for name, value in file.fields.items() if name not in drop}
    kept = {name: value for name, value in kept.items() if name != "general.architecture"}
    wanted = dict(fields)
    architecture = wanted.pop("general.architecture", "sttx-memory")
    left = {name: array for name, array in file.tensors.items() if name not in drop}
    write_gguf_file(path, architecture, kept | wanted, left)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fields": {"general.architecture": "llama"}}, "architecture 'llama', not 'sttx-memory'"),
        ({"fields": {"sttx.memory.version": 2}}, "version is 2, and 1 is read"),
        ({"fields": {"sttx.memory.version": "1"}}, "version is '1'"),
        ({"fields": {"sttx.memory.step": "many"}}, "step is 'many'"),
        ({"fields": {"sttx.memory.step": 1 << 60}}, "step is"),
        ({"fields": {"sttx.memory.base_sha256": "abc"}}, "SHA-256 of its base is 'abc'"),
        ({"drop": {"sttx.memory.base_sha256"}}, "SHA-256 of its base is None"),
        ({"fields": {"sttx.memory.config.rank": 5}}, "instead of"),
        ({"fields": {"sttx.memory.config.rank": 1 << 40}}, "must be a whole number"),
        ({"fields": {"sttx.memory.config.rank": 4.0}}, "must be a whole number"),
        ({"fields": {"sttx.memory.config.layers": [0, 1]}}, "'layers.0.* is missing instead of"),
        ({"fields": {"sttx.memory.config.layers": ["1"]}}, "increasing numbers of layers"),
        ({"fields": {"sttx.memory.config.cut": "page"}}, "must be one of"),
        ({"fields": {"sttx.memory.config.more": 1}}, "a memory has the fields"),
        ({"fields": {"sttx.memory.config.chunk": 6}}, "SHA-256 does not match"),
        ({"drop": {"sttx.memory.sha256"}}, "SHA-256 does not match"),
        ({"drop": {"sttx.memory.config.slots"}}, "a memory has the fields"),
        ({"drop": {"layers.1.key"}}, "'layers.1.key' is missing instead of"),
        ({"tensors": {"layers.1.more": torch.ones(2)}}, "'layers.1.more' is .* instead of missing"),
        ({"tensors": {"layers.1.key": torch.full((4, 32), torch.nan)}}, "finite float32"),
        ({"tensors": {"layers.1.key": torch.ones(4, 33)}}, "instead of"),
    ],
    ids=lambda value: (
        "" if isinstance(value, str) else "-".join(str(next(iter(one))) for one in value.values())
    ),
)
def test_a_sidecar_that_does_not_fit_is_refused_with_the_reason(adapter, changes, reason, tmp_path):
    path = tmp_path / "some.gguf"
    rewritten(adapter, path, **changes)
    with pytest.raises(ModelError) as caught:
        read_adapter(path)
    assert re.search(reason, str(caught.value)) and repr(str(path)) in str(caught.value)


def test_a_sidecar_of_another_kind_is_refused(refused, data):
    assert "does not start with 'GGUF'" in refused(b"PK" + data)
    assert "its version is 2" in refused(data[:4] + struct.pack("<I", 2) + data[8:])
    assert "bytes follow after its end" in refused(data + bytes(32))
    assert "it ends too early" in refused(data[:-40])
    assert "it ends too early" in refused(b"")


@pytest.mark.parametrize(
    ("at", "form", "value", "reason"),
    [
        (8, "<Q", 1 << 60, "tensors, and"),
        (16, "<Q", 1 << 60, "fields, and"),
        (24, "<Q", 1 << 60, "bytes of a text, and"),
        (24, "<Q", 60_000, "it ends too early"),
        (52, "<I", 77, "unknown type 77"),
    ],
)
def test_forged_counts_are_refused_before_anything_is_made_for_them(refused, data, at, form, value, reason):
    forged = bytearray(data)
    forged[at : at + struct.calcsize(form)] = struct.pack(form, value)
    tracemalloc.start()
    try:
        assert reason in refused(bytes(forged))
        assert tracemalloc.get_traced_memory()[1] < 20 * len(data) + 1_000_000
    finally:
        tracemalloc.stop()


def header(*fields, tensors=()):
    """Return the bytes of a file with these fields and tensors, without values."""

    def text(name):
        return struct.pack("<Q", len(name)) + name

    data = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(fields))
    data += b"".join(text(name) + value for name, value in fields)
    return data + b"".join(text(name) + info for name, info in tensors)


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (header((b"a", struct.pack("<IIQ", 9, 0, 1 << 50))), "values in an array"),
        (header((b"a", struct.pack("<IIQ", 9, 9, 1))), "an array of arrays"),
        (header((b"a", struct.pack("<IB", 7, 2))), "a yes or no in it is 2"),
        (header((b"a", struct.pack("<IB", 0, 1)), (b"a", struct.pack("<IB", 0, 1))), "there twice"),
        (header((b"\xff", struct.pack("<IB", 0, 1))), "not UTF-8"),
        (header((b"general.alignment", struct.pack("<II", 4, 3))), "alignment is 3"),
        (header((b"general.alignment", struct.pack("<IQ", 10, 1 << 62))), "alignment is"),
        (header(tensors=[(b"t", struct.pack("<I", 1 << 31))]), "dimensions"),
        (header(tensors=[(b"t", struct.pack("<IQIQ", 1, 0, 0, 0))]), "is empty"),
        (header(tensors=[(b"t", struct.pack("<IQIQ", 1, 4, 2, 0))]), "only float32"),
        (header(tensors=[(b"t", struct.pack("<IQIQ", 1, 4, 0, 64))]), "not where they must be"),
        (header(tensors=[(b"t", struct.pack("<IQQQQIQ", 4, *[MOST_BYTES] * 4, 0, 0))]), "ends too early"),
        (header(tensors=[(b"t", struct.pack("<IQIQ", 1, 1 << 63, 0, 0))]), "values in a dimension"),
    ],
)
def test_forged_files_are_refused(refused, file, reason):
    assert reason in refused(file)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.data())
def test_damage_changes_no_adapter_and_never_crashes(adapter, data, tmp_path, place):
    kind = place.draw(st.sampled_from(["cut", "flip", "overwrite", "insert", "remove"]))
    # most of the file is numbers: half of the damage is done before them
    at = place.draw(st.integers(0, len(data) - 1) | st.integers(0, 1500))
    some = place.draw(st.binary(min_size=1, max_size=12))
    damaged = bytearray(data)
    match kind:
        case "cut":
            del damaged[at:]
        case "flip":
            damaged[at] ^= place.draw(st.integers(1, 255))
        case "overwrite":
            damaged[at : at + len(some)] = some
        case "insert":
            damaged[at:at] = some
        case "remove":
            del damaged[at : at + len(some)]
    (tmp_path / "some.gguf").write_bytes(damaged)
    try:
        found = read_adapter(tmp_path / "some.gguf")
    except ModelError:
        return
    assert same(found, adapter)  # the damage is in padding, or in a field that says nothing of the adapter


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(max_size=300), version=st.sampled_from([2, 3]))
def test_noise_is_refused(refused, noise, version):
    refused(noise)
    refused(b"GGUF" + struct.pack("<I", version) + noise)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "large.gguf").open("wb") as file:
        file.truncate(MOST_BYTES + 1)  # takes no room
    tracemalloc.start()
    try:
        with pytest.raises(ModelError, match="are the most"):
            read_adapter(tmp_path / "large.gguf")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_folder_or_file_of_something_else_is_refused(adapter, tmp_path):
    with pytest.raises(UsageError, match="no adapter at"):
        read_adapter(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        read_adapter(tmp_path)
    control = CheckpointStore(tmp_path / "control")
    control.save(1, tensors={"adapter": adapter.tensors}, documents={}, manifest={"kind": "low-rank"})
    with pytest.raises(CheckpointError, match="no adapter of a memory"):
        read_adapter(tmp_path / "control")
    store = CheckpointStore(tmp_path / "forged")
    manifest = {"kind": "memory", "memory_config": {"rank": 4}, "base_sha256": adapter.base_sha256}
    store.save(1, tensors={"adapter": adapter.tensors}, documents={}, manifest=manifest)
    with pytest.raises(DataError, match="a memory has the fields"):
        read_adapter(tmp_path / "forged")


def test_nothing_is_overwritten_by_a_run(adapter, tmp_path):
    write_run(adapter, tmp_path / "run")
    with pytest.raises(UsageError, match="already holds a run"):
        write_run(adapter, tmp_path / "run")
