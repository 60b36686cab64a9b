"""`sttx serve`: it says where it listens, answers, and ends cleanly; what it refuses beforehand."""

import json
import signal
import socket
import threading
import time
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from sttx_train import Predictor, load_model


@pytest.fixture
def serving(start, tiny_model):
    """Return a function that starts a server and returns it with its address and what it said."""
    started = []

    def serve(*arguments):
        line = ["serve", "--model", tiny_model, "--port", 0, "--threads", 1, "--experts", "off"]
        server = start(*line, *arguments)
        started.append(server)
        said = []
        for line in server.stderr:
            said.append(line)
            if line.startswith("listening on "):
                break
        return server, said[-1].removeprefix("listening on ").strip(), "".join(said)

    yield serve
    for server in started:
        server.kill()
        server.communicate()


def ask(url, body=None, key=""):
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data, {"authorization": f"Bearer {key}"}), timeout=60) as answer:
        return json.load(answer)


def test_it_serves_until_it_is_interrupted(serving, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("first\nsecond\n")
    server, url, said = serving("--api-key-file", keys, "--experts", "on")
    assert url.startswith("http://127.0.0.1:") and "kernel:" in said and "serving: " in said
    with pytest.raises(HTTPError) as refused:
        ask(f"{url}/v1/models", key="wrong")
    refused.value.close()
    assert refused.value.code == 401
    name = ask(f"{url}/v1/models", key="second")["data"][0]["id"]
    body = {"model": name, "prompt": "a", "max_tokens": 60_000, "logit_bias": {"0": -1000}}
    failed = []

    def wait_for_an_answer():
        try:
            ask(f"{url}/v1/completions", body, key="first")
        except HTTPError as error:
            with error:
                failed.append(json.load(error)["error"]["message"])

    waiting = threading.Thread(target=wait_for_an_answer)
    waiting.start()
    while ask_metrics(url) < 3:
        time.sleep(0.05)
    server.send_signal(signal.SIGINT)
    out, err = server.communicate(timeout=60)
    waiting.join()
    assert (server.returncode, out) == (0, "") and "stopping" in err and "Traceback" not in err
    assert failed == ["the server is shutting down: try again later"]


@pytest.mark.parametrize("variant", ["stored", "momentum", "RWKV-6"], indirect=True)
def test_a_variant_is_served_with_the_prices_of_a_reader(serving, variant):
    server, url, _ = serving("--model", variant)
    name = ask(f"{url}/v1/models")["data"][0]["id"]
    text = "Please run test number 3."
    priced = ask(f"{url}/v1/score", {"model": name, "input": text})
    server.send_signal(signal.SIGINT)
    server.communicate(timeout=300)
    assert server.returncode == 0
    loaded = load_model(variant)
    expected = Predictor(loaded, experts=False).read().score(loaded.tokenizer.encode(text)).bits
    assert priced["bits"] == pytest.approx(float(expected.sum()), abs=1e-3)


def ask_metrics(url):
    with urlopen(Request(f"{url}/metrics", headers={"authorization": "Bearer first"}), timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith('sttx_tokens_total{what="gen'))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "give --api-key-file"),
        (["--port", "70000"], "--port must be from 0 to 65535"),
        (["--rows", "0"], "--rows must be at least 1"),
        (["--state-store", "ftp://x"], "'ftp://' is not known"),
        (["--state-bytes", "0"], "--state-bytes must be at least 1"),
        (["--checkpoint", "nowhere"], "no checkpoint at 'nowhere'"),
        (["--state", "nowhere.pth"], "nowhere.pth"),
        (["--model", "nobody"], "no model at 'nobody'"),
    ],
)
def test_what_is_refused(sttx, arguments, message):
    result = sttx("serve", *arguments)
    assert (
        result.code == 2
        and message in result.err
        and "loading" not in result.err.replace("loading PyTorch", "")
    )


def test_a_file_of_keys_that_has_none(sttx, tmp_path):
    path = tmp_path / "keys"
    for text, message in (("", "has no key"), ("s\u00e9cret", "is not of ASCII")):
        path.write_text(text, "utf-8")
        result = sttx("serve", "--api-key-file", path)
        assert result.code == 2 and message in result.err


def test_a_port_that_is_taken_is_one_sentence(sttx):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = sttx("serve", "--port", taken.getsockname()[1])
    assert result.code == 1 and "Traceback" not in result.err and "in use" in result.err
