"""The one tree of errors that sttx raises on purpose, and its category of warnings.

```
SttxError                    everything below; the command line catches this and nothing wider
├── UsageError               the caller's mistake: a bad option, value or combination           exit 2
└── DataError                bad input: a damaged or unreadable file, record or stream          exit 1
    ├── SourceError          a source of traces cannot be opened, or failed
    ├── CheckpointError      a checkpoint is damaged, or belongs to another model or run
    └── ModelError           a model file is damaged, of another architecture, or does not fit
```

Our own bugs are not in the tree: they are plain `assert`s and show a traceback. A message quotes the
offending value with `!r` and says what to do about it. An error never ends the process: only the command line
exits.

`SttxWarning` is the category of all warnings: something works, but probably not as intended.
"""

from typing import ClassVar


class SttxError(Exception):
    """Base of all errors of sttx; the message is one sentence for a person.

    `exit_code` is the exit code of the command line.
    """

    exit_code: ClassVar[int] = 1


class UsageError(SttxError):
    """The caller's mistake: an option, a value or a combination that cannot work."""

    exit_code: ClassVar[int] = 2


class DataError(SttxError):
    """A file, a record or a stream is damaged, unreadable or not in the expected format."""


class SourceError(DataError):
    """A source of traces cannot be opened, or failed before its end."""


class CheckpointError(DataError):
    """A checkpoint is damaged, was not written by sttx, or belongs to another model or run."""


class ModelError(DataError):
    """A model file is damaged, of another architecture, or does not fit the request."""


class SttxWarning(UserWarning):
    """Something works, but probably not as intended; the message is one sentence for a person."""
