"""Routes that say something of a text: its price, and its tokens."""

from __future__ import annotations

from asyncio import to_thread
from typing import Any

import numpy as np
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sttx_train.serve.bodies import Detokenize, Score, Tokenize, parse
from sttx_train.serve.catalog import Served
from sttx_train.serve.completions import checked, encoded
from sttx_train.serve.conversation import ANSWER, encode_turns, turns
from sttx_train.serve.failures import bad
from sttx_train.serve.jobs import Ask, PromptRead
from sttx_train.serve.reading_bodies import body_of, tenant_of
from sttx_train.serve.service import Service
from sttx_train.serve.streaming import Channel, collect
from sttx_train.serve.tokens import END, shown

_MOST = 2048  # texts of one request


def add_text_routes(app: FastAPI, service: Service) -> None:
    """Add the routes to an application."""
    most = service.config.body_bytes

    @app.post("/v1/score")
    async def score(request: Request) -> Response:
        body = parse(await body_of(request, most), Score)
        served = await service.find(body.model, tenant_of(request, body.user))
        texts = [body.input] if isinstance(body.input, str) else body.input
        if not texts or len(texts) > _MOST or "" in texts:
            raise bad(f"input must be 1 to {_MOST} texts, none of them empty", "input")
        both = [served, *([served.base] if served.base is not None else [])]
        encodings = [await to_thread(encoded, text, served) for text in texts]
        asks = [Ask(served=one, ids=ids, prices=True) for one in both for ids in encodings]
        events = await collect(request, Channel(service.engine, asks))
        prices = {
            i: event.prices
            for i, event in events
            if isinstance(event, PromptRead) and event.prices is not None
        }
        data = []
        for index, text in enumerate(texts):
            price = prices[index]
            frozen = price.frozen if served.base is None else prices[len(texts) + index].network
            data.append(_priced(index, text, asks[index], price.bits, frozen))
        return JSONResponse(_scores(served, data))

    _add_tokenizer_routes(app, service)


def _add_tokenizer_routes(app: FastAPI, service: Service) -> None:
    most = service.config.body_bytes

    @app.post("/tokenize")
    async def tokenize(request: Request) -> Response:
        body = parse(await body_of(request, most), Tokenize)
        served = _named(service, body.model)
        ids = await to_thread(_ids, body, served)
        answer: dict[str, Any] = {"tokens": list(ids), "count": len(ids), "max_model_len": None}
        if body.return_token_strs:
            answer["token_strs"] = [shown(served.predictor.tokens[token]) for token in ids]
        return JSONResponse(answer)

    @app.post("/detokenize")
    async def detokenize(request: Request) -> Response:
        body = parse(await body_of(request, most), Detokenize)
        served = _named(service, body.model)
        ids = checked(body.tokens, served, "tokens") if body.tokens else ()
        text = b"".join(served.predictor.tokens[token] for token in ids).decode(errors="replace")
        return JSONResponse({"prompt": text, "content": text})

    @app.get("/tokenizer_info")
    async def tokenizer_info(request: Request) -> Response:
        tokenizer = service.catalog.default.predictor.tokenizer
        return JSONResponse(
            {
                "tokenizer_class": type(tokenizer).__name__,
                "vocab_size": len(service.catalog.default.predictor.tokens),
                "eos_token": END,
                "eos_token_id": tokenizer.eot_id,
                "bos_token": END,
                "pad_token": None,
                "chat_template": None,
                "sha256": tokenizer.sha256,
            }
        )


def _named(service: Service, name: str | None) -> Served:
    return service.catalog.default if name is None else service.catalog.find(name)


def _ids(body: Tokenize, served: Served) -> tuple[int, ...]:
    """Return the ids of a text or of messages; the name of the end of text is its id."""
    tokenizer = served.predictor.tokenizer
    text = body.content if body.prompt is None else body.prompt
    if (text is None) == (body.messages is None):
        raise bad("give either prompt or messages", "prompt")
    if body.messages is not None:
        opening = [] if body.add_generation_prompt is False else [ANSWER]
        return encode_turns([*turns(body.messages), *opening], tokenizer)
    return (tokenizer.eot_id,) if text == END else encoded(text or "", served)


def _known(bits: float) -> float | None:
    """Return a price; None if it was not computed."""
    return None if np.isnan(bits) else float(bits)


def _priced(index: int, text: str, ask: Ask, bits: np.ndarray, frozen: np.ndarray) -> dict[str, Any]:
    names = ask.served.predictor.tokens
    size = len(text.encode(errors="replace"))
    return {
        "index": index,
        "bits": float(bits.sum()),
        "frozen_bits": _known(frozen.sum()),
        "bytes": size,
        "bits_per_byte": float(bits.sum()) / size,
        "tokens": [
            {"id": token, "text": shown(names[token]), "bits": float(paid), "frozen_bits": _known(before)}
            for token, paid, before in zip(ask.ids, bits, frozen, strict=True)
        ],
    }


def _scores(served: Served, data: list[dict[str, Any]]) -> dict[str, Any]:
    tokens = sum(len(entry["tokens"]) for entry in data)
    frozen = [entry["frozen_bits"] for entry in data]
    return {
        "object": "list",
        "model": served.id,
        "system_fingerprint": served.fingerprint,
        "data": data,
        "bits": sum(entry["bits"] for entry in data),
        "frozen_bits": None if None in frozen else sum(frozen),
        "bytes": sum(entry["bytes"] for entry in data),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
