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
from sttx_ccsniff.readiness import Tool, live_tools
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.source import Source, open_source

__all__ = [
    "DefaultSource",
    "History",
    "Source",
    "SourceReport",
    "Tool",
    "claude_history",
    "claude_projects",
    "default_source",
    "live_tools",
    "open_source",
    "sample_folder",
]
