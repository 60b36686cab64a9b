"""No command succeeds in silence on nothing: one sentence, exit code 1, and nothing left behind."""

import json
import re

import numpy as np
import pytest

from sttx_ccsniff import TRACES_HEADER, dump_trace
from sttx_core.traces import Meta, Other, UserMessage


@pytest.fixture
def places(tmp_path, tiny_model):
    """Return what the names in upper case stand for: sources and data in which there is nothing."""
    names = ("TEXTLESS.jsonl", "SKIPPED.jsonl", "BLANK.txt", "MARKS.bin", "LIST.json", "FOLDER", "NEW")
    paths = {name.partition(".")[0]: tmp_path / name for name in names}
    other = dump_trace(Other(meta=Meta(session="s", origin="o"), kind="summary", raw={"n": 1}))
    empty = dump_trace(UserMessage(meta=Meta(session="s", origin="o"), text="  "))
    paths["TEXTLESS"].write_bytes(b"\n".join([TRACES_HEADER, other, empty]) + b"\n")
    paths["SKIPPED"].write_text(
        json.dumps({"type": "queue-operation", "operation": "dequeue", "sessionId": "s"})
    )
    paths["BLANK"].touch()
    np.zeros(3, "<u2").tofile(paths["MARKS"])
    paths["LIST"].write_text('[\n {"text": ""},\n {"text": ""}\n]')
    paths["FOLDER"].mkdir()
    return {name: str(path) for name, path in paths.items()} | {"MODEL": str(tiny_model)}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "train TEXTLESS --model MODEL --checkpoint-dir NEW",
            r"no trace with text in .*: 3 records read",
        ),
        ("train SKIPPED --model MODEL --checkpoint-dir NEW", "no trace in .*: 1 record read, none became"),
        ("score TEXTLESS --model MODEL --experts off", r"no trace with text in .*: 3 records read"),
        ("score SKIPPED --model MODEL --experts off --json", "1 record read, none became a trace"),
        ("watch TEXTLESS --once --model MODEL", r"no trace with text in .*: 3 records read"),
        ("watch SKIPPED --once --model MODEL --json", "1 record read, none became a trace"),
        ("traces SKIPPED", r"none became a trace \(queue-operation 1\)"),
        ("traces SKIPPED --json", "none became a trace"),
        ("validate-data SKIPPED", "none became a trace"),
        (
            "pretrain --from TEXTLESS --tokenizer bytes --out NEW",
            "there is nothing to read in the given texts",
        ),
        ("pretrain BLANK --tokenizer bytes --out NEW", "there is nothing to read in"),
        ("pretrain MARKS --tokenizer bytes --out NEW", "there is nothing to read in"),
        ("pretrain LIST --tokenizer bytes --out NEW", "there is nothing to read in"),
        ("pretrain FOLDER --tokenizer bytes --out NEW", "there is nothing to read in"),
        ("data build MARKS --tokenizer bytes --out NEW", "there is nothing to read in"),
        ("data build --from SKIPPED --tokenizer bytes --out NEW", "none became a trace"),
        ("data show LIST --tokenizer bytes", "there is nothing to read in"),
        ("data show MARKS --tokenizer bytes", "there is nothing to read in"),
        ("vocab LIST --size 300 --out NEW", "there is no text"),
    ],
)
def test_nothing_is_an_error(sttx, places, tmp_path, line, said):
    before = sorted(path.name for path in tmp_path.iterdir())
    result = sttx(*[places.get(word, word) for word in line.split()])
    assert result.code == 1, result.err
    last = result.err.splitlines()[-1]
    assert last.startswith("sttx: ") and "Traceback" not in result.err
    assert re.search(said, last), last
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_resumed_run_says_that_nothing_is_new_and_stays_as_it_is(sttx, places, tmp_path, unchanged):
    source, folder = tmp_path / "source.jsonl", tmp_path / "run"
    text = dump_trace(UserMessage(meta=Meta(session="s", origin="o"), text="hello"))
    source.write_bytes(TRACES_HEADER + b"\n" + text + b"\n")
    line = ["--model", places["MODEL"], "--device", "cpu", "--checkpoint-dir", folder]
    assert sttx("train", source, *line).code == 0
    with unchanged(folder):
        result = sttx("train", places["TEXTLESS"], *line, "--resume")
    assert result.code == 0 and "Nothing new to learn from: still 1 step" in result.out
