"""`sttx validate-data`: every record becomes a trace or a count with its reason."""

import json

import pytest

KEYS = {"records", "traces", "sessions", "bytes_read", "text_bytes", "malformed", "skipped"}
TYPES = {"user_message", "assistant_message", "thinking", "tool_use", "tool_result", "other"}


@pytest.fixture
def odd(tmp_path):
    """Return a file with two traces, a repetition, a record that is no trace, and a torn line."""
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
    told = result.json
    assert result.code == 0
    assert told.keys() >= KEYS and told["traces"].keys() >= TYPES
    assert {name: count for name, count in told["traces"].items() if count} == {
        "user_message": 1,
        "assistant_message": 1,
    }
    assert (told["records"], told["sessions"], told["malformed"]) == (4, 1, 1)
    assert told["skipped"] == {"summary": 1, "duplicate uuid": 1}
    assert told["bytes_read"] == odd.stat().st_size
    assert told["text_bytes"] == len("User: Hello.\n\nAssistant: Hi.\n\n")
    assert f"source: file {odd}" in result.err


def test_a_person_reads_the_same(sttx, odd):
    result = sttx("validate-data", odd)
    rows = {
        name.strip(): count for name, _, count in (line.rpartition(" ") for line in result.out.splitlines())
    }
    assert result.out.splitlines()[0] == str(odd)
    assert rows["records"] == "4"
    assert rows["traces: user_message"] == "1" and rows["traces: tool_use"] == "0"
    assert rows["malformed"] == "1"
    assert rows["skipped: duplicate uuid"] == "1"
    assert rows["formats: claude-code"] == "1"


def test_a_source_without_a_record_is_told_and_fails(sttx, tmp_path):
    notes = tmp_path / "notes.jsonl"
    notes.write_text("nothing of the kind\n")
    result = sttx("validate-data", notes, "--json")
    assert result.code == 1 and result.json["formats"] == {"unknown": 1}
    assert f"no record could be read in file {notes}" in result.err


def test_several_sources(sttx, odd, sessions):
    told = sttx("validate-data", odd, sessions, "--json").json
    assert told["sessions"] == 3
    assert told["traces"]["tool_use"] == told["traces"]["tool_result"] == 24


def test_standard_input(start, odd):
    with start("validate-data", "-", "--json") as process:
        out, err = process.communicate(odd.read_text(), timeout=60)
    assert process.returncode == 0
    assert json.loads(out)["traces"]["user_message"] == 1
    assert "source: standard input" in err


def test_nothing_in_it_is_a_count_too(sttx, tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    result = sttx("validate-data", empty, "--json")
    assert (result.code, result.json["records"]) == (0, 0)


def test_a_damaged_archive_is_a_failure(sttx, tmp_path):
    torn = tmp_path / "torn.jsonl.gz"
    torn.write_bytes(b"\x1f\x8b\x08\x00torn")
    result = sttx("validate-data", torn)
    assert (result.code, result.out) == (1, "")
    assert f"cannot read {str(torn)!r}" in result.err and "Traceback" not in result.err


@pytest.mark.parametrize(
    ("sources", "code", "said"),
    [
        (["/no/such/thing"], 2, "no such source: '/no/such/thing'"),
        (["x", "x"], 2, "a source is given twice"),
        (["claude"], 1, "no history of 'claude'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_read(sttx, sources, code, said):
    result = sttx("validate-data", *sources)
    assert (result.code, result.out) == (code, "")
    assert said in result.err and len(result.err.splitlines()) == 1
