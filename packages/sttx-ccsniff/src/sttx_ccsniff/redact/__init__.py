"""Replaces secrets and private names in traces by tags, before anything else sees them.

```python
redactor = Redactor()
clean = redactor.redact(trace)  # the same object if it holds no secret
print(redactor.counts)
```
"""

from sttx_ccsniff.redact.config import RedactionConfig, described_rules, read_config
from sttx_ccsniff.redact.redactor import PLACEHOLDER, Redactor
from sttx_ccsniff.redact.rule import Rule

__all__ = ["PLACEHOLDER", "RedactionConfig", "Redactor", "Rule", "described_rules", "read_config"]
