"""What a pretraining run that resumes must share with the saved run, and how a message names a difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sttx_train.checkpoint.store import Checkpoint
from sttx_train.pretrain.config import PretrainConfig, option
from sttx_train.run_folder import current_names, require_same_run

_MAY_CHANGE = {
    *("epochs", "steps", "tokens", "minutes", "eval_every", "checkpoint_every"),  # when to stop and to save
    *("batch", "accumulate", "parallel", "recompute", "compile", "spike"),  # how the work is done
}

_SIZES = {
    **{name: option(name) for name in ("vocab_size", "hidden_size", "head_size", "architecture")},
    "num_layers": option("layers"),
}
"""The options that set a model's sizes."""

_DATA, _ROWS = "data", "rows"
_DIFFERENCES = {
    _DATA: "read other data, of {saved[ids]:,} ids, not these of {now[ids]:,}: "
    "give the same data and --tokenizer",
    _ROWS: "reads {saved} rows a step, not {now}: --batch x --accumulate x processes must stay {saved}",
}
"""What a message says of a difference that is not in one option."""


def require_same_pretraining(
    saved: Checkpoint, manifest: Mapping[str, Any], documents: Mapping[str, Any]
) -> None:
    """Refuse to resume a run with other data, sizes or options than it was made with.

    Args:
        saved: the run's checkpoint. Where an option is newer than the run, the run had its default.
        manifest: what this run would save in its manifest.
        documents: what this run would save beside it: ``config``, ``model`` and ``data``.

    Raises:
        UsageError: names the first difference, and both values.
    """
    defaults = asdict(PretrainConfig())
    config = defaults | current_names("config", saved.documents["config"])
    known = {name: config[name] for name in defaults}
    before = _named_options({**manifest, **saved.manifest}, {**saved.documents, "config": known})
    require_same_run(saved.path, before, _named_options(manifest, documents), _DIFFERENCES)


def _named_options(manifest: Mapping[str, Any], documents: Mapping[str, Any]) -> dict[str, Any]:
    """Return what two runs must share, by the names that a message gives it."""
    config = {option(name): value for name, value in documents["config"].items() if name not in _MAY_CHANGE}
    return {
        "a --tokenizer of SHA-256": manifest["tokenizer_sha256"],
        "a --start-from of SHA-256": manifest["base_sha256"],
        **config,
        _DATA: {name: documents["data"][name] for name in ("sha256", "ids")},
        _ROWS: documents["data"]["rows"],
        **{f"a model of {_SIZES.get(name, name)}": size for name, size in documents["model"].items()},
    }
