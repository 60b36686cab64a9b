"""A llama.cpp server in this process, for benchmarks beside it. Needs the package xllamacpp."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xllamacpp


class Llama:
    """Asks a server.

    Args:
        address: where it listens.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def post(self, path: str, **body: Any) -> Any:
        """Return the object that a POST is answered with."""
        request = urllib.request.Request(
            f"{self._address}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)

    def next_log_probs(self, prompt: list[int], vocab_size: int) -> tuple[dict[int, float], int]:
        """Return the log-probability of each next token, and how many tokens of the prompt were reused."""
        answer = self.post(
            "/completion",
            prompt=prompt,
            n_predict=1,
            temperature=0,
            n_probs=vocab_size,
            cache_prompt=True,
            id_slot=0,
        )
        said = answer.get("completion_probabilities") or [{"top_logprobs": []}]
        return {one["id"]: one["logprob"] for one in said[0]["top_logprobs"]}, answer["timings"]["cache_n"]


@contextlib.contextmanager
def running(model: Path, *, streams: int = 1, slots: Path | None = None, threads: int = 1) -> Iterator[Llama]:
    """Run a server of a GGUF file while the block runs.

    Args:
        model: the file.
        streams: texts side by side.
        slots: the folder for saved slots; none are saved when None.
        threads: how many compute.
    """
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_ctx, params.n_parallel, params.n_gpu_layers, params.port = 2048 * streams, streams, 0, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.warmup = params.fit_params = params.ctx_shift = False
    params.verbosity, params.hostnames = -1, ["127.0.0.1"]
    if slots is not None:
        params.slot_save_path = f"{slots}/"
    server = xllamacpp.Server(params)
    try:
        yield Llama(server.listening_address)
    finally:
        del server
