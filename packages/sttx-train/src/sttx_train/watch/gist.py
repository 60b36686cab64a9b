"""The gist of a round: a hash of its text without what differs between two runs of one command.

Paths, and words with digits such as times, counts, ports and run ids, are left out. Knows text; no prices.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from sttx_core.render import render
from sttx_core.traces import Trace

_PATH = re.compile(r"(?:[\w.~-]*/)+[\w.-]*")
_WITH_DIGITS = re.compile(r"\b\w*\d\w*\b|\b[a-fA-F]{7,}\b")


def without_particulars(text: str) -> str:
    """Return a text in which each path, and each word with digits, is the same.

    >>> without_particulars("see /tmp/x1/a.log at 10:31:07, run 1f3c9ab")
    'see P at N:N:N, run N'
    """
    return _WITH_DIGITS.sub("N", _PATH.sub("P", text))


def gist(traces: Sequence[Trace]) -> str:
    """Return a hash of the text of traces without its particulars."""
    text = without_particulars("".join(map(render, traces)))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
