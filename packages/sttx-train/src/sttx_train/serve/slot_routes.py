"""``/slots/{id}?action=save|restore|erase``, as llama.cpp's server has it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sttx_train.serve.bodies import SLOTS, SlotFile, parse
from sttx_train.serve.failures import RequestError, bad
from sttx_train.serve.guard import KEY
from sttx_train.serve.reading_bodies import body_of
from sttx_train.serve.service import Service
from sttx_train.serve.shared_slots import is_learning
from sttx_train.serve.slots import Slot, SlotName, restore_slot, save_slot


def add_slot_routes(app: FastAPI, service: Service) -> None:
    """Add the route to an application."""
    config = service.config

    @app.post("/slots/{number}")
    async def act(request: Request) -> Response:
        if config.slot_dir is None:
            raise RequestError(501, "slots are off: start the server with --slot-dir", code="not_supported")
        catalog = service.catalog
        slot = SlotName.of(request.scope.get(KEY, ""), _number(request.path_params["number"]))
        folder = Path(config.slot_dir) / slot.owner
        action = request.query_params.get("action", "")
        if action == "erase":
            return JSONResponse(await _erase(service, slot))
        if action not in ("save", "restore"):
            raise bad(f"action must be save, restore or erase, not {action!r}", "action")
        name = parse(await body_of(request, config.body_bytes), SlotFile).filename
        about = {"id_slot": slot.number, "filename": name}
        if action == "save":
            found = await kept(service, slot)
            size = await asyncio.to_thread(save_slot, found, folder, name)
            return JSONResponse(about | {"n_saved": len(found.ids), "n_written": size})
        restored, size = await asyncio.to_thread(restore_slot, catalog, folder, name)
        await _put(service, slot, restored)
        return JSONResponse(about | {"n_restored": len(restored.ids), "n_read": size})


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 4 and int(text) < SLOTS):
        raise RequestError(404, f"no slot {text!r}: there are 0 to {SLOTS - 1}")
    return int(text)


async def _in_engine(service: Service, function: Any) -> Any:
    return await asyncio.wrap_future(service.engine.call(function))


async def kept(service: Service, name: SlotName) -> Slot:
    """Return a slot that can be saved.

    Raises:
        RequestError: it is empty, or of a model that goes on learning.
    """
    if (slot := await _found(service, name)) is None:
        raise bad(f"slot {name} is empty: a request with id_slot fills it", "id_slot")
    if slot.served.base is not None:
        raise is_learning(name)
    return slot


async def _found(service: Service, name: SlotName) -> Slot | None:
    if service.slots is not None:
        return await asyncio.to_thread(service.slots.find, name, service.catalog)
    return await _in_engine(service, lambda: service.engine.slots.get(name))


async def _put(service: Service, name: SlotName, slot: Slot) -> None:
    await _in_engine(service, lambda: service.engine.cache.put(slot.served.digest, slot.ids, slot.reader))
    await _fill(service, name, slot)


async def _erase(service: Service, name: SlotName) -> dict[str, int]:
    try:
        slot = await _found(service, name)
    except RequestError:  # it cannot be used, but it can be emptied
        slot = None
    await _fill(service, name, None)
    return {"id_slot": name.number, "n_erased": 0 if slot is None else len(slot.ids)}


async def _fill(service: Service, name: SlotName, slot: Slot | None) -> None:
    if service.slots is not None:
        version = await asyncio.to_thread(service.slots.version, name)
        await asyncio.to_thread(service.slots.put, name, slot, version)
    elif slot is not None:
        await _in_engine(service, lambda: service.engine.slots.__setitem__(name, slot))
    else:
        await _in_engine(service, lambda: service.engine.slots.pop(name, None))
