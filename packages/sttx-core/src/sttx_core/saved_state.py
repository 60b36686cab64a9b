"""Checks a saved state against its schema: exact types, keys and ranges. Knows no file and no part's meaning.

Every part of sttx that saves a state says with a `msgspec.Struct` how it looks. JSON that somebody else wrote
is then refused in one sentence before anything uses it.
"""

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from sttx_core.errors import CheckpointError

Count = Annotated[int, Meta(ge=0, le=2**53)]
"""A number of things, or an id; every JSON library holds it exactly."""

Positive = Annotated[int, Meta(ge=1, le=2**53)]
Number = Annotated[float, Meta(ge=-1e300, le=1e300)]
"""A finite number, whose sums are finite too."""

Amount = Annotated[float, Meta(ge=0.0, le=1e300)]
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Line = Annotated[str, Meta(max_length=4096)]
"""A name, a version or a reason."""

_LONGEST = 200  # characters of a reason: it may quote a name from the file
_Schema = TypeVar("_Schema")


class State(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of all schemas: an object with these fields and no others."""


def checked(schema: type[_Schema], value: Any, what: str) -> _Schema:
    """Return a JSON value as its schema says it is.

    Args:
        schema: a subclass of `State`, or any type that msgspec knows.
        value: what was saved.
        what: its name in a message, such as "phrase table".

    Raises:
        CheckpointError: it is something else; says where in it, and what was expected there.

    >>> class Size(State):
    ...     rows: Count
    >>> checked(Size, {"rows": 3}, "size").rows
    3
    """
    try:
        return converted(schema, value)
    except ValueError as error:
        raise damaged(what, str(error)) from error


def converted(schema: type[_Schema], value: Any) -> _Schema:
    """Return the same as `checked`, for a message of the caller's own.

    Raises:
        ValueError: it is something else; says where in it, and what was expected there, as `expectation`.
    """
    try:
        return msgspec.convert(value, schema)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ValueError(expectation(error)) from error


def damaged(what: str, reason: str) -> CheckpointError:
    """Return the error for a saved state that no sttx has written."""
    return CheckpointError(
        f"the saved {what} does not fit: {reason}; restore the checkpoint from a copy, or resume from another"
    )


def expectation(error: Exception) -> str:
    """Return what was expected, and where, for the middle of a sentence.

    >>> expectation(ValueError("Expected `int`, got `str` - at `$.rows`"))
    'expected `int`, got `str` at `$.rows`'
    """
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = str(error).replace(" - at ", " at ")
    text = (text[:1].lower() + text[1:])[:_LONGEST]
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
