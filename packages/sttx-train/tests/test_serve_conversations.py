"""Conversations that go on: responses with a predecessor, and slots that are saved and restored."""

import json
import stat
from pathlib import Path

import openai
import pytest
from openai.types.responses import Response

from sttx_core.errors import UsageError
from sttx_train.generate import SamplingConfig
from sttx_train.predict import Predictor
from sttx_train.serve.bodies import Response as Body
from sttx_train.serve.bodies import parse
from sttx_train.serve.catalog import Catalog, Served
from sttx_train.serve.config import ServeConfig
from sttx_train.serve.failures import RequestError
from sttx_train.serve.kept_responses import KeptResponses
from sttx_train.serve.responses import last_called, messages_of, new_of_response
from sttx_train.serve.server import Server
from sttx_train.serve.slots import Slot, restore_slot, save_slot
from sttx_train.stores import FolderStore, MemoryStore

ASK = {"max_output_tokens": 6, "temperature": 0}


@pytest.fixture(scope="module")
def loaded(tiny):
    return tiny()


@pytest.fixture(scope="module")
def server(loaded, tmp_path_factory):
    folder = tmp_path_factory.mktemp("slots")
    with Server(ServeConfig(port=0, slot_dir=str(folder))) as server:
        server.start(Catalog.load(loaded))
        yield server


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="-", max_retries=0, timeout=60) as client:
        yield client


def raw(client, body, **more):
    answer = client.responses.with_raw_response.create(**body, **more)
    return json.loads(answer.text() if callable(answer.text) else answer.text)


# --- responses


def test_a_response_and_its_stream(client, loaded):
    answer = raw(client, {"model": loaded.id, "input": "Please run the tests.", **ASK})
    response = Response.model_validate(answer)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert response.usage.output_tokens == 6 and response.usage.input_tokens_details.cached_tokens == 0
    events = list(client.responses.create(model=loaded.id, input="Please run the tests.", stream=True, **ASK))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events if not event.type.endswith(".delta")]
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == events[-1].response.output_text == response.output_text
    assert events[-1].response.usage.input_tokens_details.cached_tokens > 0


def test_a_response_goes_on_from_another_and_reads_nothing_twice(client, loaded):
    first = client.responses.create(model=loaded.id, input="one", instructions="Be brief.", **ASK)
    second = client.responses.create(model=loaded.id, input="two", previous_response_id=first.id, **ASK)
    cached = second.usage.input_tokens_details.cached_tokens
    assert first.usage.input_tokens < cached <= first.usage.total_tokens
    predictor = Predictor(loaded, experts=False)
    greedy = {"max_tokens": 6, "stop": ["\n\n"]}
    prompt = "System: Be brief.\n\nUser: one\n\nAssistant:"
    generation = predictor.generate(prompt, SamplingConfig(temperature=0), **greedy)
    "".join(generation)
    data = prompt.encode() + generation.data
    missing = next(b"\n\n"[size:] for size in (2, 1, 0) if data.endswith(b"\n\n"[:size]))
    reader = predictor.read()
    reader.advance(loaded.tokenizer.encode_bytes(data + missing + b"User: two\n\nAssistant:"))
    text = "".join(reader.generate(SamplingConfig(temperature=0), **greedy))
    assert second.output_text == text.lstrip()


def test_a_response_that_is_not_stored_or_not_there(client, loaded):
    gone = client.responses.create(model=loaded.id, input="one", store=False, **ASK)
    for name in (gone.id, "resp_nobody"):
        with pytest.raises(openai.BadRequestError) as wrong:
            client.responses.create(model=loaded.id, input="two", previous_response_id=name, **ASK)
        assert wrong.value.code == "previous_response_not_found"


def test_a_response_that_calls_a_tool(client, loaded):
    tools = [
        {"type": "function", "name": "shell", "parameters": {"type": "object"}, "strict": False},
        {"type": "web_search"},
    ]
    body = {"model": loaded.id, "input": "list files", "tools": tools, "tool_choice": "required", **ASK}
    bias = {"logit_bias": {str(token): 1000 for token in loaded.tokenizer.encode("\n")}}
    call = Response.model_validate(raw(client, body, extra_body=bias)).output[0]
    assert (call.type, call.name, call.status) == ("function_call", "shell", "completed")
    events = list(client.responses.create(**body, extra_body=bias, stream=True))
    assert "response.function_call_arguments.done" in [event.type for event in events]
    given = [
        {"role": "user", "content": [{"type": "input_text", "text": "list files"}]},
        {"type": "function_call", "call_id": "c", "name": "shell", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "a.txt"},
    ]
    after = client.responses.create(**(body | {"input": given, "tool_choice": "none"}))
    assert after.output[0].type == "message"


def test_what_a_tool_gave_has_its_name_when_its_call_was_in_the_response_before(client, server, monkeypatch):
    asked, submit = [], server.service.engine.submit
    monkeypatch.setattr(
        server.service.engine, "submit", lambda jobs: asked.extend(job.ask for job in jobs) or submit(jobs)
    )
    loaded = server.service.catalog.frozen.predictor.loaded
    tools = [{"type": "function", "name": name, "parameters": {"type": "object"}} for name in ("ls", "shell")]
    choice = {"type": "function", "name": "shell"}
    bias = {"logit_bias": {str(token): 1000 for token in loaded.tokenizer.encode("\n")}}
    body = {"model": loaded.id, "tools": tools, "tool_choice": choice, **ASK}
    first = client.responses.create(**body, input="list files", extra_body=bias)
    output = {"type": "function_call_output", "call_id": first.output[0].call_id, "output": "a.txt"}
    more = {"model": loaded.id, "previous_response_id": first.id, **ASK}
    client.responses.create(**more, input=[output])
    assert loaded.tokenizer.decode(asked[-1].ids).endswith("Tool result: shell\na.txt\n\nAssistant:")


def test_the_last_call_is_that_of_the_last_turn(server):
    served = server.service.catalog.frozen
    encode = served.predictor.loaded.tokenizer.encode
    long = "Tool call: run " + json.dumps({"text": "word " * 500}) + "\n\n"
    for text, name in [
        ("User: a\n\n" + long, "run"),
        (long + "User: a\n\n", ""),
        (long, "run"),
        ("User: Tool call: x {}\n\n", ""),
        ("", ""),
    ]:
        assert last_called(tuple(encode(text)), served) == name
    item = {"type": "function_call_output", "call_id": "c", "output": "a"}
    known = {"type": "function_call", "call_id": "c", "name": "ls", "arguments": "{}"}
    for items, names in [([item], ["run"]), ([known, item], [None, None])]:
        body = parse(json.dumps({"model": "m", "input": items}).encode(), Body)
        assert [message.name for message in messages_of(body, "run")] == names
    learned = new_of_response(
        parse(json.dumps({"model": "m", "input": [item]}).encode(), Body), served, tuple(encode(long))
    )
    assert served.predictor.loaded.tokenizer.decode(learned) == "Tool result: run\na\n\n"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [{"type": "image"}]}, "input"),
        ({"max_output_tokens": 10**9}, "max_output_tokens"),
        ({"text": {"format": {"type": "xml"}}}, "text"),
    ],
)
def test_a_response_that_is_wrong(client, loaded, more, param):
    body = {"model": loaded.id, "input": "x", **ASK} | more
    with pytest.raises(openai.BadRequestError) as wrong:
        client.responses.create(**body)
    assert wrong.value.param == param


def test_responses_have_bounded_memory(loaded):
    store = MemoryStore(1000)
    known, vocabulary = KeptResponses(store), loaded.tokenizer.sha256
    for number in range(50):
        known.put(f"resp_{number}", tuple(range(4)), vocabulary)
    assert store.nbytes <= 1000
    assert known.find("resp_49", vocabulary) == known.find("resp_48", vocabulary) == (0, 1, 2, 3)
    with pytest.raises(RequestError, match="no response 'resp_2'"):
        known.find("resp_2", vocabulary)
    with pytest.raises(RequestError, match="another vocabulary"):
        known.find("resp_49", "another")
    with pytest.raises(RequestError, match="no room") as full:
        known.put("resp_50", tuple(range(1000)), vocabulary)
    assert full.value.status == 507


@pytest.mark.parametrize("name", ["", "resp_", "../resp_1", "resp_1/2", "resp_" + "1" * 100, "tenant/1"])
def test_the_name_of_a_response_is_no_path(name):
    with pytest.raises(RequestError, match="no response"):
        KeptResponses(MemoryStore(1000)).find(name, "v")


def test_a_response_that_is_damaged_is_reported(tmp_path, loaded):
    known = KeptResponses(FolderStore(tmp_path, 10_000))
    known.put("resp_1", (1, 2), "v")
    (path,) = tmp_path.glob("dropped/*/*")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RequestError, match="cannot be continued.*is damaged") as damaged:
        known.find("resp_1", "v")
    assert damaged.value.status == 400


# --- slots


def slot(client, number, action, **body):
    root = str(client.base_url).removesuffix("v1/")
    return client.post(f"{root}slots/{number}?action={action}", cast_to=object, body=body or None)


def test_a_slot_is_saved_restored_and_erased(client, server, loaded):
    body = {"model": loaded.id, "prompt": "a text of this slot", "max_tokens": 3, "temperature": 0}
    client.completions.create(**body, extra_body={"id_slot": 5})
    saved = slot(client, 5, "save", filename="mine.bin")
    assert saved["n_saved"] == len("a text of this slot") + 2
    found = (Path(server.service.config.slot_dir) / "mine.bin").stat()
    assert found.st_size == saved["n_written"] and stat.S_IMODE(found.st_mode) == 0o600
    assert slot(client, 5, "erase")["n_erased"] == saved["n_saved"]
    assert slot(client, 5, "erase")["n_erased"] == 0
    server.service.engine.call(server.service.engine.cache.clear).result()
    assert slot(client, 6, "restore", filename="mine.bin")["n_restored"] == saved["n_saved"]
    text = client.completions.create(**body).choices[0].text
    again = client.completions.create(**(body | {"prompt": body["prompt"] + text}))
    assert again.usage.prompt_tokens_details.cached_tokens > 0


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", ".hidden", "", "x" * 200, "a\x00b", "a\n"])
def test_a_slot_has_a_name_and_no_path(client, name):
    with pytest.raises(openai.BadRequestError) as wrong:
        slot(client, 0, "restore", filename=name)
    assert wrong.value.param == "filename"


def test_what_is_no_slot(client, server, loaded):
    with pytest.raises(openai.BadRequestError, match="no saved slot 'nobody'"):
        slot(client, 0, "restore", filename="nobody")
    with pytest.raises(openai.BadRequestError, match="slot 63 is empty"):
        slot(client, 63, "save", filename="x")
    with pytest.raises(openai.NotFoundError):
        slot(client, 64, "erase")
    with pytest.raises(openai.BadRequestError, match="action must be"):
        slot(client, 0, "burn")


def test_a_saved_slot_that_is_damaged_or_of_other_knowledge(loaded, tmp_path):
    catalog = Catalog.load(loaded)
    reader = catalog.default.predictor.read()
    reader.advance([5, 6, 7])
    save_slot(Slot(served=catalog.default, ids=(5, 6, 7), reader=reader), tmp_path, "good")
    restored, _ = restore_slot(catalog, tmp_path, "good")
    assert restored.ids == (5, 6, 7) and restored.reader.log_probs().tolist() == reader.log_probs().tolist()
    data = (tmp_path / "good").read_bytes()
    for number, broken in enumerate([data[:-9], b"", data[: len(data) // 2], b"\xff" * 100]):
        (tmp_path / f"bad{number}").write_bytes(broken)
        with pytest.raises(RequestError, match="damaged"):
            restore_slot(catalog, tmp_path, f"bad{number}")
    (tmp_path / "link").symlink_to(tmp_path / "good")
    with pytest.raises(RequestError, match="no saved slot"):
        restore_slot(catalog, tmp_path, "link")
    other = Catalog([Served(id="other", predictor=catalog.default.predictor, digest="another")])
    with pytest.raises(RequestError, match="not served now"):
        restore_slot(other, tmp_path, "good")


def test_each_key_has_slots_of_its_own(loaded, tmp_path):
    body = {"model": loaded.id, "prompt": "a text", "max_tokens": 1, "temperature": 0}
    with Server(ServeConfig(port=0, slot_dir=str(tmp_path)), ["ada", "bob"]) as server:
        server.start(Catalog.load(loaded))
        clients = [
            openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) for key in ("ada", "bob")
        ]
        ada, bob = clients
        ada.completions.create(**body, extra_body={"id_slot": 0})
        with pytest.raises(openai.BadRequestError, match="slot 0 is empty"):
            slot(bob, 0, "save", filename="mine")
        assert slot(bob, 0, "erase")["n_erased"] == 0
        saved = slot(ada, 0, "save", filename="mine")
        with pytest.raises(openai.BadRequestError, match="no saved slot 'mine'"):
            slot(bob, 0, "restore", filename="mine")
        assert slot(ada, 1, "restore", filename="mine")["n_restored"] == saved["n_saved"]
        names = [path.relative_to(tmp_path).parts for path in tmp_path.rglob("*") if path.is_file()]
        assert len(names) == 1 and names[0][1] == "mine" and "ada" not in names[0][0]
        for each in clients:
            each.close()


def test_without_a_folder_a_slot_is_refused(loaded):
    with Server(ServeConfig(port=0)) as server:
        server.start(Catalog.load(loaded))
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="-", max_retries=0) as client:
            more = {"model": loaded.id, "extra_body": {"id_slot": 0}}
            for create in (
                lambda: client.completions.create(prompt="a", **more),
                lambda: client.chat.completions.create(messages=[{"role": "user", "content": "a"}], **more),
                lambda: client.responses.create(input="a", **more),
            ):
                with pytest.raises(openai.BadRequestError, match="--slot-dir") as wrong:
                    create()
                assert wrong.value.param == "id_slot"


def test_without_a_folder_there_are_no_slots(loaded):
    with Server(ServeConfig(port=0)) as server:
        server.start(Catalog.load(loaded))
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="-", max_retries=0)
        with client, pytest.raises(openai.InternalServerError, match="--slot-dir"):
            slot(client, 0, "save", filename="x")


def test_a_port_is_a_number():
    with pytest.raises(UsageError, match="--port must be"):
        ServeConfig(port=70000)
