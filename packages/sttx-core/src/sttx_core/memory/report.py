"""The experiment's result as Markdown: what was reproduced, and tables of what the original leaves out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sttx_core.memory.experiment import Summary
from sttx_core.memory.study import NOISES

PLOT = "plot.svg"

_POLICIES = ("fixed", "dla", "ward", "optimal", "oracle", "single")
_ROUTINGS = {"oracle": "the needle's block", "norm": "largest read", "centroid": "nearest mean key"}
_STATES = {"linear": "linear", "rwkv7": "RWKV-7"}
_KB = 1024


def render(summary: Summary, *, plot: str = PLOT) -> str:
    """Return the report.

    Args:
        summary: of `reproduce`.
        plot: path of the picture, as a link.
    """
    parts = ["# Blocks and states: the experiment", _opening(summary), f"![Recall]({plot})", _groups(summary)]
    if summary["study"] is not None:
        parts.append(_study(summary["study"], summary))
    return "\n\n".join(parts) + "\n"


def _opening(summary: Summary) -> str:
    difference = summary["largest_difference"]
    off = "names or order differ" if difference is None else f"largest difference {difference:.1e}"
    verdict = "**Reproduced.**" if summary["reproduced"] else "**Not reproduced.**"
    lines = [
        f"{verdict} {summary['rows']} rows of the original were computed again: {off}, allowed is "
        f"{summary['tolerance']:.0e}. Log-linear attention, all at once and token by token, differs by "
        f"{summary['smoke_difference']:.1e}.",
        "",
        "What the original concludes, over its five seeds:",
        "",
        *(f"- {text}: {'yes' if holds else 'no'}" for text, holds in summary["verdicts"].items()),
    ]
    return "\n".join(lines)


def _groups(summary: Summary) -> str:
    heads = {
        "bound": ("segments", "meanlen", "K"),
        "recall": ("needles", "filler", "K"),
        "state_only": ("needles", "filler", "K", "policy"),
    }
    titles = {
        "bound": "The bound B, lower is better",
        "recall": "Recall: cosine with the needle's value, read from its block",
        "state_only": "The same by policy",
    }
    parts = [f"## The original's groups, {summary['seeds']} seeds", "Mean and 95% interval over seeds."]
    for metric, names in heads.items():
        rows = [group for group in summary["groups"] if group["metric"] == metric]
        columns = list(rows[0]["means"])
        cells = [[*(row[name] for name in names), *map(_interval, row["means"].values())] for row in rows]
        parts += [f"### {titles[metric]}", _table([*names, *columns], cells)]
    return "\n\n".join(parts)


def _study(study: Mapping[str, Any], summary: Summary) -> str:
    return "\n\n".join(
        [
            "## What the original leaves out",
            f"{summary['seeds']} seeds. Every policy has the same capacity K. Decays were chosen on "
            f"{summary['tuning_seeds']} other sequences of each setting, for each policy, state and routing; "
            "a decay in brackets.",
            "### The bound, and how far above its minimum",
            _bounds(study["bounds"]),
            "### Recall by policy and routing, decay tuned",
            _reads(study["reads"], tuned=True),
            "### The same with the original's decay: 1 for linear, 0.98 for RWKV-7",
            _reads(study["reads"], tuned=False),
            "### Differences on the same sequences, decay tuned",
            _differences(study["differences"]),
            "### Noisy queries to RWKV-7 states",
            "The query is the needle's key plus a random vector of the given length, scaled to length 1.",
            _noise(study["noise"]),
            "### The same bytes, spent otherwise",
            "Bytes are those of K states of 32 x 32 numbers in float32. Blocks are RWKV-7 states. A wide "
            "state has one state for random features of the keys. A cache keeps exact pairs beside one "
            "RWKV-7 state, and answers a query near a key that it holds. All pairs of a sequence, kept "
            "exactly, would take what the column before the last says.",
            _budgets(study["budgets"]),
        ]
    )


def _bounds(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = []
    for row in rows:
        above = row["above_optimal"]
        share = "" if above is None else f"{above['mean']:.1%} ({above['low']:.1%} to {above['high']:.1%})"
        cells.append(
            [row["segments"], row["meanlen"], row["K"], row["policy"], _interval(row["bound"], 2), share]
        )
    return _table(["segments", "meanlen", "K", "policy", "B", "above the optimum"], cells)


def _reads(rows: Sequence[Mapping[str, Any]], *, tuned: bool) -> str:
    original = {"linear": 1.0, "rwkv7": 0.98}
    chosen = [row for row in rows if (row["tuned"] if tuned else row["decay"] == original[row["state"]])]
    cells = []
    for head, group in _by_setting(chosen):
        for state, state_name in _STATES.items():
            for policy in _POLICIES:
                found = {
                    row["routing"]: row for row in group if (row["state"], row["policy"]) == (state, policy)
                }
                texts = [
                    _interval(found[routing]["cosine"]) + (f" [{found[routing]['decay']:g}]" if tuned else "")
                    for routing in _ROUTINGS
                ]
                cells.append([head, state_name, policy, *texts])
    return _table(["needles, filler, K", "state", "policy", *_ROUTINGS.values()], cells)


def _differences(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = []
    for row in rows:
        if row["routing"] == "centroid":
            continue
        low, high = row["cosine"]["low"], row["cosine"]["high"]
        verdict = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
        names = [f"{row['policy']} less {row['minus']}", _STATES[row["state"]], _ROUTINGS[row["routing"]]]
        cells.append([_head(row), *names, _interval(row["cosine"]), verdict])
    return _table(["needles, filler, K", "policies", "state", "read from", "difference", ""], cells)


def _noise(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = []
    for head, group in _by_setting(rows):
        for routing in ("norm", "centroid"):
            for policy in _POLICIES:
                found = {
                    row["noise"]: row["cosine"]
                    for row in group
                    if (row["routing"], row["policy"]) == (routing, policy)
                }
                cells.append([head, _ROUTINGS[routing], policy, *(_interval(found[one]) for one in NOISES)])
    heads = ["needles, filler, K", "read from", "policy", *(f"noise {one:g}" for one in NOISES)]
    return _table(heads, cells)


def _budgets(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [
        [
            f"{row['needles']}, {row['filler']}",
            row["states"],
            f"{row['bytes'] / _KB:.0f}",
            row["way"],
            f"{row['used_bytes'] / _KB:.1f}",
            f"{row['sequence_bytes'] / _KB:.0f}",
            _interval(row["cosine"]),
        ]
        for row in rows
    ]
    return _table(
        ["needles, filler", "states", "KiB", "way", "KiB used", "KiB of all pairs", "cosine"], cells
    )


def _by_setting(rows: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, list[Mapping[str, Any]]]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(_head(row), []).append(row)
    return groups.items()


def _head(row: Mapping[str, Any]) -> str:
    return f"{row['needles']}, {row['filler']}, {row['K']}"


def _interval(estimate: Mapping[str, float], digits: int = 3) -> str:
    mean, low, high = (f"{estimate[name]:.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
