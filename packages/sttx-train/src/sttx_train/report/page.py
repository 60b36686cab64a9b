"""A report as one page for a browser, which loads nothing else: text, drawings, one style and one script.

Text of sessions is untrusted: the template escapes everything, and a content policy allows only the page's
own style and script, by their hashes. Does not know how a report is made.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from sttx_train.report.drawing import HEIGHT, WIDTH, draw
from sttx_train.report.passages import DAMPING, LEVELS
from sttx_train.report.report import Report
from sttx_train.report.session import SessionReport
from sttx_train.report.shading import segments, visible_name
from sttx_train.report.view import amount, blocks, date_range, label, words_of_passage

_NEWEST = 12  # passages over all sessions
_OF_SESSION = 5  # passages of each session
_COLUMNS, _FEWER = 160, 100  # of the stream and of a single session; of each of many
_MANY = 60  # sessions


def render_page(report: Report, *, title: str = "What was new", source: str = "", made: float = 0.0) -> str:
    """Return the page of a report that is finished.

    Args:
        report: the report.
        title: of the page.
        source: what was read, in words.
        made: Unix seconds when it was made; 0 to leave that out.
    """
    style, script = _asset("page.css"), _asset("page.js")
    text_each = report.text_each
    columns = _FEWER if len(report.sessions) > _MANY else _COLUMNS
    newest = report.newest(_NEWEST)
    ids = {id(session): f"s{number}" for number, session in enumerate(report.sessions.values(), 1)}
    return (
        _environment()
        .from_string(_asset("page.html.j2"))
        .render(
            title=title,
            source=source,
            made=datetime.fromtimestamp(made) if made else None,
            style=Markup(style),
            script=Markup(script),
            style_hash=_hash(style),
            script_hash=_hash(script),
            report=report,
            drawing=draw(report.cells.all, _COLUMNS),
            width=WIDTH,
            height=HEIGHT,
            levels=LEVELS,
            damping=DAMPING,
            newest=[(session, ids[id(session)], passage) for session, passage in newest],
            reading=sum(len(passage.data) for _, passage in newest),
            sessions=[
                _session(session, ids[id(session)], text_each, columns)
                for session in report.sessions.values()
            ],
            text_each=text_each,
        )
    )


def _session(session: SessionReport, name: str, text_each: int, columns: int) -> dict[str, object]:
    return {
        "id": name,
        "all": session,
        "drawing": draw(session.cells.all, columns),
        "newest": session.newest(_OF_SESSION),
        "blocks": blocks(session, text_each),
    }


def _environment() -> Environment:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "amount": amount,
        "visible": visible_name,
        "segments": segments,
        "label": label,
        "words": words_of_passage,
        "dates": date_range,
        "counted": lambda number, what: f"{number:,} {what}{'' if number == 1 else 's'}",
        "number": lambda value: f"{value:,.0f}",
        "rate": _rate,
    }
    return environment


def _rate(bits: float, size: int) -> str:
    return f"{bits / size:.2f}" if size else "–"


def _asset(name: str) -> str:
    return files("sttx_train.report").joinpath("assets", name).read_text("utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
