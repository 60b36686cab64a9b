"""The general text on which forgetting is measured: plain English and a little code."""

from functools import cache
from importlib import resources


@cache
def general_text() -> str:
    """Return the text, about 4,000 bytes.

    >>> 3_800 < len(general_text().encode()) < 4_200
    True
    """
    return resources.files("sttx_train.evaluate").joinpath("general.txt").read_text(encoding="utf-8")
