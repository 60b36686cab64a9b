"""Opens the data of `sttx pretrain` and of commands like it, and says what it is."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sttx_ccsniff.redact import Redactor
from sttx_cli.output import count, skipped_files
from sttx_cli.progress import progress_bar
from sttx_cli.redaction import redaction_of_sessions
from sttx_cli.session_texts import SessionTexts
from sttx_cli.sources import check_sources
from sttx_core.tokenizers import AnyTokenizer
from sttx_train.environment import is_first_process
from sttx_train.formats import EMBEDDED

if TYPE_CHECKING:
    from sttx_train.data import Data


def checked_sessions(
    sessions: Sequence[str], model_option: str, no_redact: bool, redact_rules: Path | None
) -> Redactor | bool:
    """Check that sources of sessions are there, and return how they are redacted.

    Args:
        sessions: Sources of sessions.
        model_option: The option that takes a model, for the message if one was named as a source.
        no_redact: `--no-redact`.
        redact_rules: `--redact-rules`.

    Raises:
        UsageError: One is not there, or an option of redaction has no effect.
    """
    redact = redaction_of_sessions(sessions, no_redact, redact_rules)
    if sessions:
        with progress_bar("looking for the sessions"):
            check_sources(sessions, model_option, EMBEDDED, follow=False, redact=redact)
    return redact


def opened_data(
    paths: Sequence[Path],
    sessions: Sequence[str],
    redact: Redactor | bool,
    tokenizer: AnyTokenizer | None,
    talk: Callable[[str], None],
) -> "Data":
    """Open data to train on: files and sessions, encoded by a tokenizer; only the first process talks.

    Args:
        paths: Files and folders.
        sessions: Sources of sessions.
        redact: How sessions are redacted.
        tokenizer: The tokenizer.
        talk: prints a message.
    """
    from sttx_train.data import open_data

    assert tokenizer is not None

    def note(text: str) -> None:
        talk(f"note: {text}")

    texts = SessionTexts(sessions, redact=redact, say=note) if sessions else None
    if is_first_process():
        with progress_bar("reading", None, "bytes") as progress:
            opened = open_data(paths, tokenizer, texts=texts, say=note, progress=progress)
    else:
        opened = open_data(paths, tokenizer, texts=texts)
    lengths = opened.documents.lengths
    per_id = f" ({opened.text_bytes / lengths.sum():.2f} bytes each)" if opened.text_bytes else ""
    talk(f"data: {count(int(lengths.sum()), 'id')}{per_id} in {count(len(lengths), 'document')}")
    if opened.skipped:
        talk(skipped_files(opened.skipped))
    return opened
