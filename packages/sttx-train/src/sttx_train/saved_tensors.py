"""Checks saved tensors before they are used: names, shapes, dtypes, and that every number is finite.

Knows no model and no file. PyTorch itself would broadcast a tensor of another shape in silence.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from sttx_core.foreign_files import shown
from sttx_core.saved_state import damaged

_OF_NUMPY = (
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.float32, torch.float64),
)
_NOT_NEGATIVE = ("step", "exp_avg_sq")
_MOMENTS = ("exp_avg", "exp_avg_sq")


def check_tensors(what: str, saved: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Check that tensors can replace others.

    Args:
        what: the file that holds them, for messages.
        saved: the tensors by name.
        expected: tensors of the names, shapes and dtypes that they must have; their values do not count.

    Raises:
        CheckpointError: names the first tensor that is missing, extra, of another shape or dtype, or not
            finite.
    """
    check_names(what, saved, expected)
    for name, like in expected.items():
        check_tensor(what, name, saved[name], like.shape, (like.dtype,))


def check_names(what: str, saved: Collection[str], expected: Collection[str]) -> None:
    """Check that tensors have the expected names and no others."""
    if missing := sorted(set(expected) - set(saved)):
        raise damaged(f"file {what!r}", f"it has no tensor {missing[0]!r}")
    if extra := sorted(set(saved) - set(expected)):
        raise damaged(f"file {what!r}", f"it has a tensor {shown(extra[0])}, which belongs to nothing")


def check_tensor(
    what: str, name: str, saved: Tensor, shape: Sequence[int], dtypes: Collection[torch.dtype]
) -> None:
    """Check one tensor.

    Raises:
        CheckpointError: it has another shape or dtype, or a number in it is not finite.
    """
    if tuple(saved.shape) != tuple(shape) or saved.dtype not in dtypes:
        dtype, wanted = (str(one).removeprefix("torch.") for one in (saved.dtype, next(iter(dtypes))))
        raise damaged(
            f"file {what!r}",
            f"{name!r} is {dtype} {list(saved.shape)}, and this run needs {wanted} {list(shape)}",
        )
    if saved.is_floating_point() and not bool(saved.isfinite().all()):
        raise damaged(f"file {what!r}", f"{name!r} holds a number that is not finite")


def as_arrays(what: str, saved: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return tensors as arrays of the same memory.

    Raises:
        CheckpointError: one has a dtype that numpy lacks.
    """
    for name, tensor in saved.items():
        if tensor.dtype not in _OF_NUMPY:
            raise damaged(what, f"{shown(name)} has the dtype {tensor.dtype}")
    return {name: tensor.numpy() for name, tensor in saved.items()}


def as_tensor(array: np.ndarray) -> Tensor:
    """Return an array as a tensor of the same memory; unsigned 64-bit numbers as the same bits with sign."""
    return torch.from_numpy(array.view(np.int64) if array.dtype == np.uint64 else array)


def typed(what: str, name: str, values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return what `as_tensor` was given, of the array that its tensor became.

    Raises:
        CheckpointError: it has another dtype.
    """
    saved = np.dtype(np.int64) if dtype == np.uint64 else dtype
    if values.dtype != saved:
        raise damaged(what, f"{name!r} is {values.dtype}, expected {saved}")
    return values.view(dtype)


def check_moments(what: str, saved: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter]) -> None:
    """Check the tensors of AdamW, by ``parameter/moment``: all three of a parameter, or none.

    Raises:
        CheckpointError: names the first that does not fit.
    """
    known = {path.rpartition("/")[0] for path in saved} & set(parameters)
    check_names(what, saved, [f"{name}/{moment}" for name in known for moment in ("step", *_MOMENTS)])
    for name in sorted(known):
        parameter = parameters[name]
        step = f"{name}/step"
        check_tensor(what, step, saved[step], (), (torch.float32, torch.float64))
        for moment in _MOMENTS:
            path = f"{name}/{moment}"
            check_tensor(what, path, saved[path], parameter.shape, (parameter.dtype,))
        for moment in _NOT_NEGATIVE:
            if bool((saved[f"{name}/{moment}"] < 0).any()):
                raise damaged(f"file {what!r}", f"{name + '/' + moment!r} holds a number below 0")
