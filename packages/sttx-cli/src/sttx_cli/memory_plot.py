"""The picture of the memory experiment, as SVG that needs no library: recall by policy, recall by bytes."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_WIDTH, _LEFT, _RIGHT = 760, 170, 190  # pixels: the picture, its names on the left, its legend on the right
_PLOT = _WIDTH - _LEFT - _RIGHT
_ROW, _TOP, _PANEL = 17, 40, 260
_STATES = {"linear_state": ("linear states", "#d9730d"), "rwkv7_state": ("RWKV-7 states", "#0b6e99")}
_COLORS = ("#0b6e99", "#d9730d", "#448361", "#9065b0", "#c14c8a", "#787774", "#8c564b")
_LEAST = 0.5  # of the vertical axis of recall by bytes
_STYLE = "text{font:12px system-ui,sans-serif;fill:#333}.head{font-weight:600}.small{fill:#777}"


def draw(summary: Mapping[str, Any]) -> str:
    """Return the picture of a summary of `sttx_core.memory.experiment`."""
    shapes, height = _policies(summary)
    if summary["study"] is not None:
        more, height = _bytes(summary["study"]["budgets"], height + 30)
        shapes += more
    size = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    background = f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>'
    body = "\n".join([f"<style>{_STYLE}</style>", background, *shapes])
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{body}\n</svg>\n'


def _policies(summary: Mapping[str, Any]) -> tuple[list[str], int]:
    """Return the dots of each setting and policy, and how far down they reach."""
    groups = [group for group in summary["groups"] if group["metric"] == "state_only"]
    title = f"Cosine with the needle's value, read from its block ({summary['seeds']} seeds, 95% intervals)"
    shapes, y, setting = [_text(10, 20, title, "head")], _TOP, None
    for group in groups:
        head = f"{group['needles']} needles, filler {group['filler']}, K {group['K']}"
        if head != setting:
            setting = head
            y += _ROW
            shapes.append(_text(10, y, head, "small"))
            y += _ROW
        shapes.append(_text(_LEFT - 10, y, group["policy"], "", "end"))
        for column, (_, color) in _STATES.items():
            shapes.append(_whisker(group["means"][column], y - 4, color))
        y += _ROW
    axis = [_tick(share, _TOP, y) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    names = [
        _text(_WIDTH - _RIGHT + 20, _TOP + _ROW * (1 + index), name, "", color=color)
        for index, (name, color) in enumerate(_STATES.values())
    ]
    return [*axis, *shapes, *names], y + 24


def _bytes(rows: Sequence[Mapping[str, Any]], top: int) -> tuple[list[str], int]:
    """Return the curves over bytes of the setting with several budgets, and how far down they reach."""
    last = rows[-1]
    rows = [row for row in rows if (row["needles"], row["filler"]) == (last["needles"], last["filler"])]
    rows = [row for row in rows if not row["way"].endswith("centroid")]
    bottom, most = top + 20 + _PANEL, max(row["bytes"] for row in rows)
    title = f"The same bytes, spent otherwise: {last['needles']} needles, filler {last['filler']}"
    shapes = [_text(10, top, title, "head")]

    def place(row: Mapping[str, Any], name: str) -> tuple[float, float]:
        share = (max(row["cosine"][name], _LEAST) - _LEAST) / (1 - _LEAST)
        return _LEFT + _PLOT * row["bytes"] / most, bottom - share * (_PANEL - 10)

    for level in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        y = bottom - (level - _LEAST) / (1 - _LEAST) * (_PANEL - 10)
        shapes.append(_line(_LEFT, y, _WIDTH - _RIGHT, y, "#ddd"))
        shapes.append(_text(_LEFT - 10, y + 4, f"{level:.1f}", "small", "end"))
    for size in sorted({row["bytes"] for row in rows}):
        x = _LEFT + _PLOT * size / most
        shapes.append(_text(x, bottom + 18, f"{size / 1024:.0f}", "small", "middle"))
    shapes.append(_text(_WIDTH - _RIGHT + 20, bottom + 18, "KiB", "small"))
    for index, way in enumerate(dict.fromkeys(row["way"] for row in rows)):
        color, points = _COLORS[index % len(_COLORS)], [row for row in rows if row["way"] == way]
        path = " ".join("{:.1f},{:.1f}".format(*place(row, "mean")) for row in points)
        shapes.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        for row in points:
            (x, low), (_, high) = place(row, "low"), place(row, "high")
            shapes.append(_line(x, low, x, high, color))
        shapes.append(_text(_WIDTH - _RIGHT + 20, top + 40 + _ROW * index, way, "", color=color))
    return shapes, bottom + 30


def _whisker(estimate: Mapping[str, float], y: float, color: str) -> str:
    low, mean, high = (_LEFT + _PLOT * max(estimate[name], 0.0) for name in ("low", "mean", "high"))
    return f'{_line(low, y, high, y, color)}<circle cx="{mean:.1f}" cy="{y}" r="3.5" fill="{color}"/>'


def _tick(share: float, top: int, bottom: int) -> str:
    x = _LEFT + _PLOT * share
    label = _text(x, bottom + 12, f"{share:g}", "small", "middle")
    return f"{_line(x, top, x, bottom - 4, '#ddd')}{label}"


def _line(x1: float, y1: float, x2: float, y2: float, color: str) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{color}" stroke-width="1.2"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start", *, color: str = "") -> str:
    style = f' style="fill:{color}"' if color else ""
    name = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{name}{style}>{escape(text)}</text>'
