"""What the server counts, as Prometheus reads it, in a registry of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from sttx_train.serve.engine import Engine
from sttx_train.serve.tenants import Tenants

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


class Metrics:
    """The counts of one server.

    Args:
        engine: whose tokens and rows are counted.
    """

    def __init__(self, engine: Engine) -> None:
        self._registry = CollectorRegistry()
        registry: dict[str, Any] = {"registry": self._registry}
        self.requests = Counter(
            "sttx_requests", "Requests that were answered.", ["route", "status"], **registry
        )
        self.seconds = Histogram(
            "sttx_request_seconds",
            "Seconds until a request was answered.",
            ["route"],
            buckets=_SECONDS,
            **registry,
        )
        gauges: dict[str, tuple[str, Callable[[], float]]] = {
            "sttx_rows": ("Requests that are computed.", lambda: engine.running),
            "sttx_queue": ("Requests that wait.", lambda: engine.waiting),
            "sttx_cache_bytes": ("Bytes of cached states.", lambda: engine.cache.nbytes),
            "sttx_cache_states": ("Cached states.", lambda: len(engine.cache)),
        }
        for name, (about, value) in gauges.items():
            Gauge(name, about, **registry).set_function(value)
        self._tokens = _Tokens(engine)
        self._registry.register(self._tokens)

    def count_learned(self, tenants: Tenants) -> None:
        """Count what is learned too, and how many users there are in memory."""
        self._tokens.tenants = tenants
        gauge = Gauge("sttx_tenants", "Users whose state is in memory.", registry=self._registry)
        gauge.set_function(lambda: len(tenants))

    def text(self) -> bytes:
        """Return all counts."""
        return generate_latest(self._registry)


class _Tokens(Collector):
    """Counts that the engine keeps."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.tenants: Tenants | None = None

    def collect(self):
        """Yield the counts."""
        engine = self._engine
        family = CounterMetricFamily("sttx_tokens", "Tokens, by what was done with them.", labels=["what"])
        family.add_metric(["read"], engine.tokens_read)
        family.add_metric(["generated"], engine.tokens_generated)
        family.add_metric(["cached"], engine.tokens_cached)
        if self.tenants is not None:
            family.add_metric(["learned"], self.tenants.tokens_learned)
            family.add_metric(["not learned"], self.tenants.tokens_dropped)
        yield family
