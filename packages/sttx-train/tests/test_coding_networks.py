"""Archives with a network: the same bytes under every setting, and refused without what they need."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from sttx_core.errors import DataError, UsageError
from sttx_core.experts import Experts, ExpertsConfig
from sttx_train import Predictor
from sttx_train.coding import Archive, CompressConfig, Member, compress, container, lanes, method_of, vector
from sttx_train.coding.extract import ToStream
from sttx_train.coding.networks import NetworkRows, load_networks
from sttx_train.formats import load_model, save_state
from sttx_train.formats.state import INJECT, WINDOW

TEXT = vector.TEXT
TINY = ExpertsConfig(slot_bits=12, history_bits=12, index_bits=8)


@pytest.fixture(scope="module")
def goose():
    return load_networks(None, None)


def state_file(folder, inject="start", seed=0):
    """Write a random S0; return its file."""
    config = load_model(None).model.config
    shape = config.num_layers, config.num_heads, config.head_size, config.head_size
    s0 = 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    path = folder / f"{inject}{seed}.safetensors"
    save_state(s0, path, metadata={INJECT: inject, WINDOW: "8"})
    return str(path)


def ids_of(goose, data):
    return np.array(goose.tokenizer.encode_bytes(data), np.int64)


def in_lanes(goose, streams, coder="ac", networks=1):
    both = [NetworkRows(goose.frozen) for _ in range(networks)]
    coded = Experts(goose.tokens, TINY).rows(streams, coder)
    return lanes.Lanes(coded, both, streams, goose.tokenizer.eot_id)


def archive_of(folder, files, method, **config):
    members = []
    for name, content in files.items():
        (folder / name).write_bytes(content)
        members.append(Member(name=name, path=folder / name))
    out = folder / "a.sttx"
    compress(members, out, CompressConfig(**config), method=method)
    return out


def contents(path, **needs):
    again = io.BytesIO()
    with Archive(path, **needs) as archive:
        damage = archive.read(archive.entries, lambda _: ToStream(again))
    return again.getvalue(), damage


@pytest.mark.parametrize(("streams", "coder", "networks"), [(1, "ac", 1), (2, "rans", 1), (8, "ac", 2)])
def test_blocks_come_back_batch_by_batch(goose, streams, coder, networks):
    batches = [[TEXT[:90], TEXT[30:], b"x", TEXT[:9]], [TEXT[90:150]], [TEXT[:40], TEXT[20:60]]]
    writer, reader = (in_lanes(goose, streams, coder, networks) for _ in range(2))
    for number, batch in enumerate(batches):
        blocks = [ids_of(goose, data) for data in batch]
        payloads = writer.encode(blocks, goes_on=number == 1, advance=len)
        found = reader.decode(payloads, list(map(len, blocks)), goes_on=number == 1, advance=len)
        assert [block.tolist() for block in found] == [block.tolist() for block in blocks]


def test_a_document_goes_on_as_if_it_had_not_been_cut(goose):
    ids = ids_of(goose, TEXT)
    whole, cut = in_lanes(goose, 1), in_lanes(goose, 1)
    whole.encode([ids], goes_on=False, advance=len)
    for part, goes_on in ((ids[:40], False), (ids[40:], True)):
        cut.encode([part], goes_on=goes_on, advance=len)
    same = [lane.encode([ids], goes_on=True, advance=len) for lane in (whole, cut)]
    assert same[0] == same[1]
    assert same[0] != whole.encode([ids], goes_on=False, advance=len)


def test_a_row_says_the_same_whatever_stands_beside_it(goose):
    ids = np.array([goose.tokenizer.eot_id, *ids_of(goose, TEXT)[:30]])
    alone, beside = NetworkRows(goose.frozen), NetworkRows(goose.frozen)
    alone.start(1)
    beside.start(5)
    for step, token in enumerate(ids):
        others = np.array([step, token, 7, token, 5])
        assert np.array_equal(alone.step(ids[step : step + 1])[0], beside.step(others)[3])


@pytest.mark.filterwarnings("ignore:the state in")
@pytest.mark.parametrize("inject", ["start", "every"])
def test_networks_say_what_the_predictor_says(goose, tmp_path, inject):
    path = state_file(tmp_path, inject)
    tuned = load_networks(None, path).tuned
    reader = Predictor(load_model(None), path, experts=False).read()
    rows, last = NetworkRows(tuned), goose.tokenizer.eot_id
    rows.start(1)
    for token in ids_of(goose, TEXT)[:20].tolist():
        logits = rows.step(np.array([last]))[0].astype(np.float64)
        found = logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
        np.testing.assert_allclose(found, reader.log_probs(), atol=1e-4)
        reader.advance([token])
        last = token


@pytest.mark.parametrize("coder", ["ac", "rans"])
def test_files_come_back_together_and_alone(tmp_path, coder, monkeypatch):
    monkeypatch.setattr("sttx_train.coding.codec._LEAST_PIECE", 100)
    files = {"a": TEXT, "b": b"", "c": b"\xff\x00" + TEXT[:90], "d": b"x", "e": TEXT[5:]}
    out = archive_of(tmp_path, files, method_of("default", streams=3), coder=coder)
    found, damage = contents(out)
    assert found == b"".join(files.values()) and not damage.lost
    with Archive(out) as archive:
        [entry] = archive.named(["c"])
        again = io.BytesIO()
        archive.read([entry], lambda _: ToStream(again))
    assert again.getvalue() == files["c"]


def test_segments_and_batches_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr("sttx_train.coding.codec._STREAM_BYTES", 60)
    monkeypatch.setattr("sttx_train.coding.codec._LEAST_PIECE", 20)
    files = {"a": TEXT, "b": TEXT[40:], "c": TEXT[:30]}
    out = archive_of(tmp_path, files, method_of("default", streams=2), segment_mb=0.0002)
    assert contents(out)[0] == b"".join(files.values())
    with Archive(out) as archive:
        assert len(archive.segments) > 1


def test_damage_is_noticed_and_stays_in_its_segment(tmp_path):
    out = archive_of(tmp_path, {"a": TEXT, "b": TEXT}, method_of("default"), segment_mb=0)
    data = bytearray(out.read_bytes())
    with Archive(out) as archive:
        place = archive.segments[0]
    data[place + 60] ^= 1
    out.write_bytes(data)
    found, damage = contents(out)
    assert (found, damage.lost) == (TEXT, ("a",))


def test_an_archive_is_continued_and_only_with_its_own_options(tmp_path):
    method = method_of("default", streams=2)
    out = archive_of(tmp_path, {"a": TEXT}, method)
    (tmp_path / "b").write_bytes(TEXT[9:])
    members = [Member(name=name, path=tmp_path / name) for name in "ab"]
    for other in (method_of("default", streams=3), method_of("fast"), method_of("best", streams=2)):
        with pytest.raises(UsageError, match="these options mean"):
            compress(members, out, method=other, resume=True)
    compress(members, out, method=method, resume=True)
    assert contents(out)[0] == TEXT + TEXT[9:]


def test_a_file_whose_first_blocks_an_interrupted_writer_left_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr("sttx_train.coding.codec._STREAM_BYTES", 60)
    monkeypatch.setattr("sttx_train.coding.codec._LEAST_PIECE", 20)
    files, method = {"a": TEXT[:50], "b": TEXT, "c": TEXT[:30]}, method_of("default", streams=2)
    out = archive_of(tmp_path, files, method)
    with Archive(out) as archive, out.open("rb") as file:
        heads = list(container.walk(file, archive.segments[0]))
    first = next(number for number, (_, head) in enumerate(heads) if head.kind == container.FILE)
    assert {head.file for _, head in heads[:first]} == {0, 1}
    out.write_bytes(out.read_bytes()[: heads[first + 1][0]])
    compress([Member(name=name, path=tmp_path / name) for name in files], out, method=method, resume=True)
    found, damage = contents(out)
    assert found == b"".join(files.values()) and not damage.lost


def test_a_batch_larger_than_any_is_damage(tmp_path, monkeypatch):
    out = archive_of(tmp_path, {"a": TEXT, "b": TEXT}, method_of("default", streams=2))
    assert contents(out)[0] == 2 * TEXT
    monkeypatch.setattr("sttx_train.coding.codec._STREAM_BYTES", len(TEXT) - 1)
    monkeypatch.setattr(lanes.Lanes, "decode", lambda *_, **__: pytest.fail("decoded"))
    assert contents(out)[1].lost == ("a", "b")


@pytest.mark.filterwarnings("ignore:the state in")
def test_what_was_learned_is_needed_to_decode(tmp_path):
    first, second = state_file(tmp_path, seed=1), state_file(tmp_path, seed=2)
    for level in ("default", "best"):
        (tmp_path / level).mkdir()
        out = archive_of(tmp_path / level, {"a": TEXT}, method_of(level, checkpoint=first))
        assert contents(out, checkpoint=first)[0] == TEXT
        for needs, said in (({}, "name the run"), ({"checkpoint": second}, "another checkpoint")):
            with Archive(out, **needs) as archive, pytest.raises(DataError, match=said):
                archive.read(archive.entries, lambda _: pytest.fail("decoded"))


def test_another_model_is_refused_before_decoding(tmp_path, tiny):
    other = str(tiny().path)
    for folder, model, wrong in (("own", None, other), ("other", other, None)):
        (tmp_path / folder).mkdir()
        out = archive_of(tmp_path / folder, {"a": TEXT}, method_of("default", model=model))
        assert contents(out, model=model)[0] == TEXT
        with Archive(out, model=wrong) as archive, pytest.raises(DataError, match="another model"):
            archive.read(archive.entries, lambda _: pytest.fail("decoded"))
    needs = {"model": other, "checkpoint": "run"}
    with Archive(out, **needs) as archive, pytest.raises(UsageError, match="leave out --checkpoint"):
        archive.read(archive.entries, lambda _: pytest.fail("decoded"))


def test_this_processor_computes_what_archives_need():
    """If this fails, archives that were written before cannot be read: see the versions in `method`."""
    assert vector.computes_as_expected()
    assert (
        vector.payloads_sha256(method_of(method="mini+experts", streams=3)) == vector.EXPECTED["mini+experts"]
    )
    other = method_of(method="mini+experts", streams=1)
    assert vector.payloads_sha256(other) != vector.EXPECTED["mini+experts"]


@pytest.mark.parametrize(("capability", "threads"), [("default", "2"), ("avx2", "1"), ("avx512", "2")])
def test_another_process_with_other_settings_computes_the_same(capability, threads):
    settings = {"ATEN_CPU_CAPABILITY": capability, "OMP_NUM_THREADS": threads}
    code = "from sttx_train.coding import vector; assert vector.computes_as_expected()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
