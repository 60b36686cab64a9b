"""Which device and dtype a run uses, and why. Knows no model, and loads torch only to choose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from sttx_core.errors import UsageError

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda"]
DtypeName = Literal["auto", "float32", "bfloat16"]


class ChosenDevice(NamedTuple):
    """A device and why it was chosen."""

    device: torch.device
    reason: str


class ChosenProducts(NamedTuple):
    """Whether matrix products are computed in bfloat16, and why."""

    bf16: bool
    reason: str


class ChosenDtype(NamedTuple):
    """A dtype for the weights and why it was chosen."""

    dtype: torch.dtype
    reason: str


def choose_device(requested: Device = "auto") -> ChosenDevice:
    """Return the device that a run uses: a CUDA device if there is one.

    Raises:
        UsageError: ``cuda`` was requested and there is none.
    """
    import torch

    available = torch.cuda.is_available()
    if requested == "cuda" and not available:
        raise UsageError("--device cuda: torch sees no CUDA device here; use --device cpu")
    if requested != "auto":
        return ChosenDevice(torch.device(requested), "asked for")
    if available:
        return ChosenDevice(torch.device("cuda"), f"torch sees {torch.cuda.get_device_name()}")
    return ChosenDevice(torch.device("cpu"), "torch sees no CUDA device")


def choose_dtype(device: torch.device, requested: DtypeName = "auto") -> ChosenDtype:
    """Return the dtype of the weights: bfloat16 on a CUDA device, float32 elsewhere.

    >>> import torch
    >>> choose_dtype(torch.device("cpu"))
    ChosenDtype(dtype=torch.float32, reason='exact, and fast on every cpu')
    """
    import torch

    if requested != "auto":
        return ChosenDtype(getattr(torch, requested), "asked for")
    if device.type == "cuda":
        return ChosenDtype(torch.bfloat16, "half the memory, and the dtype that models are published in")
    return ChosenDtype(torch.float32, f"exact, and fast on every {device.type}")


def choose_products(device: torch.device, requested: bool | None = None) -> ChosenProducts:
    """Return whether matrix products run in bfloat16: where the device has instructions for it.

    Without them such products take several times as long as in float32 (docs/log.md).

    >>> import torch
    >>> choose_products(torch.device("cpu"), False)
    ChosenProducts(bf16=False, reason='asked for')
    """
    import torch

    if requested is not None:
        return ChosenProducts(requested, "asked for")
    if device.type == "cuda":
        supported, what = torch.cuda.is_bf16_supported(including_emulation=False), "the GPU"
    else:
        supported = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        what = "the processor"
    has = "has" if supported else "has no"
    return ChosenProducts(supported, f"{what} {has} instructions for bfloat16")
