"""Policies: when to learn, and how, along a stream. Parsed from a text, and printed as the canonical one.

A policy is ``schedule=`` and its phases, separated by ``;``. They follow one another without a gap from 0:

    schedule=0..100000:train(scope=state,lr=0.3);100000..:infer
    schedule=0..10%:train;10%..:repeat(4096:infer,1024:train(stride=2))

A phase is ``START..END:ACTION``; the last one has no END. Positions are bytes of the text that was paid for,
or percentages of the whole. An action is ``infer``, ``train``, ``train(option=value,…)``, or ``repeat(…)``,
which takes turns of so many bytes. ``;load_from=PATH`` at the end names what was learned before. Decides from
positions alone; knows neither tensors nor streams. Loads no torch.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from sttx_core.errors import UsageError
from sttx_train.online.scope import ALIASES, SCOPES, Scope

_HEAD, _LOAD = "schedule=", ";load_from="
_POSITION = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)(%?)")


@dataclass(frozen=True, kw_only=True)
class Train:
    """How to learn. What is None is as the learner's config says.

    Attributes:
        scope: which tensors learn, joined by ``+`` in a text.
        opt: the optimizer, adam or sgd.
        lr: learning rate of the tensors in scope.
        stride: learn from every so many steps only.
        bptt: how many windows gradients reach back.
        clip: maximum norm of the gradient.
        momentum: of sgd, below 1: how much of the last step is added to the next one.
    """

    scope: tuple[Scope, ...] | None = None
    opt: Literal["adam", "sgd"] | None = None
    lr: float | None = None
    stride: int | None = None
    bptt: int | None = None
    clip: float | None = None
    momentum: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("stride", 1), ("bptt", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"a policy's {name} must be at least {least}, not {value}")
        if self.bptt not in (None, 1):
            raise UsageError(f"a policy's bptt is 1: gradients reach back one window, not {self.bptt}")
        for name, right in (("lr", lambda x: x >= 0), ("clip", lambda x: x > 0), ("momentum", _is_share)):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and right(value)):
                raise UsageError(f"a policy's {name} cannot be {value!r}")
        if self.opt not in (None, "adam", "sgd"):
            raise UsageError(f"a policy's opt must be adam or sgd, not {self.opt!r}")
        if self.momentum is not None and self.opt != "sgd":
            raise UsageError("a policy's momentum would have no effect: it goes with opt=sgd")
        if unknown := [name for name in self.scope or () if name not in SCOPES]:
            raise UsageError(f"a policy's scope {unknown[0]!r} is unknown: use {', '.join(SCOPES)}")

    def __str__(self) -> str:
        given = [(field.name, getattr(self, field.name)) for field in fields(self)]
        shown = [f"{name}={_shown(value)}" for name, value in given if value is not None]
        return f"train({','.join(shown)})" if shown else "train"


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One action of a phase.

    Attributes:
        action: how to learn; None to infer, which pays and reads but learns nothing by gradient.
        length: bytes of a turn in a ``repeat``; None for the only action of a phase.
    """

    action: Train | None
    length: int | None = None

    def __str__(self) -> str:
        action = "infer" if self.action is None else str(self.action)
        return action if self.length is None else f"{self.length}:{action}"


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of the stream.

    Attributes:
        start: where it starts, in bytes or percent.
        turns: its action, or those that repeat.
    """

    start: float
    turns: tuple[Turn, ...]

    def action_after(self, size: float) -> Train | None:
        """Return what to do so many bytes after the phase's start."""
        if self.turns[0].length is None:
            return self.turns[0].action
        lengths = [turn.length or 0 for turn in self.turns]
        left = size % sum(lengths)
        for turn, length in zip(self.turns, lengths, strict=True):
            if left < length:
                return turn.action
            left -= length
        raise AssertionError("a position beyond the turns of a phase")


@dataclass(frozen=True, kw_only=True)
class Policy:
    """When to learn, and how; ``str`` gives the canonical text.

    Attributes:
        phases: in order; the first starts at 0.
        percent: whether positions are percentages.
        load_from: where what was learned before is, to continue it; None to start from nothing.
    """

    phases: tuple[Phase, ...]
    percent: bool = False
    load_from: str | None = None

    @classmethod
    def parse(cls, text: str) -> Policy:
        """Read a policy.

        Raises:
            UsageError: it is not one; says where.

        >>> print(Policy.parse("schedule=0..10%: train(lr=.30, scope=bias+state) ;10%..:infer"))
        schedule=0..10%:train(scope=state+bias,lr=0.3);10%..:infer
        """
        schedule, load, path = text.partition(_LOAD)
        if load and not path.strip():
            raise UsageError("a policy's load_from is empty: name a run, a checkpoint or what was exported")
        compact = "".join(schedule.split())
        if not compact.startswith(_HEAD):
            raise UsageError(f"policy {text!r} must start with {_HEAD!r}")
        parts = [_phase(part) for part in _split(compact.removeprefix(_HEAD), ";")]
        percents = {percent for _, _, percent in parts if percent is not None}
        if len(percents) > 1:
            raise UsageError("a policy's positions are all bytes or all percentages: do not mix them")
        end: float | None = 0.0
        for phase, after, _ in parts:
            if end is None or phase.start != end or (after is not None and after <= phase.start):
                raise UsageError(
                    f"a policy's phases follow one another from 0 on: that at {_shown(phase.start)} does not"
                )
            end = after
        percent = True in percents
        if end is not None and not (percent and end == 100):
            raise UsageError("a policy's last phase has no end: write START..:ACTION")
        return cls(
            phases=tuple(phase for phase, _, _ in parts),
            percent=percent and len(parts) > 1,
            load_from=path.strip() if load else None,
        )

    def __str__(self) -> str:
        starts = [self._position(phase.start) for phase in self.phases]
        shown = []
        for phase, start, end in zip(self.phases, starts, [*starts[1:], ""], strict=True):
            turns = ",".join(map(str, phase.turns))
            action = turns if phase.turns[0].length is None else f"repeat({turns})"
            shown.append(f"{start}..{end}:{action}")
        return _HEAD + ";".join(shown) + ("" if self.load_from is None else _LOAD + self.load_from)

    def _position(self, value: float) -> str:
        return _shown(value) + ("%" if self.percent and value else "")

    @property
    def repeats(self) -> bool:
        """Whether a phase takes turns."""
        return any(phase.turns[0].length is not None for phase in self.phases)

    def actions(self) -> list[Train]:
        """Return every way of learning that it has."""
        return [turn.action for phase in self.phases for turn in phase.turns if turn.action is not None]

    def scopes(self) -> tuple[Scope, ...]:
        """Return every scope that it names, in the order of `SCOPES`."""
        named = {scope for action in self.actions() for scope in action.scope or ()}
        return tuple(scope for scope in SCOPES if scope in named)

    def in_bytes(self, length: int) -> Policy:
        """Return the same with positions in bytes, if they are percentages of so many bytes."""
        if not self.percent:
            return self
        starts = [int(phase.start * length / 100) for phase in self.phases]
        ends = [*starts[1:], None]
        kept = [
            replace(phase, start=float(start))
            for phase, start, end in zip(self.phases, starts, ends, strict=True)
            if end is None or end > start
        ]
        return replace(self, phases=tuple(kept), percent=False)

    def step_at(self, position: int, steps: int, length: int | None = None) -> Train | None:
        """Return how a step learns; None if it only infers, also because of a stride.

        Args:
            position: as in `action_at`.
            steps: steps that were taken so far.
            length: as in `action_at`.

        Raises:
            UsageError: as `action_at`.
        """
        how = self.action_at(position, length)
        return None if how is None or steps % (how.stride or 1) else how

    def action_at(self, position: int, length: int | None = None) -> Train | None:
        """Return what to do at a position: how to learn, or None to infer.

        Args:
            position: bytes that were read so far.
            length: bytes of the whole stream, which percentages need.

        Raises:
            UsageError: positions are percentages, and the length is unknown.
        """
        if self.percent and length is None:
            raise UsageError("a policy's percentages need a stream of known length: give positions in bytes")
        scale = (length or 0) / 100 if self.percent else 1.0
        phase = [phase for phase in self.phases if phase.start * scale <= position][-1]
        return phase.action_after(position - phase.start * scale)


def _phase(text: str) -> tuple[Phase, float | None, bool | None]:
    """Return a phase, its end, and whether its positions are percentages; None if they do not say."""
    place, colon, action = text.partition(":")
    first, dots, last = place.partition("..")
    if not colon or not dots:
        raise UsageError(f"a policy's phase is START..END:ACTION, not {text!r}")
    start, in_percent = _position(first)
    end, end_percent = _position(last) if last else (None, None)
    kinds = {kind for kind in (in_percent, end_percent) if kind is not None}
    if len(kinds) > 1:
        raise UsageError("a policy's positions are all bytes or all percentages: do not mix them")
    return Phase(start=start, turns=_turns(action)), end, next(iter(kinds), None)


def _position(text: str) -> tuple[float, bool | None]:
    """Return a position and whether it is a percentage; 0 may be either."""
    match = _POSITION.fullmatch(text)
    if match is None or (not match[2] and "." in match[1]) or (match[2] and float(match[1]) > 100):
        raise UsageError(f"a policy's position {text!r} is not a number of bytes, or a percentage up to 100%")
    value = float(match[1])
    return value, bool(match[2]) if value else None


def _turns(text: str) -> tuple[Turn, ...]:
    inner = _inside(text, "repeat")
    if inner is None:
        return (Turn(action=_action(text)),)
    turns = []
    for part in _split(inner, ","):
        length, colon, action = part.partition(":")
        if not colon or not length.isdecimal() or not int(length):
            raise UsageError(f"a policy's turn is BYTES:ACTION, not {part!r}")
        turns.append(Turn(action=_action(action), length=int(length)))
    return tuple(turns)


def _action(text: str) -> Train | None:
    """Return how to learn; None for infer."""
    if text == "infer":
        return None
    if text == "train":
        return Train()
    inner = _inside(text, "train")
    if inner is None:
        raise UsageError(f"a policy's action {text!r} is unknown: use train, train(…), infer or repeat(…)")
    values: dict[str, Any] = {}
    for part in _split(inner, ","):
        name, equals, value = part.partition("=")
        if name not in _READ or not equals:
            raise UsageError(
                f"a policy's option {part!r} is unknown: use {', '.join(_READ)}, each with a value"
            )
        if name in values:
            raise UsageError(f"a policy's option {name!r} is there twice")
        try:
            values[name] = _READ[name](value)
        except ValueError as error:
            raise UsageError(f"a policy's {name} cannot be {value!r}") from error
    return Train(**values)


def _scopes(text: str) -> tuple[str, ...]:
    names = [ALIASES.get(name, name) for name in text.split("+")]
    known = [scope for scope in SCOPES if scope in names]
    return (*known, *(name for name in names if name not in SCOPES))


_READ: dict[str, Any] = {
    "scope": _scopes,
    "opt": str,
    "lr": float,
    "stride": int,
    "bptt": int,
    "clip": float,
    "momentum": float,
}


def _inside(text: str, name: str) -> str | None:
    """Return what is in the brackets after a name; None if the text is something else."""
    if not text.startswith(f"{name}(") or not text.endswith(")"):
        return None
    return text[len(name) + 1 : -1]


def _split(text: str, separator: str) -> list[str]:
    """Split a text where it is outside brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == separator and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _is_share(value: float) -> bool:
    return 0 <= value < 1


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(value)
    return f"{value:.15g}" if isinstance(value, float) else str(value)
