"""An evaluation as one page for a browser: its sentences, tables and curves; it loads nothing else."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from sttx_cli.evaluation_tables import Rows, arm_rows, control_rows, kind_rows, session_rows, time_rows
from sttx_cli.plain import visible_line
from sttx_core.own_files import write_own

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 720, 280, 50, 30  # pixels of the drawing, and of the margins for numbers
_COLORS = ("#777777", "#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#bcbd22", "#17becf")
_ALL = 1_000_000
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 0.5em 0 2em } th, td { padding: 0.15em 0.8em; text-align: right }
th { border-bottom: 1px solid #bbb } th:first-child, td:first-child { text-align: left }
svg text { font: 12px system-ui, sans-serif; fill: #444 }
"""


def write_page(report: Mapping[str, Any], out: Path) -> None:
    """Write the page.

    Raises:
        UsageError: there is a link or a folder at the path.
        OSError: it cannot be written.
    """
    write_own(out, page(report).encode())


def page(report: Mapping[str, Any]) -> str:
    """Return the page of a report."""
    title = f"sttx eval: {report['bytes']:,} bytes in {report['source']}"
    parts = [
        f"<h1>{_text(title)}</h1>",
        *(f"<p>{_text(sentence)}</p>" for sentence in report["sentences"]),
        _table("Arms", arm_rows(report)),
        "<h2>Bits per byte over the stream</h2>",
        curves(report),
    ]
    if report["controls"] is not None:
        parts.append(_table("Controls of the tuned state", control_rows(report)))
    parts += [
        _table("By tenth of the stream", time_rows(report)),
        _table("By kind of trace", kind_rows(report, _ALL)),
        _table("By session", session_rows(report)),
    ]
    head = f'<meta charset="utf-8"><title>{_text(title)}</title><style>{_STYLE}</style>'
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def curves(report: Mapping[str, Any]) -> str:
    """Return the bits per byte of every arm over the parts of the stream, as SVG."""
    rows = report["time"]
    top = (
        max((value for row in rows for value in row["bpb"].values() if value is not None), default=0.0) or 1.0
    )
    width, height = _WIDTH - _LEFT, _HEIGHT - _BOTTOM
    shapes = []
    for share in (0.0, 0.5, 1.0):
        y = height * (1 - 0.9 * share)
        shapes.append(f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>')
        shapes.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{share * top:.2f}</text>')
    for index, name in enumerate(report["arms"]):
        color = _COLORS[index % len(_COLORS)]
        points = [
            f"{_LEFT + (at + 0.5) * width / len(rows):.1f},{height * (1 - 0.9 * row['bpb'][name] / top):.1f}"
            for at, row in enumerate(rows)
            if row["bpb"][name] is not None
        ]
        path = " ".join(points)
        shapes.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
    shapes.append(f'<text x="{_LEFT}" y="{_HEIGHT - 8}">start of the stream</text>')
    shapes.append(f'<text x="{_WIDTH}" y="{_HEIGHT - 8}" text-anchor="end">end</text>')
    legend = " ".join(
        f'<span style="color:{_COLORS[index % len(_COLORS)]}">&#9632; {_text(name)}</span>'
        for index, name in enumerate(report["arms"])
    )
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    return f"<svg {size}>{''.join(shapes)}</svg>\n<p>{legend}</p>"


def _table(title: str, rows: Rows) -> str:
    heads = "".join(f"<th>{_text(head)}</th>" for head in rows.heads)
    lines = [f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows.rows]
    return f"<h2>{_text(title)}</h2>\n<table>\n<tr>{heads}</tr>\n" + "\n".join(lines) + "\n</table>"


def _text(text: str) -> str:
    return escape(visible_line(text))
