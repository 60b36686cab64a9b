"""The one place in core that reads the environment.

| variable | meaning |
| --- | --- |
| `STTX_LOG_DIR` | folder of the event logs; unset or empty: no event log is written |
"""

import os
from pathlib import Path


def log_dir() -> Path | None:
    """Return the folder that `STTX_LOG_DIR` names now; None if it is unset or empty."""
    value = os.environ.get("STTX_LOG_DIR", "")
    return Path(value).expanduser() if value else None
