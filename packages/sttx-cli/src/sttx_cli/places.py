"""Checks that folders can be written before anything slow starts."""

from pathlib import Path

from sttx_cli.failures import os_sentence
from sttx_core.environment import log_dir
from sttx_core.errors import DataError, UsageError
from sttx_core.os_errors import disk_is_full
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
