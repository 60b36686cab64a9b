"""Which id stands for what in a `tokenizer.json`: the file's own ids, one of which is the end-of-text id.

The ids are the file's own, so a model, a pair or an array of ids that others made with the file means the
same here. The end-of-text id is that of the file's end-of-text token, or the first free id if it has none.
This is the only place that decides it. Knows no text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

_ENDS = (
    *("endoftext", "s", "eos", "eostoken", "endofsentence", "endofsequence", "endofdocument", "endofdoc"),
    *("eod", "eot", "endofstring", "documentend", "docend", "textend", "end", "doc", "sep"),
)
"""Names of end-of-text tokens without their brackets, `</s>` among them; the first one found counts."""
_MARK = re.compile(r"[<\[{|].+[>\]}|]", re.DOTALL)
_START = "<s>"


def end_of_text(content: Mapping[str, Any]) -> tuple[int, str | None]:
    """Return the end-of-text id of a `tokenizer.json`, and the token's name.

    It is the special token with such a name (`<|endoftext|>`, `</s>`, …), or an entry of the vocabulary with
    such a name that no text encodes to. Otherwise it is the first free id, which has no name.

    >>> token = {"id": 3, "content": "<|endoftext|>", "special": True}
    >>> end_of_text({"model": {"vocab": {"a": 0}, "merges": []}, "added_tokens": [token]})
    (3, '<|endoftext|>')
    >>> end_of_text({"model": {"vocab": {"a": 0}, "merges": []}, "added_tokens": []})
    (1, None)
    """
    vocabulary: Mapping[str, int] = content["model"]["vocab"]
    special = {added["content"]: added["id"] for added in content["added_tokens"] if added["special"]}
    ids = special | {name: vocabulary[name] for name in _unreachable(content) if name not in special}
    for names in (special, ids):
        by_role = {_role(name): name for name in sorted(names, reverse=True) if name != _START}
        for role in _ENDS:
            if role in by_role:
                return ids[by_role[role]], by_role[role]
    taken = [*vocabulary.values(), *(added["id"] for added in content["added_tokens"])]
    return max(taken, default=-1) + 1, None


def _role(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _unreachable(content: Mapping[str, Any]) -> Iterable[str]:
    """Return the marks in a vocabulary that no text encodes to: no merge makes them, and none is added."""
    model = content["model"]
    if model.get("ignore_merges"):
        return []
    made = {left + right for left, right in model["merges"]} | {t["content"] for t in content["added_tokens"]}
    return [name for name in model["vocab"] if _MARK.fullmatch(name) and name not in made]
