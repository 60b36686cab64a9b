"""Answers of a form that a request asks for, as the client `openai` asks: JSON, schemas, strict tools."""

import json
import threading
from enum import Enum

import openai
import pytest
from pydantic import BaseModel, ConfigDict, Field

pytest.importorskip("llguidance", reason="needs sttx-train[constrain]")

from sttx_train.generate import constraint
from sttx_train.serve.catalog import Catalog
from sttx_train.serve.config import ServeConfig
from sttx_train.serve.server import Server

MESSAGES = [{"role": "user", "content": "Please run the tests."}]


class Verdict(Enum):
    YES = "yes"
    NO = "no"


class Report(BaseModel):
    """A form with few possible answers, so that a model that knows nothing gives one too."""

    model_config = ConfigDict(extra="forbid")
    verdict: Verdict
    counts: list[bool] = Field(min_length=1, max_length=2)


SCHEMA = Report.model_json_schema()
UNKNOWN = {"type": "object", "properties": {"a": {"not": {"type": "string"}}}}
TAKES_UNKNOWN = {"parameters": UNKNOWN}


@pytest.fixture(scope="module")
def served(tiny):
    loaded = tiny()
    with Server(ServeConfig(port=0)) as server:
        server.start(Catalog.load(loaded))
        yield server.url, loaded.id, loaded.tokenizer


@pytest.fixture(scope="module")
def client(served):
    with openai.OpenAI(base_url=f"{served[0]}/v1", api_key="-", max_retries=0, timeout=200) as client:
        yield client


@pytest.mark.parametrize("seed", range(3))
def test_a_chat_is_parsed_into_its_class(client, served, seed):
    ask = {"model": served[1], "messages": MESSAGES, "max_tokens": 200, "seed": seed}
    parsed = client.chat.completions.parse(response_format=Report, **ask)
    assert isinstance(parsed.choices[0].message.parsed, Report)
    assert parsed.choices[0].finish_reason == "stop"
    with client.chat.completions.stream(response_format=Report, **ask) as stream:
        streamed = stream.get_final_completion()
    assert streamed.choices[0].message.parsed == parsed.choices[0].message.parsed


def test_a_response_is_parsed_into_its_class(client, served):
    ask = {"model": served[1], "input": "Please run the tests.", "max_output_tokens": 200}
    whole = client.responses.parse(text_format=Report, **ask)
    assert isinstance(whole.output_parsed, Report) and whole.status == "completed"
    assert whole.text.format.type == "json_schema" and whole.text.format.name == "Report"
    with client.responses.stream(text_format=Report, **ask) as stream:
        assert isinstance(stream.get_final_response().output_parsed, Report)


def test_several_answers_are_each_of_the_form(client, served):
    form = {"type": "json_schema", "json_schema": {"name": "r", "schema": SCHEMA}}
    many = client.chat.completions.create(
        model=served[1], messages=MESSAGES, max_tokens=200, n=4, response_format=form, logprobs=True
    )
    for choice in many.choices:
        Report.model_validate_json(choice.message.content)
        assert sum(token.bytes != [] for token in choice.logprobs.content) > 3


def test_any_object_and_plain_text(client, served):
    ask = {"model": served[1], "messages": MESSAGES, "temperature": 0}
    wanted = {str(token): 100 for token in served[2].encode("}")}
    found = client.chat.completions.create(
        **ask, response_format={"type": "json_object"}, logit_bias=wanted, max_tokens=20
    )
    assert json.loads(found.choices[0].message.content) == {}
    plain = client.chat.completions.create(**ask, max_tokens=5)
    named = client.chat.completions.create(**ask, max_tokens=5, response_format={"type": "text"})
    assert plain.choices[0].message.content == named.choices[0].message.content


def test_an_answer_that_is_cut_off_says_so(client, served):
    form = {"type": "json_schema", "json_schema": {"name": "r", "schema": SCHEMA, "strict": True}}
    cut = client.chat.completions.create(
        model=served[1], messages=MESSAGES, max_tokens=3, response_format=form
    )
    assert cut.choices[0].finish_reason == "length" and len(cut.choices[0].message.content) == 3


def test_strict_tools_get_arguments_of_their_schema(client, served):
    tools = [openai.pydantic_function_tool(Report, name="report"), _loose_tool()]
    found = client.chat.completions.create(
        model=served[1],
        messages=MESSAGES,
        max_tokens=200,
        tools=tools,
        tool_choice={"type": "function", "function": {"name": "report"}},
    )
    [call] = found.choices[0].message.tool_calls
    Report.model_validate_json(call.function.arguments)
    assert found.choices[0].finish_reason == "tool_calls"
    flat = {"type": "function", "name": "report", "parameters": SCHEMA, "strict": True}
    response = client.responses.create(
        model=served[1], input="hi", max_output_tokens=200, tools=[flat], tool_choice="required"
    )
    Report.model_validate_json(response.output[0].arguments)


def test_the_form_is_that_of_the_option_that_was_chosen(client, served):
    strict = openai.pydantic_function_tool(Report, name="report")
    kinds = set()
    for seed in range(12):
        message = (
            client.chat.completions.create(
                model=served[1],
                messages=MESSAGES,
                max_tokens=300,
                seed=seed,
                temperature=100.0,
                tools=[strict],
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "b", "schema": {"enum": [[1], [2]]}},
                },
            )
            .choices[0]
            .message
        )
        kinds.add(bool(message.tool_calls))
        if message.tool_calls:
            Report.model_validate_json(message.tool_calls[0].function.arguments)
        else:
            assert json.loads(message.content) in ([1], [2])
    assert kinds == {True, False}


def _loose_tool():
    return {"type": "function", "function": {"name": "loose"} | TAKES_UNKNOWN}


def _named(schema, name="r"):
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}


def _deep(levels):
    schema = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    ("more", "param", "message"),
    [
        ({"response_format": _named(UNKNOWN)}, "response_format", "not"),
        ({"response_format": _named({"$ref": "http://example.com/a"})}, "response_format", "example.com"),
        ({"response_format": _named(_deep(100))}, "response_format", "recursion limit"),
        ({"response_format": _named({}, "a b")}, "response_format", "matching regex"),
        ({"response_format": {"type": "xml"}}, "response_format", "xml"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "json_schema"),
        (
            {
                "tools": [
                    {"type": "function", "function": {"name": "f", "strict": True, "parameters": UNKNOWN}}
                ]
            },
            "tools",
            "tool 'f'",
        ),
    ],
)
def test_a_form_that_is_wrong_is_refused_by_its_field(client, served, more, param, message):
    with pytest.raises(openai.BadRequestError, match=message) as wrong:
        client.chat.completions.create(model=served[1], messages=MESSAGES, max_tokens=2, **more)
    assert (wrong.value.param, wrong.value.type) == (param, "invalid_request_error")


@pytest.mark.parametrize(
    ("form", "message"),
    [({"type": "json_schema", "name": "r", "schema": UNKNOWN}, "not"), ({"type": "x"}, "x")],
)
def test_a_response_with_a_wrong_form_is_refused(client, served, form, message):
    with pytest.raises(openai.BadRequestError, match=message) as wrong:
        client.responses.create(model=served[1], input="hi", text={"format": form})
    assert wrong.value.param == "text"


def test_a_schema_that_compiles_slowly_holds_nobody_else_up(client, served, monkeypatch):
    begun, go_on, start = threading.Event(), threading.Event(), constraint.Constraint.start

    def slow(self, *args):
        if "slow" in self.grammar and not begun.is_set():
            begun.set()
            assert go_on.wait(200)
        return start(self, *args)

    monkeypatch.setattr(constraint.Constraint, "start", slow)
    answers = []
    ask = {"model": served[1], "messages": MESSAGES, "max_tokens": 60}
    waiting = threading.Thread(
        target=lambda: answers.append(
            client.chat.completions.create(response_format=_named({"enum": ["slow", "x"]}), **ask)
        )
    )
    waiting.start()
    assert begun.wait(200)
    other = client.chat.completions.create(model=served[1], messages=MESSAGES, max_tokens=2)
    assert other.usage.completion_tokens == 2 and not answers
    go_on.set()
    waiting.join(200)
    assert json.loads(answers[0].choices[0].message.content) in ("slow", "x")
