"""Where agents keep their sessions: the only file of this package that reads the environment.

`CLAUDE_CONFIG_DIR` sets Claude Code's folder, `CODEX_HOME` Codex's, `XDG_DATA_HOME` OpenCode's, and
`STTX_CACHE_DIR` (or `XDG_CACHE_HOME`) the cache of sttx. Nothing is read at import, and no folder is created.
"""

import os
from pathlib import Path


def claude_projects() -> Path:
    """Return the folder of Claude Code's session files, which may not exist."""
    configured = os.environ.get("CLAUDE_CONFIG_DIR")
    return (Path(configured) if configured else Path.home() / ".claude") / "projects"


def codex_sessions() -> Path:
    """Return the folder of Codex's rollouts, which may not exist."""
    configured = os.environ.get("CODEX_HOME")
    return (Path(configured) if configured else Path.home() / ".codex") / "sessions"


def opencode_store() -> Path:
    """Return the path of OpenCode's database, which may not exist."""
    shared = os.environ.get("XDG_DATA_HOME")
    return (Path(shared) if shared else Path.home() / ".local" / "share") / "opencode" / "opencode.db"


def cache_folder() -> Path:
    """Return the folder for files that sttx can fetch again, which may not exist."""
    own = os.environ.get("STTX_CACHE_DIR")
    if own:
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "sttx"
