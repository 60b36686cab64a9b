"""Texts that a command measures: files, files of folders, standard input, and documents of sessions."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sttx_cli.output import note
from sttx_cli.redaction import redaction_of_sessions
from sttx_cli.session_texts import SessionTexts
from sttx_cli.sources import check_sources, named_sources
from sttx_core.errors import UsageError
from sttx_core.foreign_files import open_regular
from sttx_train.formats import EMBEDDED


class NamedText(NamedTuple):
    """A text, and what it is called in a report."""

    name: str
    data: bytes


def read_texts(
    names: Sequence[str], from_sources: Sequence[str], *, no_redact: bool, redact_rules: Path | None
) -> list[NamedText]:
    """Return the bytes of every file that is named, and then the text of each document of the sources.

    Args:
        names: Files, folders, and - for standard input.
        from_sources: Sources of sessions, which are rendered as in training, and redacted.
        no_redact: Whether secrets are left in them.
        redact_rules: A file of rules for them.

    Raises:
        UsageError: A file does not exist, or an option has no effect.
        SourceError: There is no record in the sources.
        OSError: A file cannot be read.
    """
    from sttx_train.coding import members_of

    redact = redaction_of_sessions(from_sources, no_redact, redact_rules)
    if names.count("-") + from_sources.count("-") > 1:
        raise UsageError("- is named twice: standard input can be read once")
    members, _, left_out = members_of(names)
    if left_out:
        note(f"left out, since only files are read: {left_out[0]!r} and {len(left_out) - 1:,} more")
    texts = []
    for member in members:
        if member.path is None:
            texts.append(NamedText("-", sys.stdin.buffer.read()))
            continue
        with open_regular(member.path) as file:
            texts.append(NamedText(member.name, file.read()))
    if from_sources:
        sources = named_sources((), from_sources)
        check_sources(sources, "--model", EMBEDDED, follow=False, redact=redact)
        documents = SessionTexts(sources, redact=redact, say=note)
        texts += [
            NamedText(f"document {index}", text.encode("utf-8", "replace"))
            for index, text in enumerate(documents, 1)
        ]
    return texts
