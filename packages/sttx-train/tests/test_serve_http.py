"""The server over loopback: what each route answers, exactly, and the error object for everything else."""

import http.client
import json
import re
import socket
import threading
import time

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import types

from sttx_core.errors import UsageError
from sttx_train.formats import save_state
from sttx_train.generate import SamplingConfig
from sttx_train.predict import Predictor
from sttx_train.serve.catalog import Catalog
from sttx_train.serve.config import ServeConfig
from sttx_train.serve.server import Server

BODY_BYTES = 100_000
MESSAGES = [{"role": "user", "content": "Please run the tests."}]


class Client:
    """Sends raw requests to a server."""

    def __init__(self, server):
        self.address = server.url.removeprefix("http://")

    def send(self, path, body=None, *, method=None, headers=None):
        connection = http.client.HTTPConnection(self.address, timeout=60)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        try:
            connection.request(method or ("GET" if body is None else "POST"), path, data, headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def json(self, path, body=None, *, status=200, **more):
        found, data = self.send(path, body, **more)
        assert found == status, data
        return json.loads(data)

    def error(self, path, body=None, *, status=400, **more):
        answer = self.json(path, body, status=status, **more)
        assert answer.keys() == {"error"}
        assert answer["error"].keys() == {"message", "type", "param", "code"}
        return answer["error"]

    def events(self, path, body):
        status, data = self.send(path, body | {"stream": True})
        assert status == 200, data
        parts = [part for part in data.decode().split("\n\n") if part and not part.startswith(":")]
        assert parts.pop() == "data: [DONE]"
        return [json.loads(part.removeprefix("data: ")) for part in parts]


@pytest.fixture(scope="module")
def loaded(tiny):
    return tiny()


@pytest.fixture(scope="module")
def client(loaded, tmp_path_factory):
    sizes = loaded.model.config
    path = tmp_path_factory.mktemp("states") / "mine.safetensors"
    shape = (sizes.num_layers, sizes.num_heads, sizes.head_size, sizes.head_size)
    save_state(torch.randn(shape, generator=torch.Generator().manual_seed(1)), path)
    with Server(ServeConfig(port=0, body_bytes=BODY_BYTES, max_tokens=50_000, ping=0.05)) as server:
        client = Client(server)
        assert client.error("/health", status=503)["code"] == "loading"
        assert client.error("/v1/models", status=503)["code"] == "loading"
        assert client.error("/v1/completions", complete(loaded), status=503)["type"] == "server_error"
        server.start(Catalog.load(loaded, [path]))
        client.server = server
        yield client


def complete(loaded, **more):
    return {"model": loaded.id, "prompt": "User: hi", "max_tokens": 4, "temperature": 0} | more


def chat(loaded, **more):
    return {"model": loaded.id, "messages": MESSAGES, "max_tokens": 6, "temperature": 0} | more


# --- models


def test_models_are_listed_and_found(client, loaded):
    assert client.json("/health") == {"status": "ok"}
    listed = client.json("/v1/models")
    names = [types.Model.model_validate(one).id for one in listed["data"]]
    assert re.fullmatch(rf"{loaded.id}:mine@[0-9a-f]{{12}}", names[0]) and names[1] == loaded.id
    assert client.json(f"/v1/models/{names[0]}")["id"] == names[0]
    wrong = client.error("/v1/models/nobody", status=404)
    assert (wrong["code"], wrong["param"]) == ("model_not_found", "model")


def test_a_request_chooses_among_the_models(client, loaded):
    frozen = client.json("/v1/completions", complete(loaded, logprobs=0))
    tuned = client.json("/v1/completions", complete(loaded, model=f"{loaded.id}:mine", logprobs=0))
    assert tuned["model"].startswith(f"{loaded.id}:mine@") and frozen["model"] == loaded.id
    assert frozen["system_fingerprint"] != tuned["system_fingerprint"]
    assert frozen["choices"] != tuned["choices"]
    again = client.json("/v1/completions", complete(loaded, logprobs=0))
    assert again["choices"] == frozen["choices"]
    assert client.error("/v1/completions", complete(loaded, model="x"), status=404)["param"] == "model"


# --- completions


def test_a_completion(client, loaded):
    answer = client.json("/v1/completions", complete(loaded))
    greedy = SamplingConfig(temperature=0)
    text = "".join(Predictor(loaded, experts=False).generate("User: hi", greedy, max_tokens=4))
    assert types.Completion.model_validate(answer).choices[0].text == text
    assert answer["choices"][0]["finish_reason"] == "length" and answer["choices"][0]["logprobs"] is None
    usage = answer["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (8, 4, 12)


def test_a_stream_of_a_completion_is_the_completion(client, loaded):
    whole = client.json("/v1/completions", complete(loaded, logprobs=2, echo=True, seed=1))
    events = client.events(
        "/v1/completions",
        complete(loaded, logprobs=2, echo=True, seed=1, stream_options={"include_usage": True}),
    )
    *chunks, usage = events
    choices = [chunk["choices"][0] for chunk in chunks]
    assert "".join(choice["text"] for choice in choices) == whole["choices"][0]["text"]
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["length"]
    types.Completion.model_validate(chunks[-1])
    for name in ("tokens", "token_logprobs", "text_offset", "top_logprobs"):
        parts = [one for chunk in chunks for one in chunk["choices"][0]["logprobs"][name]]
        expected = whole["choices"][0]["logprobs"][name]
        assert parts == expected if name != "token_logprobs" else parts[1:] == pytest.approx(expected[1:])
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == 4
    assert all(chunk["usage"] is None for chunk in chunks)


def test_a_stream_has_usage_only_if_asked(client, loaded):
    assert all("usage" not in event for event in client.events("/v1/completions", complete(loaded)))
    assert all("usage" not in event for event in client.events("/v1/chat/completions", chat(loaded)))


def test_all_forms_of_a_prompt_are_the_same(client, loaded):
    ids = loaded.tokenizer.encode("User: hi")
    forms = ["User: hi", ["User: hi"], ids, [ids]]
    texts = [client.json("/v1/completions", complete(loaded, prompt=form)) for form in forms]
    assert len({json.dumps(text["choices"]) for text in texts}) == 1
    opened = [client.json("/v1/completions", complete(loaded, prompt=[loaded.tokenizer.eot_id, *ids]))]
    assert opened[0]["choices"] == texts[0]["choices"], "the end of text opens each document anyway"
    many = client.json("/v1/completions", complete(loaded, prompt=["a", "User: hi"], n=2))
    assert [choice["index"] for choice in many["choices"]] == [0, 1, 2, 3]
    assert many["choices"][2]["text"] == many["choices"][3]["text"] == texts[0]["choices"][0]["text"]
    assert many["usage"]["prompt_tokens"] == 9


def test_echo_with_logprobs_and_nothing_generated(client, loaded):
    answer = client.json(
        "/v1/completions", complete(loaded, prompt="ab", echo=True, logprobs=0, max_tokens=0)
    )
    choice = answer["choices"][0]
    assert choice["text"] == "ab" and choice["finish_reason"] == "length"
    shown = choice["logprobs"]
    assert shown["tokens"] == ["a", "b"] and shown["token_logprobs"][0] is shown["top_logprobs"][0] is None
    assert shown["top_logprobs"][1] == {"b": shown["token_logprobs"][1]} and shown["text_offset"] == [0, 1]
    assert answer["usage"]["completion_tokens"] == 0
    plain = client.json("/v1/completions", complete(loaded, max_tokens=0))
    assert plain["choices"][0]["text"] == ""


def test_offsets_count_characters_of_several_tokens_once(client, loaded):
    body = complete(loaded, prompt="a\U0001f600b", echo=True, logprobs=0, max_tokens=0)
    shown = client.json("/v1/completions", body)["choices"][0]["logprobs"]
    assert shown["tokens"][-1] == "b" and shown["text_offset"] == [0, 1, 1, 1, 1, 2]


def test_one_token_is_one_token_even_if_it_ends_the_text(client, loaded):
    end = str(loaded.tokenizer.eot_id)
    answer = client.json(
        "/v1/completions", complete(loaded, max_tokens=1, logprobs=1, logit_bias={end: 1000})
    )
    choice = answer["choices"][0]
    assert (
        choice["logprobs"]["tokens"] == ["<|endoftext|>"] and len(choice["logprobs"]["token_logprobs"]) == 1
    )
    assert "<|endoftext|>" in choice["logprobs"]["top_logprobs"][0]
    assert (choice["text"], choice["finish_reason"]) == ("", "stop")
    assert answer["usage"]["completion_tokens"] == 1


def test_stops_are_never_sent_and_only_what_may_start_one_is_held(client, loaded):
    free = client.json("/v1/completions", complete(loaded, max_tokens=40))["choices"][0]["text"]
    found = re.search(r"[ -~]", free[4:])
    stop, at = found[0], free.index(found[0])
    events = client.events("/v1/completions", complete(loaded, max_tokens=40, stop=[stop, "never"]))
    assert "".join(event["choices"][0]["text"] for event in events) == free[:at]
    assert events[-1]["choices"][0]["finish_reason"] == "stop"


def test_cached_tokens_are_counted(client, loaded):
    body = complete(loaded, prompt="~ prompt that nobody else sends", max_tokens=1)
    counts = [
        client.json("/v1/completions", body)["usage"]["prompt_tokens_details"]["cached_tokens"]
        for _ in range(2)
    ]
    assert counts == [0, 31]


# --- chats


def test_a_chat_and_its_stream(client, loaded):
    whole = client.json("/v1/chat/completions", chat(loaded, logprobs=True, top_logprobs=2))
    completion = types.chat.ChatCompletion.model_validate(whole)
    message = completion.choices[0].message
    assert (message.role, completion.choices[0].finish_reason) == ("assistant", "length")
    content = completion.choices[0].logprobs.content
    assert len(content) == completion.usage.completion_tokens == 6
    assert all(len(token.top_logprobs) == 2 for token in content)
    events = client.events(
        "/v1/chat/completions", chat(loaded, logprobs=True, stream_options={"include_usage": True})
    )
    *chunks, usage = [types.chat.ChatCompletionChunk.model_validate(event) for event in events]
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert (deltas[0].role, deltas[0].content) == ("assistant", "")
    assert all(delta.role is None for delta in deltas[1:])
    assert "".join(delta.content or "" for delta in deltas) == message.content
    assert events[-2]["choices"][0]["delta"] == {} and chunks[-1].choices[0].finish_reason == "length"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert usage.choices == [] and usage.usage.total_tokens == completion.usage.total_tokens
    shown = [token for chunk in chunks for token in chunk.choices[0].logprobs.content]
    assert [token.token for token in shown] == [token.token for token in content]
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_chat_is_rendered_as_in_training(client, loaded):
    messages = [
        {"role": "system", "content": "Be\n\nbrief."},
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "Bash", "arguments": '{"a": 1}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "out"},
    ]
    ids = client.json("/tokenize", {"messages": messages})["tokens"]
    assert client.json("/detokenize", {"tokens": ids})["prompt"] == (
        "System: Be\nbrief.\n\nUser: one\ntwo\n\nAssistant: I look.\n\n"
        'Tool call: Bash {"a":1}\n\nTool result: Bash\nout\n\nAssistant:'
    )


TOOLS = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in ("Bash", "Read")]


def test_a_tool_that_must_be_called(client, loaded):
    choice = {"type": "function", "function": {"name": "Read"}}
    whole = client.json("/v1/chat/completions", chat(loaded, tools=TOOLS, tool_choice=choice))
    call = types.chat.ChatCompletion.model_validate(whole).choices[0].message.tool_calls[0]
    assert call.function.name == "Read" and whole["choices"][0]["message"]["content"] is None
    events = client.events("/v1/chat/completions", chat(loaded, tools=TOOLS, tool_choice=choice))
    deltas = [types.chat.ChatCompletionChunk.model_validate(one).choices[0].delta for one in events]
    first, *rest = [delta.tool_calls[0] for delta in deltas if delta.tool_calls]
    assert first.function.name == "Read" and first.id.startswith("call_") and first.function.arguments == ""
    assert all(one.id is None and one.function.name is None for one in rest)
    assert "".join(one.function.arguments for one in rest) == call.function.arguments


@pytest.mark.parametrize(("choice", "called"), [("required", True), ("none", False), ("auto", None)])
def test_tool_choice(client, loaded, choice, called):
    answer = client.json("/v1/chat/completions", chat(loaded, tools=TOOLS, tool_choice=choice))
    message = types.chat.ChatCompletion.model_validate(answer).choices[0].message
    if called is not None:
        assert bool(message.tool_calls) is called
    if message.tool_calls:
        assert message.tool_calls[0].function.name in ("Bash", "Read")


def test_a_call_ends_with_its_turn(client, loaded):
    biased = {str(token): 1000 for token in loaded.tokenizer.encode("\n")}
    answer = client.json(
        "/v1/chat/completions", chat(loaded, tools=TOOLS, tool_choice="required", logit_bias=biased)
    )
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    plain = client.json("/v1/chat/completions", chat(loaded, logit_bias=biased))
    assert plain["choices"][0] | {"logprobs": None} == {
        "index": 0,
        "message": {"role": "assistant", "content": "", "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }


# --- texts


def test_scores_are_those_of_a_reader(client, loaded):
    answer = client.json("/v1/score", {"model": loaded.id, "input": ["User: hi", "other"]})
    predictor = Predictor(loaded, experts=False)
    for text, entry in zip(["User: hi", "other"], answer["data"], strict=True):
        expected = predictor.read().score(loaded.tokenizer.encode(text)).bits
        assert [token["bits"] for token in entry["tokens"]] == pytest.approx(expected.tolist(), abs=1e-4)
        assert entry["bits"] == pytest.approx(expected.sum(), abs=1e-3)
        assert entry["bits_per_byte"] == pytest.approx(entry["bits"] / len(text))
        assert entry["frozen_bits"] == entry["bits"]
    assert answer["bits"] == pytest.approx(sum(entry["bits"] for entry in answer["data"]))
    tuned = client.json("/v1/score", {"model": f"{loaded.id}:mine", "input": "User: hi"})
    assert tuned["frozen_bits"] == pytest.approx(answer["data"][0]["bits"], abs=1e-3) != tuned["bits"]


def test_tokens_and_back(client, loaded):
    text = "café \U0001f600"
    answer = client.json("/tokenize", {"prompt": text, "return_token_strs": True})
    assert answer["tokens"] == loaded.tokenizer.encode(text) and answer["count"] == len(answer["tokens"])
    assert "bytes:\\xc3" in answer["token_strs"]
    assert client.json("/detokenize", {"tokens": answer["tokens"]})["prompt"] == text
    wrong = client.error("/detokenize", {"tokens": [257]})
    assert (wrong["param"], wrong["message"]) == ("tokens", "tokens needs at least one id, each below 257")
    info = client.json("/tokenizer_info")
    assert client.json("/tokenize", {"prompt": info["eos_token"]})["tokens"] == [info["eos_token_id"]]


def test_metrics_count_requests_and_tokens(client, loaded):
    client.json("/v1/completions", complete(loaded))
    deadline = time.monotonic() + 300
    while "sttx_rows 0.0" not in (text := client.send("/metrics")[1].decode()):  # a row ends after its answer
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert 'sttx_requests_total{route="/v1/completions",status="200"}' in text
    generated = float(re.search(r'sttx_tokens_total\{what="generated"\} (\S+)', text)[1])
    assert generated >= 4 and "python_gc" not in text and "learned" not in text


# --- what is refused


BAD = [
    ({"temperature": -1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 2}, "top_p"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 50_001}, "max_tokens"),
    ({"n": 0}, "n"),
    ({"logit_bias": {"257": 1}}, "logit_bias"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"stop": ""}, "stop"),
    ({"stop": [""]}, "stop"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"nonsense": 1}, "nonsense"),
    ({"model": None}, "model"),
]


@pytest.mark.parametrize(("more", "param"), BAD, ids=[json.dumps(more) for more, _ in BAD])
def test_a_field_that_is_wrong_is_named(client, loaded, more, param):
    for path, body in (("/v1/completions", complete(loaded)), ("/v1/chat/completions", chat(loaded))):
        wrong = client.error(path, body | more)
        assert (wrong["param"], wrong["type"]) == (param, "invalid_request_error")
        assert "--" not in wrong["message"]


@pytest.mark.parametrize(
    "more",
    [
        {"prompt": []},
        {"prompt": [[]]},
        {"prompt": [1, "a"]},
        {"prompt": [257]},
        {"prompt": None},
        {"prompt": ["a"] * 3000},
        {"suffix": "x"},
        {"best_of": 2},
        {"logprobs": 21},
    ],
)
def test_a_completion_that_is_wrong(client, loaded, more):
    client.error("/v1/completions", complete(loaded) | more)


@pytest.mark.parametrize(
    "more",
    [
        {"messages": []},
        {"messages": [{"role": "king", "content": "x"}]},
        {"messages": [{"role": "user", "content": " "}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        {"top_logprobs": 1},
        {"tool_choice": "required"},
        {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}},
        {"response_format": {"type": "xml"}},
        {"tools": [{"type": "function", "function": {"name": "two words"}}]},
        {"tools": [{"type": "function", "function": {"name": "line\n"}}]},
    ],
)
def test_a_chat_that_is_wrong(client, loaded, more):
    client.error("/v1/chat/completions", chat(loaded) | more)


def test_unknown_routes_and_methods(client):
    assert "Not Found" in client.error("/nope", status=404)["message"]
    client.error("/v1/completions", method="GET", status=405)
    client.error("/v1/models/x/y", status=404)
    client.error("/docs", status=404)


def test_a_body_that_is_too_large_or_no_json(client, loaded):
    large = client.error("/v1/completions", complete(loaded, prompt="x" * BODY_BYTES), status=413)
    assert large["code"] == "too_large"
    for data in (b"", b"{", b"\xff", b"[" * 50_000, b"null", b'{"model": "\\ud800"}'):
        client.error("/v1/completions", data, headers={"content-type": "application/json"})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    ["model", "prompt", "messages", "max_tokens", "stop", "logprobs", "n", "tools", "input", "tokens", "x"]
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    path=st.sampled_from(
        ["/v1/completions", "/v1/chat/completions", "/v1/score", "/tokenize", "/detokenize"]
    ),
    base=st.booleans(),
    more=st.dictionaries(FIELDS, VALUES, max_size=3),
)
def test_any_body_gets_an_answer_or_an_error_object(client, loaded, path, base, more):
    bodies = {"/v1/completions": complete(loaded), "/v1/chat/completions": chat(loaded)}
    body = (bodies.get(path, {}) if base else {}) | more
    status, data = client.send(path, json.dumps(body).encode())
    answer = json.loads(data) if not data.startswith(b"data:") else {}
    assert status in (200, 400, 404)
    if status != 200:
        assert answer["error"].keys() == {"message", "type", "param", "code"}, data


# --- who may ask


def test_other_hosts_and_pages_are_refused(client, loaded):
    for headers in (
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "[::1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ):
        assert client.error("/v1/models", headers=headers, status=403)["type"] == "permission_error"
    own = {"Origin": client.server.url}
    assert client.json("/v1/models", headers=own)["object"] == "list"


def test_keys(loaded):
    with Server(ServeConfig(port=0), ["first", "second"]) as server:
        server.start(Catalog.load(loaded))
        client = Client(server)
        assert client.json("/health") == {"status": "ok"}
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic first"}):
            assert client.error("/v1/models", headers=headers, status=401)["code"] == "invalid_api_key"
            client.error("/metrics", headers=headers, status=401)
        for key in ("first", "second"):
            named = {"Authorization": f"Bearer {key}", "Host": "anywhere.example"}
            assert client.json("/v1/models", headers=named)["object"] == "list"


def test_beyond_loopback_a_key_is_needed():
    with pytest.raises(UsageError, match="--host '0.0.0.0' is reached from other machines"):
        Server(ServeConfig(host="0.0.0.0", port=0))


# --- clients that leave, many clients, and the end


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_row(client, loaded, stream):
    engine, host = client.server.service.engine, client.address.partition(":")
    never = {str(loaded.tokenizer.eot_id): -1000}
    body = json.dumps(complete(loaded, max_tokens=50_000, stream=stream, logit_bias=never, n=8)).encode()
    with socket.create_connection((host[0], int(host[2]))) as leaving:
        head = (
            f"POST /v1/completions HTTP/1.1\r\nHost: {client.address}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        leaving.sendall(head.encode() + body)
        wait_until(lambda: engine.running == 8)
    wait_until(lambda: engine.running == 0)
    assert client.json("/health") == {"status": "ok"}


def test_a_full_queue_says_429_and_silence_gets_pings(loaded):
    with Server(ServeConfig(port=0, rows=1, queue=0, ping=0.01)) as server:
        server.start(Catalog.load(loaded))
        client, engine = Client(server), server.service.engine
        asked, answer = threading.Event(), threading.Event()
        blocked = engine.call(lambda: (asked.set(), answer.wait(60)))
        assert asked.wait(60)
        connection = http.client.HTTPConnection(client.address, timeout=60)
        connection.request("POST", "/v1/completions", json.dumps(complete(loaded, stream=True)).encode())
        response = connection.getresponse()
        assert response.readline() == b": ping\n"
        full = client.error("/v1/completions", complete(loaded), status=429)
        assert (full["type"], full["code"]) == ("rate_limit_error", "queue_full")
        answer.set()
        assert blocked.result() and response.read().endswith(b"data: [DONE]\n\n")
        connection.close()


def test_many_clients_at_once_get_their_own_answers(client, loaded):
    prompts = [f"client {number} says" for number in range(40)]
    alone = [client.json("/v1/completions", complete(loaded, prompt=prompt)) for prompt in prompts]
    found = {}

    def ask(number):
        while (result := client.send("/v1/completions", complete(loaded, prompt=prompts[number])))[0] == 429:
            time.sleep(0.01)
        found[number] = json.loads(result[1])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number]["choices"] for number in range(40)] == [one["choices"] for one in alone]


def test_the_end_of_the_server_ends_a_stream_with_an_error(loaded):
    server = Server(ServeConfig(port=0))
    server.start(Catalog.load(loaded))
    client, found = Client(server), []
    body = complete(loaded, max_tokens=60_000, stream=True, logit_bias={str(loaded.tokenizer.eot_id): -1000})
    asking = threading.Thread(target=lambda: found.append(client.send("/v1/completions", body)))
    asking.start()
    wait_until(lambda: server.service.engine.tokens_generated > 3)
    server.close()
    asking.join()
    assert "shutting down" in found[0][1].decode().split("\n\n")[-2]
