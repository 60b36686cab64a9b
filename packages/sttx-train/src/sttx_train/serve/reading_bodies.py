"""Reads a request: its body, up to the greatest size, and who sent it."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request

from sttx_train.serve.config import ServeConfig
from sttx_train.serve.failures import RequestError, bad
from sttx_train.serve.guard import KEY
from sttx_train.serve.slots import SlotName


async def body_of(request: Request, most: int) -> bytes:
    """Return the body of a request.

    Raises:
        RequestError: it is larger than `most` bytes (413), or the client has left.
    """
    data = bytearray()
    try:
        async for part in request.stream():
            data += part
            if len(data) > most:
                raise RequestError(413, f"the body has more than {most} bytes", code="too_large")
    except ClientDisconnect as error:
        raise RequestError(499, "the client has left") from error
    return bytes(data)


def slot_of(request: Request, number: int | None, config: ServeConfig) -> SlotName | None:
    """Return the slot in which a request leaves its state; None for none.

    Raises:
        RequestError: there is no folder of slots, so that nothing could be done with it.
    """
    if number is None:
        return None
    if config.slot_dir is None:
        raise bad("id_slot has no effect here: start the server with --slot-dir, or leave it out", "id_slot")
    return SlotName.of(request.scope.get(KEY, ""), number)


def tenant_of(request: Request, user: str | None) -> str:
    """Return who asks: a key and the user that it names."""
    return f"{request.scope.get(KEY, '')}\0{user or ''}"
