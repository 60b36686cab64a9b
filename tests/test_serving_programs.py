"""Programs that are too large to install for every run of the tests, against the server over loopback.

uv run --with "lm-eval[api]" --with litellm pytest tests/test_serving_programs.py
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from sttx_train import Predictor, load_model
from sttx_train.serve import Catalog, ServeConfig, Server

TEXT = "Please run the tests and say which one fails. The build is red.\n" * 6
TASK = """
task: own_text
dataset_path: json
dataset_kwargs:
  data_files:
    test: {folder}/text.jsonl
output_type: loglikelihood_rolling
test_split: test
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list:
  - metric: bits_per_byte
    aggregation: bits_per_byte
    higher_is_better: false
"""
CHAT = """
import json, sys
import litellm

asked = {
    "model": "openai/goose-mini", "api_base": sys.argv[1], "api_key": "secret", "max_tokens": 6,
    "messages": [{"role": "user", "content": "Please run the tests."}], "temperature": 0,
}
whole = litellm.completion(**asked)
pieces = [chunk.choices[0].delta.content or "" for chunk in litellm.completion(stream=True, **asked)]
try:
    litellm.completion(**(asked | {"model": "openai/none"}))
except litellm.NotFoundError as error:
    refused = str(error)
sys.stdout.write("\\n" + json.dumps([whole.choices[0].message.content, "".join(pieces), refused]))
"""
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


@pytest.fixture(scope="module")
def served():
    loaded = load_model()
    with Server(ServeConfig(port=0)) as server:
        server.start(Catalog.load(loaded))
        yield server.url, loaded


def run(*command, **environment):
    done = subprocess.run(
        [sys.executable, *command],
        env=os.environ | OFFLINE | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm-eval is not installed")
def test_lm_eval_measures_what_the_model_pays(served, tmp_path):
    url, loaded = served
    (tmp_path / "text.jsonl").write_text(json.dumps({"text": TEXT}) + "\n")
    (tmp_path / "own.yaml").write_text(TASK.format(folder=tmp_path))
    model = f"model=goose-mini,base_url={url}/v1/completions,tokenizer_backend=remote,max_length=4096"
    task = ["--tasks", "own_text", "--include_path", str(tmp_path), "--output_path", str(tmp_path / "out")]
    program = ["-m", "lm_eval", "--model", "local-completions", "--model_args", model]
    run(*program, *task, HF_HOME=str(tmp_path / "cache"), OPENAI_API_KEY="secret")
    (found,) = (tmp_path / "out").rglob("results_*.json")
    measured = json.loads(found.read_text())["results"]["own_text"]["bits_per_byte,none"]
    bits = Predictor(loaded, experts=False).read().score(loaded.tokenizer.encode(TEXT)).bits.sum()
    assert measured == pytest.approx(bits / len(TEXT.encode()), rel=1e-3)


@pytest.mark.skipif(find_spec("litellm") is None, reason="litellm is not installed")
def test_litellm_chats(served):
    url, loaded = served
    whole, streamed, refused = json.loads(run("-c", CHAT, f"{url}/v1").splitlines()[-1])
    assert whole == streamed and whole
    assert "none" in refused
