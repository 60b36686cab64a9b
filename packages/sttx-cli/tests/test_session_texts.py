"""Sessions as documents: recognized by content, complete if possible, within bounds of memory."""

import gzip
import json
import tracemalloc

import pytest

from sttx_cli.session_texts import SessionTexts, document_texts, split_sessions
from sttx_core.traces import AssistantMessage, Meta, SessionEnd, UserMessage


def spoken(session, text, kind=UserMessage):
    return kind(meta=Meta(session=session), text=text)


@pytest.fixture
def folder(tmp_path, sessions):
    """A folder with the same sessions twice, and a file that is not a session."""
    inside = tmp_path / "projects" / "orchard"
    inside.mkdir(parents=True)
    (inside / "talk.jsonl").write_bytes(sessions.read_bytes())
    (inside / "old.jsonl.gz").write_bytes(gzip.compress(sessions.read_bytes()))
    (inside / "notes.md").write_text("remember")
    return tmp_path / "projects"


class TestDocuments:
    def test_interleaved_documents_come_whole(self):
        traces = [spoken("a", "1"), spoken("b", "2"), spoken("a", "3", AssistantMessage), spoken("b", "4")]
        assert list(document_texts(traces)) == ["User: 1\n\nAssistant: 3\n\n", "User: 2\n\nUser: 4\n\n"]

    def test_a_document_comes_as_soon_as_it_ends(self):
        end = SessionEnd(meta=Meta(session="b"))
        traces = iter([spoken("a", "1"), spoken("b", "2"), end, spoken("a", "3")])
        texts = document_texts(traces)
        assert next(texts) == "User: 2\n\n" and next(traces) == spoken("a", "3")
        assert list(document_texts([SessionEnd(meta=Meta(session="a"))])) == []

    def test_too_many_open_documents_end_the_one_idle_for_longest(self):
        traces = [spoken(name, str(at)) for at, name in enumerate("abaca")]
        texts = list(document_texts(traces, most_open=2))
        assert texts == ["User: 1\n\n", "User: 3\n\n", "User: 0\n\nUser: 2\n\nUser: 4\n\n"]

    def test_memory_is_bounded(self):
        tracemalloc.start()
        count = sum(
            1 for _ in document_texts((spoken("a", "x" * 10_000) for _ in range(500)), most_characters=50_000)
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert 90 < count < 130 and peak < 400_000

    def test_nothing_is_lost(self):
        traces = [spoken(name, str(at)) for at, name in enumerate("abcabcabdabe" * 5)]
        texts = list(document_texts(traces, most_open=2, most_characters=60))
        assert sorted(line for text in texts for line in text.split("\n\n") if line) == sorted(
            f"User: {at}" for at in range(60)
        )


class TestTexts:
    def test_each_document_is_rendered(self, sessions):
        messages = []
        texts = list(SessionTexts([str(sessions)], redact=True, say=messages.append))
        assert len(texts) == 2
        for text in texts:
            assert text.startswith("User: Please run test number 0.\n\nTool call: Bash {")
            assert text.count("Test number") == 12
        assert any("talk.jsonl" in line for line in messages)

    def test_secrets_are_taken_out_and_counted(self, tmp_path):
        secret = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
        record = {"type": "user", "uuid": "u", "message": {"role": "user", "content": f"It is {secret}."}}
        (tmp_path / "s.jsonl").write_text(json.dumps(record) + "\n")
        texts = SessionTexts([str(tmp_path / "s.jsonl")], redact=True, say=lambda _: None)
        assert secret not in "".join(texts) and sum(texts.redacted.values()) == 1
        bare = SessionTexts([str(tmp_path / "s.jsonl")], redact=False, say=lambda _: None)
        assert secret in "".join(bare) and not bare.redacted


class TestSplitSessions:
    def test_sessions_are_recognized_by_content(self, sessions, folder, tmp_path):
        plain = tmp_path / "plain.jsonl"
        plain.write_text('{"text": "a"}\n')
        data = ["claude", str(plain), str(sessions), str(folder), "codex", str(tmp_path / "gone.jsonl")]
        paths, sources = split_sessions(data)
        assert sources == ["claude", str(sessions), str(folder), "codex"]
        assert paths == [plain, tmp_path / "gone.jsonl"]

    def test_a_folder_with_few_sessions_is_plain_data_and_a_note_says_so(self, folder, capsys):
        (folder / "source.py").write_text("x = 1\n" * 10_000)
        assert split_sessions([str(folder)])[1] == []
        err = capsys.readouterr().err
        assert "nothing in it is redacted; 2 of its files hold an agent's sessions" in err

    def test_a_folder_without_sessions_gives_no_note(self, tmp_path, capsys):
        (tmp_path / "plain.jsonl").write_text('{"text": "a"}\n')
        assert split_sessions([str(tmp_path)]) == ([tmp_path], []) and capsys.readouterr().err == ""
