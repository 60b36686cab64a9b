"""The source that is read when none is named: the person's own history, or else the bundled sample."""

import json
import os
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from sttx_ccsniff.environment import claude_projects
from sttx_ccsniff.follow.folders import session_files

_DELETED_AFTER_DAYS = 30
"""Claude Code's default for the setting `cleanupPeriodDays`."""


class DefaultSource(NamedTuple):
    """A spec for `open_source`, and why it was chosen."""

    spec: str
    reason: str


class History(NamedTuple):
    """Claude Code's history on this machine."""

    folder: Path
    sessions: int
    cleanup_days: int | None
    """Days after which Claude Code deletes sessions; None if its settings cannot be read."""


def default_source() -> DefaultSource:
    """Return the source to read when none is named. Nothing is opened."""
    history = claude_history()
    if history.sessions:
        return DefaultSource(
            "claude", f"no source named; {str(history.folder)!r} holds sessions: {history.sessions} files"
        )
    return DefaultSource(
        str(sample_folder()),
        f"no source named, and no session files in {str(history.folder)!r}: the sample that comes with sttx",
    )


def sample_folder() -> Path:
    """Return the folder of the bundled sample: a few invented sessions.

    >>> len(session_files(sample_folder()))
    3
    """
    return Path(str(resources.files("sttx_ccsniff") / "sample"))


def claude_history() -> History:
    """Return the folder of Claude Code's sessions, their number, and when Claude Code deletes them."""
    folder = claude_projects()
    sessions = len(session_files(folder)) if os.path.isdir(folder) else 0
    return History(folder, sessions, _cleanup_days(folder.parent / "settings.json"))


def _cleanup_days(settings: Path) -> int | None:
    try:
        value = json.loads(settings.read_bytes())
    except FileNotFoundError:
        return _DELETED_AFTER_DAYS
    except (OSError, ValueError):
        return None
    days = value.get("cleanupPeriodDays", _DELETED_AFTER_DAYS) if isinstance(value, dict) else None
    return days if isinstance(days, int) else None
