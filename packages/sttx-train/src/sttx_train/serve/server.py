"""A server on a socket: HTTP in a thread of its own, which answers from the start, and the engine in another.

Knows when it is ready and how it ends; not what it answers.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence

import uvicorn

from sttx_core.errors import UsageError
from sttx_train.serve.app import Extension, make_app
from sttx_train.serve.catalog import Catalog
from sttx_train.serve.config import ServeConfig
from sttx_train.serve.service import Service

_GRACE = 3  # seconds in which open connections may end


class Server:
    """Listens from its creation on; ``/health`` has the status 503 until the models are there.

    Args:
        config: how it serves.
        keys: keys of which a request needs one.
        extension: further routes, and their part of the page.

    Attributes:
        service: what the routes share.
        url: where it listens.

    Raises:
        UsageError: it would listen beyond this machine without a key, or `state_store` is not a store.
        StoreDown: the store does not answer.
        OSError: the port is taken, or the host is not of this machine.
    """

    def __init__(
        self, config: ServeConfig, keys: Sequence[str] = (), extension: Extension | None = None
    ) -> None:
        if not config.loopback and not keys:
            raise UsageError(
                f"--host {config.host!r} is reached from other machines: give --api-key-file, or leave it out"
            )
        self.service = Service(config)
        self._socket = _listening(config.host, config.port)
        host, port = self._socket.getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        options = uvicorn.Config(
            make_app(self.service, list(keys), extension),
            log_config=None,
            access_log=False,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
        )
        self._http = uvicorn.Server(options)
        self._thread = threading.Thread(target=self._run, name="sttx-http", daemon=True)
        self._stopping = threading.Event()
        self._thread.start()

    def start(self, catalog: Catalog) -> None:
        """Answer with these models from now on."""
        self.service.start(catalog)

    def wait(self) -> None:
        """Return once the server is to stop."""
        while not self._stopping.wait(0.5):  # so that signals are handled
            pass

    def request_stop(self) -> None:
        """Let `wait` return; may be called from a signal's handler."""
        self._stopping.set()

    def close(self) -> None:
        """Give up all requests, close all connections, and end both threads."""
        self._stopping.set()
        self.service.engine.stop()
        self._http.should_exit = True
        self._thread.join()
        self._socket.close()
        self.service.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        asyncio.run(self._http.serve(sockets=[self._socket]))


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    return listening
