"""What an answer must be: JSON, JSON of a schema, or the arguments of a strict tool. Knows no readers.

A schema is compiled here, in the thread of the request, so that the engine does not wait for it and a schema
that cannot be used is refused before anything is computed.
"""

from __future__ import annotations

from typing import Any

from sttx_core.errors import UsageError
from sttx_train.generate import Constraint
from sttx_train.serve.bodies import ChatSchema, ObjectFormat, ResponseSchema, TextFormat, Tool
from sttx_train.serve.catalog import Served
from sttx_train.serve.failures import bad

Format = TextFormat | ObjectFormat | ChatSchema | ResponseSchema | None
_ANY_OBJECT = {"type": "object"}


def form_of(wanted: Format, field: str, served: Served) -> Constraint | None:
    """Return what an answer must be; None for words.

    Args:
        wanted: the form that a request asks for.
        field: the request's field that has it.
        served: the model.

    Raises:
        RequestError: its schema cannot be enforced.
    """
    if wanted is None or isinstance(wanted, TextFormat):
        return None
    if isinstance(wanted, ObjectFormat):
        return _constraint(_ANY_OBJECT, field, served)
    schema = wanted.json_schema.schema if isinstance(wanted, ChatSchema) else wanted.schema
    return _constraint(_ANY_OBJECT if schema is None else schema, field, served)


def arguments_of(tool: Tool, served: Served) -> Constraint | None:
    """Return what the arguments of a tool must be; None if it is not strict.

    Raises:
        RequestError: its schema cannot be enforced.
    """
    if not tool.function.strict:
        return None
    return _constraint(tool.function.parameters or _ANY_OBJECT, "tools", served, tool.function.name)


def _constraint(schema: dict[str, Any], field: str, served: Served, name: str = "") -> Constraint:
    what = f"the schema of {field}" + (f", tool {name!r}," if name else "")
    predictor = served.predictor
    try:
        constraint = Constraint.of_schema(schema, what)
        constraint.start(predictor.tokens, predictor.tokenizer.eot_id)
    except UsageError as error:
        raise bad(str(error), field, "invalid_schema") from error
    return constraint
