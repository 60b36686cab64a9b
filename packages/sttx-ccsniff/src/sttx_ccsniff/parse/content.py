"""The text of what stands inside a message's blocks: strings, lists of blocks, pictures, anything odd.

Pictures and documents become a typed placeholder with media type and size: their bytes are not text.
"""

import re
from typing import Any

import orjson

_DEEPEST = 64
_LONGEST_NAME = 80
_DATA_URL = re.compile(r"data:([^;,]{0,80})[^,]{0,200},")


def text_of(value: Any) -> str:
    """Read any JSON value as text: a string as it is, nothing as "", the rest as compact JSON.

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
    r"""The text of a tool's result, whose content is a string or a list of blocks, one line apart.

    >>> result_text([{"type": "text", "text": "two"}, {"type": "text", "text": "parts"}])
    'two\nparts'
    """
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(_block_text(block) for block in content)
    return text_of(content)


def placeholder(block: dict[str, Any]) -> str:
    """Stand for a block that is not text.

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


def shallow(value: Any) -> Any:
    """A tool's input, unless it is nested deeper than any tool asks for: then a placeholder.

    Deep nesting is legal JSON, but exhausts the stack of whoever walks over it.
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
