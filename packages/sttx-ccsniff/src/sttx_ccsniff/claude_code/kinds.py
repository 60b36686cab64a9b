"""Distinguishes Claude Code's records from other JSON objects, and those with talk from book-keeping."""

from typing import Any

BOOK_KEEPING = frozenset(
    (
        "agent-color",
        "agent-name",
        "agent-setting",
        "ai-title",
        "attribution-snapshot",
        "auth_status",
        "content-replacement",
        "control_cancel_request",
        "control_request",
        "control_response",
        "custom-title",
        "file-history-snapshot",
        "keep_alive",
        "last-prompt",
        "mode",
        "permission-mode",
        "pr-link",
        "progress",
        "prompt_suggestion",
        "queue-operation",
        "rate_limit_event",
        "result",
        "speculation-accept",
        "stream_event",
        "summary",
        "tag",
        "tool_progress",
        "tool_use_summary",
        "worktree-state",
    )
)
"""Types of records that are known to contain no talk."""

_IDENTITIES = frozenset(
    ("uuid", "parentUuid", "sessionId", "session_id", "messageId", "leafUuid", "isSidechain")
)


def recognizes(record: dict[str, Any]) -> bool:
    """Return whether a JSON object looks like one of Claude Code's records.

    Many programs write lines with a `type`. Claude Code's have a type that is known, and an identity or a
    message. Types that are not known yet are read in files that have a known one.

    >>> recognizes({"type": "user", "message": {"content": "Hi"}}), recognizes({"type": "user"})
    (True, False)
    """
    kind = record.get("type")
    if kind in ("user", "assistant"):
        return isinstance(record.get("message"), dict) and not {"sid", "role"} <= record.keys()
    if not isinstance(kind, str) or kind not in BOOK_KEEPING and kind not in ("attachment", "system"):
        return False
    if kind == "result":  # it ends the output of `claude -p`, and may stand alone there
        return False
    return not _IDENTITIES.isdisjoint(record) or kind == "summary" and "summary" in record
