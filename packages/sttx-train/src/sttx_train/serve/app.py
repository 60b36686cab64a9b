"""The routes. Each reads its body itself, so that every failure is an error object of ours.

FastAPI's own pages are off: they load scripts from elsewhere.
"""

from __future__ import annotations

import time
from asyncio import to_thread
from typing import Any, Protocol

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sttx_train.serve.bodies import Chat, Completion, parse
from sttx_train.serve.bodies import Response as ResponseBody
from sttx_train.serve.chat import Chats, chat_asks
from sttx_train.serve.completions import Completions, completion_asks
from sttx_train.serve.conversation import newest
from sttx_train.serve.failures import RequestError
from sttx_train.serve.guard import Guard
from sttx_train.serve.jobs import Ask
from sttx_train.serve.page import Panel, add_page
from sttx_train.serve.reading_bodies import body_of, slot_of, tenant_of
from sttx_train.serve.responses import Responses, new_of_response, response_ask
from sttx_train.serve.service import Service
from sttx_train.serve.slot_routes import add_slot_routes
from sttx_train.serve.streaming import Channel, EventStream, collect
from sttx_train.serve.text_routes import add_text_routes


class Extension(Protocol):
    """Further routes, and their part of the page."""

    @property
    def panel(self) -> Panel:
        """The part of the page."""
        ...

    def add(self, app: FastAPI, service: Service) -> None:
        """Add the routes to an application."""
        ...


def make_app(service: Service, keys: list[str], extension: Extension | None = None) -> ASGIApp:
    """Return the application.

    Args:
        service: what answers.
        keys: keys of which a request needs one; none to let only this machine ask.
        extension: further routes.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    _add_model_routes(app, service)
    _add_generating_routes(app, service)
    add_text_routes(app, service)
    add_slot_routes(app, service)
    if extension is not None:
        extension.add(app, service)
    add_page(app, service, needs_key=bool(keys), panel=extension.panel if extension else None)

    @app.exception_handler(RequestError)
    async def failed(request: Request, error: RequestError) -> Response:
        headers = {"retry-after": "1"} if error.status == 429 else None
        return JSONResponse(error.body(), error.status, headers)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        wrong = RequestError(500, "something failed inside the server; its log says what")
        return JSONResponse(wrong.body(), wrong.status)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        what = f"{request.method} {request.url.path}: {error.detail}"
        return JSONResponse(RequestError(error.status_code, what).body(), error.status_code)

    return Guard(_Counted(app, service), keys)


def _add_model_routes(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok" if service.catalog else "loading"})

    @app.get("/v1/models")
    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [served.as_json() for served in service.catalog]})

    @app.get("/v1/models/{name:path}")
    async def model(request: Request) -> Response:
        return JSONResponse(service.catalog.find(request.path_params["name"]).as_json())

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_generating_routes(app: FastAPI, service: Service) -> None:
    config = service.config

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Any:
        body = parse(await body_of(request, config.body_bytes), Chat)
        slot = slot_of(request, body.id_slot, config)
        who = tenant_of(request, body.user)
        served = await service.find(body.model, who)
        asks, starts = await to_thread(chat_asks, body, served, config.max_tokens, slot)
        new = await to_thread(newest, body.messages, served) if service.learns(served) else ()
        at_end = await service.prepare(asks)
        chats, channel = Chats(body, served, asks, starts), Channel(service.engine, asks, at_end)
        await _learn(service, channel, asks[0], who, new)
        if body.stream:
            return EventStream(channel, chats.chunks(channel, config.ping))
        return JSONResponse(chats.whole(await collect(request, channel)))

    @app.post("/v1/completions")
    async def completion(request: Request) -> Any:
        body = parse(await body_of(request, config.body_bytes), Completion)
        slot = slot_of(request, body.id_slot, config)
        served = await service.find(body.model, tenant_of(request, body.user))
        asks = await to_thread(completion_asks, body, served, config.max_tokens, slot)
        at_end = await service.prepare(asks)
        completions, channel = Completions(body, served, asks), Channel(service.engine, asks, at_end)
        if body.stream:
            return EventStream(channel, completions.chunks(channel, config.ping))
        return JSONResponse(completions.whole(await collect(request, channel)))

    @app.post("/v1/responses")
    async def respond(request: Request) -> Any:
        body = parse(await body_of(request, config.body_bytes), ResponseBody)
        slot = slot_of(request, body.id_slot, config)
        who = tenant_of(request, body.user)
        served = await service.find(body.model, who)
        before = await service.continued(body.previous_response_id, served)
        ask, starts = await to_thread(response_ask, body, served, config.max_tokens, before, slot)
        new = await to_thread(new_of_response, body, served, before) if service.learns(served) else ()
        at_end = await service.prepare([ask])
        responses = Responses(body, ask, starts, service.keep_response)
        channel = Channel(service.engine, [ask], at_end)
        await _learn(service, channel, ask, who, new)
        if body.stream:
            return EventStream(channel, responses.chunks(channel, config.ping))
        return JSONResponse(await responses.whole(await collect(request, channel)))


async def _learn(service: Service, channel: Channel, ask: Ask, who: str, new: tuple[int, ...]) -> None:
    """Learn what a request has sent; if that fails, nobody waits for its answer.

    Raises:
        RequestError: as by `Service.learn`.
    """
    try:
        await service.learn(ask, who, new)
    except RequestError:
        channel.cancel()
        raise


class _Counted:
    """Counts requests by route and status, and how long they take."""

    def __init__(self, app: FastAPI, service: Service) -> None:
        self._app, self._metrics = app, service.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, status = time.monotonic(), 499

        async def noting(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", "other")  # no path of a client's becomes a label
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.monotonic() - began)
