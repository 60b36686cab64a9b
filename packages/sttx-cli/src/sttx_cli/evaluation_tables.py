"""The tables of an evaluation, as rows of text and for a terminal. Knows only the report."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.table import Table

from sttx_cli.output import number
from sttx_cli.plain import one_line, visible_line

_MOST_KINDS = 12
_MOST_CHARACTERS = 40


class Rows(NamedTuple):
    """A table: its heads and its rows; the first column is words, the others are numbers."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def arms_table(report: Mapping[str, Any]) -> Table:
    """Lay out the arms."""
    return _table(arm_rows(report))


def kinds_table(report: Mapping[str, Any]) -> Table:
    """Lay out the kinds of traces with most text."""
    return _table(kind_rows(report))


def controls_table(report: Mapping[str, Any]) -> Table:
    """Lay out the controls of a tuned state."""
    return _table(control_rows(report))


def arm_rows(report: Mapping[str, Any]) -> Rows:
    """Return a row for each arm."""
    heads = ("arm", "bits per byte", "95% interval", "bits", "steps per byte", "seconds", "memory MB")
    rows = [
        (
            name,
            number(arm["bpb"]),
            between(arm["interval"]),
            f"{arm['bits']:,.0f}",
            number(arm["steps_per_byte"]),
            f"{arm['seconds']:,.1f}",
            f"{arm['memory_mb']:,.0f}",
        )
        for name, arm in report["arms"].items()
    ]
    return Rows(heads, rows)


def kind_rows(report: Mapping[str, Any], most: int = _MOST_KINDS) -> Rows:
    """Return a row for each kind of trace; those with little text share one row."""
    kinds = report["kinds"]
    named = [(f"{kind['type']} {kind['tool']}".rstrip(), kind) for kind in kinds[:most]]
    if len(kinds) > most:
        named.append((f"({len(kinds) - most:,} more)", _sum(kinds[most:])))
    return _priced("kind", report, named)


def session_rows(report: Mapping[str, Any]) -> Rows:
    """Return a row for each session."""
    return _priced("session", report, [(row["session"], row) for row in report["sessions"]])


def time_rows(report: Mapping[str, Any]) -> Rows:
    """Return a row for each tenth of the stream."""
    rows = report["time"]
    return _priced("part", report, [(f"{at} of {len(rows)}", row) for at, row in enumerate(rows, 1)])


def control_rows(report: Mapping[str, Any]) -> Rows:
    """Return a row for the state and each of its controls, alone and beside experts."""
    heads = ("state", "alone", "the state saves", "beside experts", "the state saves")
    state = report["state"]
    rows = [["(the state itself)", number(state["network"]), "", number(state["paid"]), ""]]
    for name, control in report["controls"].items():
        cells = [name]
        for how in ("network", "paid"):
            saved = f"{number(control[how]['lead'])} ({between(control[how]['interval'])})"
            cells += [number(control[how]["bpb"]), saved]
        rows.append(cells)
    return Rows(heads, rows)


def between(interval: Sequence[float] | None) -> str:
    """Write an interval.

    >>> between([1.0, 2.5]), between(None)
    ('1.000 to 2.500', '-')
    """
    return "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _priced(head: str, report: Mapping[str, Any], named: Sequence[tuple[str, Mapping[str, Any]]]) -> Rows:
    rows = [
        (one_line(name, _MOST_CHARACTERS), f"{row['bytes']:,}", *map(number, row["bpb"].values()))
        for name, row in named
    ]
    return Rows((head, "bytes", *report["arms"]), rows)


def _sum(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return several rows as one."""
    size = sum(row["bytes"] for row in rows)
    bits = {name: sum(row["bytes"] * (row["bpb"][name] or 0.0) for row in rows) for name in rows[0]["bpb"]}
    return {"bytes": size, "bpb": {name: total / size if size else None for name, total in bits.items()}}


def _table(rows: Rows) -> Table:
    table = Table(box=None, pad_edge=False)
    for index, head in enumerate(rows.heads):
        table.add_column(visible_line(head), justify="right" if index else "left", overflow="fold")
    for row in rows.rows:
        table.add_row(*map(visible_line, row))
    return table
