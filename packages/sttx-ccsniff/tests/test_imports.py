"""Every module can be imported on Windows, where some of Python's modules and functions do not exist."""

import subprocess
import sys

import pytest

POSIX_ONLY = ("fcntl", "resource", "termios", "pwd", "grp", "pty", "tty", "syslog")

IMPORT_ALL = """
import importlib, os, pkgutil, select, signal, sys
for name in {blocked!r}:
    sys.modules[name] = None  # importing it raises ImportError
for module, names in (
    (os, ("killpg", "fork", "getuid", "geteuid", "waitid", "mkfifo", "O_NONBLOCK", "O_NOFOLLOW")),
    (signal, ("SIGKILL", "SIGHUP", "SIGALRM")),
    (select, ("poll", "epoll")),
):
    for name in names:
        vars(module).pop(name, None)
import sttx_ccsniff
names = [found.name for found in pkgutil.walk_packages(sttx_ccsniff.__path__, "sttx_ccsniff.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def run(blocked, extra=""):
    command = [sys.executable, "-c", IMPORT_ALL.format(blocked=blocked) + extra]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_every_module_can_be_imported_without_posix_modules():
    done = run(POSIX_ONLY)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40


@pytest.mark.parametrize("name", POSIX_ONLY)
def test_the_check_notices_an_import(name):
    done = run((name,), f"import {name}")
    assert done.returncode != 0 and f"import of {name} halted" in done.stderr
