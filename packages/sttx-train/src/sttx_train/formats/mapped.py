"""A file of tensors mapped into memory: views of its bytes, read when they are first used. Knows no format.

The pages are the file's: processes share them, and the system may drop them and read them again. A view may
be written to; it then gets pages of its own, and the file stays as it is. The file must not be overwritten
in place while it is mapped. Replacing it by renaming does no harm.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NamedTuple

from sttx_core.errors import ModelError
from sttx_core.foreign_files import open_regular
from sttx_core.os_errors import explain
from sttx_train.formats.tensorinfo import AnyTensor

if TYPE_CHECKING:
    from torch import Tensor


class MappedFile:
    """The bytes of a file, as long as a view of them is in use.

    Args:
        path: the file, of at least one byte.

    Raises:
        ModelError: it cannot be read, or is larger than what this machine can map.
    """

    def __init__(self, path: Path) -> None:
        try:
            with open_regular(path) as file:
                size = file.seek(0, 2)
                try:
                    self._bytes = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
                except OSError as error:
                    raise ModelError(
                        f"{str(path)!r} has {size:,} bytes, which this machine cannot map into its memory: "
                        "download it again, or use a machine with more memory"
                    ) from error
        except OSError as error:
            raise ModelError(f"cannot read {str(path)!r}: {explain(error)}") from error

    def view(self, start: int, size: int) -> Tensor:
        """Return ``size`` bytes from ``start`` on as uint8, with a storage of exactly these bytes."""
        import torch

        if not size:
            return torch.empty(0, dtype=torch.uint8)
        return torch.frombuffer(self._bytes, dtype=torch.uint8, count=size, offset=start)

    def release(self) -> None:
        """Let the system drop the pages that were read; they are read again when they are used again.

        Whatever was written to a view is lost, so call it only while nothing has been.
        """
        if hasattr(self._bytes, "madvise"):  # Windows has none
            self._bytes.madvise(mmap.MADV_DONTNEED)


class Mapped(NamedTuple, Generic[AnyTensor]):
    """The tensors of files, and the files that are mapped; none if only shapes were read."""

    tensors: dict[str, AnyTensor]
    files: tuple[MappedFile, ...] = ()
