"""Where agents keep their sessions: the only file of this package that reads the environment.

`CLAUDE_CONFIG_DIR` sets Claude Code's folder, `CODEX_HOME` Codex's, `XDG_DATA_HOME` OpenCode's,
`OPENCODE_DB` one more of its databases, and `STTX_CACHE_DIR` (or `XDG_CACHE_HOME`) the cache of sttx. Nothing
is read at import, and no folder is created.
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


def opencode_stores() -> list[Path]:
    """Return the paths of OpenCode's databases, one for each release channel; the only one may not exist."""
    shared, own = os.environ.get("XDG_DATA_HOME"), os.environ.get("OPENCODE_DB")
    folder = (Path(shared) if shared else Path.home() / ".local" / "share") / "opencode"
    stores = sorted(folder.glob("opencode*.db"), key=lambda path: (len(path.name), path.name))
    if own and own != ":memory:" and folder / own not in stores:
        stores.append(folder / own)
    return stores or [folder / "opencode.db"]


def cache_folder() -> Path:
    """Return the folder for files that sttx can fetch again, which may not exist."""
    own = os.environ.get("STTX_CACHE_DIR")
    if own:
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "sttx"
