"""A store in Redis. Each operation is one script there, so that no other client comes between.

Under the prefix ``{sttx}:`` there are a hash for each entry (``e:KEY``: version, size, data), the order of
use of those that may be dropped (``used``), and the sums (``sums``). Redis itself decides what survives its
own end: let it append to a file (``appendonly yes``), and not evict (``maxmemory-policy noeviction``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from sttx_core.errors import UsageError
from sttx_train.stores.protocol import StoreConflict, Stored, StoreDown, StoreFull, damaged_entry, is_kept
from sttx_train.stores.sealed import seal, unseal

SCHEMES = ("redis", "rediss", "unix")
_PREFIX = "{sttx}:"  # the braces keep all keys on one node of a cluster
_SECONDS = 10.0  # until an operation fails
_PAUSE = 5.0  # seconds after that in which operations fail at once, so that only one caller waits

_READ = """
local found = redis.call('HMGET', KEYS[1], 'version', 'data')
if found[1] then
  if redis.call('ZSCORE', KEYS[2], KEYS[1]) then
    redis.call('ZADD', KEYS[2], redis.call('HINCRBY', KEYS[3], 'clock', 1), KEYS[1])
  end
end
return found
"""

_WRITE = """
local expected, size, limit, kept = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local found = redis.call('HMGET', KEYS[1], 'version', 'size')
local version = found[1] or '0'
if version ~= expected then return {'conflict', version} end
local total = tonumber(redis.call('HGET', KEYS[3], 'bytes') or '0') + size - tonumber(found[2] or '0')
local dropped, start = {}, 0
while total > limit do
  local some = redis.call('ZRANGE', KEYS[2], start, start + 99)
  if #some == 0 then return {'full', version} end
  for _, old in ipairs(some) do
    if total <= limit then break end
    if old ~= KEYS[1] then
      total = total - tonumber(redis.call('HGET', old, 'size') or '0')
      dropped[#dropped + 1] = old
    end
  end
  start = start + 100
end
for _, old in ipairs(dropped) do
  redis.call('DEL', old)
  redis.call('ZREM', KEYS[2], old)
end
local new = redis.call('HINCRBY', KEYS[3], 'version', 1)
redis.call('HSET', KEYS[1], 'version', new, 'size', size, 'data', ARGV[5])
redis.call('HSET', KEYS[3], 'bytes', total)
if kept ~= '1' then
  redis.call('ZADD', KEYS[2], redis.call('HINCRBY', KEYS[3], 'clock', 1), KEYS[1])
end
return {'written', tostring(new)}
"""


class RedisStore:
    """Entries in a Redis server, shared by all processes that use its database.

    Args:
        url: ``redis://[:PASSWORD@]HOST[:PORT][/DATABASE]``, ``rediss://…`` over TLS, or ``unix://PATH``.
        limit: most bytes of all entries.

    Raises:
        UsageError: the address is wrong, or the package that talks to Redis is missing.
        StoreDown: there is no answer.
    """

    shared = True

    def __init__(self, url: str, limit: int) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise UsageError("--state-store in Redis needs redis: install 'sttx-train[serve]'") from error
        self._limit, self._failures, self._timeout = limit, redis.RedisError, redis.TimeoutError
        self._silent_until = 0.0
        self._name = _without_password(url)
        try:
            self._client: Any = redis.Redis.from_url(
                url,
                socket_timeout=_SECONDS,
                socket_connect_timeout=_SECONDS,
                # A connection may have ended since its last use. A silent server is not asked again.
                retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
            )
        except ValueError as error:
            raise UsageError(f"--state-store {self._name!r} is not an address of Redis: {error}") from error
        self._read, self._write = map(self._client.register_script, (_READ, _WRITE))
        with self._described():
            self._client.ping()

    def read(self, key: str) -> Stored | None:
        """Return an entry."""
        with self._described():
            version, sealed = self._read(keys=self._keys(key))
        if version is None:
            return None
        try:
            _, data = unseal(key, sealed or b"")
            return Stored(version=int(version), data=data)
        except ValueError as error:
            raise self._damaged(key, str(error)) from error

    def version(self, key: str) -> int:
        """Return the version of an entry."""
        with self._described():
            found = self._client.hget(self._keys(key)[0], "version")
        try:
            return int(found or 0)
        except ValueError as error:
            raise self._damaged(key, "its version is not a number") from error

    def write(self, key: str, data: bytes, *, expected: int) -> int:
        """Replace an entry."""
        sealed = seal(key, 0, data)
        arguments = [expected, len(sealed), self._limit, int(is_kept(key)), sealed]
        with self._described():
            outcome, version = self._write(keys=self._keys(key), args=arguments)
        if outcome == b"conflict":
            raise StoreConflict(key, expected, int(version))
        if outcome == b"full":
            raise StoreFull(key, len(sealed), self._limit)
        return int(version)

    @property
    def nbytes(self) -> int:
        """Bytes of all entries."""
        with self._described():
            return int(self._client.hget(f"{_PREFIX}sums", "bytes") or 0)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _keys(self, key: str) -> list[str]:
        is_kept(key)  # it must be a key
        return [f"{_PREFIX}e:{key}", f"{_PREFIX}used", f"{_PREFIX}sums"]

    def _damaged(self, key: str, reason: str) -> Exception:
        return damaged_entry(key, reason, f"the key {self._keys(key)[0]!r} of {self._name}")

    @contextmanager
    def _described(self) -> Iterator[None]:
        if time.monotonic() < self._silent_until:
            raise StoreDown(f"the state store {self._name!r} fails: it did not answer a moment ago")
        try:
            yield
        except self._failures as error:
            if isinstance(error, self._timeout):
                self._silent_until = time.monotonic() + _PAUSE
            raise StoreDown(f"the state store {self._name!r} fails: {error}") from error


def _without_password(url: str) -> str:
    """Return an address for messages.

    >>> _without_password("redis://me:secret@host:6379/2")
    'redis://host:6379/2'
    """
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
