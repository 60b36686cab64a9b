"""Which device and number type a run takes, and why. Knows no model."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch

from sttx_core.errors import UsageError

Device = Literal["auto", "cpu", "cuda"]
DtypeName = Literal["auto", "float32", "bfloat16"]


class ChosenDevice(NamedTuple):
    """A device and why it was chosen."""

    device: torch.device
    reason: str


class ChosenDtype(NamedTuple):
    """A number type for the weights and why it was chosen."""

    dtype: torch.dtype
    reason: str


def choose_device(requested: Device = "auto") -> ChosenDevice:
    """Say which device a run takes: a CUDA device where there is one.

    Raises:
        UsageError: ``cuda`` was asked for and is not there.
    """
    there = torch.cuda.is_available()
    if requested == "cuda" and not there:
        raise UsageError("--device cuda: torch sees no CUDA device here; use --device cpu")
    if requested != "auto":
        return ChosenDevice(torch.device(requested), "asked for")
    if there:
        return ChosenDevice(torch.device("cuda"), f"torch sees {torch.cuda.get_device_name()}")
    return ChosenDevice(torch.device("cpu"), "torch sees no CUDA device")


def choose_dtype(device: torch.device, requested: DtypeName = "auto") -> ChosenDtype:
    """Say in which number type the weights are held: half the memory where the device is made for it.

    >>> choose_dtype(torch.device("cpu"))
    ChosenDtype(dtype=torch.float32, reason='exact, and fastest on a cpu')
    """
    if requested != "auto":
        return ChosenDtype(getattr(torch, requested), "asked for")
    if device.type == "cuda":
        return ChosenDtype(torch.bfloat16, "half the memory, and the type that models are published in")
    return ChosenDtype(torch.float32, f"exact, and fastest on a {device.type}")
