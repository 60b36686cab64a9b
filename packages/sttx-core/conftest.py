"""Skips the docstring examples of the only file that needs torch where torch is not installed."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("torch") else ["src/sttx_core/hypernet.py"]
