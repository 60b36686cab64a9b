"""Reads pairs of prompt and completion, one JSON object per line."""

from sttx_ccsniff.exports.lines import LineParser, Row
from sttx_ccsniff.parse.content import text_of
from sttx_core.traces import Meta, Pair, Trace


def recognizes_pairs(record: Row) -> bool:
    """Return whether a JSON object looks like a prompt and its completion."""
    return {"prompt", "completion"} <= record.keys()


class PairParser(LineParser):
    """Reads `{"prompt": ..., "completion": ...}` records.

    >>> from sttx_ccsniff.report import SourceReport
    >>> from sttx_ccsniff.seen import Seen
    >>> parser = PairParser("pairs.jsonl", SourceReport(), Seen())
    >>> [pair.completion for pair in parser.feed(b'{"prompt":"2+2?","completion":"4"}')]
    ['4']
    """

    name = "pairs"

    def read(self, row: Row) -> list[Trace]:
        """Return the trace of one pair; its uid is `stem:count`."""
        prompt, completion = row.get("prompt"), row.get("completion")
        if not isinstance(prompt, str) or not isinstance(completion, str):
            self.report.damaged("pair whose prompt or completion is not a string")
            return []
        uid = f"{self.stem}:{self.count}"
        session = text_of(row.get("session")) or self.stem
        meta = Meta(session=session, uid=uid, origin=self.origin)
        return [Pair(meta=meta, prompt=prompt, completion=completion)]
