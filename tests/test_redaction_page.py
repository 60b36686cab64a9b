"""docs/redaction.md lists every rule, and its TOML example works."""

import importlib.util
import random
import re
from pathlib import Path

import pytest

from sttx_ccsniff.redact import PLACEHOLDER, Redactor, described_rules, read_config
from sttx_core.traces import Meta, UserMessage

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "redaction.md"
EXAMPLE = ROOT / "examples" / "redaction.toml"


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("redaction_page", ROOT / "docs" / "redaction.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_matches_the_rules(generator):
    assert PAGE.read_text() == generator.page(PAGE.read_text()), "run `uv run python docs/redaction.py`"


def test_every_rule_has_a_complete_row(generator):
    rows = [
        line
        for line in generator.table().splitlines()[2:]
        if re.fullmatch(r"\| `[a-z-]+` \| .+ \| .+ \|", line)
    ]
    assert len(rows) == len(described_rules()) > 80


def test_the_page_shows_the_example_file():
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block == EXAMPLE.read_text()


def test_the_example_works(tmp_path, monkeypatch):
    monkeypatch.setenv("STTX_CACHE_DIR", str(tmp_path))
    key = "acme_" + "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=24))
    text = f"{key} ghp_{'0' * 36} ada@lovelace.org 8.8.8.8 192.168.0.1"
    redactor = Redactor(read_config(EXAMPLE))
    trace = redactor.redact(UserMessage(meta=Meta(session="s"), text=text))
    assert isinstance(trace, UserMessage)
    assert redactor.counts == {"acme-key": 1, "ip-address": 1}
    assert PLACEHOLDER.sub("_", trace.text) == f"_ ghp_{'0' * 36} ada@lovelace.org _ 192.168.0.1"


def test_the_page_shows_valid_placeholders():
    shown = re.findall(r"`(\[[^`]+\])`", PAGE.read_text().partition("## Your own rules")[0])
    assert len(shown) == 5
    assert all(PLACEHOLDER.fullmatch(text) for text in shown)
