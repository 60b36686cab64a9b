"""Constrained output: which tokens may come next, so that a text is what a schema or an expression describes.

llguidance keeps the grammar; a mask over the vocabulary is all that the sampler sees of it. Needs the extra
`sttx-train[constrain]`. Knows grammars and the bytes of tokens; neither probabilities nor readers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sttx_core.errors import UsageError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

Schema = Mapping[str, Any] | bool
"""A JSON schema, as `json.loads` returns it."""

_COMPACT = {"item_separator": ",", "key_separator": ":", "whitespace_flexible": False}
_DEAD_ENDS = ("NoExtension", "NoExtensionBias")  # llguidance's words for: no token fits
_SHOWN = 60  # characters of a text in a message


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """What a generated text must be; make one with `of_schema`, `of_regex` or `of_tools`.

    JSON is compact, as in rendered traces: no white space between its parts.

    Attributes:
        grammar: llguidance's description of it.
        option: what it was made from, for messages.
    """

    grammar: str
    option: str

    @classmethod
    def of_schema(cls, schema: Schema | str, option: str = "--json-schema") -> Constraint:
        """Return the constraint that a text is JSON of a schema.

        Args:
            schema: a JSON schema, or its text. Keywords that cannot be enforced are refused.
            option: what messages call it.

        Raises:
            UsageError: it is not a JSON schema, or llguidance is not installed.
        """
        matcher, text = _matcher_class(), _schema_text(schema, option)
        try:
            grammar = matcher.grammar_from_json_schema(text, overrides=cast(Any, _COMPACT))
        except ValueError as error:  # it is nested too deep
            raise UsageError(f"{option} cannot be used: {error}") from error
        return _checked(cls(grammar=grammar, option=option))

    @classmethod
    def of_regex(cls, expression: str) -> Constraint:
        r"""Return the constraint that a whole text matches a regular expression of Rust's syntax.

        Raises:
            UsageError: it is not one, or llguidance is not installed.
        """
        return _checked(cls(grammar=_matcher_class().grammar_from_regex(expression), option="--regex"))

    @classmethod
    def of_tools(cls, tools: Mapping[str, Schema] | Sequence[Mapping[str, Any]]) -> Constraint:
        """Return the constraint that a text is one rendered tool call, from after ``Tool call:`` on.

        Such a text is `` Bash {"command":"ls"}``.

        Args:
            tools: the schema of each tool's input by the tool's name, or a list of tools as in OpenAI's API.

        Raises:
            UsageError: there is no tool, one of them is malformed, or llguidance is not installed.
        """
        option = "--tools"
        schemas = _by_name(tools, option)
        if not schemas:
            raise UsageError(f"{option} names no tool")
        lines = ['start: " " (' + " | ".join(f"tool{number}" for number in range(len(schemas))) + ")"]
        for number, (name, schema) in enumerate(schemas.items()):
            known = json.loads(_schema_text(schema, option))
            if not isinstance(known, dict):  # true and false are schemas too; a call's input is an object
                raise UsageError(f"{option} needs an object as the schema of tool {name!r}")
            compact = json.dumps(known | {"x-guidance": _COMPACT})
            lines.append(f"tool{number}: {json.dumps(name + ' ')} %json {compact}")
        return _checked(cls(grammar=_matcher_class().grammar_from_lark("\n".join(lines)), option=option))

    def start(self, tokens: Sequence[bytes], end: int) -> Allowed:
        """Return what is allowed at a text's start.

        Args:
            tokens: the bytes of each id.
            end: the id that ends a text.

        Raises:
            UsageError: the grammar is too large.
        """
        return Allowed(self, _matcher(tuple(tokens), end, self.grammar).deep_copy(), tokens)


class Allowed:
    """Which tokens a constraint allows as a text goes on; `Constraint.start` makes one.

    Raises:
        UsageError: the grammar is too large.
    """

    def __init__(self, constraint: Constraint, matcher: LLMatcher, tokens: Sequence[bytes]) -> None:
        self._constraint, self._matcher, self._tokens = constraint, matcher, tokens
        self._mask: np.ndarray | None = None
        self._check()

    @property
    def finished(self) -> bool:
        """Whether the text is whole, and nothing may follow."""
        return self._matcher.is_stopped() and not self._matcher.is_error()

    def mask(self) -> np.ndarray:
        """Return which tokens may come next, bool ``[V]``; the one that ends the text where it may end.

        None of them is true at a dead end, where the vocabulary lacks what would have to follow.

        Raises:
            UsageError: the grammar has grown too large.
        """
        if (mask := self._mask) is None:
            bias = np.frombuffer(self._matcher.compute_logit_bias(), np.uint8)[: len(self._tokens)]
            self._check()
            mask = np.zeros(len(bias), bool) if self._matcher.is_error() else np.not_equal(bias, 0)
            self._mask = mask
        return mask

    def add(self, token: int) -> None:
        """Go on by a token that is allowed."""
        self._mask = None
        self._matcher.consume_token(token)
        self._check()

    def refusal(self, data: bytes) -> str:
        """Return the message that no token is allowed after a text."""
        text = data.decode(errors="replace")
        shown = text if len(text) <= _SHOWN else "…" + text[-_SHOWN:]
        return (
            f"no token of this vocabulary can follow {shown!r} under {self._constraint.option}: "
            "change the constraint or the model"
        )

    def _check(self) -> None:
        """Raise an error of the grammar; a dead end is left to `refusal`."""
        if self._matcher.is_error():
            reason = _first_line(self._matcher.get_error())
            if reason not in _DEAD_ENDS:
                raise UsageError(f"{self._constraint.option} fails: {reason}")


def _checked(constraint: Constraint) -> Constraint:
    """Refuse a grammar that is wrong, or that would not be enforced as it is written."""
    wrong, messages = _matcher_class().validate_grammar_with_warnings(constraint.grammar)
    if wrong or messages:
        raise UsageError(f"{constraint.option} cannot be used: {_first_line(messages[0])}")
    return constraint


def _first_line(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    reasons = [line for line in lines if line.startswith("error:")]
    return (reasons or lines or ["unknown"])[0].removeprefix("error: ")


def _schema_text(schema: Schema | str, option: str) -> str:
    if not isinstance(schema, str):
        try:
            return json.dumps(schema)
        except RecursionError as error:
            raise UsageError(f"{option} cannot be used: it is nested too deep") from error
    try:
        parsed = json.loads(schema)
    except ValueError as error:
        raise UsageError(f"{option} is not JSON: {error}") from error
    if not isinstance(parsed, dict | bool):
        raise UsageError(f"{option} must be an object, not {type(parsed).__name__}")
    return json.dumps(parsed)


def _by_name(tools: Mapping[str, Schema] | Sequence[Mapping[str, Any]], option: str) -> dict[str, Schema]:
    if isinstance(tools, Mapping):
        return dict(tools)
    try:
        functions = [tool["function"] for tool in tools]
        return {str(each["name"]): each.get("parameters", {"type": "object"}) for each in functions}
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{option}: each tool is an object with 'function', which has a 'name'") from error


def _matcher_class() -> type[LLMatcher]:
    try:
        from llguidance import LLMatcher
    except ImportError as error:
        raise UsageError(f"constraints need llguidance ({error}): install sttx-train[constrain]") from error
    return LLMatcher


@lru_cache(maxsize=32)
def _matcher(tokens: tuple[bytes, ...], end: int, grammar: str) -> LLMatcher:
    """Return a matcher at a text's start; making one may take seconds, and copying it takes no time."""
    return _matcher_class()(_vocabulary(tokens, end), grammar, log_level=0)


@lru_cache(maxsize=4)
def _vocabulary(tokens: tuple[bytes, ...], end: int) -> LLTokenizer:
    """Return a vocabulary for llguidance. The bytes decide all: it never needs to encode a text."""
    from llguidance import LLTokenizer, TokenizerWrapper

    class Source:
        eos_token_id, bos_token_id, special_token_ids = end, None, ()

        def __call__(self, text: bytes) -> list[int]:
            return [by_byte[byte] for byte in text if byte in by_byte]

    by_byte = {data[0]: token for token, data in enumerate(tokens) if len(data) == 1}
    source = Source()
    source.tokens = list(tokens)  # type: ignore[attr-defined]
    return LLTokenizer(TokenizerWrapper(source))
