"""One rule for exit codes, as docs/cli.md has it: every kind of outcome, in every command that knows it."""

import errno
import os
import shutil

import pytest

from sttx_cli import app

OUTCOMES = {
    # 0: done, or interrupted after something was saved
    "version": (0, "--version"),
    "help": (0, "train --help"),
    "a run": (0, "inspect RUN"),
    "a model": (0, "inspect MODEL"),
    "sessions": (0, "validate-data SESSIONS"),
    # 2: the command line must change
    "unknown command": (2, "trian"),
    "unknown option": (2, "train --stepz 1"),
    "missing option": (2, "train --from SESSIONS"),
    "nothing named": (2, "validate-data"),
    "empty name": (2, "inspect EMPTY-NAME"),
    "value of a wrong type": (2, "train --steps many --checkpoint-dir NEW"),
    "value out of range": (2, "train --lr-state nan --checkpoint-dir NEW"),
    "option without effect": (2, "train --lr-bias 1 --checkpoint-dir NEW"),
    "two ways to name a source": (2, "traces SESSIONS --from SESSIONS"),
    "missing source of train": (2, "train --from MISSING --checkpoint-dir NEW"),
    "missing source of traces": (2, "traces MISSING"),
    "missing source of score": (2, "score MISSING"),
    "missing run of score": (2, "score SESSIONS --checkpoint MISSING"),
    "missing model of score": (2, "score SESSIONS --model MISSING"),
    "missing source of watch": (2, "watch MISSING"),
    "missing model of watch": (2, "watch SESSIONS --model MISSING"),
    "program of watch that is not there": (2, "watch SESSIONS --exec MISSING"),
    "missing source of validate-data": (2, "validate-data --from MISSING"),
    "missing model of train": (2, "train --from SESSIONS --model MISSING --checkpoint-dir NEW"),
    "missing model of pretrain": (2, "pretrain TEXT --start-from MISSING --out NEW"),
    "missing path of inspect": (2, "inspect MISSING"),
    "missing path of merge-stats": (2, "merge-stats MISSING"),
    "missing path of plot": (2, "plot MISSING"),
    "missing path of vocab": (2, "vocab MISSING --out NEW --size 300"),
    "missing path of data build": (2, "data build MISSING --out NEW"),
    "missing path of data show": (2, "data show MISSING"),
    "missing path of pretrain": (2, "pretrain MISSING --out NEW"),
    "missing rules": (2, "traces SESSIONS --redact-rules MISSING"),
    "missing session": (2, "traces show nobody SESSIONS"),
    "folder that cannot be made": (2, "train --from SESSIONS --model MODEL --checkpoint-dir TEXT/run"),
    "source of pretrain that is a model's name": (2, "pretrain --from goose-mini --out NEW"),
    "source of pretrain that is a model": (2, "pretrain TEXT --from MODEL --out NEW"),
    "source of train that is a model": (2, "train MODEL --checkpoint-dir NEW"),
    "missing source of pretrain": (2, "pretrain --from MISSING --out NEW"),
    "old name of an option": (2, "pretrain TEXT --held-out 0.1 --out NEW"),
    "folder with a run": (2, "train --from SESSIONS --model MODEL --checkpoint-dir RUN"),
    "file that would be overwritten": (2, "vocab TEXT --out TEXT --size 300"),
    "nothing to resume": (2, "train --from SESSIONS --model MODEL --resume --checkpoint-dir NEW"),
    "nothing to resume in pretrain": (2, "pretrain TEXT --tokenizer bytes --resume --out NEW"),
    "resumed with other options": (
        2,
        "train --from SESSIONS --model MODEL --window 32 --resume --checkpoint-dir RUN",
    ),
    # 1: the command line is right, and something it needs has failed
    "empty source of train": (1, "train --from EMPTY --model MODEL --checkpoint-dir NEW"),
    "empty source of traces": (1, "traces EMPTY"),
    "empty source of score": (1, "score EMPTY --model MODEL --experts off"),
    "empty source of watch": (1, "watch EMPTY --once --model MODEL"),
    "empty source of validate-data": (1, "validate-data EMPTY"),
    "empty source of pretrain": (1, "pretrain --from EMPTY --tokenizer bytes --out NEW"),
    "empty source of data build": (1, "data build --from EMPTY --tokenizer bytes --out NEW"),
    "empty file that is not a model": (1, "inspect EMPTY"),
    "damaged source": (1, "traces DAMAGED"),
    "no history of an agent": (1, "validate-data claude"),
    "damaged checkpoint": (1, "inspect DAMAGED-RUN"),
    "file that is not a model": (1, "inspect TEXT"),
    "model in train that is not one": (1, "train --from SESSIONS --model TEXT --checkpoint-dir NEW"),
    "folder that is not a run": (1, "merge-stats MODEL"),
    "metrics without numbers": (1, "plot TEXT"),
    "data without text": (1, "vocab EMPTY --out NEW --size 300"),
}


@pytest.fixture
def places(tmp_path, sessions, tiny_model, finished):
    """Return what the names in upper case stand for."""
    names = ("EMPTY.jsonl", "DAMAGED.jsonl.gz", "TEXT.txt", "MISSING", "NEW", "DAMAGED-RUN")
    paths = {name.partition(".")[0]: tmp_path / name for name in names}
    paths["EMPTY"].touch()
    paths["DAMAGED"].write_bytes(b"\x1f\x8b\x08\x00torn")
    paths["TEXT"].write_text("some words " * 50)
    shutil.copytree(finished, paths["DAMAGED-RUN"])
    report = paths["DAMAGED-RUN"] / "step-00000008" / "report.json"
    report.write_bytes(report.read_bytes().replace(b"8", b"9", 1))
    paths |= {"SESSIONS": sessions, "MODEL": tiny_model, "RUN": finished}
    return {name: str(path) for name, path in paths.items()} | {"EMPTY-NAME": ""}


@pytest.mark.parametrize(("code", "line"), OUTCOMES.values(), ids=OUTCOMES)
def test_exit_codes(sttx, places, code, line):
    words = [
        "/".join([places.get(part, part), *rest])
        for word in line.split()
        for part, *rest in [word.split("/")]
    ]
    result = sttx(*words)
    assert result.code == code, result.err
    assert "Traceback" not in result.err and "Errno" not in result.err
    if code:
        assert result.err.splitlines()[-1].startswith(("sttx: ", "Error: "))


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted before there was anything to save"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/x"),
            1,
            "the disk is full ('/x'): free some space",
        ),
        (OSError(errno.EACCES, "Permission denied", "/x"), 1, "permission denied ('/x'): change its perm"),
        (OSError(errno.ENOENT, "No such file", "/x"), 1, "there is no such file or folder ('/x')"),
    ],
)
def test_exit_codes_of_what_happens_during_the_work(sttx, monkeypatch, error, code, words):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(app.cli, "main", fail)
    result = sttx("doctor")
    assert result.code == code
    assert result.err.startswith(f"sttx: {words}")


def test_an_unwritable_event_log_is_found_before_the_model_loads(sttx, places, monkeypatch):
    monkeypatch.setenv("STTX_LOG_DIR", places["TEXT"])
    result = sttx("train", "--from", places["SESSIONS"], "--checkpoint-dir", places["NEW"])
    assert (result.code, len(result.err.splitlines())) == (2, 1)
    assert "the event log's folder (STTX_LOG_DIR)" in result.err and "cannot be written" in result.err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "pretrain --from goose-mini --out NEW",
            "'goose-mini' is a model, not a source of sessions: use --start-from",
        ),
        ("pretrain TEXT --from MODEL --out NEW", "is a model, not a source of sessions: use --start-from"),
        ("train --from MODEL --checkpoint-dir NEW", "is a model, not a source of sessions: use --model"),
        ("pretrain --from MISSING --out NEW", "no such source: "),
        ("train MISSING --checkpoint-dir NEW", "no such source: "),
        ("train SESSIONS --resume --checkpoint-dir NEW", "no checkpoint in "),
    ],
)
def test_mistakes_are_found_before_pytorch_is_loaded(sttx, places, line, message):
    result = sttx(*[places.get(word, word) for word in line.split()])
    assert (result.code, len(result.err.splitlines())) == (2, 1)
    assert message in result.err


@pytest.fixture
def failing_writes(monkeypatch):
    """Return a function that makes each temporary file fail with a system error."""

    def install(number):
        def fail(*_, dir, prefix, **__):
            raise OSError(number, os.strerror(number), f"{dir}/{prefix}random")

        monkeypatch.setattr("tempfile.mkstemp", fail)

    return install


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, 1), (errno.EDQUOT, 1), (errno.EACCES, 2), (errno.EROFS, 2)]
)
@pytest.mark.parametrize(
    "line",
    [
        "train SESSIONS --checkpoint-dir NEW",
        "pretrain TEXT --out NEW",
        "pretrain TEXT --out NEW --checkpoint-dir NEW-RUN",
        "data build TEXT --tokenizer bytes --out NEW",
        "vocab TEXT --size 300 --out NEW",
    ],
)
def test_one_exit_code_for_a_folder_that_cannot_be_written(sttx, places, failing_writes, line, number, code):
    failing_writes(number)
    result = sttx(*[places.get(word, word) for word in line.split()])
    assert (result.code, len(result.err.splitlines())) == (code, 1)
    assert "writable-" not in result.err and "random" not in result.err
    assert "cannot be written" in result.err or "cannot write to " in result.err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("pretrain --from EMPTY --tokenizer bytes --out NEW", "no record in file {EMPTY}: it is empty"),
        ("data build --from EMPTY --tokenizer bytes --out NEW", "no record in file {EMPTY}: it is empty"),
        ("train EMPTY --model MODEL --checkpoint-dir NEW", "no record in file {EMPTY}: it is empty"),
        ("inspect EMPTY", "'{EMPTY}' is empty"),
    ],
)
def test_an_empty_file_is_called_empty(sttx, places, line, message):
    result = sttx(*[places.get(word, word) for word in line.split()])
    assert result.code == 1
    assert message.format(**places) in result.err.splitlines()[-1]
