"""What a run that resumes must share with the saved run, option by option.

The rule of errors for a run folder: what other options or another folder can mend is a `UsageError`, namely
options that differ from the saved run's, another run in the folder, no run to resume, or no permission to
write. What is damaged, or fails while the run is working, is a `CheckpointError`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sttx_core.errors import UsageError

_RENAMED = {
    "learning": {"sessions": "max_documents"},
    "phrase_config": {"window": "pair_window"},
    "config": {"held_out": "validation", "phrases": "phrase_prob"},
}
"""Options by the name under which older runs saved them, for each group of a manifest or document."""


def current_names(group: str, saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return a saved group of options under the names that the options have now.

    >>> current_names("phrase_config", {"window": 512, "capacity": 256})
    {'pair_window': 512, 'capacity': 256}
    """
    renamed = _RENAMED.get(group, {})
    return {renamed.get(name, name): value for name, value in saved.items()}


def require_same_run(checkpoint: Path, saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to resume a run with other options than it was made with.

    Args:
        checkpoint: the saved run's checkpoint, for the message.
        saved: the options of the saved run, by the name that a message gives them, such as ``--window``.
        now: the options of this run.

    Raises:
        UsageError: names the first option that differs, and both values.
    """
    wanted = json.loads(json.dumps(dict(now)))
    for name in dict.fromkeys([*saved, *wanted]):
        if name in saved and name in wanted and saved[name] == wanted[name]:
            continue
        made_with = f"{name} {saved[name]!r}" if name in saved else f"no {name}"
        instead = repr(wanted[name]) if name in wanted else "no such option"
        raise UsageError(
            f"the run in {str(checkpoint)!r} was made with {made_with}, and this run has {instead}: give the "
            "same options, or start again in another folder"
        )
