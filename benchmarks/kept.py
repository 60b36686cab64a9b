"""Keeps what a benchmark has computed, by digests of what it was computed from. Does not know what that is.

Names say nothing of contents: a session grows, code is changed, weights are replaced. So a file is found
again only if the sources, the code, the weights and the options are the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from sttx_core.own_files import write_own


def kept(folder: Path | None, make: Callable[[], Any], *parts: object) -> Any:
    """Return what ``make`` returns, from a file of the folder if it was made of the same parts.

    Args:
        folder: where it is kept; None to make it each time.
        make: makes it; JSON.
        parts: what it is made of: digests, and options with a plain `repr`.
    """
    if folder is None:
        return make()
    file = folder / f"{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}.json"
    if not file.exists():
        write_own(file, json.dumps(make()).encode())
    return json.loads(file.read_text(encoding="utf-8"))


def digest(*paths: Path) -> str:
    """Return a digest of the contents of files, and of all files below folders, with their names there.

    What Python and numba write while code runs (`__pycache__`) does not count.
    """
    total = hashlib.sha256()
    for path in paths:
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        for file in files:
            if "__pycache__" not in file.parts:
                total.update(repr((str(file.relative_to(path)), file.stat().st_size)).encode())
                total.update(file.read_bytes())
    return total.hexdigest()


def code_digest(*modules: ModuleType) -> str:
    """Return a digest of the source of modules and of all that packages hold."""
    files = [Path(module.__file__ or "") for module in modules]
    return digest(*(file.parent if file.stem == "__init__" else file for file in files))
