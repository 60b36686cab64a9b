"""`sttx score`: what sessions cost, trace by trace and token by token."""

import json
import math

import pytest
import torch

from sttx_ccsniff import open_source
from sttx_cli.commands import score
from sttx_core.render import render
from sttx_core.traces import trace_type
from sttx_train import load_model, save_state

KEYS = {"session", "document", "type", "tool", "uid", "bytes", "bits", "network_bits", "frozen_bits"}


@pytest.fixture
def lines(sttx, sessions, tiny_model):
    """Return a function that scores the sessions with further arguments, and parses the lines."""

    def run(*arguments):
        result = sttx("score", sessions, "--model", tiny_model, "--json", *arguments)
        assert result.code == 0, result.err
        return [json.loads(line) for line in result.out.splitlines()]

    return run


def test_the_json_contract(lines, sessions):
    rows = lines("--tokens")
    with open_source(str(sessions)) as source:
        traces = list(source)
    assert len(rows) == len(traces) == 96
    for row, trace in zip(rows, traces, strict=True):
        assert row.keys() == KEYS | {"tokens"}
        names = (row["session"], row["document"], row["type"], row["tool"], row["uid"])
        tool = getattr(trace, "name", "")
        assert names == (trace.meta.session, trace.document, trace_type(trace), tool, trace.meta.uid)
        texts, bits, frozen = zip(*row["tokens"], strict=True)
        assert "".join(texts) == render(trace) and row["bytes"] == len(render(trace))
        assert math.isclose(sum(bits), row["bits"]) and math.isclose(sum(frozen), row["frozen_bits"])
        assert row["network_bits"] == row["frozen_bits"]
    paid, frozen = (sum(row[name] for row in rows[48:]) for name in ("bits", "frozen_bits"))
    assert paid < 0.3 * frozen, "the experts know the repeats"


def test_the_table_sums_the_lines(sttx, lines, sessions, tiny_model):
    rows = lines("--experts", "off", "--batch", 50)
    result = sttx("score", sessions, "--model", tiny_model, "--experts", "off")
    title, heads, *table = result.out.splitlines()
    assert title.startswith(f"bits per byte of 96 traces of 2 sessions in file {sessions}")
    assert heads.split() == ["session", "traces", "bytes", "paid", "network", "frozen"]
    for line, name in zip(table, ["one", "two", "(total)"], strict=False):
        of = [row for row in rows if name in (row["session"], "(total)")]
        size, bits = sum(row["bytes"] for row in of), sum(row["bits"] for row in of)
        assert line.split()[:3] == [name, str(len(of)), f"{size:,}"]
        assert [float(word) for word in line.split()[3:]] == pytest.approx([bits / size] * 3, abs=0.002)
    assert table[3:5] == ["", "most surprising for their length"]
    assert len(table[6:]) == 5 and all(line.split()[0] in ("one", "two") for line in table[6:])


def test_states_that_learn_while_they_are_read(lines, finished):
    plain, outer = lines("--experts", "off"), lines("--experts", "off", "--state-lr", 0.1)
    short = lines("--experts", "off", "--state-lr", 0.1, "--batch", 70)
    for row, other, part in zip(outer, plain, short, strict=True):
        assert row["frozen_bits"] == pytest.approx(other["bits"], rel=1e-4)
        assert row["bits"] == row["network_bits"] == pytest.approx(part["bits"], rel=1e-3)
    assert sum(row["bits"] for row in outer) != pytest.approx(sum(row["bits"] for row in plain), rel=1e-4)
    assert lines("--experts", "off", "--state-lr", 0) == plain
    own, still = lines("--checkpoint", finished), lines("--checkpoint", finished, "--state-lr", 0)
    assert own == still, "this run took no outer steps"
    assert lines("--checkpoint", finished, "--state-lr", 0.1) != own


def test_a_decay_needs_a_rate_in_the_options_or_the_run(sttx, finished, tiny_model, sessions):
    line = ("score", sessions, "--model", tiny_model, "--checkpoint", finished, "--state-decay", 0.5)
    refused = sttx(*line)
    assert refused.code == 2 and "--state-decay would have no effect" in " ".join(refused.err.split())
    assert sttx(*line, "--state-lr", 0.1, "--experts", "off").code == 0


def test_with_what_a_run_has_learned(lines, finished):
    plain = lines("--experts", "off")
    learned = lines("--checkpoint", finished / "latest", "--experts", "off")
    for row, other in zip(learned, plain, strict=True):
        assert row["frozen_bits"] == pytest.approx(other["bits"], abs=1e-2)
        assert row["bits"] == row["network_bits"] != row["frozen_bits"]


def test_with_a_tuned_state(lines, tiny_model, tmp_path):
    config = load_model(tiny_model).model.config
    heads, size = config.num_heads, config.head_size
    s0 = 0.3 * torch.randn(2, heads, size, size, generator=torch.Generator().manual_seed(0))
    save_state(s0, tmp_path / "tuned.safetensors")
    rows = lines("--state", tmp_path / "tuned.safetensors", "--experts", "off")
    assert abs(rows[0]["bits"] - rows[0]["frozen_bits"]) > 0.1


def test_bytes_that_are_no_whole_character(sttx, tiny_model, tmp_path):
    record = {"type": "user", "uuid": "1", "sessionId": "s", "message": {"role": "user", "content": "é"}}
    (tmp_path / "s.jsonl").write_text(json.dumps(record))
    line = ["score", tmp_path / "s.jsonl", "--model", tiny_model, "--experts", "off", "--json", "--tokens"]
    texts = [text for text, *_ in sttx(*line).json["tokens"]]
    assert texts[6:8] == ["\\xc3", "\\xa9"]


@pytest.mark.parametrize("off", [False, True])
def test_secrets_are_redacted_unless_asked_not_to(sttx, tiny_model, tmp_path, off):
    secret = "ghp_" + "a1B2c3D4e5F6" * 3
    content = {"role": "user", "content": f"the token is {secret}"}
    record = {"type": "user", "uuid": "1", "sessionId": "s", "message": content}
    (tmp_path / "s.jsonl").write_text(json.dumps(record))
    line = ["score", tmp_path / "s.jsonl", "--model", tiny_model, "--experts", "off", "--json", "--tokens"]
    result = sttx(*line, *(["--no-redact"] if off else []))
    assert (secret in "".join(text for text, *_ in result.json["tokens"])) is off
    assert ("redaction is off" in result.err) is off


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("--tokens", 2, "--tokens would have no effect: it goes with --json; leave it out"),
        ("--state-decay 0.1", 2, "--state-decay would have no effect: there is no offset without --state-lr"),
        ("--state-lr 0 --state-decay 0.1", 2, "--state-decay would have no effect"),
        ("--state-lr -1", 2, "--state-lr must be a number of 0 or more, not -1.0"),
        ("--state-lr 1 --state-decay 0", 2, "--state-decay must be above 0 and at most 1, not 0.0"),
        ("--checkpoint RUN --state STATE", 2, "both --checkpoint and --state are given"),
        ("--state MISSING.pth", 2, "no tuned state at"),
        ("--state SESSIONS", 2, "must end in '.safetensors', '.pth' or '.st'"),
        ("--checkpoint MISSING", 2, "no checkpoint at"),
        ("--checkpoint MODEL", 1, "no checkpoint in"),
        ("--batch 0", 2, "--batch"),
        ("--experts maybe", 2, "--experts"),
        ("MODEL", 2, "is a model, not a source of sessions: use --model"),
    ],
)
def test_mistakes_are_found_before_the_model_is_loaded(
    sttx, sessions, finished, tiny_model, tmp_path, monkeypatch, arguments, code, message
):
    monkeypatch.setattr(score, "load", None)
    places = {"RUN": finished, "MODEL": tiny_model, "SESSIONS": sessions, "MISSING": tmp_path / "no"}
    words = [
        str(places.get(word, word)).replace("MISSING", str(tmp_path / "no")) for word in arguments.split()
    ]
    result = sttx("score", sessions, *words)
    assert (result.code, result.out) == (code, "")
    assert message in result.err.splitlines()[-1] and "Traceback" not in result.err


def test_a_run_of_another_model_is_refused(sttx, sessions, finished, other_model):
    result = sttx("score", sessions, "--model", other_model, "--checkpoint", finished)
    assert (result.code, result.out) == (2, "")
    assert "was learned with another model" in result.err.splitlines()[-1]
