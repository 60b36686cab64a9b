"""``/v1/memory/health`` and ``/v1/memory/compare``, and their part of the page. Needs ``sttx-train[serve]``.

The memory is measured in the engine's thread, between the steps of requests.
"""

from __future__ import annotations

import asyncio
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sttx_core.errors import UsageError
from sttx_train.memory.health import Health, check_health
from sttx_train.memory.serving import MemoryPredictor
from sttx_train.memory.suite import compare_answers
from sttx_train.serve.bodies import Message, Sampled, parse
from sttx_train.serve.failures import RequestError, bad
from sttx_train.serve.page import Panel
from sttx_train.serve.reading_bodies import body_of
from sttx_train.serve.service import Service

_TOKENS = 128  # of each answer, by default


class Comparison(Sampled, kw_only=True, forbid_unknown_fields=True):
    """The body of ``/v1/memory/compare``."""

    messages: list[Message]
    max_tokens: int | None = None


class MemoryRoutes:
    """Routes of a served memory, and its part of the page."""

    def __init__(self) -> None:
        self._health: Health | None = None

    @property
    def panel(self) -> Panel:
        """The part of the page."""
        folder = files("sttx_train.memory").joinpath("assets")
        return Panel(
            html=folder.joinpath("panel.html").read_text("utf-8"),
            script=folder.joinpath("panel.js").read_text("utf-8"),
            style=folder.joinpath("panel.css").read_text("utf-8"),
        )

    def add(self, app: FastAPI, service: Service) -> None:
        """Add the routes to an application."""

        @app.get("/v1/memory/health")
        async def health(request: Request) -> Response:
            return JSONResponse((await self._measured(service, again=True)).as_dict())

        @app.post("/v1/memory/compare")
        async def side_by_side(request: Request) -> Response:
            body = parse(await body_of(request, service.config.body_bytes), Comparison)
            predictor = _predictor(service, body.model)
            body.check(service.config.max_tokens, body.max_tokens, "max_tokens")
            sampling = body.sampling(len(predictor.tokens))
            most = _TOKENS if body.max_tokens is None else body.max_tokens
            _refuse_unused(body, most)
            found = await self._measured(service)
            if not found.active:
                what = f"the memory is not active, so nothing is compared: {found.reason}"
                raise RequestError(409, what, code="memory_inactive")
            try:
                answers: Any = await _in_engine(
                    service,
                    lambda: compare_answers(
                        predictor, body.messages, sampling, max_tokens=most, stop=body.stops
                    ),
                )
            except UsageError as error:
                raise bad(str(error), "messages") from error
            return JSONResponse(answers)

    async def _measured(self, service: Service, *, again: bool = False) -> Health:
        health = None if again else self._health
        if health is None:
            predictor = _predictor(service, service.catalog.default.id)
            health = await _in_engine(service, lambda: check_health(predictor))
            self._health = health
        return health


def _refuse_unused(body: Comparison, most: int) -> None:
    if most < 1:
        raise bad("max_tokens must be at least 1", "max_tokens")
    for name in ("n", "stream", "id_slot"):
        if getattr(body, name):
            raise bad(f"{name} has no effect here: leave it out", name)


def _predictor(service: Service, name: str) -> MemoryPredictor:
    predictor = service.catalog.find(name).predictor
    assert isinstance(predictor, MemoryPredictor), predictor
    return predictor


async def _in_engine(service: Service, function: Any) -> Any:
    return await asyncio.wrap_future(service.engine.call(function))
