r"""Finds where a value ends: at its closing quote, or where the notation around it goes on. Judges no value.

Any character may stand in a quoted value. In escaped text, such as JSON within JSON, a quote that was escaped
more often than the opening one does not close it.
"""

import re
from collections.abc import Callable

_MAX = 2**14  # characters of a value; private keys and certificates are longer only with line breaks
_MAX_RUN = 2**10  # of an unquoted one that is not base64
OPEN = r"""(?:\"{3}|'{3}|["'`“”„«「『‘])"""
"""What opens a quoted value."""

_CLOSING = {"“": "”", "”": "”", "„": "“”", "«": "»", "「": "」", "『": "』", "‘": "’"}
_RUN = re.compile(
    rf"""[A-Za-z0-9+/=_-]{{64,{_MAX}}}+(?![^\s"'`])|[^\s"'`“”«»「」，。；、]{{1,{_MAX_RUN}}}+"""
)
_REFERENCE = re.compile(
    r"\$\([^()\n]{0,200}(?:\([^()\n]{0,200}\)[^()\n]{0,200})?\)|\{\{[^{}\n]{0,200}\}\}"
    r"|<[A-Za-z][\w .:/-]{0,100}>"
)
_NEXT = re.compile(r"&(?=[\w.\[\]%-]{1,60}=|amp;)|[;,](?=[\w .-]{0,60}=|[\w\"'-]{1,40}:)|&&|\|\||</")
# A single quote within a value, as in `O'Brien`.
_QUOTE_WITHIN = re.compile(r"(?P<one>[\"'])(?=\w)(?:(?!(?P=one))[^\s,;)\]}]){1,200}+(?=\s|\Z)")
_PAIRS = {")": "(", "]": "[", "}": "{", ">": "<"}
_LINE_END = re.compile(r"[*_]{0,2}[\"'`]?[ \t]*(?:\r?\n|\Z|&&|\||;|\\|#)|[\"'`]\s*[,}\])]")
_DEFAULT = re.compile(r"\$\{[\w.]{1,80}:[-=?+]?(?P<default>[^{}\s]{1,200})\}\Z")


def value(
    text: str, begin: int, quote: str, depth: Callable[[int], int] | None, *, before: str = ""
) -> tuple[int, int]:
    """Return the span of a value; an empty one if it is not closed.

    Args:
        text: The text.
        begin: Where the value begins, after its quote.
        quote: The quote that opens it, or nothing.
        depth: See `assignments.find`.
        before: The character before the value's name: a quote there may enclose name and value.
    """
    if quote:
        return begin, _quoted_end(text, begin, quote, depth)
    if reference := _REFERENCE.match(text, begin):
        end = reference.end()
        run = _RUN.match(text, end)
        return begin, run.end() if run and run[0][0] not in ",;)]}|&/:" else end
    run = _RUN.match(text, begin)
    if run is None:
        return begin, begin
    end = run.end()
    if before and before in "\"'`":  # a quote around name and value
        stop = text.find(before, begin, begin + _MAX_RUN)
        if stop > begin and not any(map(str.isspace, text[begin:stop])):
            return begin, stop
    if quote_within := _QUOTE_WITHIN.match(text, end):
        end = quote_within.end()
    cut = _NEXT.search(text, begin + 1, end)
    return begin, _trimmed(text, begin, cut.start() if cut else end)


def element(text: str, begin: int) -> tuple[int, int]:
    """Return the span of an XML element's text."""
    limit = begin + _MAX_RUN
    line = text.find("\n", begin, limit)
    end = text.find("</", begin, line if line >= 0 else limit)
    if end < 0:
        return begin, begin
    return begin, end - 3 if text.startswith("]]>", end - 3) else end


def goes_on(text: str, end: int) -> bool:
    """Return whether more than a comment or another command follows on the line."""
    return _LINE_END.match(text, end) is None


def is_cut_code(text: str, begin: int, end: int) -> bool:
    """Return whether an unquoted value opens a bracket that closes only after it, as code does.

    >>> is_cut_code("f(a, b)", 0, 3), is_cut_code("aB3(x psql -c 'f()'", 0, 5), is_cut_code("aB3(x)y", 0, 7)
    (True, False, False)
    """
    found = text[begin:end]
    open_ones = [sign for sign, opening in _PAIRS.items() if found.count(opening) > found.count(sign)]
    if not open_ones or (any(map(str.isdigit, found)) and text[begin] != "{" and text[end : end + 1] != ","):
        return False
    line = text[end : end + 200].partition("\n")[0]
    return any(sign in line for sign in open_ones)


def default_of(text: str, span: tuple[int, int]) -> tuple[int, int] | None:
    """Return the span of the default value in `${NAME:-default}`, if the span holds that."""
    match = _DEFAULT.match(text, *span)
    return match.span("default") if match else None


def _quoted_end(text: str, begin: int, quote: str, depth: Callable[[int], int] | None) -> int:
    """Return where a quoted value ends; `begin` if it does not, or only after a line end."""
    closing = _CLOSING.get(quote[0], quote)
    limit = min(len(text), begin + _MAX)
    own = depth(begin - 1) if depth else 0
    at = begin
    while at < limit:
        found = (
            [end for sign in closing if (end := text.find(sign, at, limit)) >= 0]
            if len(closing) == 2
            else None
        )
        at = min(found, default=-1) if found is not None else text.find(closing, at, limit)
        if at < 0:
            break
        after = at + len(closing if found is None else "x")
        if depth and depth(at) > own:
            at = after
            continue
        last = after
        while len(quote) == 1 and text[last : last + 1] == quote:
            last += 1
        # A doubled quote, or a shell's `'\''`, is a part of the value.
        if last - at > 1 and at > begin and text[last : last + 1].strip("\"'`,;:)]}>|&"):
            at = last
            continue
        return _before_line_end(text, begin, at)
    whole = limit == len(text)  # the text ends before the value does
    return _before_line_end(text, begin, limit) if whole else begin


def _before_line_end(text: str, begin: int, end: int) -> int:
    """Return the end without line ends, or `begin` if a line ends within the value."""
    while end > begin and text[end - 1] in "\r\n":
        end -= 1
    return begin if text.find("\n", begin, end) >= 0 else end


def _trimmed(text: str, begin: int, end: int) -> int:
    """Return the end of an unquoted value without the punctuation that follows it."""
    excess = {sign: text.count(sign, begin, end) - text.count(_PAIRS[sign], begin, end) for sign in _PAIRS}
    while end > begin:
        last = text[end - 1]
        if excess.get(last, 0) > 0:
            excess[last] -= 1
        elif last not in ",;:.|&\\*":
            break
        end -= 1
    return end
