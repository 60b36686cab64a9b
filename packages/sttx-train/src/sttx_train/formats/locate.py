"""Which folder or file a model name means: a path, the embedded model or an id of the hub. Loads no torch."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sttx_core.errors import ModelError, UsageError

EMBEDDED = "goose-mini"
"""Name of the model that comes with this package."""

STATE_SUFFIXES = (".safetensors", ".pth", ".st")
"""Suffixes of tuned states: ours, that of RWKV programs in Python, and that of web-rwkv programs."""

_EMBEDDED_FOLDER = Path(__file__).parents[1] / "models" / EMBEDDED
_HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:/((?:\w[\w.-]*/)*\w[\w.-]*\.(?:pth|safetensors)))?")


def locate_model(spec: str | os.PathLike[str] | None) -> tuple[str, Path]:
    """Return a model's name and its folder or file; one of Hugging Face's hub is downloaded first.

    Args:
        spec: a path, ``goose-mini`` or None, an id of the hub, or an id and a file, ``ORG/NAME/FILE.pth``.

    Raises:
        UsageError: nothing is at the path and it is not an id of the hub, or it is a pipe or a device.
        ModelError: the download failed, the hub has no such file, or the embedded model is not installed.
    """
    if spec is None or spec == EMBEDDED:
        if not _EMBEDDED_FOLDER.is_dir():
            raise ModelError(
                f"the embedded model {EMBEDDED!r} is not installed: install sttx-train again, or name a model"
            )
        return EMBEDDED, _EMBEDDED_FOLDER
    path = Path(spec)
    if path.exists():
        if not path.is_dir() and not path.is_file():
            raise UsageError(f"{str(path)!r} is a pipe, a device or a socket: give a model's folder or file")
        name = path.resolve().name
        return name if path.is_dir() else path.stem, path
    if isinstance(spec, str) and (named := _HUB_ID.fullmatch(spec)):
        return spec, _download(named[1], named[2])
    raise UsageError(f"no model at {str(spec)!r}: give a folder, a .pth, an id of the hub, or {EMBEDDED!r}")


def _download(hub_id: str, file: str | None) -> Path:
    """Return the folder of a repository of the hub with all it has of a model, or one file of it."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        wanted = [file or "*.safetensors", "*.json", "*.txt"]
        folder = Path(snapshot_download(hub_id, allow_patterns=wanted))
    except (OSError, ValueError, HfHubHTTPError, OfflineModeIsEnabled) as error:
        reason = str(error).strip().split("\n")[0]
        name = f"{hub_id}/{file}" if file else hub_id
        raise ModelError(
            f"no model at {name!r} here, and it cannot be downloaded from the Hugging Face hub ({reason}): "
            "check the name and the connection, or give a local folder"
        ) from error
    if file is None and not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{hub_id!r} has no .safetensors on the Hugging Face hub: name one of its other files, such as "
            f"{hub_id}/NAME.pth"
        )
    if file is not None and not (folder / file).is_file():
        raise ModelError(f"{hub_id!r} has no file {file!r} on the Hugging Face hub: check the name")
    return folder / file if file else folder
