"""Information in texts as tables and JSON. Knows results of `sttx_train.information`; measures nothing."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from sttx_cli.output import number
from sttx_cli.plain import one_line

if TYPE_CHECKING:
    from sttx_train.information import Cost, EntropyRate, JointEntropy, MutualInformation, Segment

_SEGMENT = ("start", "bytes", "tokens", "bits", "bits_per_byte", "network_bits", "most_bits")


def cost_row(cost: "Cost") -> dict[str, Any]:
    """Return what a text costs, for JSON."""
    return {
        "bytes": cost.bytes,
        "tokens": cost.tokens,
        "bits": finite(cost.bits),
        "code_bytes": finite(cost.code_bytes),
        "bits_per_byte": finite(cost.bits_per_byte),
        "network_bits": finite(cost.network_bits),
    }


def segment_rows(segments: Iterable["Segment"]) -> list[dict[str, Any]]:
    """Return statistics of segments, for JSON."""
    return [{name: finite(getattr(segment, name)) for name in _SEGMENT} for segment in segments]


def joint_row(joint: "JointEntropy", names: Sequence[str]) -> dict[str, Any]:
    """Return a joint entropy, for JSON."""
    streams = zip(names, (joint.x, joint.y), (joint.x_share, joint.y_share), strict=True)
    return {
        "texts": [
            {"text": name, **cost_row(alone), "joint_bits": finite(share.bits)}
            for name, alone, share in streams
        ],
        "bytes": joint.bytes,
        "bits": finite(joint.bits),
        "code_bytes": finite(joint.bits / 8),
        "bits_per_byte": finite(joint.bits_per_byte),
        "shared_bits": finite(joint.shared_bits),
    }


def mutual_row(mutual: "MutualInformation", names: Sequence[str]) -> dict[str, Any]:
    """Return mutual information, for JSON."""
    texts = zip(names, (mutual.x, mutual.y), (mutual.x_after_y, mutual.y_after_x), strict=True)
    size = mutual.x.bytes + mutual.y.bytes
    return {
        "texts": [
            {"text": name, **cost_row(alone), "after_other_bits": finite(after.bits)}
            for name, alone, after in texts
        ],
        "bits": finite(mutual.bits),
        "code_bytes": finite(mutual.bits / 8),
        "bits_per_byte": finite(mutual.bits / size) if size else None,
        "first_about_second_bits": finite(mutual.x_about_y),
        "second_about_first_bits": finite(mutual.y_about_x),
        "asymmetry_bits": finite(mutual.asymmetry),
    }


def rate_row(rate: "EntropyRate") -> dict[str, Any]:
    """Return an entropy rate with its curve, for JSON."""
    return {
        **cost_row(rate.cost),
        "bits_per_byte": finite(rate.bits_per_byte),
        "mean_bits_per_byte": finite(rate.mean_bits_per_byte),
        "settled": rate.settled,
        "windows": segment_rows(rate.windows),
    }


def finite(value: float | None) -> float | None:
    """Return a number, or None if it is not finite: JSON has no such numbers."""
    return value if value is None or math.isfinite(value) else None


def cost_table(rows: Iterable[dict[str, Any]], more: Sequence[tuple[str, str]] = ()) -> Table:
    """Lay out rows of texts, with further columns: their keys and titles."""
    titles = {"bytes": "bytes", "bits": "bits", "code_bytes": "code bytes", "bits_per_byte": "bits per byte"}
    table = table_of("text", [*titles.values(), *(title for _, title in more)])
    for row in rows:
        size = f"{row['bytes']:,}"
        numbers = [_long(row["bits"]), _long(row["code_bytes"]), number(row["bits_per_byte"])]
        table.add_row(Text(one_line(row["text"], 60)), size, *numbers, *(_long(row[key]) for key, _ in more))
    return table


def segment_table(rows: Iterable[dict[str, Any]]) -> Table:
    """Lay out the statistics of segments."""
    table = table_of("from byte", ["bytes", "tokens", "bits", "bits per byte", "most bits of a token"])
    for row in rows:
        places = [f"{row[name]:,}" for name in ("start", "bytes", "tokens")]
        table.add_row(*places, _long(row["bits"]), number(row["bits_per_byte"]), _long(row["most_bits"]))
    return table


def distance_table(names: Sequence[str], distances: Sequence[Sequence[float | None]]) -> Table:
    """Lay out a matrix of distances."""
    table = table_of("text", [f"({index})" for index in range(1, len(names) + 1)])
    for index, (name, row) in enumerate(zip(names, distances, strict=True), 1):
        table.add_row(Text(one_line(f"({index}) {name}", 60)), *map(number, row))
    return table


def table_of(first: str, numbers: Sequence[str]) -> Table:
    """Return a table of words in the first column, and numbers in the others."""
    table = Table(box=None, pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _long(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"
