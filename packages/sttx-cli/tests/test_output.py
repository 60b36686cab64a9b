"""Data goes to standard output, talk to standard error, and neither floods."""

import io
import json
import re

import pytest
from rich.console import Console
from rich.table import Table

from sttx_cli import output
from sttx_cli.output import ProgressView, emit_json, emit_table, facts, number, quoted, say


def metrics(step: int, **changes):
    told = {
        "step": step,
        "bpb": {"now": 2.5, "paid": 2.25, "frozen": 3.0},
        "tokens_per_second": 1000.0,
        "bytes_per_second": 3000.0,
        "phrases": 12,
        "phrases_on": True,
        "replay": 7,
        "grad_s0": 0.125,
        "memory_mb": 1234.4,
    }
    return told | changes


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_talk_and_data_go_apart(capsys):
    say("talk")
    emit_json({"a": 1})
    assert capsys.readouterr() == ('{"a": 1}\n', "talk\n")


def test_json_is_strict(capsys):
    with pytest.raises(ValueError, match="JSON"):
        emit_json({"a": float("nan")})
    assert capsys.readouterr().out == ""


def test_a_table_ends_where_its_words_do(capsys):
    emit_table("title", facts({"short": 1, "rather longer": "[bold]two[/]"}))
    assert capsys.readouterr().out == "title\nshort          1\nrather longer  [bold]two[/]\n"


def test_a_table_is_as_wide_as_its_place(capsys):
    table = Table(box=None, pad_edge=False)
    table.add_column("phrase", overflow="fold")
    table.add_row("x" * 200)
    emit_table("title", table)
    assert [len(line) for line in capsys.readouterr().out.splitlines()] == [5, 6, 120, 80]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a b", '"a b"'),
        ("one\ntwo\t", '"one\\ntwo\\t"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("naïve →", '"naïve →"'),
        ("\\xff", '"\\xff"'),
    ],
)
def test_quoting(text, written):
    assert quoted(text) == written


def test_numbers():
    assert [number(value) for value in (2.0, 0.12345, None)] == ["2.000", "0.123", "-"]


def lines(capsys, steps: int, done: int, count: int, **changes) -> list[str]:
    with ProgressView(steps, done) as view:
        for step in range(done + 1, done + count + 1):
            view.show(metrics(step, **changes))
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.splitlines()


def test_a_line_says_everything(capsys):
    (line,) = lines(capsys, 1, 0, 1)
    assert line == (
        "step 1/1 · bpb 2.500 · average 2.250 · frozen 3.000 · tokens/s 1,000 · bytes/s 3,000 · phrases 12 · "
        "replay 7 · |grad S0| 0.125 · memory 1,234 MB"
    )


def test_what_is_not_known_is_a_dash_and_what_is_off_is_said(capsys):
    (line,) = lines(capsys, 1, 0, 1, bpb={"now": None, "paid": 2.0, "frozen": None}, phrases_on=False)
    assert "bpb - " in line and "frozen - " in line and "phrases 12 (off)" in line


def test_a_long_run_is_about_twenty_lines_the_first_and_last_among_them(capsys):
    told = lines(capsys, 1000, 0, 1000)
    assert told[0].startswith("step 1/1000 ") and told[-1].startswith("step 1000/1000 ")
    assert 20 <= len(told) <= 22


def test_a_resumed_run_begins_with_a_line(capsys):
    assert lines(capsys, 1000, 503, 3)[0].startswith("step 504/1000 ")


def test_a_run_without_end_tells_by_time(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(output.time, "monotonic", lambda: now[0])
    with ProgressView(0) as view:
        for step in range(1, 101):
            now[0] += 1.0
            view.show(metrics(step))
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("step 1 ·")
    assert len(told) == 10


def test_rates_are_smoothed(capsys):
    with ProgressView(2) as view:
        view.show(metrics(1, tokens_per_second=1000.0))
        view.show(metrics(2, tokens_per_second=2000.0))
    assert "tokens/s 1,100 " in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("steps", [0, 4])
def test_a_terminal_gets_a_panel_that_goes_away(monkeypatch, steps):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with ProgressView(steps) as view:
        view.show(metrics(1))
    written = terminal.getvalue()
    assert "average" in written and "2.250" in written
    assert ("━" in written) == bool(steps)
    assert "\x1b[2K" in written, "nothing was wiped"


@pytest.mark.parametrize("steps", [0, 12345])
def test_the_panel_has_each_name_over_its_value_on_80_columns(steps):
    console = Console(file=io.StringIO(), width=80)
    told = metrics(12000, memory_mb=12345.0, phrases_on=False, tokens_per_second=123456.0)
    console.print(ProgressView(steps)._panel(told))
    *bar, names, values, more_names, more_values = console.file.getvalue().splitlines()
    assert [set(line) for line in map(str.strip, bar)] == ([{"━"}] if steps else [])
    step = "12000/12345" if steps else "12000"
    assert (names.split(), values.split()[:2]) == (
        ["step", "bpb", "average", "frozen", "tokens/s"],
        [step, "2.500"],
    )
    assert more_names.endswith(" memory") and more_values.endswith(" 12,345 MB")
    ends = [[match.end() for match in re.finditer(r"\S+(?: \S+)*", line)] for line in (names, values)]
    assert ends[0] == ends[1]
    assert "12 (off)" in more_values and "|grad S0|" in more_names


def test_facts_are_two_columns():
    assert json.dumps([len(facts({"a": 1}).columns), facts({"a": 1}).row_count]) == "[2, 1]"
