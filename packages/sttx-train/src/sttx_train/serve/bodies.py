"""The bodies of requests: which fields there are, of which types and in which ranges. Knows no models.

Unknown fields are refused, so that none is ignored in silence. A field that clients send and that changes
nothing here is declared as such.
"""

from __future__ import annotations

import re
import secrets
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from sttx_core.errors import UsageError
from sttx_train.generate import SamplingConfig
from sttx_train.serve.failures import RequestError, bad

Body = TypeVar("Body", bound=Struct)

_PATH = re.compile(r" - at `\$(?:\.(?P<field>\w+))?(?P<rest>[^`]*)`$")
_UNKNOWN = re.compile(r"unknown field `(\w+)`")
Choices = Annotated[int, Meta(ge=1, le=16)]
Count = Annotated[int, Meta(ge=0)]
Top = Annotated[int, Meta(ge=0, le=20)]
Number = Annotated[float, Meta(ge=-1e9, le=1e9)]
Id = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Ids = list[Id]
SLOTS = 64
"""Numbers of the places where a request may leave its state: 0 to 63."""


class StreamOptions(Struct, forbid_unknown_fields=True):
    """How a stream looks."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class Sampled(Struct, kw_only=True, forbid_unknown_fields=True):
    """What all requests for text have in common."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Choices | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    top_k: int | None = None
    min_p: Number | None = None
    typical_p: Number | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    repetition_penalty: Number | None = None
    penalty_decay: Number | None = None
    logit_bias: dict[str, Number] | None = None
    user: str | None = None
    id_slot: Annotated[int, Meta(ge=0, lt=SLOTS)] | None = None
    # Clients send these, and they change nothing here.
    metadata: Any = None
    service_tier: Any = None
    store: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end the text."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def wants_usage(self) -> bool:
        """Whether the stream ends with the usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def sampling(self, vocab_size: int) -> SamplingConfig:
        """Return how tokens are chosen; without a seed each request has its own.

        Raises:
            RequestError: a value is out of range.
        """
        names = ("temperature", "top_p", "top_k", "min_p", "typical_p", "presence_penalty")
        names += ("frequency_penalty", "repetition_penalty", "penalty_decay")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        seed = secrets.randbits(62) if self.seed is None else self.seed % 2**63
        try:
            return SamplingConfig(**given, seed=seed, logit_bias=self._biases(vocab_size))
        except UsageError as error:
            raise RequestError.of(error) from error

    def _biases(self, vocab_size: int) -> tuple[tuple[int, float], ...]:
        for token in self.logit_bias or {}:
            if not (token.isascii() and token.isdigit() and len(token) < 12 and int(token) < vocab_size):
                raise bad(f"logit_bias names {token!r}: give ids below {vocab_size}", "logit_bias")
        return tuple((int(token), bias) for token, bias in (self.logit_bias or {}).items())

    def check(self, most: int, asked: int | None, name: str) -> None:
        """Refuse what cannot be together.

        Args:
            most: most tokens that may be asked for.
            asked: how many are.
            name: the field that says so.

        Raises:
            RequestError: stream_options without a stream, an empty stop, too many stops or tokens.
        """
        if self.stream_options is not None and not self.stream:
            raise bad("stream_options has no effect without stream: leave it out", "stream_options")
        if "" in self.stops or len(self.stops) > 64:
            raise bad("stop must be up to 64 texts, none of them empty", "stop")
        if asked is not None and asked > most:
            raise bad(f"{name} must be at most {most}, not {asked}", name)


class Completion(Sampled, kw_only=True, forbid_unknown_fields=True):
    """The body of ``/v1/completions``."""

    prompt: str | list[str | Id | Ids]
    max_tokens: Count | None = None
    logprobs: Top | None = None
    echo: bool | None = None
    best_of: Literal[1] | None = None
    suffix: None = None


class Part(Struct, forbid_unknown_fields=False):
    """A part of a message; only text is read."""

    type: str
    text: str = ""


class Function(Struct):
    """The call of a function in a message."""

    name: str
    arguments: str = ""


class ToolCall(Struct):
    """A tool call in a message."""

    function: Function
    id: str = ""
    type: str = "function"


class Message(Struct):
    """A message of a chat."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    name: str | None = None


class ToolFunction(Struct):
    """What a tool is."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,128}\Z")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct):
    """A tool that may be called."""

    function: ToolFunction
    type: Literal["function"] = "function"


class NamedFunction(Struct):
    """The name of a tool."""

    name: str


class NamedTool(Struct):
    """The one tool that must be called."""

    function: NamedFunction
    type: Literal["function"] = "function"


class TextFormat(Struct, tag_field="type", tag="text"):
    """An answer in words."""


class ObjectFormat(Struct, tag_field="type", tag="json_object"):
    """An answer that is an object of JSON."""


class SchemaFormat(Struct, kw_only=True):
    """A schema with its name; it is always enforced, strict or not."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class ChatSchema(Struct, tag_field="type", tag="json_schema"):
    """An answer that is JSON of a schema, in a chat."""

    json_schema: SchemaFormat


class ResponseSchema(SchemaFormat, tag_field="type", tag="json_schema"):
    """An answer that is JSON of a schema, in a response."""


class Chat(Sampled, kw_only=True, forbid_unknown_fields=True):
    """The body of ``/v1/chat/completions``."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Top | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None  # an answer has one call
    response_format: TextFormat | ObjectFormat | ChatSchema | None = None
    reasoning_effort: Any = None
    verbosity: Any = None
    modalities: list[Literal["text"]] | None = None


class Item(Struct):
    """An item of a response's input: a message, a call, or what a call gave."""

    type: str = "message"
    role: Literal["system", "developer", "user", "assistant"] = "user"
    content: str | list[Part] | None = None
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    output: str | list[Part] | None = None


class ResponseTool(Struct):
    """A tool of a response; only functions are offered to the model."""

    type: str
    name: str = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseToolChoice(Struct):
    """The one function that must be called."""

    name: str
    type: Literal["function"] = "function"


class ResponseText(Struct):
    """The form of the text."""

    format: TextFormat | ObjectFormat | ResponseSchema | None = None
    verbosity: Any = None


class Response(Sampled, kw_only=True, forbid_unknown_fields=True):
    """The body of ``/v1/responses``."""

    input: str | list[Item]
    instructions: str | None = None
    previous_response_id: str | None = None
    max_output_tokens: Count | None = None
    tools: Annotated[list[ResponseTool], Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = None  # an answer has one call
    text: ResponseText | None = None
    # Clients send these, and they change nothing here.
    reasoning: Any = None
    include: Any = None
    truncation: Any = None
    client_metadata: Any = None


class Score(Struct, forbid_unknown_fields=True):
    """The body of ``/v1/score``."""

    model: str
    input: str | list[str]
    user: str | None = None


class Tokenize(Struct, forbid_unknown_fields=True):
    """The body of ``/tokenize``: a text, or messages."""

    prompt: str | None = None
    content: str | None = None
    messages: list[Message] | None = None
    model: str | None = None
    add_special_tokens: bool | None = None  # no vocabulary here adds any
    add_generation_prompt: bool | None = None
    return_token_strs: bool | None = None


class Detokenize(Struct, forbid_unknown_fields=True):
    """The body of ``/detokenize``."""

    tokens: Ids
    model: str | None = None


class SlotFile(Struct, forbid_unknown_fields=True):
    """The body of ``/slots/{id}``: the name of a file in the folder of slots."""

    filename: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}\Z")]


def parse(data: bytes, body: type[Body]) -> Body:
    """Read a body.

    Raises:
        RequestError: it is not JSON, or not such a body; the field is named.
    """
    try:
        return msgspec.json.decode(data, type=body)
    except msgspec.ValidationError as error:
        message = str(error)
        if (unknown := _UNKNOWN.search(message)) is not None:
            raise bad(f"unknown field {unknown[1]!r}", unknown[1], "unknown_parameter") from error
        where = _PATH.search(message)
        field = where["field"] if where else None
        reason = _PATH.sub("", message).replace("`", "'")
        raise bad(f"{field or 'the body'}{where['rest'] if where else ''}: {reason}", field) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad("the body is not JSON in UTF-8") from error
