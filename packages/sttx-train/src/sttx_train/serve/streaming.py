"""From the engine's thread to a client: events in order, server-sent events, and clients that leave.

Knows jobs and HTTP; not what is in an answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sttx_train.serve.engine import Engine
from sttx_train.serve.failures import RequestError
from sttx_train.serve.jobs import Ask, Ended, Event, Failed, Job

_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)

AtEnd: TypeAlias = Callable[[], Awaitable[None]]


class Channel:
    """The events of the jobs of one request, in the order in which they came.

    Args:
        engine: computes them.
        asks: what is wanted.
        at_end: is awaited after all jobs, before the last event is shown.

    Raises:
        RequestError: the engine takes no more.
    """

    def __init__(self, engine: Engine, asks: Sequence[Ask], at_end: AtEnd | None = None) -> None:
        self._engine, self._loop, self._at_end = engine, asyncio.get_running_loop(), at_end
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._jobs = [self._job(index, ask) for index, ask in enumerate(asks)]
        engine.submit(self._jobs)

    def _job(self, index: int, ask: Ask) -> Job:
        def emit(event: Event) -> None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._events.put_nowait, (index, event))

        return Job(ask, emit)

    def cancel(self) -> None:
        """Give all jobs up that have not ended."""
        self._engine.cancel(self._jobs)

    async def events(self, ping: float | None = None) -> AsyncIterator[tuple[int, Event] | None]:
        """Yield each event with the number of its job, until all jobs have ended.

        Args:
            ping: yield None after each such number of seconds without an event.

        Raises:
            RequestError: a job failed, or `at_end` did.
        """
        left = len(self._jobs)
        while left:
            try:
                index, event = await asyncio.wait_for(self._events.get(), ping)
            except TimeoutError:
                yield None
                continue
            if isinstance(event, Failed):
                raise RequestError(event.status, event.message)
            left -= isinstance(event, Ended)
            if not left and self._at_end is not None:
                await self._at_end()
            yield index, event


async def collect(request: Request, channel: Channel) -> list[tuple[int, Event]]:
    """Return all events of a request whose body was read; give up if the client leaves.

    Raises:
        RequestError: a job failed, or the client has left (499; nobody reads that).
    """

    async def all_events() -> list[tuple[int, Event]]:
        return [found async for found in channel.events() if found is not None]

    wanted, left = asyncio.ensure_future(all_events()), asyncio.ensure_future(_gone(request.receive))
    try:
        await asyncio.wait({wanted, left}, return_when=asyncio.FIRST_COMPLETED)
        if not wanted.done():
            raise RequestError(499, "the client has left")
        return wanted.result()
    finally:
        channel.cancel()
        wanted.cancel()
        left.cancel()


async def _gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


def event(data: Mapping[str, Any], name: str | None = None) -> bytes:
    """Return a server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"


class EventStream(Response):
    """A response of server-sent events.

    Args:
        channel: whose jobs are given up when the client leaves.
        chunks: the parts of the body.
    """

    def __init__(self, channel: Channel, chunks: AsyncIterator[bytes]) -> None:
        super().__init__(media_type="text/event-stream")
        self._channel, self._chunks = channel, chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the body until its end, or until the client leaves."""
        sending = asyncio.ensure_future(self._send(send))
        left = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({sending, left}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            self._channel.cancel()
            sending.cancel()
            left.cancel()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
        try:
            async for chunk in self._chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except RequestError as error:
            await send({"type": "http.response.body", "body": event(error.body()), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
