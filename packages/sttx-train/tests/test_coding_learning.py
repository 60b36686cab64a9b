"""Networks that learn while they code: policies, what is saved and taken up, and where archives decode."""

import contextlib
import io

import numpy as np
import pytest
import torch

from sttx_core.errors import CheckpointError, DataError, SttxWarning, UsageError
from sttx_core.experts import rows_without_experts
from sttx_train import Predictor
from sttx_train.coding import Archive, CompressConfig, Member, compress, lanes, method_of, vector
from sttx_train.coding.codec import new_codec
from sttx_train.coding.extract import ToStream
from sttx_train.coding.learning import LearningRows, check_fingerprint, digest_of, fingerprint
from sttx_train.coding.networks import NetworkRows, load_networks
from sttx_train.online import LearnerConfig
from sttx_train.online.policy import Policy
from sttx_train.stream import StreamConfig, StreamTrainer

TEXT = vector.TEXT
NATIVE = {"profile": "native"}
CFG = "cfg:hidden=64,layers=1,intermediate=64,seed=3"


def policy(options="", load_from=None):
    text = f"schedule=0..:train({options})" if options else "schedule=0..:train"
    return Policy.parse(text if load_from is None else f"{text};load_from={load_from}")


def archive_of(folder, files, method, resume=False, **options):
    members = []
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
        members.append(Member(name=name, path=folder / name))
    compress(members, folder / "a.sttx", method=method, resume=resume, **options)
    return folder / "a.sttx"


def contents(path, **needs):
    again = io.BytesIO()
    with Archive(path, **needs) as archive:
        damage = archive.read(archive.entries, lambda _: ToStream(again))
    assert not damage.lost
    return again.getvalue()


def payloads(path, name):
    """Return the coded bytes of a file, by the heads of its blocks."""
    from sttx_train.coding import container

    with Archive(path) as archive, path.open("rb") as file:
        number = archive.named([name])[0].number
        heads = list(container.walk(file, archive.segments[0]))
        chosen = [(at, head) for at, head in heads if head.kind == container.BLOCK and head.file == number]
        return [container.read_payload(file, at, head) for at, head in chosen]


def said(rows, ids, start=True):
    """Return what rows say after each token of a document."""
    if start:
        rows.start(1)
        rows.set_place(0, None)
    return np.concatenate([rows.step(np.array([token])) for token in ids])


def ids_of(loaded, data=TEXT):
    return [loaded.tokenizer.eot_id, *loaded.tokenizer.encode_bytes(data)]


@pytest.mark.parametrize(
    ("method", "coder"),
    [
        ("MODEL+experts;policy:schedule=0..10%:train(scope=state+bias,lr=0.05);10%..:infer", "ac"),
        ("MODEL+MODEL+experts;policy:schedule=0..:train(scope=all,opt=sgd,momentum=0.9,stride=2)", "rans"),
        ("MODEL;policy:schedule=0..300:infer;300..:repeat(64:train(scope=vectors,clip=0.5),64:infer)", "ac"),
        (f"{CFG},train=adam,lr=0.01", "rans"),
        (f"{CFG}+experts;policy:schedule=0..:train(scope=all)", "ac"),
    ],
)
def test_a_network_that_learns_codes_and_decodes_here_only(tmp_path, tiny, monkeypatch, method, coder):
    model = str(tiny().path)
    chosen = method_of(method=method.replace("MODEL", f"file:{model}"), **NATIVE)
    needs = {} if chosen.random else {"model": model}
    files, config = {"a": 2 * TEXT, "b": TEXT}, CompressConfig(coder=coder)
    outs = [archive_of(tmp_path / name, files, chosen, config=config) for name in ("one", "two")]
    assert [payloads(outs[0], name) for name in files] == [payloads(outs[1], name) for name in files]
    assert contents(outs[0], **needs) == contents(outs[1], **needs) == 3 * TEXT
    with Archive(outs[0]) as archive:
        header = archive.header
    assert (header["profile"], header["network"]["streams"], "%" in header["method"]) == ("native", 1, False)
    torch.set_num_threads(threads := torch.get_num_threads() + 1)
    with Archive(outs[0], **needs) as archive, pytest.raises(DataError, match=f"with {threads} threads here"):
        archive.read(archive.entries, lambda _: pytest.fail("decoded"))
    torch.set_num_threads(threads - 1)
    nudge = LearningRows.step
    monkeypatch.setattr(LearningRows, "step", lambda *args: np.nextafter(nudge(*args), np.float32(0)))
    with Archive(outs[0], **needs) as archive, pytest.raises(DataError, match="compute other numbers"):
        archive.read(archive.entries, lambda _: pytest.fail("decoded"))


@pytest.mark.parametrize("changed", ["torch", "processor", "threads", "probe"])
def test_each_part_of_a_fingerprint_must_be_the_same(tiny, changed):
    found = fingerprint(tiny(), TEXT, policy())
    check_fingerprint(found, fingerprint(tiny(), TEXT, policy()))
    with pytest.raises(DataError, match="decompress it where it was made"):
        check_fingerprint({**found, changed: "other"}, found)
    with pytest.raises(DataError, match="lacks the fingerprint"):
        check_fingerprint({"probe": found["probe"]}, found)


def test_a_fingerprint_is_of_exact_logits_and_of_each_way_to_learn(tiny, monkeypatch):
    ways = ("", "lr=0.1", "scope=bias", "scope=all,opt=sgd")
    probes = [fingerprint(tiny(), TEXT, policy(options))["probe"] for options in ways]
    assert len(set(probes)) == len(ways)
    late = Policy.parse("schedule=0..100000:infer;100000..:train(scope=bias)")
    assert fingerprint(tiny(), TEXT, late)["probe"] == probes[2]
    step = LearningRows.step
    monkeypatch.setattr(LearningRows, "step", lambda *args: np.nextafter(step(*args), np.float32(0)))
    assert fingerprint(tiny(), TEXT, policy())["probe"] != probes[0]


def test_learning_changes_what_a_network_says_after_a_window(tiny):
    still, learning = (
        NetworkRows(load_networks(str(tiny().path), None).frozen),
        LearningRows(tiny(), policy()),
    )
    ids = ids_of(tiny(), TEXT[:140])
    still.start(1)
    frozen = np.concatenate([still.step(np.array([token]))[:, :257] for token in ids])
    one, other = (np.exp(logits - logits.max(1, keepdims=True)) for logits in (frozen, said(learning, ids)))
    difference = np.abs(one / one.sum(1, keepdims=True) - other / other.sum(1, keepdims=True)).max(1)
    assert difference[:60].max() < 1e-5 < difference[70:].max()


def test_a_policy_decides_at_each_window(tiny):
    def learned(text):
        rows, steps = LearningRows(tiny(), Policy.parse(text)), []
        learner = rows._predictor.learner
        before = {name: tensor.detach().clone() for name, tensor in learner.trainable().items()}
        for token in ids_of(tiny(), 3 * TEXT):
            said(rows, [token], start=False)
            if rows._windows > len(steps):
                now = {name: tensor.detach().clone() for name, tensor in learner.trainable().items()}
                steps.append(
                    {name for name in ("s0", "bias") if name in now and (now[name] != before[name]).any()}
                )
                before = now
        return steps

    assert learned("schedule=0..128:train(scope=bias);128..:infer")[:5] == [{"bias"}, {"bias"}, *[set()] * 3]
    assert learned("schedule=0..:train(stride=3)")[:4] == [{"s0"}, set(), set(), {"s0"}]
    turns = learned("schedule=0..:repeat(64:train(scope=bias),64:train)")
    assert turns[:4] == [{"bias"}, {"s0"}, {"bias"}, {"s0"}]


@pytest.mark.parametrize("scope", ["state", "bias", "vectors", "all"])
def test_a_codec_starts_from_a_frozen_snapshot_in_any_order(tiny, scope):
    codec = new_codec(
        method_of(method=f"file:{tiny().path}", policy=f"schedule=0..:train(scope={scope})", **NATIVE), "ac"
    )

    def encode():
        codec.start_segment()
        [(tokens, payload)] = codec.encode([(0, 2 * TEXT)], lambda _: None)
        return tokens, payload

    def decode(coded):
        codec.start_segment()
        return codec.decode([(0, *coded)], lambda _: None)

    first = encode()
    assert decode(first) == [2 * TEXT]
    assert encode() == first == encode()
    assert decode(first) == decode(first) == [2 * TEXT]


@pytest.mark.parametrize(
    "options", ["scope=all", "scope=state+bias,lr=0.05", "scope=bias,opt=sgd,momentum=0.9,lr=0.1"]
)
def test_to_save_and_go_on_equals_never_having_stopped(tiny, tmp_path, options):
    whole, first = (LearningRows(tiny(), policy(options)) for _ in range(2))
    documents = [ids_of(tiny(), 2 * TEXT), ids_of(tiny(), TEXT[::-1])]
    expected = [said(whole, ids) for ids in documents]
    assert np.array_equal(said(first, documents[0]), expected[0])
    first.save(tmp_path / "learned")
    loaded = load_networks(str(tiny().path), str(tmp_path / "learned"), learns=True)
    again = LearningRows(loaded.base, policy(options), loaded.start)
    assert np.array_equal(said(again, documents[1]), expected[1])
    fresh = LearningRows(tiny(), policy(options))
    assert not np.array_equal(said(fresh, documents[1]), expected[1])
    assert loaded.learned == digest_of(loaded.start)


def test_an_archive_goes_on_from_what_another_one_learned(tiny, tmp_path):
    model, files = str(tiny().path), {"a": 2 * TEXT, "b": TEXT[::-1]}
    method = f"file:{model};policy:schedule=0..:train(scope=all)"
    both = archive_of(tmp_path / "both", files, method_of(method=method, **NATIVE))
    learned = tmp_path / "learned"
    archive_of(tmp_path / "a", {"a": files["a"]}, method_of(method=method, **NATIVE), save_learned=learned)
    second = archive_of(
        tmp_path / "b", {"b": files["b"]}, method_of(method=f"{method};load_from={learned}", **NATIVE)
    )
    assert payloads(second, "b") == payloads(both, "b")
    assert contents(second, model=model, checkpoint=str(learned)) == files["b"]
    with Archive(second) as archive:
        assert archive.header["method"].endswith(";load_from=learned")
        assert len(archive.header["network"]["learned"]) == 64
    with Archive(second, model=model) as archive, pytest.raises(DataError, match="what a run learned"):
        archive.read(archive.entries, lambda _: pytest.fail("decoded"))
    with pytest.raises(UsageError, match="already holds a run"):
        archive_of(tmp_path / "c", files, method_of(method=method, **NATIVE), save_learned=learned)
    with pytest.raises(UsageError, match="keep nothing"):
        archive_of(tmp_path / "d", files, method_of("fast"), save_learned=tmp_path / "e")
    assert Predictor(tiny(), learned).learner.config.scope == ("all",)


def test_load_from_takes_a_run_of_training_and_training_takes_what_coding_learned(tiny, tmp_path, talk):
    def trainer(directory=None, scope=("bias",), **stream):
        return StreamTrainer(
            tiny(),
            LearnerConfig(scope=scope, phrases="off", frozen=False),
            StreamConfig(experts="off", checkpoint_every=0, **stream),
            directory=directory,
        )

    trainer(tmp_path / "run", steps=3).run(talk(24))
    method = f"file:{tiny().path};policy:schedule=0..:train(scope=bias);load_from={tmp_path / 'run'}"
    out, learned = tmp_path / "x", tmp_path / "learned"
    archive_of(out, {"a": TEXT}, method_of(method=method, **NATIVE), save_learned=learned)
    assert contents(out / "a.sttx", model=str(tiny().path), checkpoint=str(tmp_path / "run")) == TEXT
    again = trainer(policy=f"schedule=0..:train;load_from={learned}")
    before = again.learner.bias.detach().clone()
    assert torch.equal(before, Predictor(tiny(), learned).learner.bias) and before.any()
    assert again.learner.optimizer.state
    with pytest.raises(UsageError, match="another scope than state"):
        trainer(scope=("state",), policy=f"schedule=0..:train;load_from={learned}")
    with pytest.raises(UsageError, match="no checkpoint"):
        trainer(policy=f"schedule=0..:train;load_from={tmp_path / 'none'}")


@pytest.mark.parametrize("profile", ["portable", "native"])
def test_a_run_with_outer_steps_is_used_without_them_and_that_is_said(tiny, tmp_path, talk, profile):
    model = str(tiny().path)
    for rate in (0.0, 0.5):
        run = tmp_path / f"run{rate}"
        learning = LearnerConfig(scope=("bias",), phrases="off", replay_rows=0, state_lr=rate)
        StreamTrainer(tiny(), learning, StreamConfig(window=16, steps=3, experts="off"), directory=run).run(
            talk(8)
        )
        needs = {"model": model, "checkpoint": str(run)}
        chosen = method_of("network", **needs)
        if profile == "native":
            method = f"file:{model};policy:schedule=0..:train(scope=bias);load_from={run}"
            chosen = method_of(method=method, **NATIVE)
        said = pytest.warns(SttxWarning, match="took outer steps") if rate else contextlib.nullcontext()
        with said:
            out = archive_of(tmp_path / f"x{rate}", {"a": TEXT}, chosen)
        assert contents(out, **needs) == TEXT  # a warning would be an error


@pytest.mark.parametrize("method", ["MODEL", "MODEL+MODEL+experts"])
def test_an_archive_is_continued_in_the_middle_of_its_schedule(tiny, tmp_path, method):
    model, text = (
        str(tiny().path),
        ";policy:schedule=0..300:train(scope=all);300..:repeat(100:infer,70:train)",
    )
    files = {"a": TEXT, "b": TEXT[::-1], "c": 2 * TEXT}
    learns = method_of(method=method.replace("MODEL", f"file:{model}") + text, **NATIVE)
    whole = archive_of(tmp_path / "whole", files, learns)
    out = tmp_path / "part"
    for count in (1, 2):  # the second time it was interrupted: its index is lost
        archive_of(out, dict(list(files.items())[:count]), learns, resume=count > 1)
    part = out / "a.sttx"
    part.write_bytes(part.read_bytes()[:-30])
    archive_of(out, files, learns, resume=True)
    assert contents(part, model=model) == b"".join(files.values())
    assert [payloads(part, name) for name in files] == [payloads(whole, name) for name in files]
    with Archive(part) as archive:
        assert len(archive.segments) == 1


def test_an_archive_goes_on_after_blocks_of_a_file_that_was_not_finished(tiny, tmp_path, monkeypatch):
    from sttx_train.coding import container

    monkeypatch.setattr("sttx_train.coding.codec._STREAM_BYTES", 120)
    model, files = str(tiny().path), {"a": TEXT[:100], "b": TEXT, "c": TEXT[::-1]}
    learns = method_of(method=f"file:{model};policy:schedule=0..:train(scope=bias)", **NATIVE)
    out = archive_of(tmp_path / "x", files, learns)
    with Archive(out) as archive, out.open("rb") as file:
        heads = list(container.walk(file, archive.segments[0]))
    first = next(number for number, (_, head) in enumerate(heads) if head.kind == container.FILE)
    assert {head.file for _, head in heads[:first]} == {0, 1}
    out.write_bytes(out.read_bytes()[: heads[first + 1][0]])
    archive_of(tmp_path / "x", files, learns, resume=True)
    assert contents(out, model=model) == b"".join(files.values())
    with Archive(out) as archive:
        assert ([entry.number for entry in archive.entries], len(archive.segments)) == ([0, 2, 3], 1)


def test_percentages_are_of_the_files_and_need_their_size(tiny, tmp_path):
    text = f"file:{tiny().path};policy:schedule=0..25%:train;25%..:infer"
    out = archive_of(tmp_path / "x", {"a": 400 * b"a", "b": 400 * b"b"}, method_of(method=text, **NATIVE))
    with Archive(out) as archive:
        assert "schedule=0..200:train;200..:infer" in archive.header["method"]
    with pytest.raises(UsageError, match="known size"):
        stdin, method = io.BytesIO(), method_of(method=text, **NATIVE)
        compress([Member(name="stdin", path=None)], io.BytesIO(), method=method, stdin=stdin)


@pytest.mark.parametrize("coder", ["ac", "rans"])
@pytest.mark.parametrize("network", ["frozen", "learning"])
def test_code_length_is_what_the_network_says(tiny, coder, network):
    loaded = load_networks(str(tiny().path), None)

    class Noted:
        """Rows that sum the bits of what they said of the next token."""

        def __init__(self, rows):
            self.rows, self.bits, self.logits = rows, 0.0, None

        def __getattr__(self, name):
            return getattr(self.rows, name)

        def step(self, ids):
            self._pay(int(ids[0]))
            self.logits = self.rows.step(ids)
            return self.logits.copy()

        def _pay(self, token):
            if self.logits is not None:
                found = self.logits[0, : len(loaded.tokens)].astype(np.float64)
                self.bits += np.log2(np.exp(found - found[token]).sum())

    rows = LearningRows(tiny(), policy("scope=all")) if network == "learning" else NetworkRows(loaded.frozen)
    noted, ids = Noted(rows), np.array(ids_of(tiny(), 6 * TEXT)[1:])
    coded = lanes.Lanes(rows_without_experts(loaded.tokens, 1, coder), [noted], 1, loaded.tokenizer.eot_id)
    [payload] = coded.encode([ids], goes_on=False, advance=len)
    noted._pay(int(ids[-1]))
    assert noted.bits - 8 <= 8 * len(payload) <= 1.001 * noted.bits + 64


def test_a_checkpoint_of_coding_that_is_damaged_is_refused(tiny, tmp_path):
    rows = LearningRows(tiny(), policy("scope=bias"))
    said(rows, ids_of(tiny()))
    folder = rows.save(tmp_path / "learned")
    (folder / "learned.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="learned.safetensors"):
        load_networks(str(tiny().path), str(tmp_path / "learned"), learns=True)
