r"""Takes records out of a JSON array, and joins those that are written over several lines.

`claude -p --output-format json --verbose` prints a whole session as one array, `jq .` prints each record over
many lines, and `jq -s .` makes an array of any file of JSON lines. The parsers need one record a line; here
every such file becomes that. What a record means is not known here.
"""

import re
from collections import Counter

from sttx_ccsniff.parse.records import LARGE, TOKEN, decode_line, has_too_many_values
from sttx_ccsniff.report import SourceReport

MOST_BYTES = 2**25
"""Most bytes of a record that is written over several lines; a longer one is dropped and counted."""

_FIRST_KEY = (
    rb'"(?:(?!info"|messages")|messages"\s*:\s*\[\s*\{\s*"(?!info"|parts"))'  # not of OpenCode's exports
)
_BEGINNING = re.compile(
    rb'(?:\A|\n)(?:\xef\xbb\xbf)?[ \t\r]*(?:\[\s*\{\s*["}]|\{[ \t\r]*\n\s*' + _FIRST_KEY + rb")"
)
_BLANK = b"\xef\xbb\xbf \t\r\n,"


def begins(head: bytes) -> bool:
    r"""Return whether an array of objects, or an object over several lines, begins in these lines.

    >>> begins(b'[{"type":"system"'), begins(b'{\n  "type": "user",'), begins(b"[1]")
    (True, True, False)
    """
    return _BEGINNING.search(head) is not None


class Documents:
    r"""Turns the lines of a file into records, each of them one JSON value.

    A record within one line of its own stays as it is. A line that is a whole object ends what is incomplete
    before it, so a cut record costs no others.

    >>> documents = Documents(SourceReport())
    >>> [documents.feed(line) for line in (b'[{"a": [1,', b'2]}, {"b": 3}', b"]", b'{"c": 4}')]
    [[], [b'{"a": [1,\n2]}', b'{"b": 3}'], [], [b'{"c": 4}']]
    """

    def __init__(self, report: SourceReport, *, in_array: bool = False) -> None:
        self.in_array = in_array
        self._report = report
        self._depth = 0  # of brackets in the current record
        self._held = bytearray()
        self._is_too_long = False

    @property
    def undecided(self) -> bool:
        """Whether a record is incomplete."""
        return self._depth > 0

    def feed(self, line: bytes) -> list[bytes]:
        """Read one line, without its line end; return the records that it completes."""
        cut: list[bytes] = []
        if self._depth and line.startswith(b'{"') and _is_whole(line):
            cut, self.in_array = self.finish(), False
        if not self._depth and not self.in_array:
            start = line.lstrip(_BLANK)[:1]
            if start not in (b"{", b"[") or start == b"{" and _is_whole(line):
                return [*cut, line]
        if len(line) > LARGE and has_too_many_values(line):
            self._report.damaged("too many values")
            self.finish()
            self.in_array = False
            return cut
        return cut + self._records(line)

    def finish(self) -> list[bytes]:
        """Return the incomplete record, if there is one, and forget it."""
        cut = [bytes(self._held)] if self._held and not self._is_too_long else []
        self._held.clear()
        self._depth, self._is_too_long = 0, False
        return cut

    def _records(self, line: bytes) -> list[bytes]:
        records: list[bytes] = []
        at = 0  # the end of what is read
        for token in TOKEN.finditer(line):
            bracket = token[0]
            if bracket in (b"{", b"["):
                if not self._depth:
                    self._between(line[at : token.start()])
                    at = token.start()
                    if bracket == b"[" and not self.in_array:
                        self.in_array, at = True, token.end()
                        continue
                self._depth += 1
            elif bracket in (b"}", b"]"):
                if self._depth == 1:
                    records += self._complete(line[at : token.end()])
                    at = token.end()
                elif not self._depth:
                    self._between(line[at : token.start()])
                    self.in_array, at = False, token.end()
                self._depth = max(self._depth - 1, 0)
        if self._depth:
            self._keep(line[at:] + b"\n")
        else:
            self._between(line[at:])
        return records

    def _between(self, gap: bytes) -> None:
        """Count values between the records."""
        if gap.strip(_BLANK):
            self._report.damaged("not an object")

    def _keep(self, piece: bytes) -> None:
        if self._is_too_long or len(self._held) + len(piece) > MOST_BYTES:
            self._is_too_long = True
            self._held.clear()
        else:
            self._held += piece

    def _complete(self, end: bytes) -> list[bytes]:
        self._keep(end)
        record, is_too_long = bytes(self._held), self._is_too_long
        self._held.clear()
        self._is_too_long = False
        if is_too_long:
            self._report.damaged(f"record over {MOST_BYTES} bytes")
        return [] if is_too_long else [record]


def _is_whole(line: bytes) -> bool:
    values, problem = decode_line(line, Counter())
    return not problem and len(values) == 1 and isinstance(values[0], dict)
