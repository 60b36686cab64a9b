"""A memory beside Transformers models of four families: what changes with it, and what must not."""

import pytest
import torch
from torch import Tensor, nn

from sttx_core.errors import UsageError
from sttx_train.memory import MemoryConfig, attach

from .memory_models import FAMILIES, VOCABULARY, a_model, a_model_with_shared_keys, train_at_random

SMALL = MemoryConfig(rank=4, slots=3, chunk=4)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def some_ids(rows: int = 2, length: int = 21) -> Tensor:
    return torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_keep_every_bit_while_the_memory_is_empty_and_change_after_writes(family, dtype):
    model, ids = a_model(family, dtype), some_ids()
    base = model(ids).logits
    before = {name: one.clone() for name, one in model.state_dict().items()}
    memory = attach(model, SMALL)
    train_at_random(memory)
    assert torch.equal(model(ids).logits, base)
    with memory.writing():
        written = model(ids).logits
    assert torch.equal(written[:, 0], base[:, 0])  # the first token reads before anything is written
    assert (written[:, 1:] != base[:, 1:]).any(dim=2).all()
    assert not torch.equal(model(ids).logits, base)
    assert {one.dtype for one in memory.state_tensors().values()} == {
        torch.float32,
        torch.int64,
        torch.bool,
    }
    memory.reset()
    assert torch.equal(model(ids).logits, base)
    with memory.writing():
        model(ids)
    memory.detach()
    assert torch.equal(model(ids).logits, base)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


@pytest.mark.parametrize("family", FAMILIES)
def test_calls_with_a_cache_write_what_one_call_writes(family):
    model, ids = a_model(family), some_ids()
    memory = attach(model, SMALL)
    train_at_random(memory)
    with memory.writing():
        whole = model(ids).logits
        state = memory.state_tensors()
        memory.reset()
        cache, parts = None, []
        for part in ids.split([9, 1, 1, 10], dim=1):
            output = model(part, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            parts.append(output.logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=1e-4)
    for name, tensor in memory.state_tensors().items():
        torch.testing.assert_close(tensor, state[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_generate_reads_and_writes(family):
    model, ids = a_model(family), some_ids()
    plain = model.generate(ids, max_new_tokens=6, do_sample=False)
    memory = attach(model, SMALL)
    train_at_random(memory, 2.0)
    assert torch.equal(model.generate(ids, max_new_tokens=6, do_sample=False), plain)
    with memory.writing():
        generated = model.generate(ids, max_new_tokens=6, do_sample=False)
    # Every token was written but the last, which no call of the model has read.
    assert [int(state.counts.sum()) for state in memory.state.values()] == [2 * (21 + 5)] * 2
    again = model.generate(ids, max_new_tokens=6, do_sample=False)
    assert not (torch.equal(generated, plain) and torch.equal(again, plain))


@pytest.mark.parametrize("padded_left", [True, False])
def test_padding_is_not_written(padded_left):
    model, ids = a_model(), some_ids(1, 9)
    memory = attach(model, SMALL)
    train_at_random(memory)
    with memory.writing():
        alone = model(ids).logits[0]
    state = memory.state_tensors()
    memory.reset()
    longer = some_ids(1, 14)
    padding, ones = torch.zeros(1, 5, dtype=torch.int64), torch.ones(1, 9, dtype=torch.int64)
    order = [padding, ids] if padded_left else [ids, padding]
    mask = [padding, ones] if padded_left else [ones, padding]
    batch, mask = torch.cat([torch.cat(order, 1), longer]), torch.cat([torch.cat(mask, 1), torch.ones(1, 14)])
    with memory.writing():
        both = model(batch, attention_mask=mask.long(), position_ids=(mask.cumsum(1) - 1).clamp_min(0).long())
    row = both.logits[0, 5:] if padded_left else both.logits[0, :9]
    torch.testing.assert_close(row, alone)
    for name, tensor in memory.state_tensors().items():
        torch.testing.assert_close(tensor[:1], state[name], atol=1e-5, rtol=1e-4)


def test_an_empty_row_keeps_every_bit_beside_one_that_remembers():
    model, ids = a_model(), some_ids(2, 8)
    base = model(ids).logits
    memory = attach(model, SMALL)
    train_at_random(memory)
    mask = torch.tensor([[True] * 8, [False] * 8])
    with memory.writing(mask):
        model(ids)
    logits = model(ids).logits
    assert torch.equal(logits[1], base[1]) and not torch.equal(logits[0], base[0])


def test_one_row_is_read_by_all_rows_of_a_call():
    model, ids = a_model(), some_ids(2, 8)
    memory = attach(model, SMALL)
    train_at_random(memory)
    with memory.writing():
        model(ids[:1])
    torch.testing.assert_close(model(ids).logits[1], model(ids[1:]).logits[0])
    with memory.writing(), pytest.raises(UsageError, match="1 rows and the call 2"):
        model(ids)


def test_layers_that_share_keys_are_skipped():
    model, ids = a_model_with_shared_keys(), some_ids(1, 6)
    base = model(ids).logits
    memory = attach(model, SMALL)
    assert memory.config.layers == (0, 1, 2)
    train_at_random(memory)
    assert torch.equal(model(ids).logits, base)
    with memory.writing():
        assert not torch.equal(model(ids).logits, base)
    memory.detach()
    with pytest.raises(UsageError, match="layer 3 cannot have a memory, only 0, 1, 2 can"):
        attach(model, MemoryConfig(layers=(3,)))


def test_blocks_are_cut_where_they_are_announced():
    model, ids = a_model(), some_ids(1, 5)
    memory = attach(model, MemoryConfig(rank=4, slots=4, cut="block"))
    with memory.writing():
        model(ids)
        memory.new_block()
        model(ids[:, :2])
        model(ids[:, :1])
        memory.new_block()
        memory.new_block()
        model(ids[:, :4])
    assert memory.state[0].counts.tolist() == [[5, 3, 4, 0]]
    memory.detach()
    with pytest.raises(UsageError, match="cut='block'"):
        attach(model, SMALL).new_block()


def test_only_the_adapter_learns():
    model, ids = a_model(), some_ids(1, 12)
    memory = attach(model, SMALL)
    train_at_random(memory)
    with torch.enable_grad():
        with memory.writing():
            model(ids)
        nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:]).backward()
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.grad is not None for parameter in memory.parameters())
    memory.detach()
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_state_tensors_come_back_and_others_are_refused():
    model, ids = a_model(), some_ids(1, 12)
    memory = attach(model, SMALL)
    train_at_random(memory)
    assert memory.state_tensors() == {} and memory.is_empty
    with memory.writing():
        model(ids)
    saved, logits = memory.state_tensors(), model(ids).logits
    assert memory.state_bytes() == sum(one.nbytes for name, one in saved.items() if name != "opens")
    memory.reset()
    memory.load_state_tensors(saved)
    assert torch.equal(model(ids).logits, logits)
    for changed in (
        {"opens": saved["opens"]},
        saved | {"0.keys": saved["0.keys"].double()},
        saved | {"0.slots": saved["0.slots"][:, :1]},
        saved | {"extra": saved["0.last"]},
    ):
        with pytest.raises(UsageError, match="not the state"):
            memory.load_state_tensors(changed)
    assert torch.equal(model(ids).logits, logits)


def test_what_cannot_work_is_refused():
    model = a_model()
    memory = attach(model)
    with pytest.raises(UsageError, match="has a memory already"):
        attach(model)
    model.activation_checkpointing_enable()
    model.train()
    with memory.writing(), pytest.raises(UsageError, match="checkpointing"):
        model(some_ids())
    with pytest.raises(UsageError, match="no attention with linear q_proj"):
        attach(nn.Linear(2, 2))
    with pytest.raises(UsageError, match="--rank must be a whole number from 1"):
        MemoryConfig(rank=0)
    with pytest.raises(UsageError, match="--layers must be increasing"):
        MemoryConfig(layers=(2, 1))
    with pytest.raises(UsageError, match="--cut must be one of chunk, block"):
        MemoryConfig.from_dict(MemoryConfig().as_dict() | {"cut": "x"})
    with pytest.raises(UsageError, match="has the fields"):
        MemoryConfig.from_dict({"rank": 8})


def test_digests_follow_what_they_name():
    first, second = attach(a_model()), attach(a_model("qwen3"))
    assert first.base_digest() == attach(a_model()).base_digest() != second.base_digest()
    before = first.adapter_digest()
    train_at_random(first)
    assert first.adapter_digest() != before
