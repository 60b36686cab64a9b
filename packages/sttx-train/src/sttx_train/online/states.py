"""The schemas of a saved learner's document: its gate and its carried documents. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from sttx_core.errors import CheckpointError
from sttx_core.saved_state import Amount, Count, State, checked, damaged

Sums = Annotated[list[Amount], Meta(min_length=2, max_length=2)]
Context = Annotated[list[Count], Meta(min_length=1)]


class GateState(State):
    """What `PhraseGate.state_dict` returns."""

    on: bool
    steps: Count
    with_phrases: Sums
    without: Sums


class CarriedState(State):
    """What `CarriedStates.state_dict` returns beside its tensors.

    A session is the name of a document, its context, and whether it has a state and a frozen state.
    """

    evictions: Count
    sessions: list[tuple[str, Context, bool, bool]]


class LearnerState(CarriedState):
    """The learner's document; the gate and the replay buffer check their own parts.

    With experts, `experts` names the documents that they are reading. `averaged` counts the steps that the
    average of S0 has seen; earlier versions kept none.
    """

    gate: dict[str, Any]
    replay: dict[str, Any]
    skipped_steps: Count
    averaged: Count = 0
    experts: list[str] | UnsetType = UNSET


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
