"""The one place in core that reads the environment.

| variable | meaning |
| --- | --- |
| `STTX_LOG_DIR` | folder of the event logs; unset or empty: no event log is written |
"""

import os
from pathlib import Path


def log_dir() -> Path | None:
    """Give the folder that `STTX_LOG_DIR` names at this moment, or None: event logs are off."""
    value = os.environ.get("STTX_LOG_DIR", "")
    return Path(value).expanduser() if value else None
