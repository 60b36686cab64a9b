"""Alone, this package has no torch: then the one file that needs it has no examples to run."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("torch") else ["src/sttx_core/hypernet.py"]
