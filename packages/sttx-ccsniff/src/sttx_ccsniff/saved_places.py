"""Checks a saved cursor to its last detail, so that no forged place counts as a missing one. Reads no file.

Without this check, a place that no feed understands would mean that its file is read again from the top.
"""

from collections.abc import Mapping
from typing import Any

from sttx_ccsniff.cursor import Ledger, Place
from sttx_ccsniff.opencode.store import message_place
from sttx_ccsniff.read.formats import AutoParser
from sttx_ccsniff.read.lines import line_place
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.foreign_files import shown
from sttx_core.saved_state import damaged


def check_cursor(cursor: Mapping[str, Any] | None) -> None:
    """Check a cursor of `open_source`; one that is None or empty belongs to a run that has read nothing.

    Raises:
        CheckpointError: It is damaged, or of another version.
    """
    check_places(Ledger(cursor).places())


def check_places(places: Mapping[str, Place]) -> None:
    """Check that every place is one that a feed of `open_source` saves, and that its parser's state loads.

    Raises:
        CheckpointError: Names the first origin whose place is not.
    """
    for origin, place in places.items():
        if (lines := line_place(place)) is not None:
            parser = AutoParser(origin, SourceReport(say=lambda warning: None), Seen(1, 1))
            try:
                parser.load_state_dict(lines.parser)
            except ValueError as error:
                raise damaged("cursor", f"the place in {shown(origin)} is {error}") from error
        elif message_place(place) is None:
            raise damaged("cursor", f"{shown(place)} is not a place in {shown(origin)}")
