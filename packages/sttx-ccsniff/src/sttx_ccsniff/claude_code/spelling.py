"""Gives the keys of a record one spelling.

Claude Code's own files spell keys as `sessionId`. The programs that drive it (Cowork's `audit.jsonl`, saved
`claude -p --output-format stream-json`) write the same records with `session_id`. A key of either spelling is
read everywhere.
"""

from typing import Any

_SPELLINGS = {
    "session_id": "sessionId",
    "parent_uuid": "parentUuid",
    "parent_tool_use_id": "parentToolUseId",
    "parentToolUseID": "parentToolUseId",
    "agent_id": "agentId",
    "is_sidechain": "isSidechain",
    "is_replay": "isReplay",
    "is_meta": "isMeta",
    "is_synthetic": "isMeta",
    "isSynthetic": "isMeta",
    "is_compact_summary": "isCompactSummary",
    "is_api_error_message": "isApiErrorMessage",
    "tool_use_result": "toolUseResult",
    "_audit_timestamp": "timestamp",
}
"""Other spellings of the keys that the parser reads."""

_OTHERS = frozenset(_SPELLINGS)


def in_one_spelling(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record that has the keys of Claude Code's own files; the other keys stay.

    >>> in_one_spelling({"session_id": "s", "uuid": "u"})
    {'session_id': 's', 'uuid': 'u', 'sessionId': 's'}
    """
    if _OTHERS.isdisjoint(record):
        return record
    spelled = dict(record)
    for other, key in _SPELLINGS.items():
        if other in record and spelled.get(key) is None:
            spelled[key] = record[other]
    return spelled
