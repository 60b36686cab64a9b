"""The one tree of errors that sttx raises on purpose.

```
SttxError                    everything below; the command line catches this and nothing wider
├── UsageError               the caller's mistake: a bad option, value or combination      exit 2
└── DataError                the world's: a file, record or stream that is not as it must be  exit 1
    ├── SourceError          a source of traces cannot be opened, or died
    ├── CheckpointError      a checkpoint is damaged, foreign or does not fit
    └── ModelError           a model file is damaged, of another architecture, or does not fit
```

Our own bugs are not in the tree: they are plain `assert`s and show a traceback. A message quotes the
offending value with `!r` and says what to do about it. Raising ends nothing: only the command line exits.
"""

from typing import ClassVar


class SttxError(Exception):
    """Anything that sttx refuses to do, with a message for a person.

    `exit_code` is what the command line ends with when it meets one.
    """

    exit_code: ClassVar[int] = 1


class UsageError(SttxError):
    """The caller's mistake: an option, a value or a combination that cannot work."""

    exit_code: ClassVar[int] = 2


class DataError(SttxError):
    """The world's mistake: a file, a record or a stream that is not as it must be."""


class SourceError(DataError):
    """A source of traces cannot be opened, or ended before it should have."""


class CheckpointError(DataError):
    """A checkpoint is damaged, foreign, or belongs to another model."""


class ModelError(DataError):
    """A model file is damaged, of another architecture, or does not fit what was asked of it."""
