"""The kernels of the wkv recurrence by name, and which one runs where. Loads no torch by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from sttx_core.errors import UsageError

if TYPE_CHECKING:
    import torch

Backend = Literal["auto", "recurrent", "chunked", "compiled", "fla"]
BACKENDS: tuple[Backend, ...] = ("auto", "recurrent", "chunked", "compiled", "fla")

_COMPILED = ("cpu", "meta")  # tensors without values run nothing


class KernelChoice(NamedTuple):
    """A kernel and why it was chosen."""

    backend: Backend
    reason: str


def choose_backend(device: torch.device, requested: Backend = "auto", *, plain: bool = True) -> KernelChoice:
    """Return the kernel that runs on a device, and the reason.

    fla is imported only if ``auto`` is requested on a CUDA device.

    Args:
        device: where it runs.
        requested: the kernel that was asked for.
        plain: whether the recurrence is the architecture's own; inner steps with a momentum or a batch are
            not.

    Raises:
        UsageError: the requested kernel cannot run on the device, or cannot compute the recurrence.

    >>> import torch
    >>> choose_backend(torch.device("cpu")).reason
    'cpu: the compiled kernel is the fastest'
    """
    if requested == "fla" and device.type != "cuda":
        raise UsageError(f"kernel 'fla' needs a CUDA device, not {device.type!r}; use --kernel auto")
    if requested == "compiled" and device.type not in _COMPILED:
        raise UsageError(f"kernel 'compiled' needs a CPU, not {device.type!r}; use --kernel auto")
    if not plain and requested in ("compiled", "fla"):
        raise UsageError(
            f"kernel {requested!r} cannot compute inner steps with a momentum or a batch; use --kernel auto"
        )
    if requested != "auto":
        return KernelChoice(requested, "asked for")
    if not plain:
        return KernelChoice("chunked", f"{device.type}: it computes inner steps with a momentum or a batch")
    if device.type in _COMPILED:
        return KernelChoice("compiled", f"{device.type}: the compiled kernel is the fastest")
    if device.type != "cuda":
        return KernelChoice("chunked", f"{device.type}: plain torch in chunks is the fastest")
    try:
        import fla.ops.rwkv7  # noqa: F401
    except ImportError as error:
        return KernelChoice("chunked", f"cuda, but flash-linear-attention cannot be imported ({error})")
    return KernelChoice("fla", "cuda: fused Triton kernels of flash-linear-attention")
