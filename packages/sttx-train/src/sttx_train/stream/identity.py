"""What a checkpoint records about its run, and which options a resumed run must share with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from sttx_core.errors import UsageError
from sttx_core.saved_state import damaged
from sttx_train.checkpoint.store import Checkpoint
from sttx_train.formats import LoadedModel
from sttx_train.online import LearnerConfig
from sttx_train.run_folder import RunFolder, current_names
from sttx_train.stream.config import StreamConfig
from sttx_train.stream.schedule import policy_identity
from sttx_train.workers import Workers

_SHAPING = ("experts", "memory", "bank_states", "window", "batch", "api_pairs")
"""Options of a stream that a resumed run must share, beside the policy."""


def identity_of(loaded: LoadedModel, learning: LearnerConfig, config: StreamConfig) -> dict[str, Any]:
    """Return what a checkpoint records about a run; :func:`as_options` names what a resumed one shares."""
    stream = {name: value for name, value in asdict(config).items() if name in _SHAPING}
    stream["policy"] = policy_identity(config)
    return {
        "base_model": loaded.id,
        "base_sha256": loaded.sha256,
        "tokenizer_sha256": loaded.tokenizer.sha256,
        "learning": asdict(learning),
        "stream_config": stream,
        "kernel": loaded.kernel.backend,
        "device": str(loaded.model.device),
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "torch_threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def as_options(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return what two runs must share, by the options of the command line.

    The numbers of processes and threads and torch's version are recorded but may differ: they change only the
    last bits.
    """
    options = {
        "a --model of SHA-256": identity["base_sha256"],
        "a vocabulary of SHA-256": identity["tokenizer_sha256"],
        "--kernel": identity["kernel"],
        "--device": identity["device"],
        "--dtype": identity["dtype"],
    }
    if "state_sha256" in identity:
        options["a --state of SHA-256"] = identity["state_sha256"]
    for group, prefix in (("stream_config", "--"), ("learning", "--"), ("phrase_config", "--phrase-")):
        values = current_names(group, identity[group])
        options |= {prefix + name.replace("_", "-"): value for name, value in values.items()}
    return options


def saved_batch(folder: RunFolder) -> object:
    """Return how many windows a step of the saved run has; None if it does not say.

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged.
    """
    options = folder.checkpoints.manifest().get("stream_config")
    return options.get("batch") if isinstance(options, dict) else None


def require_consistent(saved: Checkpoint, *, pairs: bool, window: int) -> None:
    """Check that the parts of a checkpoint belong together, and to a run with such pairs and windows.

    Raises:
        CheckpointError: they are of different steps or window sizes.
    """
    stream, offsets = saved.documents["stream"], saved.tensors["replay"].get("offsets")
    if stream["totals"]["steps"] != saved.step or (stream["pairs"] is None) == pairs:
        raise damaged("stream", f"it is of another step than {saved.step}, or of a run with other pairs")
    if offsets is not None and offsets.numel() > 1 and int(offsets.diff().max()) > window + 1:
        raise damaged("replay buffer", f"an item is longer than a window of {window}")


def require_same_options(workers: Workers, identity: Mapping[str, Any]) -> None:
    """Check that all processes were started alike.

    Raises:
        UsageError: an option, the model or the vocabulary differs.
    """
    own = {name: value for name, value in as_options(identity).items() if name != "--device"}
    for other in workers.collect([own]):
        if differs := [name for name in own if repr(other.get(name)) != repr(own[name])]:
            raise UsageError(f"the processes have different values of {differs[0]}: start all of them alike")
