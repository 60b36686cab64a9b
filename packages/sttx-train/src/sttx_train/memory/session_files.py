"""The folder of a session: tokens, states and digests, in a checkpoint that is verified byte by byte.

It holds the memory as it is and as it was when the current window began. The cache of the base is not saved:
the calls of the window are run again when a session is loaded. They must lead to the saved memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import torch
from msgspec import Meta
from torch import Tensor

from sttx_core.errors import CheckpointError
from sttx_core.saved_state import Count, Positive, Sha256, State, checked, damaged
from sttx_train.checkpoint import CheckpointStore
from sttx_train.memory.attached import AttachedMemory
from sttx_train.memory.session import OnlineMemorySession, Seen
from sttx_train.saved_tensors import check_tensors

if TYPE_CHECKING:
    from sttx_train.checkpoint import Checkpoint

VERSION = 1
_KIND = "memory-session"
_TOLERANCE = 0.05  # of the largest number of a tensor; another processor rounds bfloat16 otherwise
_Id = Annotated[int, Meta(ge=0, le=2**31)]


class _Session(State):
    ids: list[_Id]
    ends: list[Positive]
    written: Count
    first: Count
    context: list[_Id]
    calls: list[tuple[Positive, bool]]


class _Manifest(msgspec.Struct):
    kind: Literal["memory-session"]
    session_version: Count
    base_sha256: Sha256
    adapter_sha256: Sha256
    session_config: dict[str, Any]


def save_session(session: OnlineMemorySession, folder: Path) -> None:
    """Save a session, as `OnlineMemorySession.save`."""
    store = CheckpointStore(folder, keep=1)
    tensors, document = session_parts(session)
    store.save(
        (store.last_step() or 0) + 1,
        tensors={name: group for name, group in tensors.items() if group},
        documents={"session": document},
        manifest=_identity(session),
    )


def session_parts(session: OnlineMemorySession) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Return a session as the tensors of the groups ``state`` and ``window``, and as a document."""
    seen = session.seen
    document = {
        "ids": session.ids,
        "ends": session.ends,
        "written": session.written,
        "first": seen.first,
        "context": seen.context,
        "calls": seen.calls,
    }
    return {"state": session.memory.state_tensors(), "window": seen.state}, document


def load_session(session: OnlineMemorySession, folder: Path) -> None:
    """Load a session, as `OnlineMemorySession.load`."""
    saved = CheckpointStore(folder).load()
    _check_identity(session, saved, folder)
    load_parts(session, saved.tensors, saved.documents.get("session"))


def load_parts(session: OnlineMemorySession, tensors: Mapping[str, dict[str, Tensor]], document: Any) -> None:
    """Become the session that `session_parts` was given.

    Raises:
        CheckpointError: the parts are damaged, or of another memory; the session keeps what it had.
    """
    saved = checked(_Session, document, "session")
    state = _tensors(tensors, "state", session.memory)
    window = _tensors(tensors, "window", session.memory)
    _check_numbers(session, saved, state, window)
    before = _everything(session)
    try:
        seen = Seen(saved.first, saved.context, saved.calls, window)
        session.replay(saved.ids, saved.ends, saved.written, seen)
        _check_same(session.memory.state_tensors(), state)
        session.memory.load_state_tensors(state)
    except BaseException:
        for name, value in before.items():
            if name != "memory_state":
                setattr(session, name, value)
        session.memory.load_state_tensors(before["memory_state"])
        raise


def _everything(session: OnlineMemorySession) -> dict[str, Any]:
    names = ("ids", "ends", "written", "seen", "cache", "_logits")
    kept = {name: getattr(session, name) for name in names}
    return kept | {"memory_state": session.memory.state_tensors()}


def _identity(session: OnlineMemorySession) -> dict[str, Any]:
    config = session.config
    return {
        "kind": _KIND,
        "session_version": VERSION,
        "base_sha256": session.memory.base_digest(),
        "adapter_sha256": session.memory.adapter_digest(),
        "session_config": {
            "unit": config.unit,
            "window": config.window,
            "overlap": config.overlap,
            "start": session.start,
        },
    }


def _check_identity(session: OnlineMemorySession, saved: Checkpoint, folder: Path) -> None:
    if saved.manifest.get("kind") != _KIND:
        raise CheckpointError(f"{str(folder)!r} is not the folder of a session with a memory: give another")
    manifest = checked(_Manifest, saved.manifest, "session")
    if manifest.session_version != VERSION:
        raise CheckpointError(
            f"the session in {str(folder)!r} has version {manifest.session_version}, and this sttx reads "
            f"{VERSION}: update sttx, or start another session"
        )
    now = _identity(session)
    for name, what in (("base_sha256", "base"), ("adapter_sha256", "adapter, or with another config")):
        if saved.manifest[name] != now[name]:
            raise CheckpointError(
                f"the session in {str(folder)!r} was saved with another {what}: give the one it was saved "
                "with, or start another session"
            )
    if manifest.session_config != now["session_config"]:
        raise CheckpointError(
            f"the session in {str(folder)!r} was saved with {manifest.session_config!r}, not "
            f"{now['session_config']!r}: give the same options, or start another session"
        )


def _tensors(saved: Mapping[str, dict[str, Tensor]], name: str, memory: AttachedMemory) -> dict[str, Tensor]:
    group = saved.get(name, {})
    if group:
        check_tensors(f"{name}.safetensors", group, memory.empty_tensors(1))
    return group


def _check_numbers(
    session: OnlineMemorySession, saved: _Session, state: dict[str, Tensor], window: dict[str, Tensor]
) -> None:
    """Check that a session's numbers fit one another, so that its calls can be run again."""
    config, size = session.config, session.vocabulary_size
    cut = session.memory.config.cut
    overlap = saved.ids[max(saved.first - config.overlap, 0) : saved.first]
    for holds, reason in (
        (all(token < size for token in saved.ids), f"it has an id that is not below {size}"),
        (saved.ends == sorted(set(saved.ends)), "the ends of its messages do not increase"),
        (not saved.ends or saved.ends[-1] <= len(saved.ids), "a message ends after the last token"),
        (saved.first <= saved.written <= len(saved.ids), "it has written more than there is"),
        (
            sum(length for length, _ in saved.calls) == saved.written - saved.first,
            "its calls are not what it has written",
        ),
        (saved.context in ([], [*session.start, *overlap]), "its window begins with other tokens"),
        (len(saved.context) + saved.written - saved.first <= config.window, "its window is too long"),
        (not any(block for _, block in saved.calls) or cut == "block", "it has blocks, and this memory none"),
        (bool(state) == (saved.written > 0), "its memory is missing, or should be empty"),
        (bool(window) == (saved.first > 0), "the memory of its window is missing, or should be empty"),
    ):
        if not holds:
            raise damaged("session", reason)
    for group, written in ((state, saved.written), (window, saved.first)):
        for name, counts in group.items():
            if name.endswith(".counts") and not _are_counts(counts, written):
                raise damaged("session", f"{name!r} does not count {written} tokens")


def _are_counts(counts_BN: Tensor, written: int) -> bool:
    used = int((counts_BN > 0).sum())
    return (
        bool((counts_BN[:, :used] > 0).all() and (counts_BN >= 0).all()) and int(counts_BN.sum()) == written
    )


def _check_same(now: dict[str, Tensor], saved: dict[str, Tensor]) -> None:
    """Check that the calls of the window led to the saved memory, except for rounding."""
    for name, tensor in saved.items():
        other = now[name]
        exact = not tensor.is_floating_point()
        room = 0.0 if exact else _TOLERANCE * float(tensor.abs().max())
        if not bool(((other.to(torch.float64) - tensor.to(torch.float64)).abs() <= room).all()):
            raise damaged("session", f"{name!r} is not what this base writes of its last window")
