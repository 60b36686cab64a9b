"""Every way coding-agent traces come in: session files, exports and the live ccsniff watcher.

```python
with open_source("~/.claude/projects") as source:
    for trace in source:
        ...
print(source.report.as_dict())
```
"""

from sttx_ccsniff.default_source import DefaultSource, History, claude_history, default_source, sample_folder
from sttx_ccsniff.environment import claude_projects
from sttx_ccsniff.listing import SessionSummary, list_sessions
from sttx_ccsniff.live.install import Tool, live_tools
from sttx_ccsniff.parse.trace_json import dump_trace, load_trace
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.source import Source, open_source

__all__ = [
    "DefaultSource",
    "History",
    "Source",
    "SourceReport",
    "Tool",
    "SessionSummary",
    "claude_history",
    "claude_projects",
    "default_source",
    "dump_trace",
    "list_sessions",
    "live_tools",
    "load_trace",
    "open_source",
    "sample_folder",
]
