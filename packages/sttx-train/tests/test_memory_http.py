"""The server over an attached memory: a client, streams, slots, the proof that it is active, the page."""

import json
import re
import urllib.error
import urllib.request

import pytest
from openai import OpenAI

from sttx_train.memory.routes import MemoryRoutes
from sttx_train.serve.catalog import Catalog, Served
from sttx_train.serve.config import ServeConfig
from sttx_train.serve.server import Server

from .memory_served import base_of, predictor_of, write_base

NAME = "tiny:adapter@0123"
MESSAGES = [{"role": "user", "content": "the build"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def serve(folder, tmp_path_factory):
    """Return a function that starts a server over a memory."""
    servers = []

    def start(keys=(), **options):
        predictor = predictor_of(base_of(folder), **options)
        slots = tmp_path_factory.mktemp("slots")
        config = ServeConfig(port=0, slot_dir=str(slots), max_tokens=64, chunk=16)
        servers.append(Server(config, keys, MemoryRoutes()))
        servers[-1].start(Catalog([Served(id=NAME, predictor=predictor, digest=predictor.digest)]))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def server(serve):
    return serve()


@pytest.fixture
def client(server):
    return OpenAI(base_url=f"{server.url}/v1", api_key="-", max_retries=0, timeout=300)


def send(server, path, body=None, **headers):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{server.url}{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=300) as response:
            return response.status, json.loads(response.read() or b"{}")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def said(client, messages, **options):
    options = {"max_tokens": 12, "temperature": 0} | options
    return client.chat.completions.create(model=NAME, messages=messages, **options)


def test_openais_client_chats_streams_and_completes(client):
    assert [model.id for model in client.models.list()] == [NAME]
    whole = said(client, MESSAGES, logprobs=True)
    text = whole.choices[0].message.content
    assert whole.usage.completion_tokens == 12 and whole.choices[0].finish_reason == "length"
    assert len(whole.choices[0].logprobs.content) == 12
    parts = said(client, MESSAGES, stream=True)
    assert "".join(part.choices[0].delta.content or "" for part in parts) == text
    prompt = "User: the build\n\nAssistant:"
    done = client.completions.create(model=NAME, prompt=prompt, max_tokens=12, temperature=0)
    assert done.choices[0].text.strip() == text
    response = client.responses.create(model=NAME, input="the build", max_output_tokens=12, temperature=0)
    assert response.output_text == text


def test_a_conversation_continues_from_its_own_memory(client):
    answer = said(client, MESSAGES)
    longer = [
        *MESSAGES,
        {"role": "assistant", "content": answer.choices[0].message.content},
        {"role": "user", "content": "what?"},
    ]
    first = said(client, longer)
    assert first.usage.prompt_tokens_details.cached_tokens > 0
    said(client, [{"role": "user", "content": "something else, with other words"}])
    again = said(client, longer)
    assert again.choices[0].message.content == first.choices[0].message.content


def test_a_slot_is_saved_restored_and_refused_if_it_is_damaged(server, client):
    extra = {"extra_body": {"id_slot": 3}}
    said(client, [{"role": "user", "content": "a conversation for a slot"}], **extra)
    status, saved = send(server, "/slots/3?action=save", {"filename": "one"})
    assert status == 200 and saved["n_saved"] > 10
    assert send(server, "/slots/3?action=erase", {})[0] == 200
    status, restored = send(server, "/slots/3?action=restore", {"filename": "one"})
    assert (status, restored["n_restored"]) == (200, saved["n_saved"])
    assert send(server, "/slots/3?action=save", {"filename": "two"})[0] == 200
    folder = server.service.config.slot_dir
    with open(f"{folder}/one", "rb") as one, open(f"{folder}/two", "rb") as two:
        data = one.read()
        assert data == two.read()
    with open(f"{folder}/bad", "wb") as file:
        file.write(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    status, failed = send(server, "/slots/3?action=restore", {"filename": "bad"})
    assert status == 400 and "damaged" in failed["error"]["message"]


def test_a_text_is_priced_with_the_memory_alone(server):
    status, found = send(server, "/v1/score", {"model": NAME, "input": "User: the build"})
    assert status == 200 and found["bits"] > 0
    assert found["frozen_bits"] is None and found["data"][0]["tokens"][0]["frozen_bits"] is None


def test_the_memory_is_proven_active_and_compared(server):
    status, health = send(server, "/v1/memory/health")
    assert status == 200 and health["active"] is True and len(health["checks"]) == 4
    body = {"model": NAME, "messages": [*MESSAGES, {"role": "user", "content": "what?"}], "temperature": 0}
    status, found = send(server, "/v1/memory/compare", body | {"max_tokens": 8})
    assert status == 200 and found["written"] > 0 and found["divergence"] > 0
    assert found["with_memory"] != found["without_memory"] and found["prompt"] == "User: what?"
    for change, param in (
        ({"messages": MESSAGES}, "messages"),
        ({"max_tokens": 65}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream": True}, "stream"),
        ({"id_slot": 1}, "id_slot"),
        ({"tools": []}, "tools"),
    ):
        status, failed = send(server, "/v1/memory/compare", body | change)
        assert (status, failed["error"]["param"]) == (400, param)
    assert send(server, "/v1/memory/compare", body | {"model": "other"})[0] == 404


def test_a_memory_without_effect_is_not_compared(serve):
    server = serve(trained=False)
    status, health = send(server, "/v1/memory/health")
    assert status == 200 and health["active"] is False
    body = {"model": NAME, "messages": MESSAGES * 2}
    status, failed = send(server, "/v1/memory/compare", body)
    assert status == 409 and failed["error"]["code"] == "memory_inactive"
    assert "the memory is not active" in failed["error"]["message"]


def test_the_same_protections_hold(server, serve):
    assert send(server, "/v1/memory/health", Host="somewhere.example")[0] == 403
    assert send(server, "/v1/memory/health", Origin="http://somewhere.example")[0] == 403
    keyed = serve(keys=["secret"])
    assert send(keyed, "/v1/memory/health")[0] == 401
    assert send(keyed, "/v1/memory/health", Authorization="Bearer secret")[0] == 200


def test_the_page_has_the_panel_under_its_policy(server):
    with urllib.request.urlopen(f"{server.url}/", timeout=300) as response:
        page, policy = response.read().decode(), response.headers["content-security-policy"]
    ids = set(re.findall(r'id="([\w-]+)"', page))
    assert {"memory", "memory-check", "memory-ask", "memory-prompt", "memory-answers"} <= ids
    assert set(re.findall(r'at\("([\w-]+)"\)', page)) - {"key"} <= ids
    assert page.count("<script>") == 1 and "script-src 'sha256-" in policy
