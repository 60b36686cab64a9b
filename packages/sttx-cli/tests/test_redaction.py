"""`--no-redact` and `--redact-rules`: what they do, what they print, and where the counts appear."""

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
    text = f"Publish with {TOKEN}, then with acme_q7zk2mx9vb4t. " * 40
    hello = {"type": "user", "uuid": "1", "message": {"role": "user", "content": text}, **meta}
    path = tmp_path / "leaky.jsonl"
    path.write_text(json.dumps(hello) + "\n")
    return path


@pytest.fixture
def rules(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text("[[rule]]\nname = 'acme-key'\nregex = 'acme_[a-z0-9]{12}'\n")
    return path


def test_counts_by_rule_are_shown(sttx, leaky, rules):
    assert sttx("validate-data", leaky, "--json").json["redacted"] == {"npm-token": 40}
    result = sttx("validate-data", leaky, "--redact-rules", rules)
    assert result.code == 0, result.err
    assert "redacted       40  acme-key\n               40  npm-token\n" in result.out


@pytest.mark.parametrize("command", ["validate-data", "traces"])
def test_no_redact_prints_a_warning(sttx, leaky, command):
    result = sttx(command, leaky, "--no-redact", "--json")
    assert result.code == 0, result.err
    assert "warning: redaction is off (--no-redact): keys, tokens, passwords" in result.err
    assert ("npm_" in result.out) == (command == "traces")
    assert "redaction is off" not in sttx(command, leaky, "--json").err


def test_the_stream_of_traces_is_redacted(sttx, leaky):
    result = sttx("traces", leaky, "--json")
    assert "npm_" not in result.out and result.out.count("[REDACTED npm-token ") == 40


@pytest.mark.parametrize("command", ["validate-data", "traces"])
def test_invalid_rules_are_refused(sttx, leaky, rules, tmp_path, command):
    result = sttx(command, leaky, "--no-redact", "--redact-rules", rules)
    assert result.code == 2 and "--redact-rules would have no effect" in result.err
    rules.write_text("ip = 1")
    result = sttx(command, leaky, "--redact-rules", rules)
    assert result.code == 2 and "'ip' is unknown" in result.err and str(rules) in result.err
    result = sttx(command, leaky, "--redact-rules", tmp_path / "none.toml")
    assert result.code == 2 and "none.toml" in result.err


def test_a_run_reports_what_it_redacted(sttx, leaky, tiny_model, tmp_path):
    what = ["train", "--from", leaky, "--model", tiny_model, "--device", "cpu"]
    what += ["--window", "64", "--steps", "2"]
    result = sttx(*what, "--checkpoint-dir", tmp_path / "a", "--json")
    assert result.code == 0, result.err
    assert result.json["source"]["redacted"] == {"npm-token": 40}
    assert "Redacted in this run: 40 (npm-token 40)." in result.err
    result = sttx(*what, "--checkpoint-dir", tmp_path / "b", "--json", "--no-redact")
    assert result.code == 0, result.err
    assert result.json["source"]["redacted"] == {}
    assert "redaction is off" in result.err and "Redacted in" not in result.err
