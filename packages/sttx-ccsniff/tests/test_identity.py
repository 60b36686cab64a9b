import pytest

from sttx_ccsniff.claude_code.identity import identity_of, session_folder
from sttx_ccsniff.parse.project import project_of


@pytest.mark.parametrize(
    ("origin", "identity", "project", "folder"),
    [
        ("/p/slug/s1.jsonl", ("s1", ""), "slug", "/p/slug/s1"),
        ("/p/slug/s1.jsonl.gz", ("s1", ""), "slug", "/p/slug/s1"),
        ("/p/slug/agent-a.jsonl", ("", "a"), "slug", "/p/slug/named"),
        ("/p/slug/s1/subagents/agent-a.jsonl", ("s1", "a"), "slug", "/p/slug/s1"),
        ("/p/slug/s1/subagents/flows/one/agent-a.jsonl", ("s1", "a"), "slug", "/p/slug/s1"),
        ("/p/slug/s1/subagents/agent-a/subagents/agent-b.jsonl", ("s1", "b"), "slug", "/p/slug/s1"),
        ("/subagents/x/projects/slug/s1.jsonl", ("s1", ""), "slug", "/subagents/x/projects/slug/s1"),
        ("/subagents/x/projects/slug/agent-a.jsonl", ("", "a"), "slug", "/subagents/x/projects/slug/named"),
        ("/home/subagents/s1.jsonl", ("s1", ""), "subagents", "/home/subagents/s1"),
        ("s1.jsonl", ("s1", ""), "", "s1"),
        ("-", ("-", ""), "", None),
        ("", ("", ""), "", None),
    ],
)
def test_identity_project_and_folder_of_a_path(origin, identity, project, folder):
    assert identity_of(origin) == identity
    assert project_of(None, origin) == project
    path = session_folder(origin, "named")
    assert (path and path.as_posix()) == folder


@pytest.mark.parametrize("session", ["..", "../s", "a/b", "", ".", "s\0", "a" * 300])
def test_a_session_whose_name_is_not_plain_has_no_folder(session):
    assert session_folder("/p/slug/agent-a1.jsonl", session) is None
