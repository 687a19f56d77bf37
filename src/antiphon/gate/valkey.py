"""A Lua script on a Valkey (or Redis) server: asked with one deadline, never twice by itself.

Nobody knows whether a call without an answer ran, so what to do then is the caller's to say. While the server is away
callers are refused at once for the length of a deadline, so that they do not queue up for an answer that will not come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec
from valkey.asyncio import BlockingConnectionPool, Valkey
from valkey.asyncio.retry import Retry
from valkey.backoff import NoBackoff
from valkey.exceptions import ConnectionError as NoConnection
from valkey.exceptions import TimeoutError as NoAnswer
from valkey.exceptions import ValkeyError

from antiphon.core.clock import Clock
from antiphon.core.errors import SettingsError
from antiphon.gate.limits.buckets import LimitsUnavailable

#: The server's time in milliseconds, as a script asks for it.
SERVER_CLOCK: Final = "(function() local t = redis.call('TIME') return t[1] * 1000 + math.floor(t[2] / 1000) end)()"


class ScriptFigures(msgspec.Struct, frozen=True):
    """For the metrics and the log."""

    failures: int
    last_error: str | None


class _Registered(Protocol):
    async def __call__(self, keys: Sequence[str], args: Sequence[str | int]) -> object: ...


class ServerScript:
    """One script on one server. Close it at the end."""

    def __init__(
        self,
        url: str,
        text: str,
        clock: Clock,
        *,
        timeout_s: float = 0.5,
        connections: int = 64,
        server_clock: str = SERVER_CLOCK,
    ) -> None:
        """`url` like `valkey://host:6379/0`, `valkeys://` for TLS, `unix://` for a socket. `clock` is only asked how
        long the server has been away. `NOW_MS` in the text becomes `server_clock`, which tests own.

        Raises:
            SettingsError: the address is malformed.
        """
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=connections,
                timeout=timeout_s,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            raise SettingsError(f"The address of the limits' server cannot be read: {error}") from None
        self._server = Valkey(connection_pool=pool)
        self._script: _Registered = self._server.register_script(text.replace("NOW_MS", server_clock))
        self._clock = clock
        self._timeout_s = timeout_s
        self._away_until_s = float("-inf")
        self._failures = 0
        self._last_error: str | None = None

    async def __call__(self, keys: Sequence[str], args: Sequence[str | int]) -> object:
        """What the script answers.

        Raises:
            LimitsUnavailable: no answer in time, or an error. The script may have run all the same.
        """
        if self._clock.monotonic() < self._away_until_s:
            raise LimitsUnavailable(self._last_error or "")
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._script(keys, args)
        except (ValkeyError, OSError) as error:
            await self._failed(error)
            raise LimitsUnavailable(self._last_error or "") from error

    def figures(self) -> ScriptFigures:
        return ScriptFigures(self._failures, self._last_error)

    async def close(self) -> None:
        """Leave the server."""
        await self._server.aclose()
        await self._server.connection_pool.disconnect()

    async def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._last_error = f"{type(error).__name__}: {error}"
        if isinstance(error, NoConnection | NoAnswer | OSError):
            self._away_until_s = self._clock.monotonic() + self._timeout_s
            await self._server.connection_pool.disconnect(inuse_connections=False)
