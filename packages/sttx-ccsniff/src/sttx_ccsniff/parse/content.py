"""Text and bounded values from the content of a message, whatever types it has.

Pictures and documents become a placeholder with media type and size, because their bytes are not text.
"""

import re
from typing import Any

import orjson

_DEEPEST = 64
_LONGEST_NAME = 80
_DATA_URL = re.compile(r"data:([^;,]{0,80})[^,]{0,200},")


def text_of(value: Any) -> str:
    """Return any JSON value as text: a string unchanged, null as "", anything else as compact JSON.

    >>> text_of("a"), text_of(None), text_of({"a": [1]})
    ('a', '', '{"a":[1]}')
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    try:
        return orjson.dumps(value).decode()
    except (TypeError, ValueError):
        return "[unreadable value]"


def result_text(content: Any) -> str:
    r"""Return the text of a tool's result: a string, or a list of blocks that are joined by line breaks.

    >>> result_text([{"type": "text", "text": "two"}, {"type": "text", "text": "parts"}])
    'two\nparts'
    """
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(_block_text(block) for block in content)
    return text_of(content)


def placeholder(block: dict[str, Any]) -> str:
    """Return a placeholder for a block that is not text.

    >>> source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    >>> placeholder({"type": "image", "source": source})
    '[image image/png 3 bytes]'
    >>> placeholder({"type": "tool_reference", "tool_name": "WebFetch"})
    '[tool_reference WebFetch]'
    """
    words = [str(block.get("type"))]
    source = block.get("source")
    if isinstance(source, dict):
        words += _source_words(source)
    else:
        words += [value for key in ("tool_name", "title", "name") if isinstance(value := block.get(key), str)]
    return f"[{' '.join(word[:_LONGEST_NAME] for word in words)}]"


def url_placeholder(kind: str, url: Any, name: str = "") -> str:
    """Return a placeholder for a URL's content: media type and size for a data URL, else the file's name.

    >>> url_placeholder("image", "data:image/png;base64,AAAA"), url_placeholder("image", "https://x/y.png")
    ('[image image/png 3 bytes]', '[image y.png]')
    >>> url_placeholder("image", None)
    '[image]'
    """
    if not isinstance(url, str):
        url = ""
    match = _DATA_URL.match(url)
    if match is None:
        words = [name or re.split(r"[\\/]", url.rstrip("\\/"))[-1]]
    else:
        size = len(url) - match.end()
        if match[0].endswith("base64,"):
            size = size * 3 // 4 - url[-2:].count("=")
        words = [match[1], name, f"{size} bytes"]
    return f"[{' '.join(word[:_LONGEST_NAME] for word in [kind, *words] if word)}]"


def shallow(value: Any) -> Any:
    """Return a JSON value unchanged, or a placeholder if it is nested deeper than 64 levels.

    No tool needs more, and deeper nesting can exhaust the stack of code that walks over the value.
    """
    return value if _within(value, _DEEPEST) else "[nested too deep]"


def _block_text(block: Any) -> str:
    if not isinstance(block, dict):
        return text_of(block)
    text = block.get("text")
    return text if isinstance(text, str) else placeholder(block)


def _source_words(source: dict[str, Any]) -> list[str]:
    words = [media] if isinstance(media := source.get("media_type"), str) else []
    data = source.get("data")
    if not isinstance(data, str):
        return words
    if source.get("type") == "base64":
        return [*words, f"{len(data) * 3 // 4 - data[-2:].count('=')} bytes"]
    return [*words, f"{len(data.encode('utf-8', 'replace'))} bytes"]


def _within(value: Any, depth: int) -> bool:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return True
    if depth == 0:
        return False
    return all(_within(item, depth - 1) for item in value if isinstance(item, (dict, list)))
