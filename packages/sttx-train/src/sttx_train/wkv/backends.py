"""The kernels of the wkv recurrence by name, and which one runs where. Loads no torch by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from sttx_core.errors import UsageError

if TYPE_CHECKING:
    import torch

Backend = Literal["auto", "recurrent", "chunked", "fla"]
BACKENDS: tuple[Backend, ...] = ("auto", "recurrent", "chunked", "fla")


class KernelChoice(NamedTuple):
    """A kernel and why it was chosen."""

    backend: Backend
    reason: str


def choose_backend(device: torch.device, requested: Backend = "auto") -> KernelChoice:
    """Return the kernel that runs on a device, and the reason.

    fla is imported only if ``auto`` is requested on a CUDA device.

    Raises:
        UsageError: the requested kernel cannot run on the device.

    >>> import torch
    >>> choose_backend(torch.device("cpu")).reason
    'cpu: plain torch in chunks is the fastest with gradients; without, compiled ones take its place'
    """
    if requested == "fla" and device.type != "cuda":
        raise UsageError(f"kernel 'fla' needs a CUDA device, not {device.type!r}; use --kernel chunked")
    if requested != "auto":
        return KernelChoice(requested, "asked for")
    if device.type != "cuda":
        without = "; without, compiled ones take its place" if device.type == "cpu" else ""
        return KernelChoice(
            "chunked", f"{device.type}: plain torch in chunks is the fastest with gradients{without}"
        )
    try:
        import fla.ops.rwkv7  # noqa: F401
    except ImportError as error:
        return KernelChoice("chunked", f"cuda, but flash-linear-attention cannot be imported ({error})")
    return KernelChoice("fla", "cuda: fused Triton kernels of flash-linear-attention")
