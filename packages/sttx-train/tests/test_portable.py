"""The package can be imported where the modules of Unix are missing."""

import subprocess
import sys

SCRIPT = """
import importlib, pkgutil, sys
import psutil  # has a part for each system; its Linux part uses `resource`
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
import sttx_train
def fail(name):
    raise
names = [module.name for module in pkgutil.walk_packages(sttx_train.__path__, "sttx_train.", onerror=fail)]
assert len(names) > 50, names
for name in names:
    if name not in sys.argv[1:]:
        importlib.import_module(name)
from sttx_train.checkpoint import lock
assert lock.fcntl is None
"""


def test_every_module_is_imported_without_the_modules_of_unix():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, "sttx_train.wkv.fla"],  # Triton is Linux only
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
