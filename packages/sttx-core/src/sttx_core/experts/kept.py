"""Compiles a function once for all processes: its machine code is kept on the disk if possible."""

import warnings
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from numba import njit

from sttx_core.errors import SttxWarning

_NOT_KEPT = (
    "compiled code cannot be kept, so every process compiles again, which takes half a minute: no folder for "
    "it is writable; set NUMBA_CACHE_DIR to one that is"
)


def digest_of(*files: str | Path) -> int:
    """Return a number, not 0, that changes with the contents of source files.

    Numba keeps a compiled function while the function's own file is unchanged, even if a function that it
    calls from another file has changed. A function that closes over this number is compiled again.
    """
    sources = b"".join(Path(path).read_bytes() for path in files)
    return int.from_bytes(blake2b(sources, digest_size=7).digest()) | 1


def compiled_once(function: Callable[..., Any], *, reorder: bool = False) -> Any:
    """Return a function that compiles itself when it is first called, and runs without Python's lock.

    Args:
        function: what to compile.
        reorder: let the compiler split sums and fuse products into them, which other processors may do
            otherwise. By default every operation is rounded as written.

    Warns:
        SttxWarning: neither the folder of its file nor the user's cache is writable.
    """
    options: dict[str, Any] = {"nogil": True}
    if reorder:
        options["fastmath"] = {"reassoc", "contract", "nsz"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        warnings.warn(_NOT_KEPT, SttxWarning, stacklevel=2)
        return njit(**options)(function)


def is_kept(compiled: Any) -> bool:
    """Return whether a function of `compiled_once` is compiled already: in this process, or on the disk.

    Numba does not say so; this reads its index, and returns False where it does not know how to.
    """
    if compiled.signatures:
        return True
    try:
        cache = compiled._cache
        wanted = cache._index_key(None, compiled.targetctx.codegen())[1:]
        return any(key[1:] == wanted for key in cache._cache_file._load_index())
    except AttributeError:  # another version of numba, or a function that is not kept
        return False
