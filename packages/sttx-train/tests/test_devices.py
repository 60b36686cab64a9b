"""The choice of device and dtype: what `auto` chooses, the reason, and refusals."""

import pytest
import torch

from sttx_core.errors import UsageError
from sttx_train.devices import choose_device, choose_dtype, choose_products


@pytest.fixture(params=[False, True], ids=["no cuda", "cuda"])
def cuda(request, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    return request.param


def test_auto_chooses_cuda_if_there_is_one(cuda):
    chosen = choose_device()
    assert chosen.device.type == ("cuda" if cuda else "cpu")
    assert chosen.reason == ("torch sees a GPU" if cuda else "torch sees no CUDA device")


def test_a_requested_device_is_used_or_refused(cuda):
    assert choose_device("cpu") == (torch.device("cpu"), "asked for")
    if cuda:
        assert choose_device("cuda").device.type == "cuda"
    else:
        with pytest.raises(UsageError, match="use --device cpu"):
            choose_device("cuda")


@pytest.mark.parametrize(
    ("device", "requested", "expected"),
    [
        ("cpu", "auto", torch.float32),
        ("cuda", "auto", torch.bfloat16),
        ("cpu", "bfloat16", torch.bfloat16),
        ("cuda", "float32", torch.float32),
    ],
)
def test_dtypes(device, requested, expected):
    chosen = choose_dtype(torch.device(device), requested)
    assert chosen.dtype is expected
    assert (chosen.reason == "asked for") == (requested != "auto")


@pytest.mark.parametrize("supported", [True, False])
def test_products_are_in_bfloat16_where_the_processor_has_instructions_for_it(monkeypatch, supported):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    chosen = choose_products(torch.device("cpu"))
    assert chosen.bf16 is supported
    assert ("no instructions" in chosen.reason) is not supported
    assert choose_products(torch.device("cpu"), not supported).bf16 is not supported
