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


def notice(path, kind="JSON array with schema: [{type: string, text: string}]"):
    return (
        "Error: result (140,990 characters) exceeds maximum allowed tokens. Output has been saved to "
        f"{path}.\nFormat: {kind}\nUse offset and limit parameters to read specific portions of the file."
    )


BLOCKS = [{"type": "text", "text": "first"}, {"type": "image"}, {"type": "text", "text": "last"}]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    ("reference", "name"),
    [(stub, "t1.json"), (notice, "mcp-mail-get-1.txt"), (notice, "mcp-mail-get-1.json")],
)
def test_the_text_of_stored_blocks_is_read(slug, record, reference, name, indent):
    (slug / "s" / "tool-results" / name).write_text(json.dumps(BLOCKS, indent=indent))
    for content in (reference(f"/x/{name}"), [{"type": "text", "text": reference(f"/x/{name}")}]):
        block = {"type": "tool_result", "tool_use_id": "t", "content": content}
        assert (
            read(slug / "s.jsonl", json.dumps(record(content=[block])).encode())[0] == "first\n[image]\nlast"
        )


@pytest.mark.parametrize("text", ["[1, 2]", "[]", '{"a": 1}', '[{"type": "te', "plain", '["a"]'])
def test_other_json_is_read_as_it_is(slug, text):
    (slug / "s" / "tool-results" / "a.json").write_text(text)
    for reference in (stub("/x/a.json"), notice("/x/a.json", "Plain text")):
        assert persisted_output(reference, slug / "s") == (text, 0)


def test_the_output_of_a_command_that_prints_blocks_is_read_as_it_is(slug):
    (slug / "s" / "tool-results" / "a.txt").write_text(json.dumps(BLOCKS))
    assert persisted_output(stub("/x/a.txt"), slug / "s") == (json.dumps(BLOCKS), 0)


def test_only_part_of_very_long_blocks_is_read(slug):
    long = [{"type": "text", "text": "x" * MOST_BYTES}, {"type": "text", "text": "end"}]
    (slug / "s" / "tool-results" / "a.json").write_text(json.dumps(long))
    assert persisted_output(stub("/x/a.json"), slug / "s") == ("x" * MOST_BYTES, 4)


def test_a_message_that_only_speaks_of_a_notice_is_text(slug, record):
    block = {"type": "tool_result", "tool_use_id": "t", "content": "x" * 700 + notice("/x/b3f1.txt")}
    assert read(slug / "s.jsonl", json.dumps(record(content=[block])).encode())[0].startswith("xxx")


@pytest.mark.skipif(os.name == "nt", reason="links")
@pytest.mark.parametrize("reference", [stub, notice])
@pytest.mark.parametrize("linked", ["s", "s/tool-results", "s/tool-results/b3f1.txt"])
def test_no_link_leads_out_of_the_sessions_folder(slug, record, tmp_path, linked, reference):
    (slug / linked).rename(tmp_path / "elsewhere")
    (slug / linked).symlink_to(tmp_path / "elsewhere")
    for origin, fields in [
        ("s.jsonl", {}),
        ("agent-a1.jsonl", {"agentId": "a1"}),
        ("s/subagents/agent-a1.jsonl", {"agentId": "a1"}),
    ]:
        block = {"type": "tool_result", "tool_use_id": "t", "content": reference("/x/b3f1.txt")}
        raw = json.dumps(record(content=[block], **fields)).encode()
        assert read(slug / origin, raw)[1]["persisted output absent"] == 1


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_a_link_to_the_project_is_followed(slug, record, tmp_path):
    (tmp_path / "link").symlink_to(slug)
    assert read(tmp_path / "link" / "s.jsonl", line(record, "/x/b3f1.txt"))[0] == "the whole output\n"
