"""`--no-redact` and `--redact-rules`: what they do, what is said, and where the counts appear."""

import json
import random

import pytest

from sttx_ccsniff.redact.samples import sample

TOKEN = sample("npm-token", random.Random(1)).secret


@pytest.fixture
def leaky(tmp_path, monkeypatch):
    """Return a file of a session in which a person typed a token."""
    monkeypatch.setenv("STTX_CACHE_DIR", str(tmp_path / "cache"))
    meta = {"sessionId": "s", "timestamp": "2026-02-02T09:00:00Z", "cwd": "/srv/x"}
    said = f"Publish with {TOKEN}, then with acme_q7zk2mx9vb4t. " * 40
    hello = {"type": "user", "uuid": "1", "message": {"role": "user", "content": said}, **meta}
    path = tmp_path / "leaky.jsonl"
    path.write_text(json.dumps(hello) + "\n")
    return path


@pytest.fixture
def rules(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text("[[rule]]\nname = 'acme-key'\nregex = 'acme_[a-z0-9]{12}'\n")
    return path


def test_counts_by_rule_are_told(sttx, leaky, rules):
    assert sttx("validate-data", leaky, "--json").json["redacted"] == {"npm-token": 40}
    told = sttx("validate-data", leaky, "--redact-rules", rules)
    assert told.code == 0, told.err
    rows = {name.strip(): count for name, _, count in (row.rpartition(" ") for row in told.out.splitlines())}
    assert rows["redacted: npm-token"] == rows["redacted: acme-key"] == "40"


@pytest.mark.parametrize("command", ["validate-data", "traces"])
def test_without_redaction_it_says_aloud_what_it_does(sttx, leaky, command):
    told = sttx(command, leaky, "--no-redact", "--json")
    assert told.code == 0, told.err
    assert "warning: redaction is off (--no-redact): keys, tokens, passwords" in told.err
    assert ("npm_" in told.out) == (command == "traces")
    assert "redaction is off" not in sttx(command, leaky, "--json").err


def test_the_stream_of_traces_is_redacted(sttx, leaky):
    told = sttx("traces", leaky, "--json")
    assert "npm_" not in told.out and told.out.count("[REDACTED npm-token ") == 40


@pytest.mark.parametrize("command", ["validate-data", "traces"])
def test_what_makes_no_sense_is_refused(sttx, leaky, rules, tmp_path, command):
    told = sttx(command, leaky, "--no-redact", "--redact-rules", rules)
    assert told.code == 2 and "--redact-rules would have no effect" in told.err
    rules.write_text("ip = 1")
    told = sttx(command, leaky, "--redact-rules", rules)
    assert told.code == 2 and "'ip' is unknown" in told.err and str(rules) in told.err
    told = sttx(command, leaky, "--redact-rules", tmp_path / "none.toml")
    assert told.code == 2 and "none.toml" in told.err


def test_a_run_tells_what_it_took_out(sttx, leaky, tiny_model, tmp_path):
    what = ["train", "--ccsniff-from", leaky, "--model", tiny_model, "--device", "cpu"]
    what += ["--window", "64", "--steps", "2"]
    told = sttx(*what, "--checkpoint-dir", tmp_path / "a", "--json")
    assert told.code == 0, told.err
    assert told.json["source"]["redacted"] == {"npm-token": 40}
    assert "Redacted: 40 (npm-token 40)." in told.err
    told = sttx(*what, "--checkpoint-dir", tmp_path / "b", "--json", "--no-redact")
    assert told.code == 0, told.err
    assert told.json["source"]["redacted"] == {}
    assert "redaction is off" in told.err and "Redacted:" not in told.err
