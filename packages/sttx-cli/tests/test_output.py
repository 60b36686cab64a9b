"""Data goes to standard output, messages to standard error, and tables and texts fit the terminal."""

import io
import json
import warnings

import pytest
from rich.table import Table

from sttx_cli.output import (
    SCREEN,
    count,
    emit_json,
    emit_table,
    emit_text,
    facts,
    number,
    quoted,
    say,
    warnings_as_notes,
)
from sttx_core.errors import SttxWarning
from sttx_core.tokenizers import ByteTokenizer
from sttx_train import RWKV7, RWKV7Config, initialize, save_model


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def become_terminal(monkeypatch) -> Terminal:
    """Make standard error a terminal that understands cursor movements; return what is written to it."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return terminal


def test_messages_and_data_are_apart(capsys):
    say("message")
    emit_json({"a": 1})
    assert capsys.readouterr() == ('{"a": 1}\n', "message\n")


@pytest.mark.filterwarnings("default")
def test_a_warning_of_ours_is_one_note(capsys):
    with warnings_as_notes():
        warnings.warn("S0 cannot learn", SttxWarning, stacklevel=1)
    assert capsys.readouterr() == ("", "note: S0 cannot learn\n")


@pytest.mark.filterwarnings("default::sttx_core.errors.SttxWarning")
def test_a_command_prints_a_warning_as_a_note(sttx, sessions, tmp_path):
    untrained = initialize(RWKV7(RWKV7Config(vocab_size=257, hidden_size=64, num_layers=1)), seed=1)
    save_model(untrained, tmp_path / "model", tokenizer=ByteTokenizer())
    options = ["--device", "cpu", "--steps", 1, "--checkpoint-dir", tmp_path / "run"]
    result = sttx("train", sessions, "--model", tmp_path / "model", *options)
    assert result.code == 0, result.err
    [line] = [line for line in result.err.splitlines() if "S0 cannot learn" in line]
    assert line.startswith("note: S0 cannot learn: ") and "SttxWarning" not in result.err


@pytest.mark.filterwarnings("default")
def test_another_warning_is_left_to_python():
    with pytest.warns(UserWarning, match="another library's"), warnings_as_notes():
        warnings.warn("another library's", UserWarning, stacklevel=1)


def test_json_is_strict(capsys):
    with pytest.raises(ValueError, match="JSON"):
        emit_json({"a": float("nan")})
    assert capsys.readouterr().out == ""


def test_a_table_has_no_trailing_blanks(capsys):
    emit_table("title", facts({"short": 1, "rather longer": "[bold]two[/]"}))
    assert capsys.readouterr().out == "title\nshort          1\nrather longer  [bold]two[/]\n"


def test_a_table_is_120_columns_wide_without_a_terminal(capsys):
    table = Table(box=None, pad_edge=False)
    table.add_column("phrase", overflow="fold")
    table.add_row("x" * 200)
    emit_table("title", table)
    assert [len(line) for line in capsys.readouterr().out.splitlines()] == [5, 6, 120, 80]


def test_text_wraps_between_words_on_a_terminal_only(monkeypatch, capsys):
    text = "one two three /a/path/that-is-longer-than-the-line\nfour"
    emit_text(text)
    assert capsys.readouterr().out == text + "\n"
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "12")
    emit_text(text)
    assert terminal.getvalue() == "one two\nthree\n/a/path/that-is-longer-than-the-line\nfour\n"


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
    assert [count(amount, "line") for amount in (0, 1, 2000)] == ["0 lines", "1 line", "2,000 lines"]


def test_facts_are_two_columns():
    assert json.dumps([len(facts({"a": 1}).columns), facts({"a": 1}).row_count]) == "[2, 1]"


def test_a_message_is_printed_above_the_live_display(monkeypatch):
    terminal = become_terminal(monkeypatch)
    SCREEN.show("the display")
    say("[bold]a message[/] :smile:")
    SCREEN.show("another display")
    SCREEN.clear()
    say("afterwards")
    written = terminal.getvalue()
    assert "[bold]a message[/] :smile:" in written, "markup is shown as it is"
    assert written.index("the display") < written.index("a message") < written.index("another display")
    assert written.endswith("afterwards\n") and "\x1b[?25h" in written, "the cursor is visible again"


def test_clearing_twice_is_harmless(monkeypatch):
    terminal = become_terminal(monkeypatch)
    SCREEN.clear()
    SCREEN.clear()
    assert terminal.getvalue() == ""
