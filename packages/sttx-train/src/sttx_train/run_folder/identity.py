"""What a run that resumes must share with the saved run, option by option.

A `UsageError` means that other options or another folder help: the options differ from the saved run's, the
folder holds another run or none to resume, or it may not be written. A `CheckpointError` means that something
is damaged, or failed while the run was working.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sttx_core.errors import UsageError
from sttx_train.online.config import STATE_DECAY

_RENAMED = {
    "learning": {"sessions": "max_documents"},
    "phrase_config": {"window": "pair_window"},
    "config": {"held_out": "validation", "phrases": "phrase_prob"},
}
"""Options by the name under which older runs saved them, for each group of a manifest or document."""

_OLDER: dict[str, dict[str, Any]] = {
    "stream_config": {"experts": "off", "policy": None, "memory": "none", "bank_states": 16},
    "learning": {"loss": "network", "state_lr": 0.0, "state_decay": STATE_DECAY},
}
"""Values of options that older runs did not save, because they did not have what the option is for."""


def current_names(group: str, saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return a saved group of options as they are now: under their present names, with what is new.

    >>> current_names("phrase_config", {"window": 512, "capacity": 256})
    {'pair_window': 512, 'capacity': 256}
    """
    renamed = _RENAMED.get(group, {})
    return _OLDER.get(group, {}) | {renamed.get(name, name): value for name, value in saved.items()}


def require_same_run(
    checkpoint: Path,
    saved: Mapping[str, Any],
    now: Mapping[str, Any],
    differences: Mapping[str, str] | None = None,
) -> None:
    """Refuse to resume a run with other options than it was made with.

    Args:
        checkpoint: the saved run's checkpoint, for the message.
        saved: the options of the saved run, by the name that a message gives them, such as ``--window``.
        now: the options of this run.
        differences: for an entry, how the message goes on after "the run in '…'" if it differs; ``{saved}``
            and ``{now}`` stand for both values. An entry that is not listed is reported as an option.

    Raises:
        UsageError: names the first option that differs, and both values.
    """
    wanted = json.loads(json.dumps(dict(now)))
    for name in dict.fromkeys([*saved, *wanted]):
        if name in saved and name in wanted and saved[name] == wanted[name]:
            continue
        if differences and name in differences and name in saved and name in wanted:
            difference = differences[name].format(saved=saved[name], now=wanted[name])
            raise UsageError(f"the run in {str(checkpoint)!r} {difference}")
        made_with = f"{name} {saved[name]!r}" if name in saved else f"no {name}"
        instead = repr(wanted[name]) if name in wanted else "no such option"
        raise UsageError(
            f"the run in {str(checkpoint)!r} was made with {made_with}, and this run has {instead}: give the "
            "same options, or start again in another folder"
        )
