"""Programs that people use, against the server over loopback: the clients `openai` and `llm`."""

import os
import subprocess
import sys

import openai
import pytest

from sttx_train.generate import SamplingConfig
from sttx_train.predict import Predictor
from sttx_train.serve.catalog import Catalog
from sttx_train.serve.config import ServeConfig
from sttx_train.serve.server import Server

CHAT = {"messages": [{"role": "user", "content": "Please run the tests."}], "max_tokens": 6, "temperature": 0}


@pytest.fixture(scope="module")
def served(tiny):
    loaded = tiny()
    with Server(ServeConfig(port=0), ["secret"]) as server:
        server.start(Catalog.load(loaded))
        yield server.url, loaded


@pytest.fixture(scope="module")
def client(served):
    with openai.OpenAI(base_url=f"{served[0]}/v1", api_key="secret", max_retries=0, timeout=300) as client:
        yield client


@pytest.fixture(scope="module")
def answer(served):
    """What the predictor itself answers to the chat."""
    prompt = "User: Please run the tests.\n\nAssistant:"
    greedy = SamplingConfig(temperature=0)
    predictor = Predictor(served[1], experts=False)
    return "".join(predictor.generate(prompt, greedy, max_tokens=6, stop=["\n\n"])).lstrip()


def test_openai_chats(client, served, answer):
    model = served[1].id
    whole = client.chat.completions.create(model=model, **CHAT)
    assert whole.choices[0].message.content == answer
    chunks = client.chat.completions.create(model=model, stream=True, **CHAT)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == answer


def test_openai_completes_and_lists_models(client, served):
    model = served[1].id
    stream = client.completions.create(model=model, prompt="ab", max_tokens=5, temperature=0, stream=True)
    whole = client.completions.create(model=model, prompt="ab", max_tokens=5, temperature=0)
    assert "".join(chunk.choices[0].text for chunk in stream) == whole.choices[0].text
    assert [one.id for one in client.models.list()] == [model] and client.models.retrieve(model).id == model


def test_openai_raises_its_own_errors(client, served):
    with pytest.raises(openai.NotFoundError, match="no model 'x'"):
        client.models.retrieve("x")
    with pytest.raises(openai.BadRequestError) as wrong:
        client.completions.create(model=served[1].id, prompt="a", temperature=-1)
    assert (wrong.value.param, wrong.value.type) == ("temperature", "invalid_request_error")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()


def test_openai_calls_a_tool(client, served):
    tools = [{"type": "function", "function": {"name": "Bash", "parameters": {"type": "object"}}}]
    more = {"tools": tools, "tool_choice": "required"}
    biased = {str(token): 1000 for token in served[1].tokenizer.encode("\n")}  # it ends its turn at once
    ask = CHAT | more | {"model": served[1].id, "logit_bias": biased}
    with client.chat.completions.stream(**ask) as stream:
        streamed = stream.get_final_completion().choices[0]
    whole = client.chat.completions.create(**ask).choices[0]
    assert streamed.finish_reason == whole.finish_reason == "tool_calls"
    assert streamed.message.tool_calls[0].function.name == whole.message.tool_calls[0].function.name == "Bash"


def test_llm_prompts(served, answer, tmp_path):
    url, loaded = served
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: mine\n  model_name: {loaded.id}\n  api_base: {url}/v1\n  api_key_name: mine\n"
    )
    (tmp_path / "keys.json").write_text('{"mine": "secret"}')
    command = [sys.executable, "-m", "llm", "-m", "mine", "--no-log"]
    command += ["-o", "temperature", "0", "-o", "max_tokens", "6"]
    done = subprocess.run(
        [*command, "Please run the tests."],
        env=os.environ | {"LLM_USER_PATH": str(tmp_path), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == answer + "\n"
