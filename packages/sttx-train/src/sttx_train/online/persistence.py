"""A learner as tensors and JSON, and back, exactly. Knows nothing of folders or files.

Legend: D carried documents, stacked along the batch dimension of their states.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from sttx_core.errors import CheckpointError
from sttx_train.online.learner import OnlineLearner
from sttx_train.online.carried import Carried
from sttx_train.rwkv7 import RecurrentState

Tensors = dict[str, dict[str, Tensor]]
FIELDS = ("att_shift", "wkv", "ffn_shift")


def learner_tensors(learner: OnlineLearner) -> Tensors:
    """Return every tensor that decides what the learner does next, grouped by file."""
    replay = learner.replay.state_dict()
    entries = list(learner.carried.entries.values())
    return {
        "learned": {name: parameter.detach() for name, parameter in learner.trainable().items()},
        "optimizer": _optimizer_tensors(learner),
        "sessions": _stacked("state", entries) | _stacked("frozen", entries),
        "replay": {name: torch.from_numpy(array) for name, array in replay["arrays"].items()},
    }


def learner_documents(learner: OnlineLearner) -> dict[str, Any]:
    """Return everything else that decides it, JSON-able."""
    return {
        "phrases": learner.table.state_dict(),
        "learner": {
            "gate": learner.gate.state_dict(),
            "replay": learner.replay.state_dict()["meta"],
            "skipped_steps": learner.skipped_steps,
            "evictions": learner.carried.evictions,
            "sessions": [
                [name, list(entry.context), entry.state is not None, entry.frozen is not None]
                for name, entry in learner.carried.entries.items()
            ],
        },
    }


def restore_learner(learner: OnlineLearner, tensors: Tensors, documents: dict[str, Any]) -> None:
    """Make a fresh learner of the same model and configuration the one that was saved.

    Raises:
        CheckpointError: the learned tensors are others than the learner's scope names.
    """
    learned = learner.trainable()
    if set(learned) != set(tensors["learned"]):
        other = sorted(set(learned) ^ set(tensors["learned"]))[0]
        raise CheckpointError(f"the checkpoint was made with another --scope: tensor {other!r} differs")
    device = learner.s0.device
    with torch.no_grad():
        for name, parameter in learned.items():
            parameter.copy_(tensors["learned"][name])
    _restore_optimizer(learner, tensors["optimizer"])
    learner.table.load_state_dict(documents["phrases"])
    saved = documents["learner"]
    learner.gate.load_state_dict(saved["gate"])
    learner.skipped_steps = saved["skipped_steps"]
    arrays = {name: tensor.numpy() for name, tensor in tensors["replay"].items()}
    learner.replay.load_state_dict({"arrays": arrays, "meta": saved["replay"]})
    learner.carried.evictions = saved["evictions"]
    states = iter(_unstacked("state", tensors["sessions"], device))
    frozen = iter(_unstacked("frozen", tensors["sessions"], device))
    learner.carried.entries = OrderedDict(
        (
            name,
            Carried(
                state=next(states) if has_state else None,
                context=tuple(context),
                frozen=next(frozen) if has_frozen else None,
            ),
        )
        for name, context, has_state, has_frozen in saved["sessions"]
    )


def _optimizer_tensors(learner: OnlineLearner) -> dict[str, Tensor]:
    found = {}
    for name, parameter in learner.trainable().items():
        state = learner.optimizer.state.get(parameter, {}) if learner.optimizer else {}
        found |= {f"{name}/{key}": value for key, value in state.items()}
    return found


def _restore_optimizer(learner: OnlineLearner, tensors: dict[str, Tensor]) -> None:
    for name, parameter in learner.trainable().items():
        keys = [key for key in tensors if key.rsplit("/", 1)[0] == name]
        if keys and learner.optimizer is not None:
            learner.optimizer.state[parameter] = {
                key.rsplit("/", 1)[1]: _placed(key, tensors[key], parameter) for key in keys
            }


def _placed(key: str, tensor: Tensor, parameter: Tensor) -> Tensor:
    """AdamW keeps its step counter on the CPU, its averages beside the parameter."""
    return tensor if key.endswith("/step") else tensor.to(parameter.device)


def _stacked(kind: str, entries: list[Carried]) -> dict[str, Tensor]:
    states = [getattr(entry, kind) for entry in entries if getattr(entry, kind) is not None]
    if not states:
        return {}
    together = RecurrentState.stack(states)
    return {f"{kind}.{field}": getattr(together, field) for field in FIELDS}


def _unstacked(kind: str, tensors: dict[str, Tensor], device: torch.device) -> list[RecurrentState]:
    if f"{kind}.wkv" not in tensors:
        return []
    together = RecurrentState(**{field: tensors[f"{kind}.{field}"].to(device) for field in FIELDS})
    return [together.select([row]) for row in range(together.batch)]
