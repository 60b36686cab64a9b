"""A served model is the one that `sttx eval` measures: what lm-eval asks gives its bits per byte."""

import json
import math
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from sttx_ccsniff import open_source
from sttx_core.render import render
from sttx_train import load_model
from sttx_train.serve import Catalog, ServeConfig, Server

ROOT = Path(__file__).parents[1]
SESSION = next((ROOT / "test-data" / "sessions").rglob("36aad03b*.jsonl"))


def ask(url: str, path: str, body: object = None):
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url + path, data), timeout=600) as answer:
        return json.load(answer)


def test_lm_eval_gets_the_bits_per_byte_that_eval_prints():
    command = [
        sys.executable,
        "-m",
        "sttx_cli",
        "eval",
        SESSION,
        "--arms",
        "frozen",
        "--workers",
        "1",
        "--json",
    ]
    measured = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    with open_source(str(SESSION)) as source:
        text = "".join(map(render, source))
    with Server(ServeConfig(port=0)) as server:
        server.start(Catalog.load(load_model()))
        # As lm-eval 0.4.13 does for a `loglikelihood_rolling` task with the model `local-completions`.
        end = ask(server.url, "/tokenizer_info")["eos_token"]
        first = ask(server.url, "/tokenize", {"prompt": end, "add_special_tokens": False})["tokens"][0]
        ids = ask(server.url, "/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]
        body = {
            "model": "goose-mini",
            "prompt": [[first, *ids]],
            "temperature": 0,
            "max_tokens": 1,
            "logprobs": 1,
            "seed": 1234,
            "echo": True,
        }
        shown = ask(server.url, "/v1/completions", body)["choices"][0]["logprobs"]
    nats = -sum(shown["token_logprobs"][1:-1])
    assert len(shown["tokens"]) == len(ids) + 2
    pairs = zip(shown["top_logprobs"][1:], shown["token_logprobs"][1:], strict=True)
    assert all(paid in top.values() and max(top.values()) >= paid for top, paid in pairs)
    bits_per_byte = nats / math.log(2) / len(text.encode())
    assert bits_per_byte == pytest.approx(json.loads(measured.stdout)["arms"]["frozen"]["bpb"], rel=1e-3)
