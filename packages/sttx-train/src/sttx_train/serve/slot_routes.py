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
from sttx_train.serve.reading_bodies import body_of
from sttx_train.serve.service import Service
from sttx_train.serve.slots import Slot, restore_slot, save_slot


def add_slot_routes(app: FastAPI, service: Service) -> None:
    """Add the route to an application."""
    config = service.config

    @app.post("/slots/{number}")
    async def slot(request: Request) -> Response:
        if config.slot_dir is None:
            raise RequestError(501, "slots are off: start the server with --slot-dir", code="not_supported")
        catalog, folder = service.catalog, Path(config.slot_dir)
        number = _number(request.path_params["number"])
        action = request.query_params.get("action", "")
        if action == "erase":
            return JSONResponse(await _in_engine(service, lambda: _erase(service, number)))
        if action not in ("save", "restore"):
            raise bad(f"action must be save, restore or erase, not {action!r}", "action")
        name = parse(await body_of(request, config.body_bytes), SlotFile).filename
        about = {"id_slot": number, "filename": name}
        if action == "save":
            found = await _in_engine(service, lambda: kept(service, number))
            size = await asyncio.to_thread(save_slot, found, folder, name)
            return JSONResponse(about | {"n_saved": len(found.ids), "n_written": size})
        restored, size = await asyncio.to_thread(restore_slot, catalog, folder, name)
        await _in_engine(service, lambda: _put(service, number, restored))
        return JSONResponse(about | {"n_restored": len(restored.ids), "n_read": size})


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 4 and int(text) < SLOTS):
        raise RequestError(404, f"no slot {text!r}: there are 0 to {SLOTS - 1}")
    return int(text)


async def _in_engine(service: Service, function: Any) -> Any:
    return await asyncio.wrap_future(service.engine.call(function))


def kept(service: Service, number: int) -> Slot:
    """Return a slot that can be saved.

    Raises:
        RequestError: it is empty, or of a model that goes on learning.
    """
    if (slot := service.engine.slots.get(number)) is None:
        raise bad(f"slot {number} is empty: a request with id_slot fills it", "id_slot")
    if slot.served.base is not None:
        raise bad(
            f"slot {number} is of a model that goes on learning: its state cannot be restored", "id_slot"
        )
    return slot


def _put(service: Service, number: int, slot: Slot) -> None:
    service.engine.slots[number] = slot
    service.engine.cache.put(slot.served.digest, slot.ids, slot.reader)


def _erase(service: Service, number: int) -> dict[str, int]:
    slot = service.engine.slots.pop(number, None)
    return {"id_slot": number, "n_erased": 0 if slot is None else len(slot.ids)}
