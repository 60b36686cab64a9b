"""The config of the server. Loads neither torch nor FastAPI."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from sttx_core.errors import UsageError

_POSITIVE = ("rows", "chunk", "every", "body_bytes", "max_tokens", "tenants", "state_bytes")


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Where the server listens, and what it allows.

    Attributes:
        host: address to listen on; beyond loopback a key is needed.
        port: port to listen on; 0 takes a free one.
        rows: most requests that are computed at once, as the rows of one batch.
        queue: most requests that wait; further ones get the status 429.
        chunk: most tokens of a prompt that are read at once, between two tokens of other requests.
        cache_bytes: most memory of the states that are kept of texts read before, in bytes (0: none).
        every: keep a state after each such number of tokens of a prompt, beside the one at its end.
        body_bytes: most bytes of a request.
        max_tokens: most tokens that a request may ask for.
        learn: learn in the background from what users send in chats, for each user apart.
        tenants: most users whose state is in memory; those used least are read again from the state store.
        state_store: where states of conversations and users are kept: memory, a folder, or redis://HOST. A
            folder or Redis outlives the server, and several servers can share it.
        state_bytes: most bytes of the state store. The conversations used least are dropped; nobody learns
            more once what was learned fills it.
        slot_dir: folder in which requests may save states by a name; without it they cannot.
        ping: seconds of silence after which a stream gets a comment, so that no proxy ends it.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    rows: int = 16
    queue: int = 64
    chunk: int = 64
    cache_bytes: int = 256_000_000
    every: int = 512
    body_bytes: int = 8_000_000
    max_tokens: int = 65_536
    learn: bool = False
    tenants: int = 256
    state_store: str = "memory"
    state_bytes: int = 4_000_000_000
    slot_dir: str | None = None
    ping: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise UsageError(f"--port must be from 0 to 65535, not {self.port!r}")
        for name in _POSITIVE:
            if getattr(self, name) < 1:
                raise UsageError(
                    f"--{name.replace('_', '-')} must be at least 1, not {getattr(self, name)!r}"
                )
        for name in ("queue", "cache_bytes"):
            if getattr(self, name) < 0:
                raise UsageError(
                    f"--{name.replace('_', '-')} must be at least 0, not {getattr(self, name)!r}"
                )
        if not self.ping > 0:
            raise UsageError(f"--ping must be above 0, not {self.ping!r}")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server.

        >>> [ServeConfig(host=host).loopback for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0")]
        [True, True, True, False]
        """
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
