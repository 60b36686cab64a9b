"""Puts load on `sttx serve` over loopback: answers of many clients, memory, and tenants that learn.

    uv run python benchmarks/serve.py [--clients N] [--requests N] [--tokens N] [--tenants N]

Clients ask at once. The greedy answers to their prompts were asked for alone before, so that an answer meant
for another client shows. Some read slowly, and some leave in the middle of a stream. The status 429 is tried
again; any other failure ends the benchmark. Then tenants learn: one alone, and many in one batch. Prints one
JSON object: rates by the clock, and the server's resident memory in MB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import psutil

from sttx_train import load_model
from sttx_train.serve import Catalog
from sttx_train.serve.tenants import Tenants

_PROMPTS = 20
_LEAVES, _SLOW = 10, 10  # one request in so many leaves, and another one reads slowly
_WINDOW = 64


def main() -> None:
    """Measure and print one object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=4, help="tokens of each answer")
    parser.add_argument("--tenants", type=int, default=64)
    parser.add_argument("--model", default=None, help="by default goose-mini")
    options = parser.parse_args()
    result = load(options.model, options.clients, options.requests, options.tokens)
    result["learning"] = learning(options.model, options.tenants)
    print(json.dumps(result, indent=2))


def load(model: str | None, clients: int, requests: int, tokens: int) -> dict[str, object]:
    """Return what many clients saw, and the memory of the server."""
    command = [sys.executable, "-m", "sttx_cli", "serve", "--port", "0"]
    command += ["--model", model] if model else []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            lines = iter(server.stderr.readline, "")
            address = next(found[1] for line in lines if (found := re.search(r"on http://(\S+)", line)))
            process = psutil.Process(server.pid)
            return asyncio.run(_load(address, process, clients, requests, tokens))
        finally:
            server.terminate()


async def _load(
    address: str, process: psutil.Process, clients: int, requests: int, tokens: int
) -> dict[str, object]:
    name = json.loads((await _ask(address, "/v1/models"))[1])["data"][0]["id"]
    prompts = [f"User: number {number}\n\nAssistant:" for number in range(_PROMPTS)]
    bodies = [
        {"model": name, "prompt": one, "max_tokens": tokens, "temperature": 0, "stream": True}
        for one in prompts
    ]
    alone = [_text((await _ask(address, "/v1/completions", body))[1]) for body in bodies]
    counts: Counter[str] = Counter()
    memory, left = [], iter(range(requests))

    async def client() -> None:
        for number in left:
            await _one(address, number, bodies, alone, counts)
            if number % max(1, requests // 10) == 0:
                memory.append(round(process.memory_info().rss / 1e6, 1))

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    seconds = time.perf_counter() - began
    return {
        "clients": clients,
        "requests": requests,
        "seconds": round(seconds, 1),
        "requests_per_second": round(requests / seconds, 1),
        "counts": dict(counts),
        "memory_mb": memory,
    }


async def _one(
    address: str, number: int, bodies: list[dict[str, object]], alone: list[str], counts: Counter[str]
) -> None:
    """Ask once, until it is not refused; check the answer."""
    body, leaves = bodies[number % _PROMPTS], number % _LEAVES == 3
    pause = 0.05 if number % _SLOW == 7 else 0.0
    while True:
        status, data = await _ask(address, "/v1/completions", body, leaves=leaves, pause=pause)
        if status != 429:
            break
        counts["429"] += 1
        await asyncio.sleep(0.05)
    assert status == 200, (status, data)
    counts["left" if leaves else "answered"] += 1
    if not leaves:
        assert _text(data) == alone[number % _PROMPTS], "an answer of another prompt"


async def _ask(
    address: str, path: str, body: object = None, *, leaves: bool = False, pause: float = 0.0
) -> tuple[int, str]:
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    try:
        status = int((await reader.readuntil(b"\r\n\r\n")).split()[1])
        if leaves:
            return status, ""
        parts = []
        while part := await reader.read(1024 if pause else -1):
            parts.append(part)
            await asyncio.sleep(pause)
        return status, b"".join(parts).decode()
    finally:
        writer.close()


def _text(stream: str) -> str:
    """Return the text of a stream of a completion."""
    events = re.findall(r"^data: (\{.*\})", stream, re.MULTILINE)
    return "".join(json.loads(event)["choices"][0]["text"] for event in events)


def learning(model: str | None, count: int) -> dict[str, float]:
    """Return learned tokens per second of one tenant alone and of many in one batch."""
    base = Catalog.load(load_model(model)).frozen
    rates, size = {}, len(base.predictor.tokens)
    for tenants in (1, count):
        learners, ids = Tenants(base), np.random.default_rng(0).integers(1, size, 3 * _WINDOW).tolist()
        for number in range(tenants):
            learners.add(str(number), ids)
        learners.step()  # what is compiled or imported at first use is not measured
        began = time.perf_counter()
        while learners.step():
            pass
        rates[tenants] = tenants * 2 * _WINDOW / (time.perf_counter() - began)
    return {
        "tenants": count,
        "alone": round(rates[1], 1),
        "together": round(rates[count], 1),
        "ratio": round(rates[count] / rates[1], 2),
    }


if __name__ == "__main__":
    main()
