"""Reads `statements.toml`: places in commands, statements and files in which a secret stands."""

import tomllib
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

from sttx_ccsniff.redact.rule import Rule
from sttx_ccsniff.redact.values import (
    is_constant,
    is_mixed,
    is_password,
    is_random_secret,
    is_reference,
    is_stand_in,
)

# What stands between quotes, or a word.
_VALUE = (
    r"(?P<quote>[\"'])?(?P<secret>(?(quote)(?:(?!(?P=quote))[^\n]|(?P=quote){2,3}(?=\w)){2,1024}+(?=(?P=quote))|"
    r"(?:\$\([^()\n]{0,200}\)|[^\s\"'`;|]){3,1024}?(?=AFTER)))"
)
_WORD_END = r"[\s\"'`;|]|\Z"


@cache
def statement_rules() -> tuple[Rule, ...]:
    """Return one rule per place; the rules of a table have the same name."""
    text = resources.files(__package__ or "").joinpath("statements.toml").read_text(encoding="utf-8")
    return tuple(
        _rule(name, table, *place) for name, table in tomllib.loads(text).items() for place in table["places"]
    )


def _rule(name: str, table: dict[str, Any], keyword: str, before: str, after: str = "") -> Rule:
    valid: Callable[[str], bool] = _is_word if table.get("word") else _is_mixed
    value = _VALUE.replace("AFTER", after.removeprefix("(?=").removesuffix(")") or _WORD_END)
    return Rule(
        name=name,
        regex=rf"(?i:{before}){value}",
        keywords=(keyword,),
        back=0,
        label="secret",
        valid=valid,
        about=table["about"],
        form=table["form"],
    )


def _is_word(secret: str) -> bool:
    """Return whether a value in such a place is one, not a stand-in, an option or a word in capitals."""
    if is_stand_in(secret) or is_reference(secret) or is_constant(secret):
        return False
    return secret[0] not in "-/<[{(" or is_mixed(secret)


def _is_mixed(secret: str) -> bool:
    """Return whether a value differs from words; the place alone does not prove a secret."""
    return secret[0] not in "-/" and (is_password(secret) or is_random_secret(secret, quoted=True))
