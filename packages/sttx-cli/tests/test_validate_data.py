"""`sttx validate-data`: every record becomes a trace or a count with its reason."""

import json

import pytest

KEYS = {"records", "traces", "sessions", "bytes_read", "text_bytes", "malformed", "skipped"}
TYPES = {"user_message", "assistant_message", "thinking", "tool_use", "tool_result", "other"}


@pytest.fixture
def odd(tmp_path):
    """Return a file with two traces, a repeated record, a record that is not a trace, and a torn line."""
    meta = {"sessionId": "s", "timestamp": "2026-02-02T09:00:00Z", "cwd": "/home/ada"}
    hello = {"type": "user", "uuid": "1", "message": {"role": "user", "content": "Hello."}, **meta}
    blocks = [{"type": "text", "text": "Hi."}]
    hi = {"type": "assistant", "uuid": "2", "message": {"role": "assistant", "content": blocks}, **meta}
    lines = [json.dumps(record) for record in (hello, hi, hello, {"type": "summary", "summary": "Talk"})]
    path = tmp_path / "odd.jsonl"
    path.write_text("\n".join([*lines, lines[0][:50]]))
    return path


def test_the_json_contract(sttx, odd):
    result = sttx("validate-data", odd, "--json")
    report = result.json
    assert result.code == 0
    assert report.keys() >= KEYS and report["traces"].keys() >= TYPES
    assert {name: count for name, count in report["traces"].items() if count} == {
        "user_message": 1,
        "assistant_message": 1,
    }
    assert (report["records"], report["sessions"], report["malformed"]) == (4, 1, 1)
    assert report["skipped"] == {"summary": 1, "duplicate uuid": 1}
    assert report["bytes_read"] == odd.stat().st_size
    assert report["text_bytes"] == len("User: Hello.\n\nAssistant: Hi.\n\n")
    assert f"source: file {odd}" in result.err


def test_the_table_leaves_out_zeros_and_sorts_each_group(sttx, odd):
    result = sttx("validate-data", odd)
    title, *lines = result.out.splitlines()
    assert title == str(odd)
    assert [line.split() for line in lines] == [
        ["records", "4"],
        ["sessions", "1"],
        ["bytes", "read", f"{odd.stat().st_size:,}"],
        ["bytes", "of", "text", "30"],
        *(["traces", "1", "assistant_message"], ["1", "user_message"]),
        *(["malformed", "1", "cut", "short"], ["skipped", "1", "duplicate", "uuid"], ["1", "summary"]),
        ["format", "1", "claude-code"],
    ]


def test_a_source_without_records_exits_with_1(sttx, tmp_path):
    notes = tmp_path / "notes.jsonl"
    notes.write_text("nothing of the kind\n")
    result = sttx("validate-data", notes, "--json")
    assert result.code == 1 and result.json["formats"] == {"unknown": 1}
    assert f"no record in file {notes}: nothing in it could be read (" in result.err


def test_several_sources(sttx, odd, sessions):
    report = sttx("validate-data", odd, sessions, "--json").json
    assert report["sessions"] == 3
    assert report["traces"]["tool_use"] == report["traces"]["tool_result"] == 24


def test_standard_input(start, odd):
    with start("validate-data", "-", "--json") as process:
        out, err = process.communicate(odd.read_text(), timeout=300)
    assert process.returncode == 0
    assert json.loads(out)["traces"]["user_message"] == 1
    assert "source: standard input" in err


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "it is empty"), (b"\n\n", "it holds blank lines only")]
)
@pytest.mark.parametrize("command", ["validate-data", "traces"])
def test_an_empty_file_is_named_so_and_exits_with_1(sttx, tmp_path, command, content, reason):
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(content)
    result = sttx(command, empty)
    assert result.code == 1
    assert result.err.splitlines()[-1] == f"sttx: no record in file {empty}: {reason}"
    if command == "validate-data":
        assert sttx(command, empty, "--json").json["records"] == 0


@pytest.mark.parametrize("name", ["--from", "--ccsniff-from"])
def test_a_source_may_be_named_by_an_option(sttx, odd, name):
    assert sttx("validate-data", name, odd).out == sttx("validate-data", odd).out


def test_progress_goes_to_standard_error(sttx, odd, monkeypatch):
    monkeypatch.setattr("sttx_cli.progress.LINE_AFTER", 0.0)
    result = sttx("validate-data", odd, "--json")
    assert result.json["records"] == 4
    assert f" of {odd.stat().st_size / 1e3:,.0f} kB, " in result.err or "reading" not in result.err


def test_a_damaged_archive_is_a_failure(sttx, tmp_path):
    torn = tmp_path / "torn.jsonl.gz"
    torn.write_bytes(b"\x1f\x8b\x08\x00torn")
    result = sttx("validate-data", torn)
    assert (result.code, result.out) == (1, "")
    assert f"cannot read {str(torn)!r}" in result.err and "Traceback" not in result.err


@pytest.mark.parametrize(
    ("sources", "code", "message"),
    [
        (["/no/such/thing"], 2, "no such source: '/no/such/thing'"),
        (["x", "x"], 2, "a source is given twice"),
        (["claude"], 1, "no history of 'claude'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_sources_that_cannot_be_read(sttx, sources, code, message):
    result = sttx("validate-data", *sources)
    assert (result.code, result.out) == (code, "")
    assert message in result.err and len(result.err.splitlines()) == 1
