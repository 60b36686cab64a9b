"""The words for errors of the operating system."""

import errno
import os

import pytest

from sttx_core.os_errors import error_in_output, explain, reason_and_advice

CODES = (errno.EACCES, errno.ENOSPC, errno.EROFS, errno.EMFILE, errno.EIO, errno.EISDIR, errno.ETIMEDOUT)


@pytest.mark.parametrize("code", CODES, ids=[errno.errorcode[code] for code in CODES])
def test_no_error_number_is_shown(code):
    sentence = explain(OSError(code, os.strerror(code), "/some/file"))
    assert sentence and "Errno" not in sentence and "/some/file" not in sentence


def test_a_known_error_says_what_to_do():
    error = OSError(errno.EACCES, "Permission denied")
    assert reason_and_advice(error) == ("permission denied", "change its permissions")
    assert explain(error, "fix the cause") == "permission denied: change its permissions"


def test_an_unknown_error_keeps_its_own_words():
    error = OSError(errno.ETIMEDOUT, "Connection timed out")
    assert reason_and_advice(error) == ("Connection timed out", "")
    assert explain(error) == "Connection timed out"
    assert explain(error, "fix the cause") == "Connection timed out: fix the cause"
    assert explain(EOFError("the file is cut short")) == "the file is cut short"


@pytest.mark.parametrize("text", ["", "all is well", "EXAMPLE", "code E404", "getaddrinfo ENOTFOUND"])
def test_a_text_that_names_no_disk_error(text):
    assert error_in_output(text) is None


def test_a_text_that_names_a_disk_error():
    error = error_in_output("npm error code EACCES")
    assert error is not None and error.errno == errno.EACCES
