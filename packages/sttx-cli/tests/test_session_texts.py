"""Sessions as documents: told from plain data by content, whole where they can be, bounded where not."""

import gzip
import json
import tracemalloc

import pytest

from sttx_cli.session_texts import SessionTexts, document_texts, parted
from sttx_core.traces import AssistantMessage, Meta, SessionEnd, UserMessage


def said(session, text, kind=UserMessage):
    return kind(meta=Meta(session=session), text=text)


@pytest.fixture
def folder(tmp_path, sessions):
    """A folder with the same sessions twice, and what agents leave beside them."""
    inside = tmp_path / "projects" / "orchard"
    inside.mkdir(parents=True)
    (inside / "talk.jsonl").write_bytes(sessions.read_bytes())
    (inside / "old.jsonl.gz").write_bytes(gzip.compress(sessions.read_bytes()))
    (inside / "notes.md").write_text("remember")
    return tmp_path / "projects"


class TestDocuments:
    def test_interleaved_documents_come_whole(self):
        traces = [said("a", "1"), said("b", "2"), said("a", "3", AssistantMessage), said("b", "4")]
        assert list(document_texts(traces)) == ["User: 1\n\nAssistant: 3\n\n", "User: 2\n\nUser: 4\n\n"]

    def test_a_document_comes_when_it_ends(self):
        traces = iter([said("a", "1"), said("b", "2"), SessionEnd(meta=Meta(session="b")), said("a", "3")])
        texts = document_texts(traces)
        assert next(texts) == "User: 2\n\n" and next(traces) == said("a", "3")
        assert list(document_texts([SessionEnd(meta=Meta(session="a"))])) == []

    def test_the_one_that_was_silent_longest_is_taken_for_whole(self):
        traces = [said(name, str(at)) for at, name in enumerate("abaca")]
        texts = list(document_texts(traces, most_open=2))
        assert texts == ["User: 1\n\n", "User: 3\n\n", "User: 0\n\nUser: 2\n\nUser: 4\n\n"]

    def test_memory_is_bounded_by_what_may_be_held(self):
        tracemalloc.start()
        count = sum(
            1 for _ in document_texts((said("a", "x" * 10_000) for _ in range(500)), most_held=50_000)
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert 90 < count < 130 and peak < 400_000

    def test_nothing_is_lost(self):
        traces = [said(name, str(at)) for at, name in enumerate("abcabcabdabe" * 5)]
        texts = list(document_texts(traces, most_open=2, most_held=60))
        assert sorted(line for text in texts for line in text.split("\n\n") if line) == sorted(
            f"User: {at}" for at in range(60)
        )


class TestTexts:
    def test_each_document_is_rendered(self, sessions):
        told = []
        texts = list(SessionTexts([str(sessions)], redact=True, say=told.append))
        assert len(texts) == 2
        for text in texts:
            assert text.startswith("User: Please run test number 0.\n\nTool call: Bash {")
            assert text.count("Test number") == 12
        assert any("talk.jsonl" in line for line in told)

    def test_secrets_are_taken_out_and_counted(self, tmp_path):
        secret = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
        record = {"type": "user", "uuid": "u", "message": {"role": "user", "content": f"It is {secret}."}}
        (tmp_path / "s.jsonl").write_text(json.dumps(record) + "\n")
        texts = SessionTexts([str(tmp_path / "s.jsonl")], redact=True, say=lambda _: None)
        assert secret not in "".join(texts) and sum(texts.redacted.values()) == 1
        bare = SessionTexts([str(tmp_path / "s.jsonl")], redact=False, say=lambda _: None)
        assert secret in "".join(bare) and not bare.redacted


class TestParted:
    def test_sessions_are_told_by_content(self, sessions, folder, tmp_path):
        plain = tmp_path / "plain.jsonl"
        plain.write_text('{"text": "a"}\n')
        data = ["claude", str(plain), str(sessions), str(folder), "codex", str(tmp_path / "gone.jsonl")]
        paths, found = parted(data)
        assert found == ["claude", str(sessions), str(folder), "codex"]
        assert paths == [plain, tmp_path / "gone.jsonl"]

    @pytest.mark.parametrize(
        ("record", "is_one"),
        [
            ({"type": "user", "message": {"role": "user", "content": "Hi"}}, True),
            ({"type": "article", "text": "Hi"}, False),
            ({"type": "row", "values": [1, 2]}, False),
            ([1, 2], False),
            ({"text": "Hi"}, False),
            ({"title": "Hi"}, False),
            ({"prompt": "a", "completion": "b"}, True),
            ({"sid": "s", "role": "user", "type": "text", "text": "Hi"}, True),
            ({"sttx_traces": 1}, True),
            ({"type": "user_message", "meta": {"session": "s"}, "text": "Hi"}, True),
            ({"timestamp": "2026-01-01T00:00:00Z", "type": "session_meta", "payload": {"id": "t"}}, True),
        ],
    )
    def test_each_kind_of_record(self, tmp_path, record, is_one):
        path = tmp_path / "x.jsonl"
        path.write_text(f"\n{json.dumps(record)}\n")
        assert parted([str(path)])[1] == ([str(path)] if is_one else [])
        path.rename(tmp_path / "x.txt")
        assert parted([str(tmp_path / "x.txt")])[1] == []

    def test_a_tree_with_a_session_in_it_is_a_tree_and_that_is_said(self, folder, capsys):
        (folder / "source.py").write_text("x = 1\n" * 10_000)
        assert parted([str(folder)])[1] == []
        said = capsys.readouterr().err
        assert "nothing in it is redacted; 2 of its files hold an agent's sessions" in said

    def test_nothing_is_said_of_a_tree_without_sessions(self, tmp_path, capsys):
        (tmp_path / "plain.jsonl").write_text('{"text": "a"}\n')
        assert parted([str(tmp_path)]) == ([tmp_path], []) and capsys.readouterr().err == ""

    def test_a_damaged_beginning_is_passed_over(self, tmp_path, sessions):
        (tmp_path / "x.jsonl").write_bytes(b"{cut\n" + sessions.read_bytes())
        assert parted([str(tmp_path / "x.jsonl")])[1]
