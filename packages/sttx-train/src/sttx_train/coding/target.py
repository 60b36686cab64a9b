"""What `compress` takes: options and files, checked before anything is loaded or compiled."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sttx_core.errors import UsageError
from sttx_core.foreign_files import open_regular
from sttx_train.checkpoint.store import CheckpointStore
from sttx_train.coding.container import BLOCK_BYTES, is_inside
from sttx_train.coding.forms import sizes
from sttx_train.coding.header import CODERS
from sttx_train.coding.method import Method


@dataclass(frozen=True, kw_only=True)
class CompressConfig:
    """How an archive is written.

    Attributes:
        coder: entropy coder, ac (arithmetic) or rans.
        segment_mb: most megabytes of files that share one memory. More makes a smaller archive, fewer let one
            file of it be read sooner.
    """

    coder: str = "ac"
    segment_mb: float = 4.0

    def __post_init__(self) -> None:
        if self.coder not in CODERS:
            raise UsageError(f"coder must be {' or '.join(CODERS)}, not {self.coder!r}")
        if not 0 <= self.segment_mb <= 1e6:
            raise UsageError(f"segment_mb must be from 0 to 1,000,000, not {self.segment_mb}")


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file to compress.

    Attributes:
        name: its name in the archive, with / between folders.
        path: where it is; None for standard input.
    """

    name: str
    path: Path | None


def check_target(
    out: Path | BinaryIO,
    method: Method,
    members: Sequence[Member],
    config: CompressConfig,
    *,
    resume: bool = False,
    save_learned: Path | None = None,
) -> None:
    """Check the arguments of `compress`, before anything is loaded.

    Raises:
        UsageError: it would refuse them.
    """
    if isinstance(out, Path):
        check_out(out, resume=resume)
    _check_percentages(method, members)
    names: set[str] = set()
    for member in members:
        check_name(member.name, names)
    if save_learned is not None:
        if method.learns is None:
            raise UsageError("--save-learned would keep nothing: no network learns; give --profile native")
        CheckpointStore(save_learned).expect(run=False)


def check_out(out: Path, *, resume: bool) -> None:
    """Check that an archive can be made, or be continued.

    Raises:
        UsageError: it cannot.
    """
    if resume != os.path.lexists(out):
        raise UsageError(
            f"there is no archive {str(out)!r} to continue: leave out --resume"
            if resume
            else f"{str(out)!r} exists: name another archive, remove it, or continue it by --resume"
        )
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder {str(out.parent)!r} for the archive: make it, or name another")


def _check_percentages(method: Method, members: Sequence[Member]) -> None:
    percent = method.policy is not None and method.policy.percent
    if percent and any(member.path is None for member in members):
        raise UsageError("the policy's percentages need files of known size: give positions in bytes")


def in_bytes(method: Method, members: Sequence[Member], config: CompressConfig) -> Method:
    """Return a method whose policy has no percentages: they are of all text, or of a segment's if it is less.

    Text is what is coded of the files: JSON lines become less, so they are taken apart to measure it.

    Raises:
        UsageError: there are some, and the size of a file is unknown.
    """
    if method.policy is None or not method.policy.percent:
        return method
    _check_percentages(method, members)
    size = text = 0
    for path in [member.path for member in members if member.path is not None]:
        with open_regular(path) as file:
            read, coded = sizes(iter(lambda file=file: file.read(BLOCK_BYTES), b""))
        size, text = size + read, text + coded
    segment = int(config.segment_mb * 1e6)
    return method.in_bytes(text * segment // size if 0 < segment < size else text)


def check_name(name: str, names: set[str]) -> None:
    """Check the name of a file, and add it to the names.

    Raises:
        UsageError: a file in an archive cannot have it, or there is one of this name.
    """
    if not is_inside(name):
        raise UsageError(f"a file in an archive cannot have the name {name!r}: rename it")
    if name in names:
        raise UsageError(f"two files would have the name {name!r} in the archive: name a folder above both")
    names.add(name)
