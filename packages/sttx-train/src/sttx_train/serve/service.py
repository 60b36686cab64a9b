"""What all routes share: the models, once they are loaded, and the engine. Knows no route."""

from __future__ import annotations

from pathlib import Path

from sttx_core.errors import CheckpointError
from sttx_train.serve.catalog import Catalog, Served
from sttx_train.serve.config import ServeConfig
from sttx_train.serve.engine import Engine
from sttx_train.serve.failures import RequestError
from sttx_train.serve.metrics import Metrics
from sttx_train.serve.tenants import Tenants


class Service:
    """The state of a server.

    Args:
        config: how it serves.

    Attributes:
        engine: computes; it starts when the models are there.
        metrics: what is counted.
        tenants: who learns; None if nobody does.
    """

    def __init__(self, config: ServeConfig) -> None:
        self.config, self.engine = config, Engine(config)
        self.metrics = Metrics(self.engine)
        self._catalog: Catalog | None = None
        self.tenants: Tenants | None = None

    @property
    def ready(self) -> bool:
        """Whether the models are loaded."""
        return self._catalog is not None

    @property
    def catalog(self) -> Catalog:
        """The models.

        Raises:
            RequestError: they are not loaded yet (503).
        """
        if self._catalog is None:
            raise RequestError(503, "the model is being loaded: try again later", code="loading")
        return self._catalog

    def start(self, catalog: Catalog) -> None:
        """Answer with these models from now on."""
        config = self.config
        if config.learn:
            folder = None if config.learn_dir is None else Path(config.learn_dir)
            self.tenants = Tenants(catalog.frozen, folder, capacity=config.tenants)
            self.engine.idle = self.tenants.step
        self.engine.start()
        self._catalog = catalog

    def find(self, name: str, tenant: str) -> Served:
        """Return a model by its id; while learning, the frozen one is what a tenant has made of it.

        Raises:
            RequestError: there is none.
        """
        served = self.catalog.find(name)
        if self.tenants is None or served is not self.catalog.frozen:
            return served
        try:
            return self.tenants.served(tenant)
        except CheckpointError as error:
            raise RequestError.of(error) from error

    def learns(self, served: Served) -> bool:
        """Return whether a model goes on learning."""
        return self.tenants is not None and served.base is not None

    def learn(self, served: Served, tenant: str, ids: tuple[int, ...]) -> None:
        """Learn what a tenant has sent to a model, if that one goes on learning."""
        if self.tenants is not None and self.learns(served):
            self.tenants.add(tenant, ids)
            self.engine.wake()
