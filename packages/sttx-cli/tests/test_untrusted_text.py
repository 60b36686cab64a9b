"""What strangers wrote is shown on a real terminal, and not obeyed: sessions, file names, arguments."""

import ast
import contextlib
import json
import logging
import os
import re
import sys
import threading
import warnings
from pathlib import Path

import pytest
import torch

import sttx_cli
from sttx_ccsniff import dump_trace, open_source
from sttx_cli import app, run
from sttx_cli.output import SCREEN, emit_line, note, say
from sttx_cli.plain import visible
from sttx_cli.progress import progress_bar
from sttx_train.formats.state import save_state

if sys.platform == "win32":
    pytest.skip("a pty needs a Unix system", allow_module_level=True)

import pty

EVIL = "\x1b]52;c;aGk=\x07\x1b[2J\x1b[31;47m\x9b2J\x7f\u202e\u2066\u200b\u2028\x08\r\udcffEVIL"
_OURS = re.compile(r"\x1b\[[\d;]*m|\x1b\[\?25[lh]|\x1b\[2K|\x1b\[\d*A|\r")


@contextlib.contextmanager
def on_terminal(monkeypatch):
    """Make both standard streams a terminal; collect into a list what is written to it."""
    ours, theirs = pty.openpty()
    pieces: list[bytes] = []

    def read():
        with contextlib.suppress(OSError):  # Linux reports the closed other end so
            while piece := os.read(ours, 65536):
                pieces.append(piece)

    reading = threading.Thread(target=read)
    reading.start()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with open(theirs, "w", encoding="utf-8") as terminal, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", terminal)
        patch.setattr("sys.stderr", terminal)
        yield pieces
    reading.join()
    os.close(ours)


def assert_shown_safely(pieces):
    shown = b"".join(pieces).decode()  # strict: no byte that is not UTF-8
    assert "\x1b[31;47m" not in shown
    rest = _OURS.sub("", shown)
    assert visible(rest) == rest
    assert "EVIL" in rest


@pytest.fixture
def obeyed_nothing(monkeypatch):
    """Return a function that runs a command line on a terminal, checks the output, and returns the code."""

    def check(*line: object) -> int:
        with on_terminal(monkeypatch) as pieces:
            code = run([str(word) for word in line])
        assert_shown_safely(pieces)
        return code

    return check


@pytest.fixture
def evil_sessions(tmp_path):
    """Return a folder of sessions whose names, fields and texts all hold control sequences."""
    folder = tmp_path / f"sessions {EVIL}"
    folder.mkdir()
    message = {
        "role": "assistant",
        "model": EVIL,
        "id": EVIL,
        "usage": {"input_tokens": 5, "output_tokens": 7},
    }
    use = {"type": "tool_use", "id": "t", "name": EVIL, "input": {EVIL: [EVIL, {EVIL: EVIL}]}}
    contents = [
        ("user", {"role": "user", "content": EVIL}),
        ("assistant", {**message, "content": [{"type": "text", "text": EVIL}, {"type": EVIL}, use]}),
        ("user", {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": EVIL}]}),
        (EVIL, {"role": EVIL, "content": EVIL}),
    ]
    common = {
        "sessionId": f"s{EVIL}",
        "timestamp": "2026-02-02T09:00:00Z",
        "cwd": f"/{EVIL}",
        "version": EVIL,
    }
    lines = [
        json.dumps({"type": kind, "message": message, "uuid": str(at), **common})
        for at, (kind, message) in enumerate(contents)
    ]
    (folder / f"{EVIL}.jsonl").write_text(
        "\n".join([*lines, json.dumps({"type": "system", "subtype": EVIL}), EVIL[:4]]) + "\n"
    )
    return folder


@pytest.mark.parametrize(
    "line",
    [
        "validate-data",
        "validate-data --json",
        "traces",
        "traces --json",
        "traces show s",
        "traces show s --full",
    ],
)
def test_sessions(obeyed_nothing, evil_sessions, line):
    assert obeyed_nothing(*line.split(), evil_sessions) == 0


@pytest.mark.parametrize("line", ["score", "score --json --tokens"])
def test_scores(obeyed_nothing, evil_sessions, tiny_model, line):
    assert obeyed_nothing(*line.split(), evil_sessions, "--model", tiny_model, "--experts", "off") == 0


@pytest.mark.parametrize("line", ["watch --once", "watch --once --json"])
def test_rounds(obeyed_nothing, evil_sessions, tiny_model, line):
    assert obeyed_nothing(*line.split(), evil_sessions, "--model", tiny_model, "--threshold", 0.1) in (0, 3)


def test_evaluations(obeyed_nothing, evil_sessions, tiny_model, tmp_path):
    page = tmp_path / "page.html"
    line = ["eval", evil_sessions, "--model", tiny_model, "--arms", "frozen", "--workers", "1", "--out", page]
    assert obeyed_nothing(*line) == 0
    assert visible(text := page.read_text()) == text


def test_json_lines_are_the_same_on_a_terminal_and_in_a_pipe(monkeypatch, evil_sessions, sttx):
    with on_terminal(monkeypatch) as pieces:
        run(["traces", "--json", str(evil_sessions)])
    shown = [line for line in b"".join(pieces).decode().splitlines() if line.startswith("{")]
    piped = sttx("traces", "--json", evil_sessions).out
    assert shown == piped.splitlines() and visible(piped) == piped
    with open_source(str(evil_sessions), follow=False) as source:
        assert [json.loads(line) for line in shown[1:]] == [json.loads(dump_trace(trace)) for trace in source]


def test_models_and_runs(obeyed_nothing, monkeypatch, tmp_path):
    save_state(torch.zeros(1, 2, 8, 8), tmp_path / f"{EVIL}.pth", metadata={"note": EVIL[:-5], "EVIL": "x"})
    assert obeyed_nothing("inspect", tmp_path / f"{EVIL}.pth") == 0
    row = {"steps_saved": 1, "uses": 1, "length": 2, "text": EVIL}
    totals = dict.fromkeys(("live", "promotions", "evictions", "steps_saved"), 1)
    report = {"checkpoint": EVIL, "totals": totals, "tokens": 1, "phrases": [row]}
    monkeypatch.setattr("sttx_train.inspect.merge_stats", lambda *_, **__: report)
    assert obeyed_nothing("merge-stats", tmp_path) == 0
    assert obeyed_nothing("merge-stats", tmp_path, "--json") == 0


def test_data(obeyed_nothing, tmp_path):
    folder = tmp_path / EVIL
    folder.mkdir()
    (folder / f"{EVIL}.txt").write_bytes(b"\xc2\x9b2J \xe2\x80\xae EVIL words " * 9)
    (folder / f"{EVIL}.bin").write_bytes(b"\xff\x00\xff")
    assert obeyed_nothing("data", "show", folder / f"{EVIL}.txt", "--tokenizer", "bytes") == 0
    assert obeyed_nothing("vocab", folder, "--size", 260, "--out", tmp_path / f"{EVIL}.vocab") == 0


@pytest.mark.parametrize(
    "line",
    [
        [EVIL],
        [f"--{EVIL.replace('=', '')}"],
        ["train", f"--steps={EVIL}"],
        ["train", EVIL, "--checkpoint-dir", "x"],
        ["score", EVIL],
        ["watch", EVIL],
        ["watch", ".", "--exec", f"'{EVIL}'"],
        ["eval", EVIL],
        ["eval", ".", "--arms", EVIL],
        ["eval", ".", "--out", EVIL],
        ["score", ".", "--checkpoint", EVIL],
        ["generate", "x", "--checkpoint", EVIL],
        ["generate", "x", "--logit-bias", EVIL],
        ["traces", EVIL],
        ["traces", "show", EVIL],
        ["inspect", EVIL],
        ["inspect", EVIL, EVIL],
        ["merge-stats", EVIL],
        ["plot", EVIL],
        ["data", "show", EVIL],
        ["data", EVIL],
        ["pretrain", EVIL, "--out", "x"],
        ["vocab", EVIL, "--size", "300", "--out", "x"],
    ],
    ids=lambda line: re.sub("[^ a-z-]+", "X", " ".join(line)),
)
def test_errors(obeyed_nothing, line):
    assert obeyed_nothing(*line) == 2


def test_messages_of_others(monkeypatch):
    """A warning, a logger, a print and a crash: nothing that any library writes is obeyed either."""

    def main(*_, **__):
        warnings.warn(EVIL, UserWarning, stacklevel=1)
        logging.getLogger("another.library").warning(EVIL)
        print(EVIL, file=sys.stdout)
        sys.stderr.write(EVIL)
        raise ZeroDivisionError(EVIL)

    monkeypatch.setattr(app.cli, "main", main)
    monkeypatch.setattr(sys, "argv", ["sttx"])
    monkeypatch.setattr(logging.root, "handlers", [])
    with warnings.catch_warnings(), on_terminal(monkeypatch) as pieces, pytest.raises(SystemExit) as ended:
        warnings.simplefilter("always")
        show = lambda *args: sys.stderr.write(warnings.formatwarning(*args[:4]))  # noqa: E731
        monkeypatch.setattr(warnings, "showwarning", show)  # pytest has replaced Python's own
        app.main()
    assert_shown_safely(pieces)
    shown = b"".join(pieces).decode()
    assert ended.value.code == 1 and shown.count("\\udcffEVIL") == 5 and "Traceback" in shown


def test_progress_and_what_is_written_meanwhile(monkeypatch):
    monkeypatch.setattr("sttx_cli.progress._BAR_AFTER", 0.0)

    def main(*_, **__):
        with progress_bar(f"reading {EVIL}"):
            while not SCREEN._live:
                pass
            note(f"a {EVIL}\nb")
            print("half a line", end="", file=sys.stderr)
            print(f" and its end {EVIL}", file=sys.stderr)
            print("without an end", end="", file=sys.stderr)
        SCREEN.show(f"panel {EVIL}")
        SCREEN.clear()

    monkeypatch.setattr(app.cli, "main", main)
    with on_terminal(monkeypatch) as pieces:
        assert run([]) == 0
    assert_shown_safely(pieces)
    shown = _OURS.sub("", b"".join(pieces).decode())
    assert f"note: a {visible(EVIL)}\\nb\n" in shown and "half a line and its end" in shown
    assert "without an end" in shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_every_character_can_be_written_in_every_encoding(monkeypatch, tmp_path, encoding):
    with open(tmp_path / "out", "w", encoding=encoding) as file:
        monkeypatch.setattr("sys.stderr", file)
        monkeypatch.setattr("sys.stdout", file)
        monkeypatch.setattr(app.cli, "main", lambda *_, **__: (say("→ \udcff"), emit_line("漢"), print("é")))
        assert run([]) == 0
    written = {"ascii": "\\u2192 \\udcff\n\\u6f22\n\\xe9\n", "latin-1": "\\u2192 \\udcff\n\\u6f22\né\n"}
    assert (tmp_path / "out").read_text(encoding) == written.get(encoding, "→ \\udcff\n漢\né\n")


ALLOWED = {
    "output.py": {"Console", "Live", "sys.stderr", "sys.stdout"},
    "streams.py": {"sys.stderr", "sys.stdout"},
}
"""What may write to a standard stream, by file; this list does not grow."""


@pytest.mark.parametrize(
    "path", sorted(Path(sttx_cli.__file__).parent.rglob("*.py")), ids=lambda path: path.name
)
def test_only_the_output_module_writes(path):
    names = {
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name | ast.Attribute)
    }
    writers = {
        name for name in names if re.fullmatch(r"(rich\.)?print|pprint|sys\.__?std\w+|os\.write|Live", name)
    }
    writers |= {
        name for name in names if re.fullmatch(r"sys\.std(out|err)|(\w+\.)*Console|click\.\w*echo\w*", name)
    }
    assert writers == ALLOWED.get(path.name, set())
