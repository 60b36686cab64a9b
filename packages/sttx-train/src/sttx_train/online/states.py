"""The schemas of a saved learner's document: its gate and its carried documents. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from sttx_core.errors import CheckpointError
from sttx_core.saved_state import Amount, Count, Positive, State, checked, damaged

Sums = Annotated[list[Amount], Meta(min_length=2, max_length=2)]
Context = Annotated[list[Count], Meta(min_length=1)]


class GateState(State):
    """What `PhraseGate.state_dict` returns."""

    on: bool
    steps: Count
    with_phrases: Sums
    without: Sums


class CarriedState(State, kw_only=True):
    """What `CarriedStates.state_dict` returns beside its tensors.

    A session is the name of a document, its context, and whether it has a state and a frozen state. `offsets`
    names the documents that have an offset; runs without a rate for it have none.
    """

    evictions: Count
    sessions: list[tuple[str, Context, bool, bool]]
    offsets: list[str] = []


class BankState(State):
    """What `StateBank.state_dict` returns beside its tensors.

    A mean is a project and how many states were taken in. A part is a document, its windows before the part
    and in it, and the bits and bytes of the latter.
    """

    means: list[tuple[str, Positive]]
    parts: list[tuple[str, Count, Count, Amount, Count]]
    evictions: Count


class BankReport(State):
    """What `StateBank.report` returns."""

    states: Count
    capacity: Positive
    bytes: Count
    taken_in: Count
    evictions: Count


class LearnerState(CarriedState, kw_only=True):
    """The learner's document; the gate and the replay buffer check their own parts.

    With experts, `experts` names the documents that they are reading. `averaged` counts the steps that the
    average of S0 has seen; earlier versions kept none. `bank` is there where the run has one.
    """

    gate: dict[str, Any]
    replay: dict[str, Any]
    skipped_steps: Count
    averaged: Count = 0
    experts: list[str] | UnsetType = UNSET
    bank: BankState | UnsetType = UNSET


def checked_gate(state: Mapping[str, Any], mode: str) -> GateState:
    """Return the saved choice of phrases, for a run that reads them in a mode: auto, on or off.

    Raises:
        CheckpointError: it is damaged, or from an earlier version of sttx, which learned differently.
    """
    if "steps" not in state:
        raise CheckpointError(
            "an earlier sttx made the checkpoint and learned differently: start again in another folder"
        )
    saved = checked(GateState, state, "choice of phrases")
    if mode != "auto" and saved.on != (mode == "on"):
        raise damaged("choice of phrases", f"they are {mode} in this run")
    return saved


def check_carried(meta: LearnerState, capacity: int, vocab_size: int, longest: int) -> None:
    """Refuse too many carried documents, one that is there twice, and a context that cannot be a phrase."""
    names = [name for name, *_ in meta.sessions]
    if len(names) > capacity or len(set(names)) != len(names):
        raise damaged("sessions", f"a document is there twice, or there are more than {capacity}")
    for _, context, _, _ in meta.sessions:
        if len(context) > longest or max(context) >= vocab_size:
            raise damaged(
                "sessions", f"a context has more than {longest} ids, or one that is not below {vocab_size}"
            )


def check_bank(meta: LearnerState, capacity: int | None) -> None:
    """Refuse a bank in a run without one, and the other way round, and a bank that no run could have left.

    Args:
        meta: the learner's document.
        capacity: most states of the run's bank; None if it has none.

    Raises:
        CheckpointError: says what does not fit.
    """
    bank = meta.bank
    if (bank is not UNSET) != (capacity is not None):
        raise damaged("bank of states", f"the run was saved {'with' if bank is not UNSET else 'without'} one")
    if bank is UNSET or capacity is None:
        return
    for names, most in (
        ([name for name, _ in bank.means], capacity),
        ([name for name, *_ in bank.parts], None),
    ):
        if len(set(names)) != len(names) or len(names) > (len(names) if most is None else most):
            raise damaged(
                "bank of states", "a name is there twice, or there are more states than the run keeps"
            )
    if not {name for name, *_ in bank.parts} <= {name for name, *_ in meta.sessions}:
        raise damaged("bank of states", "it has a part of a document that is not carried")
