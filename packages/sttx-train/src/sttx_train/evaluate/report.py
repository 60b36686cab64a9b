"""The results of an evaluation as one JSON-able report: per arm, session, kind and time. Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sttx_train.evaluate.arms import ARMS
from sttx_train.evaluate.controls import CONTROLS
from sttx_train.evaluate.general import general_text
from sttx_train.evaluate.intervals import interval
from sttx_train.evaluate.jobs import Outcome
from sttx_train.evaluate.sentences import sentences
from sttx_train.evaluate.stream_text import StreamText
from sttx_train.formats import LoadedModel
from sttx_train.predict.learned import Learned

PARTS = 10  # of the stream, by bytes
_DIFFERENCES = (("paid", "experts"), ("network", "frozen"))
_HOW = (("network", "network_T"), ("paid", "bits_T"))  # the state alone, and beside experts
_LEARNED = ("network", "paid")  # arms whose network has learned in the usual way


@dataclass(frozen=True, kw_only=True)
class Found:
    """What an evaluation found.

    Attributes:
        text: the stream.
        arms: names of the arms that were asked for.
        outcomes: of every job, by name.
        donor: whose state the donor's control is; None without a tuned state.
        early: how many sessions the state for transfer was tuned from; None without transfer.
        general_frozen: bits per byte of the general text under the frozen network.
        seen: sessions that the checkpoint carries.
        model: the model.
        learned: what was learned.
    """

    text: StreamText
    arms: tuple[str, ...]
    outcomes: Mapping[str, Outcome]
    donor: str | None
    early: int | None
    general_frozen: float
    seen: int
    model: LoadedModel
    learned: Learned | None


def make_report(found: Found) -> dict[str, Any]:
    """Return the whole report, with its sentences."""
    text = found.text
    arms = {name: found.outcomes[name] for name in found.arms}
    report = {
        "model": {"id": found.model.id, "sha256": found.model.sha256},
        "learned": str(found.learned.path) if found.learned else None,
        "seen_sessions": found.seen,
        "bytes": int(text.bytes_T.sum()),
        "tokens": len(text.bytes_T),
        "arms": {name: _arm(name, outcome, text) for name, outcome in arms.items()},
        "differences": _differences(arms, text),
        "sessions": _sessions(arms, text),
        "kinds": _kinds(arms, text),
        "time": _time(arms, text),
        "donor": found.donor,
        "state": _state(found) if found.donor is not None else None,
        "controls": _controls(found) if found.donor is not None else None,
        "forgetting": _forgetting(found),
        "transfer": _transfer(found),
        "warnings": list(dict.fromkeys(w for outcome in found.outcomes.values() for w in outcome.warnings)),
    }
    return report | {"sentences": sentences(report)}


def _arm(name: str, outcome: Outcome, text: StreamText) -> dict[str, Any]:
    size = int(text.bytes_T.sum())
    return {
        "what": ARMS[name].what,
        "bpb": outcome.bits / size,
        "bits": outcome.bits,
        "interval": _interval(outcome.bits_T, text),
        "seconds": outcome.seconds,
        "steps_per_byte": outcome.steps / size,
        "memory_mb": outcome.memory / 1e6,
        "general_bpb": outcome.general / len(general_text().encode()) if ARMS[name].learns else None,
    }


def _differences(arms: Mapping[str, Outcome], text: StreamText) -> dict[str, Any]:
    return {
        f"{one}-{other}": _difference(arms[one].bits_T - arms[other].bits_T, text)
        for one, other in _DIFFERENCES
        if one in arms and other in arms
    }


def _difference(bits_T: np.ndarray, text: StreamText) -> dict[str, Any]:
    return {"bpb": float(bits_T.sum() / text.bytes_T.sum()), "interval": _interval(bits_T, text)}


def _interval(bits_T: np.ndarray, text: StreamText) -> list[float] | None:
    return interval(*_by(text.session_T, len(text.sessions), bits_T, text.bytes_T))


def _by(groups_T: np.ndarray, count: int, *values_T: np.ndarray) -> list[np.ndarray]:
    """Return the sum over each group of tokens of each of some values."""
    return [np.bincount(groups_T, weights=values, minlength=count) for values in values_T]


def _rows(groups_T: np.ndarray, count: int, arms: Mapping[str, Outcome], text: StreamText) -> list[Any]:
    """Return bytes and bits per byte of each group of tokens."""
    [sizes] = _by(groups_T, count, text.bytes_T)
    bits = dict(zip(arms, _by(groups_T, count, *(arm.bits_T for arm in arms.values())), strict=True))
    return [
        {
            "bytes": int(sizes[group]),
            "bpb": {
                name: float(b[group] / sizes[group]) if sizes[group] else None for name, b in bits.items()
            },
        }
        for group in range(count)
    ]


def _sessions(arms: Mapping[str, Outcome], text: StreamText) -> list[dict[str, Any]]:
    rows = _rows(text.session_T, len(text.sessions), arms, text)
    return [{"session": name} | row for name, row in zip(text.sessions, rows, strict=True)]


def _kinds(arms: Mapping[str, Outcome], text: StreamText) -> list[dict[str, Any]]:
    """Return a row for each type of trace and tool, the one with most bytes first."""
    rows = _rows(text.kind_T, len(text.kinds), arms, text)
    named = [{"type": kind, "tool": tool} | row for (kind, tool), row in zip(text.kinds, rows, strict=True)]
    return sorted(named, key=lambda row: -row["bytes"])


def _time(arms: Mapping[str, Outcome], text: StreamText) -> list[dict[str, Any]]:
    before_T = np.cumsum(text.bytes_T) - text.bytes_T
    part_T = np.minimum(before_T * PARTS // text.bytes_T.sum(), PARTS - 1)
    return _rows(part_T, PARTS, arms, text)


def _state(found: Found) -> dict[str, float]:
    """Return what the tuned state pays, alone and beside experts."""
    outcome, size = found.outcomes["paid"], found.text.bytes_T.sum()
    return {how: float(getattr(outcome, field).sum() / size) for how, field in _HOW}


def _controls(found: Found) -> dict[str, Any]:
    """Return what each control pays, and by how much the state is ahead of it."""
    text, state, size = found.text, found.outcomes["paid"], found.text.bytes_T.sum()
    controls = {}
    for name, what in CONTROLS.items():
        outcome = found.outcomes[name]
        controls[name] = {"what": what}
        for how, field in _HOW:
            bits_T = getattr(outcome, field)
            lead = _difference(bits_T - getattr(state, field), text)
            controls[name][how] = {
                "bpb": float(bits_T.sum() / size),
                "lead": lead["bpb"],
                "interval": lead["interval"],
            }
    return controls


def _forgetting(found: Found) -> dict[str, Any]:
    size, arms = len(general_text().encode()), found.outcomes
    learned = [arms[name].general / size for name in _LEARNED if name in arms]
    return {
        "bytes": size,
        "frozen": found.general_frozen,
        "learned": learned[0] if learned else None,
        **{name: arms[name].general_paid / size if name in arms else None for name in ("experts", "paid")},
    }


def _transfer(found: Found) -> dict[str, Any] | None:
    if found.early is None:
        return None
    text, outcome = found.text, found.outcomes["transfer"]
    late_T = text.session_T >= found.early
    sizes_T, sessions_T = text.bytes_T[late_T], text.session_T[late_T] - found.early
    size = float(sizes_T.sum())
    count = len(text.sessions) - found.early
    gained_T = outcome.frozen_T - outcome.bits_T
    return {
        "tuned_on": found.early,
        "sessions": count,
        "bytes": int(size),
        "tuned": float(outcome.bits_T.sum() / size) if size else None,
        "frozen": float(outcome.frozen_T.sum() / size) if size else None,
        "lead": float(gained_T.sum() / size) if size else None,
        "interval": interval(*_by(sessions_T, count, gained_T, sizes_T)),
    }
