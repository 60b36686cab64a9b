"""The user's own rules, allow-list and switches, and the errors for an invalid file."""

import random

import pytest

from sttx_ccsniff.redact import RedactionConfig, Redactor, Rule, read_config
from sttx_ccsniff.redact.samples import sample
from sttx_core.errors import UsageError
from sttx_core.traces import Meta, UserMessage


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STTX_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def configured(tmp_path):
    """Return a function that redacts a text by the rules of a TOML file and returns text and counts."""

    def redacted(toml, text):
        path = tmp_path / "rules.toml"
        path.write_text(toml)
        redactor = Redactor(read_config(path))
        trace = redactor.redact(UserMessage(meta=Meta(session="s"), text=text))
        assert isinstance(trace, UserMessage)
        return trace.text, dict(redactor.counts)

    return redacted


OWN = """
[[rule]]
name = "acme-key"
regex = 'acme_[a-z0-9]{12}'
keywords = ["ACME_"]
"""


def test_a_rule_of_the_user(configured):
    text, counts = configured(OWN, "use acme_q7zk2mx9vb4t or acme_short")
    assert counts == {"acme-key": 1}
    assert text.startswith("use [REDACTED acme-key ") and text.endswith("] or acme_short")


def test_a_rule_redacts_its_group_and_can_require_entropy(configured):
    toml = "[[rule]]\nname = 'pin'\nregex = 'pin (?P<secret>\\d+)'\nentropy = 1.5\n"
    assert configured(toml, "pin 111111, pin 839201")[0].startswith("pin 111111, pin [REDACTED pin ")


def test_allowed_values_stay(configured):
    token = sample("npm-token", random.Random(1)).secret
    other = sample("npm-token", random.Random(2)).secret
    text = f"{token} {other}"
    assert configured(f"[allow]\nvalues = ['{token}']", text)[0].startswith(f"{token} [REDACTED")
    assert configured(f"[allow]\nregexes = ['^npm_{other[4:9]}']", text)[0].endswith(f"] {other}")


def test_disabled_rules_redact_nothing(configured):
    token = sample("npm-token", random.Random(1)).secret
    text = f"{token} ada@lovelace.org /home/lovelace/x password: hunter22"
    rules = ["npm-token", "email", "home-path", "assignment"]
    assert configured(f"[disable]\nrules = {rules}", text) == (text, {})
    assert set(configured("", text)[1]) == set(rules)


def test_ip_addresses_can_be_enabled(configured):
    assert configured("ip_addresses = true", "at 8.8.8.8")[1] == {"ip-address": 1}


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("rule = 1", r"rule: write each rule as a table under \[\[rule\]\]"),
        ("[[rule]]\nregex = 'x'", "has no name"),
        ("[[rule]]\nname = 'acme'", "rule 'acme': it has no regex"),
        ("[[rule]]\nname = 'acme'\nregex = '('", "rule 'acme': '\\(' is not a valid regex"),
        ("[[rule]]\nname = 'acme'\nregex = 'x*'", "rule 'acme': its regex matches the empty text"),
        ("[[rule]]\nname = 'A b'\nregex = 'x'", "rule 'A b': use lower-case letters"),
        ("[[rule]]\nname = 'email'\nregex = 'x'", "rule 'email': a rule has this name already"),
        ("[[rule]]\nname = 'acme'\nregex = 'x'\nkeyword = 'x'", "rule 'acme': 'keyword' is unknown"),
        ("[[rule]]\nname = 'acme'\nregex = 'x'\nkeywords = 'x'", "keywords must be a list of strings"),
        ("[[rule]]\nname = 'acme'\nregex = 'x'\nkeywords = ['é']", "keywords must be ASCII"),
        ("[[rule]]\nname = 'acme'\nregex = 'x'\nentropy = true", "entropy must be a number"),
        ("[allow]\nvalues = 'x'", r"\[allow\]: values must be a list of strings"),
        ("[allow]\nregexes = ['(']", "allow: '\\(' is not a valid regex"),
        ("allow = []", r"allow: write it as a table"),
        ("[disable]\nrules = ['npm-tokn']", "there is no rule 'npm-tokn'; did you mean 'npm-token'"),
        ("[disable]\nrules = ['zzzzzz']", "there is no rule 'zzzzzz'; docs/redaction.md"),
        ("ip_addresses = 1", "ip_addresses: give true or false, not 1"),
        ("ip_adresses = true", "the file: 'ip_adresses' is unknown"),
        ("= x", "are not valid TOML"),
    ],
)
def test_an_invalid_file_is_refused_with_its_path(tmp_path, toml, message):
    path = tmp_path / "rules.toml"
    path.write_text(toml)
    with pytest.raises(UsageError, match=message) as refused:
        read_config(path)
    assert repr(str(path)) in str(refused.value)


def test_a_file_that_does_not_exist_or_is_not_text(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read redaction rules .*none\.toml"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="are not valid TOML"):
        read_config(tmp_path / "bytes.toml")


def test_a_config_made_in_python():
    config = RedactionConfig(
        rules=(Rule(name="acme-key", regex="acme_[a-z]{9}"),), disable=frozenset({"email"})
    )
    trace = Redactor(config).redact(UserMessage(meta=Meta(session="s"), text="acme_abcdefghi a.da@love.org"))
    assert isinstance(trace, UserMessage)
    assert trace.text.startswith("[REDACTED acme-key ") and trace.text.endswith(" a.da@love.org")
