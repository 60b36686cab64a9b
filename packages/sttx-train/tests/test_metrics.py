"""The file of a run's figures: strict JSON on every line, and nothing of others' lost."""

import json
import math

import pytest

from sttx_core.errors import DataError
from sttx_train.figures import finite_numbers
from sttx_train.pretrain.metrics import JsonLines


def refused(word):
    raise AssertionError(f"{word} is no JSON")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_is_null(tmp_path, value):
    path = tmp_path / "metrics.jsonl"
    JsonLines(path, 0).write(1, {"loss": value, "lr": 0.5, "held_out_loss": None, "skipped": True})
    line = json.loads(path.read_text(), parse_constant=refused)
    assert line == {"step": 1, "loss": None, "lr": 0.5, "skipped": True}


@pytest.mark.parametrize(
    ("content", "number"),
    [
        (b'{"epoch": 1}\n', 1),
        (b'{"step": 1}\n{"epoch": 1}\n{"step": 2}\n', 2),
        (b'{"step": "one"}\n', 1),
        (b'{"step": true}\n', 1),
        (b"[1]\n", 1),
        (b'{"step": 1}\n7\n', 2),
        (b'{"step": 1}\nnotes\n', 2),
        (b"\xff\xfe\n", 1),
        (b"[" * 100_000 + b"\n", 1),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("step", [0, 5])
def test_a_file_of_something_else_is_refused_and_stays(tmp_path, content, number, step):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"line {number} of '.*metrics\.jsonl' is not of a run's metrics"):
        JsonLines(path, step)
    assert path.read_bytes() == content


@pytest.mark.parametrize("keep", range(1, 24, 3))
def test_a_last_line_cut_short_is_taken_out(tmp_path, keep):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n' + '{"step": 3, "né": 1, "x":'.encode()[:keep])
    JsonLines(path, 2).write(3, {"loss": 1.0})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_a_whole_last_line_without_its_end_is_kept(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}')
    JsonLines(path, 1).write(2, {})
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_numbers_that_no_float_holds_are_none():
    fields = {"a": 1, "b": {"c": 2.5, "d": None, "e": {"f": 10**400}}, "g": math.inf, "h": math.nan, "i": "7"}
    assert list(finite_numbers(fields)) == [("a", 1), ("b.c", 2.5)]
