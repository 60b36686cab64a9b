"""What all commands that serve share: the keys that requests need, and the packages."""

from importlib.util import find_spec
from pathlib import Path

import click

from sttx_cli.options import PathName
from sttx_core.errors import UsageError

_NEEDED = ("fastapi", "uvicorn", "prometheus_client")

api_key_option = click.option(
    "--api-key-file",
    type=PathName(path_type=Path, exists=True, dir_okay=False),
    default=None,
    metavar="FILE",
    help="A file of keys, one a line; each request must then have one of them.",
)


def require_serving() -> None:
    """Refuse to serve without the packages for it.

    Raises:
        UsageError: One is missing.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise UsageError(f"serving needs {missing[0]}: install 'sttx-train[serve]'")


def api_keys(path: Path | None) -> list[str]:
    """Return the keys in a file.

    Raises:
        UsageError: It has none, or one that cannot be sent in a header.
    """
    if path is None:
        return []
    keys = path.read_text("utf-8", errors="replace").split()
    if not keys:
        raise UsageError(f"--api-key-file {str(path)!r} has no key: write one on each line")
    if not all(key.isascii() and key.isprintable() for key in keys):
        raise UsageError(f"--api-key-file {str(path)!r} has a key that is not of ASCII letters and signs")
    return keys
