"""Reads coding agents' traces from every input: session files, exports and the live ccsniff watcher.

```python
with open_source("~/.claude/projects") as source:
    for trace in source:
        ...
print(source.report.as_dict())
```

Redaction has a face of its own, `sttx_ccsniff.redact`.
"""

from sttx_ccsniff.default_source import DefaultSource, History, claude_history, default_source, sample_folder
from sttx_ccsniff.environment import cache_folder, claude_projects
from sttx_ccsniff.follow.folders import session_files
from sttx_ccsniff.listing import SessionSummary, in_reading_order, list_sessions, session_traces
from sttx_ccsniff.live.install import Tool, live_tools
from sttx_ccsniff.parse.trace_json import TRACES_HEADER, dump_trace, load_trace
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.saved_places import check_cursor
from sttx_ccsniff.session_data import holds_sessions
from sttx_ccsniff.source import Source, open_source

__all__ = [
    "DefaultSource",
    "History",
    "SessionSummary",
    "Source",
    "SourceReport",
    "TRACES_HEADER",
    "Tool",
    "cache_folder",
    "check_cursor",
    "claude_history",
    "claude_projects",
    "default_source",
    "dump_trace",
    "holds_sessions",
    "in_reading_order",
    "list_sessions",
    "live_tools",
    "load_trace",
    "open_source",
    "sample_folder",
    "session_files",
    "session_traces",
]
