"""The schemas of saved states that nothing loads as they are, and what must hold between the parts of a run.

A part of a run checks its own state when it loads it. Here the same is checked without torch, so that all
commands judge a checkpoint alike. Knows no tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta

from sttx_core.foreign_files import shown
from sttx_core.pairs import PairMaker
from sttx_core.phrase_state import PhraseTableState, checked_table
from sttx_core.phrases import PhraseConfig
from sttx_core.replay import ReplayState
from sttx_core.saved_state import Count, Number, State, checked, damaged
from sttx_train.online.states import LearnerState, check_bank, check_carried, checked_gate

_WINDOWS = "unfinished windows"
Buffer = tuple[str, Annotated[list[Count], Meta(min_length=1)], list[Literal[0, 1]], bool]


class WindowsState(State):
    """What `TraceWindows.state_dict` returns: of each document its name, ids, flags and whether it ended.

    `projects` has the project of each document; earlier versions did not save it.
    """

    buffers: list[Buffer]
    projects: dict[str, str] = {}


class GuardState(State):
    """What `SpikeGuard.state_dict` returns."""

    mean: Number
    seen: Count
    skipped: Count
    in_a_row: Count


class PhraseStreamState(State):
    """What `PhraseStreams.state_dict` returns for a stream."""

    table: dict[str, Any]
    context: list[Count]


def checked_windows(state: Any, vocab_size: int) -> list[Buffer]:
    """Return the unfinished windows of a stream.

    Raises:
        CheckpointError: they are damaged, or hold other ids than the vocabulary.
    """
    saved = checked(WindowsState, state, _WINDOWS)
    buffers = saved.buffers
    for name, ids, paid, _ in buffers:
        if len(ids) != len(paid) or max(ids) >= vocab_size:
            raise damaged(_WINDOWS, f"document {shown(name)} has other ids than the vocabulary, or flags")
    if len({name for name, *_ in buffers}) != len(buffers):
        raise damaged(_WINDOWS, "a document is there twice")
    if unknown := saved.projects.keys() - {name for name, *_ in buffers}:
        raise damaged(_WINDOWS, f"a project is that of document {shown(min(unknown))}, which is not there")
    return buffers


def check_stream(
    documents: Mapping[str, Any], manifest: Mapping[str, Any], options: Mapping[str, Any]
) -> None:
    """Check what the learner and the stream will load, and that the report is of the same run.

    Args:
        documents: of a checkpoint of `sttx train`, each of the right form.
        manifest: its manifest.
        options: ``learning``, ``phrase_config`` and ``stream_config`` by their current names.

    Raises:
        CheckpointError: says which part does not fit.
    """
    report, stream, learning = documents["report"], documents["stream"], options["learning"]
    vocab_size = report["model"]["vocab_size"]
    table, config = checked_table(documents["phrases"])
    learner = checked(LearnerState, documents["learner"], "learner")
    replay = checked(ReplayState, learner.replay, "replay buffer")
    gate = checked_gate(learner.gate, learning.get("phrases", "auto"))
    most = learning.get("max_documents", len(learner.sessions))
    check_carried(learner, most, vocab_size, config.max_length)
    check_bank(learner, bank_capacity(options["stream_config"]))
    checked_windows(stream["windows"], vocab_size)
    _check_pairs(stream["pairs"], options["stream_config"].get("api_pairs", False))
    _check_table(table, config, options["phrase_config"], vocab_size)
    _check_list(documents["phrase_list"], table)
    if replay.capacity != learning.get("replay_capacity", replay.capacity):
        raise damaged("replay buffer", f"it has capacity {replay.capacity}")
    counted = {"live": len(table.phrases), **{name: getattr(table.stats, name) for name in _COUNTED}}
    totals = stream["totals"]
    facts = {
        "phrases": {
            **report["phrases"],
            **counted,
            "mode": learning.get("phrases", report["phrases"]["mode"]),
        },
        "replay": {**report["replay"], "draws": replay.draws},
        "sessions": {"carried": len(learner.sessions), "evictions": learner.evictions},
        "bank": _bank_facts(report, learner),
        "skipped_steps": learner.skipped_steps,
        "scope": list(learning.get("scope", report["scope"])),
        "model": {**report["model"], "id": manifest["base_model"], "sha256": manifest["base_sha256"]},
        **{name: totals[name] for name in _SUMS},
        **{name: manifest[name] for name in ("device", "dtype", "kernel")},
    }
    if gate.steps == 0:
        facts["phrases"]["on"] = gate.on
    if different := [name for name, value in facts.items() if report.get(name) != value]:
        raise damaged("report", f"its {different[0]!r} is not that of the other files")


def _check_pairs(saved: dict[str, Any] | None, wanted: bool) -> None:
    if (saved is None) == wanted:
        raise damaged("stream", "it is of a run with other pairs")
    if saved is not None:
        PairMaker().load_state_dict(saved)


def _bank_facts(report: Mapping[str, Any], learner: LearnerState) -> dict[str, Any] | None:
    """Return what the report must say of the bank; None if the run has none."""
    if (bank := learner.bank) is UNSET:
        return None
    counts = {"states": len(bank.means), "taken_in": sum(count for _, count in bank.means)}
    return {**report.get("bank", {}), **counts, "evictions": bank.evictions}


def bank_capacity(stream: Mapping[str, Any]) -> int | None:
    """Return the most states of a run's bank, by its options; None if it has none."""
    return stream.get("bank_states") if stream.get("memory") == "bank" else None


_COUNTED = ("merges", "promotions", "evictions")
_SUMS = ("steps", "windows", "bytes", "tokens", "model_steps")


def check_phrase_streams(streams: Sequence[Any], rows: int, vocab_size: int) -> None:
    """Check the phrase tables of pretraining, one for each row.

    Raises:
        CheckpointError: their number is another, or one of them is damaged.
    """
    if len(streams) != rows:
        raise damaged("list of phrase tables", f"there are {len(streams)} streams, and this run has {rows}")
    for state in checked(list[PhraseStreamState], streams, "list of phrase tables"):
        table, config = checked_table(state.table)
        if table.base_vocab != vocab_size:
            raise damaged("phrase table", f"it is over {table.base_vocab} base tokens, not {vocab_size}")
        check_context(state.context, config.max_length, vocab_size)


def check_context(context: Sequence[int], longest: int, vocab_size: int) -> None:
    """Check the context of a stream, which is its last phrase."""
    if len(context) > longest or max(context, default=0) >= vocab_size:
        raise damaged("list of phrase tables", f"a context has more than {longest} ids, or one too large")


def _check_table(
    table: PhraseTableState, config: PhraseConfig, options: Mapping[str, Any], vocab_size: int
) -> None:
    if table.base_vocab != vocab_size:
        raise damaged("phrase table", f"it is over {table.base_vocab} base tokens, not {vocab_size}")
    if other := [name for name, value in vars(config).items() if options.get(name, value) != value]:
        raise damaged("phrase table", f"its `{other[0]}` is not the run's")


def _check_list(rows: Sequence[Mapping[str, Any]], table: PhraseTableState) -> None:
    uses = {table.base_vocab + slot: uses for slot, _, _, _, uses in table.phrases}
    if {row["id"]: row["uses"] for row in rows} != uses or len(rows) != len(uses):
        raise damaged("list of phrases", "it does not hold the phrases of the table, each once")
    if any(row["steps_saved"] != row["uses"] * (row["length"] - 1) for row in rows):
        raise damaged(
            "list of phrases", "a phrase has saved another number of steps than its uses and length say"
        )
