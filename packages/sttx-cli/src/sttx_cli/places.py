"""Checks that folders and pages can be written before anything slow starts."""

from pathlib import Path

from sttx_cli.failures import os_sentence
from sttx_core.environment import log_dir
from sttx_core.errors import DataError, UsageError
from sttx_core.os_errors import disk_is_full
from sttx_core.own_files import refuse_to_replace
from sttx_train.files import probe_writable


def check_writable(folder: Path, what: str) -> None:
    """Check that files can be made in a folder, or in the nearest parent that exists. Leaves nothing behind.

    Args:
        folder: May not exist yet.
        what: What the folder is for, such as "--checkpoint-dir", for messages.

    Raises:
        UsageError: It cannot be written: another folder can be given.
        DataError: The disk is full.
    """
    try:
        probe_writable(folder)
    except OSError as error:
        failure = DataError if disk_is_full(error) else UsageError
        raise failure(f"{what} {str(folder)!r} cannot be written: {os_sentence(error)}") from error


def check_log_dir() -> None:
    """Check that the event log can be written, if it is on.

    Raises:
        UsageError: It cannot.
        DataError: The disk is full.
    """
    if (folder := log_dir()) is not None:
        check_writable(folder, "the event log's folder (STTX_LOG_DIR)")


def check_page(out: Path) -> None:
    """Check the name of a page before anything is read.

    Raises:
        UsageError: It does not end in ".html", its folder does not exist, or something else is there.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {str(out)!r} must end in '.html': it is a page for a browser")
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder {str(out.parent)!r} for {out.name!r}: make it first")
    refuse_to_replace(out)
