"""Every way coding-agent traces come in: session files, exports and the live ccsniff watcher.

```python
with open_source("~/.claude/projects") as source:
    for trace in source:
        ...
print(source.report.as_dict())
```
"""

from sttx_ccsniff.default import DefaultSource, History, claude_history, default_source, sample_folder
from sttx_ccsniff.environment import claude_projects
from sttx_ccsniff.listing import Voice, list_sessions
from sttx_ccsniff.readiness import Tool, live_tools
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.source import Source, open_source
from sttx_ccsniff.trace_json import dump_trace, load_trace

__all__ = [
    "DefaultSource",
    "History",
    "Source",
    "SourceReport",
    "Tool",
    "Voice",
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
