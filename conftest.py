"""Applies to all tests: one thread per test process.

The tests' models are tiny. With more threads, test processes that run side by side mostly wait for each
other.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; child processes inherit it


def pytest_xdist_auto_num_workers() -> int:
    """Return what `-n auto` means: one more than cores, since many tests wait for files and processes."""
    return (os.cpu_count() or 1) + 1
