import json
import os

import pytest

from sttx_ccsniff.claude_code.parser import SessionParser
from sttx_ccsniff.claude_code.persisted import MOST_BYTES, persisted_output
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen


def stub(path):
    return (
        f"<persisted-output>\nOutput too large (26.8KB). Full output saved to: {path}\n\n"
        "Preview (first 2KB):\nfirst words\n...\n</persisted-output>"
    )


def line(record, path, **fields):
    block = {"type": "tool_result", "tool_use_id": "t1", "content": stub(path)}
    return json.dumps(record(content=[block], **fields)).encode()


@pytest.fixture
def slug(tmp_path):
    """Return a project's folder with a session `s` that has one persisted output."""
    folder = tmp_path / "slug"
    (folder / "s" / "tool-results").mkdir(parents=True)
    (folder / "s" / "tool-results" / "b3f1.txt").write_text("the whole output\n", encoding="utf-8")
    return folder


def read(origin, raw):
    report = SourceReport()
    [trace] = SessionParser(str(origin), report, Seen()).feed(raw)
    return trace.output, {**report.noted}


@pytest.mark.parametrize(
    ("origin", "fields"),
    [
        ("s.jsonl", {}),
        ("s.jsonl.gz", {"sessionId": "another"}),
        ("s/subagents/agent-a1.jsonl", {"agentId": "a1"}),
        ("s/subagents/deeper/agent-a1.jsonl", {"agentId": "a1"}),
        ("agent-a1.jsonl", {"agentId": "a1"}),
    ],
)
def test_an_output_is_read_from_the_sessions_folder(slug, record, origin, fields):
    output, noted = read(slug / origin, line(record, "/home/ada/.claude/x/tool-results/b3f1.txt", **fields))
    assert output == "the whole output\n"
    assert noted == {"persisted output read": 1, "tool result without its tool use": 1}


@pytest.mark.parametrize("path", ["C:\\Users\\ada\\tool-results\\b3f1.txt", "b3f1.txt", "/etc/b3f1.txt"])
def test_only_the_file_name_of_the_path_is_used(slug, record, path):
    assert read(slug / "s.jsonl", line(record, path))[0] == "the whole output\n"


@pytest.mark.parametrize(
    "path",
    [
        "/x/gone.txt",
        "/x/.hidden.txt",
        "/x/b3f1",
        "/x/..",
        "../../secret.txt",
        "/x/tool-results/../secret.txt",
        "b3f1.txt/",
        "b3f1.txt\0",
        "\0.txt",
        "",
        "/x/" + "a" * 3000 + ".txt",
    ],
)
def test_without_the_output_the_stub_stays_and_is_noted(slug, record, path):
    (slug / "s" / "secret.txt").write_text("SECRET")
    output, noted = read(slug / "s.jsonl", line(record, path))
    assert output == stub(path)
    assert noted["persisted output absent"] == 1


@pytest.mark.skipif(os.name == "nt", reason="links and pipes")
def test_links_and_special_files_are_not_followed(slug, record, tmp_path):
    (tmp_path / "secret.txt").write_text("SECRET")
    results = slug / "s" / "tool-results"
    (results / "link.txt").symlink_to(tmp_path / "secret.txt")
    os.mkfifo(results / "pipe.txt")
    (results / "folder.txt").mkdir()
    for name in ("link", "pipe", "folder"):
        assert read(slug / "s.jsonl", line(record, f"/x/{name}.txt"))[1]["persisted output absent"] == 1
    elsewhere = tmp_path / "elsewhere"
    results.rename(elsewhere)
    results.symlink_to(elsewhere)
    assert read(slug / "s.jsonl", line(record, "/x/b3f1.txt"))[1]["persisted output absent"] == 1


def test_only_part_of_a_very_long_output_is_read(slug, record):
    (slug / "s" / "tool-results" / "long.txt").write_bytes(b"x" * (MOST_BYTES + 5))
    output, noted = read(slug / "s.jsonl", line(record, "/x/long.txt"))
    assert output == "x" * MOST_BYTES
    assert noted["persisted output: bytes left out"] == 5


def test_invalid_utf8_is_replaced(slug):
    (slug / "s" / "tool-results" / "odd.txt").write_bytes(b"a\xffb")
    assert persisted_output(stub("/x/odd.txt"), slug / "s") == ("a\ufffdb", 0)


def test_a_stub_that_is_quoted_in_an_output_is_only_text(slug, record):
    block = {"type": "tool_result", "tool_use_id": "t", "content": f"see:\n{stub('/x/b3f1.txt')}"}
    output, noted = read(slug / "s.jsonl", json.dumps(record(content=[block])).encode())
    assert output.startswith("see:") and "persisted output read" not in noted
