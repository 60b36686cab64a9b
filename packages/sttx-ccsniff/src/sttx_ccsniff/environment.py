"""The one place of this package that reads the process's environment.

`CLAUDE_CONFIG_DIR` moves Claude Code's own folder, `CODEX_HOME` Codex's, `XDG_DATA_HOME` OpenCode's, and
`STTX_CACHE_DIR` (or `XDG_CACHE_HOME`) ours. Nothing is read at import, and nothing is created here.
"""

import os
from pathlib import Path


def claude_projects() -> Path:
    """Where Claude Code keeps its session files; the folder need not exist."""
    configured = os.environ.get("CLAUDE_CONFIG_DIR")
    return (Path(configured) if configured else Path.home() / ".claude") / "projects"


def codex_sessions() -> Path:
    """Where Codex keeps its rollouts; the folder need not exist."""
    configured = os.environ.get("CODEX_HOME")
    return (Path(configured) if configured else Path.home() / ".codex") / "sessions"


def opencode_store() -> Path:
    """Where OpenCode keeps its database; the file need not exist."""
    shared = os.environ.get("XDG_DATA_HOME")
    return (Path(shared) if shared else Path.home() / ".local" / "share") / "opencode" / "opencode.db"


def cache_folder() -> Path:
    """Where sttx keeps what it can fetch again; the folder need not exist."""
    own = os.environ.get("STTX_CACHE_DIR")
    if own:
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "sttx"
