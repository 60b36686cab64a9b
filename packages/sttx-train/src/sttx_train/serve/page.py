"""The page at ``/``: a chat whose words are shaded by their surprise. It asks its own server alone.

A content policy allows its own style and script only, by their hashes, and requests to the server alone.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files

from fastapi import FastAPI
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from sttx_train.serve.service import Service


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A further part of the page.

    Attributes:
        html: what it shows, before the chat.
        script: appended to the page's own, whose functions it may call.
        style: appended to the page's own.
    """

    html: str = ""
    script: str = ""
    style: str = ""


def add_page(app: FastAPI, service: Service, *, needs_key: bool, panel: Panel | None = None) -> None:
    """Add the page to an application, with a further part if there is one; a person types the key."""
    panel = panel or Panel()
    style, script = _asset("page.css") + panel.style, _asset("page.js") + panel.script
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(
        _asset("page.html.j2")
    )
    policy = (
        f"default-src 'none'; connect-src 'self'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {"content-security-policy": policy, "cache-control": "no-store", "x-frame-options": "DENY"}

    @app.get("/")
    async def page(request: Request) -> Response:
        # Without a key nobody learns the names of models: the page asks for them once it has one.
        models = list(service.catalog) if service.ready and not needs_key else []
        html = template.render(
            style=Markup(style),
            script=Markup(script),
            panel=Markup(panel.html),
            models=models,
            ready=service.ready,
            needs_key=needs_key,
        )
        return HTMLResponse(html, headers=headers)


def _asset(name: str) -> str:
    return files("sttx_train.serve").joinpath("assets", name).read_text("utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
