"""A picture or file that stands inside a record as a URL becomes a placeholder: its bytes are not text."""

import re
from typing import Any

_DATA_URL = re.compile(r"data:([^;,]{0,80})[^,]{0,200},")
_LONGEST_NAME = 80


def url_placeholder(kind: str, url: Any, name: str = "") -> str:
    """Stand for what a URL holds: with media type and size if the URL holds it itself, else with its name.

    >>> url_placeholder("image", "data:image/png;base64,AAAA"), url_placeholder("image", "https://x/y.png")
    ('[image image/png 3 bytes]', '[image y.png]')
    >>> url_placeholder("image", None)
    '[image]'
    """
    if not isinstance(url, str):
        url = ""
    found = _DATA_URL.match(url)
    if found is None:
        words = [name or re.split(r"[\\/]", url.rstrip("\\/"))[-1]]
    else:
        size = len(url) - found.end()
        if found[0].endswith("base64,"):
            size = size * 3 // 4 - url[-2:].count("=")
        words = [found[1], name, f"{size} bytes"]
    return f"[{' '.join(word[:_LONGEST_NAME] for word in [kind, *words] if word)}]"
