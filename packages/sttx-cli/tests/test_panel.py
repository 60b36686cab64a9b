"""The steps of a run: a panel on a terminal, a line now and then elsewhere."""

import io
import re

import pytest
from rich.console import Console

from sttx_cli import panel
from sttx_cli.panel import StepPanel


def metrics(step: int, **changes):
    return {
        "step": step,
        "bpb": {"now": 2.5, "paid": 2.25, "network": 2.75, "frozen": 3.0},
        "tokens_per_second": 1000.0,
        "bytes_per_second": 3000.0,
        "phrases": 12,
        "phrases_on": True,
        "replay": 7,
        "grad_s0": 0.125,
        "memory_mb": 1234.4,
    } | changes


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(capsys, steps: int, done: int, number: int, *, verbose=False, **changes) -> list[str]:
    """Return the lines that a run of some steps prints."""
    with StepPanel(steps, done, verbose=verbose) as view:
        for step in range(done + 1, done + number + 1):
            view.show(metrics(step, **changes))
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.splitlines()


def test_a_line_has_every_number(capsys):
    assert lines(capsys, 1, 0, 1) == [
        "step 1/1 · bpb 2.500 · paid 2.250 · network 2.750 · frozen 3.000 · tokens/s 1,000 · phrases 12 · "
        "memory 1,234 MB"
    ]


def test_replay_and_gradient_only_with_verbose(capsys):
    (line,) = lines(capsys, 1, 0, 1, verbose=True)
    assert line.endswith("memory 1,234 MB · replay 7 · |grad S0| 0.125")


def test_unknown_numbers_are_dashes(capsys):
    (line,) = lines(capsys, 1, 0, 1, bpb={"now": None, "paid": 2.0, "network": 2.5, "frozen": None})
    assert "bpb - " in line and "frozen - " in line


@pytest.mark.parametrize(
    ("used", "trial", "text"),
    [
        (True, True, "phrases 12 (trial) "),
        (True, False, "phrases 12 ·"),
        (False, True, "phrases 12 found, not used"),
    ],
)
def test_phrases_that_are_tried_are_called_a_trial(capsys, used, trial, text):
    with StepPanel(1) as view:
        view.show(metrics(1, phrases_on=used), trial=trial)
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(("found", "text"), [(160, "phrases 160 found, not used "), (0, "phrases none ")])
def test_phrases_that_are_not_used(capsys, found, text):
    assert text in lines(capsys, 1, 0, 1, phrases=found, phrases_on=False)[0]


def test_a_long_run_is_about_twenty_lines_with_the_first_and_the_last(capsys):
    printed = lines(capsys, 1000, 0, 1000)
    assert printed[0].startswith("step 1/1000 ") and printed[-1].startswith("step 1000/1000 ")
    assert 20 <= len(printed) <= 22


def test_a_resumed_run_starts_with_a_line(capsys):
    assert lines(capsys, 1000, 503, 3)[0].startswith("step 504/1000 ")


def test_a_run_of_unknown_length_prints_by_time(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(panel.time, "monotonic", lambda: now[0])
    with StepPanel(0) as view:
        for step in range(1, 101):
            now[0] += 1.0
            view.show(metrics(step))
    printed = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step")]
    assert printed[0].startswith("step 1 ·")
    assert len(printed) == 10


def test_rates_are_smoothed(capsys):
    with StepPanel(2) as view:
        view.show(metrics(1, tokens_per_second=1000.0))
        view.show(metrics(2, tokens_per_second=2000.0))
    assert "tokens/s 1,100 " in capsys.readouterr().err.splitlines()[-1]


def test_until_the_first_step_it_says_what_it_prepares(capsys, monkeypatch):
    monkeypatch.setattr("sttx_cli.progress.LINE_AFTER", 0.0)
    with StepPanel(1) as view:
        for _ in range(200):
            if "preparing the first step" in (err := capsys.readouterr().err):
                break
            panel.time.sleep(0.01)
        view.show(metrics(1))
    assert err == "reading the first window and preparing the first step …\n"


@pytest.mark.parametrize("steps", [0, 4])
def test_a_terminal_gets_a_panel_that_is_removed_at_the_end(monkeypatch, steps):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with StepPanel(steps) as view:
        view.show(metrics(1))
    written = terminal.getvalue()
    assert "paid" in written and "2.250" in written
    assert ("━" in written) == bool(steps)
    assert "\x1b[2K" in written, "nothing was removed"


@pytest.mark.parametrize("steps", [0, 12345])
@pytest.mark.parametrize("verbose", [False, True])
def test_the_panel_has_each_name_over_its_value_on_80_columns(steps, verbose):
    console = Console(file=io.StringIO(), width=80)
    numbers = metrics(12000, memory_mb=12345.0, phrases=256, phrases_on=False, tokens_per_second=123456.0)
    console.print(StepPanel(steps, verbose=verbose)._table(numbers))
    *bar, names, values, more_names, more_values = console.file.getvalue().splitlines()
    assert [set(line) for line in map(str.strip, bar)] == ([{"━"}] if steps else [])
    step = "12000/12345" if steps else "12000"
    assert (names.split(), values.split()[:2]) == (
        ["step", "bpb", "paid", "network", "frozen"],
        [step, "2.500"],
    )
    ends = [[match.end() for match in re.finditer(r"\S+(?: \S+)*", line)] for line in (names, values)]
    assert ends[0] == ends[1]
    assert "256 found, not used" in more_values and "12,345 MB" in more_values
    assert ("|grad S0|" in more_names) == verbose
