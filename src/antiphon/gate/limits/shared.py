"""Buckets that several API processes share, kept on a Valkey (or Redis) server.

Every operation is one script, run by the server as a whole and by the server's own clock, so neither the processes'
clocks nor their number matter. When the server does not answer within `timeout_s` nobody is let in: a limiter that
lets everybody in when it cannot count is none. Nothing is tried twice, because a lost answer does not say whether the
script ran; tokens of an unanswered `take` refill within a minute. What was used but could not be written is owed, and
taken first once the server is back.

The server must not evict keys (`maxmemory-policy noeviction`): a bucket that is lost is a full one.
"""

from __future__ import annotations

import asyncio
import importlib.resources
from collections import Counter
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
from antiphon.gate.limits.buckets import (
    Bucket,
    Demand,
    Hold,
    Level,
    LimitsUnavailable,
    Refused,
    Taken,
    level_of,
    refusal,
)

_PREFIX = "antiphon:limits:"
#: The server's time in milliseconds, as the script asks for it.
SERVER_CLOCK: Final = "(function() local t = redis.call('TIME') return t[1] * 1000 + math.floor(t[2] / 1000) end)()"


class SharedFigures(msgspec.Struct, frozen=True):
    """For the metrics and the log. `owed` are tokens used while the server was away and not yet taken."""

    failures: int
    owed: int
    last_error: str | None


class _Script(Protocol):
    async def __call__(self, keys: Sequence[str], args: Sequence[str | int]) -> object: ...


class SharedBuckets:
    """The server's buckets. Close it at the end."""

    def __init__(
        self, url: str, clock: Clock, *, timeout_s: float = 0.5, connections: int = 64, server_clock: str = SERVER_CLOCK
    ) -> None:
        """`url` like `valkey://host:6379/0`, `valkeys://` for TLS, `unix://` for a socket. `clock` is only asked how
        long the server has been away. `server_clock` is the Lua expression of the time in milliseconds; tests own it.

        Raises:
            SettingsError: the address is malformed.
        """
        self._clock = clock
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
        text = importlib.resources.files(__package__).joinpath("buckets.lua").read_text("utf-8")
        self._script: _Script = self._server.register_script(text.replace("NOW_MS", server_clock))
        self._timeout_s = timeout_s
        self._away_until_s = float("-inf")
        self._owed: Counter[Bucket] = Counter()
        self._failures = 0
        self._last_error: str | None = None

    async def take(self, demands: Sequence[Demand]) -> Taken | Refused:
        """See `Buckets.take`."""
        if self._owed:
            await self.settle(())
        args: list[str | int] = ["take"]
        for demand in demands:
            args += (demand.bucket.limit, demand.amount, demand.needs)
        fits, now, *rest = msgspec.convert(await self._call([demand.bucket for demand in demands], args), list[int])
        deficits, ends, births = rest[0::3], rest[1::3], rest[2::3]
        if not fits:
            return refusal(demands, deficits)
        found = zip(demands, ends, births, strict=True)
        return Taken(
            tuple(Hold(demand.bucket, demand.amount, end, now, born) for demand, end, born in found if demand.amount),
            tuple(level_of(demand.bucket, deficit) for demand, deficit in zip(demands, deficits, strict=True)),
        )

    async def settle(self, used: Sequence[tuple[Hold, int]]) -> None:
        """See `Buckets.settle`."""
        owed, self._owed = self._owed, Counter()
        for hold, tokens in used:
            if tokens > hold.amount:
                owed[hold.bucket] += tokens - hold.amount
        buckets: list[Bucket] = []
        args: list[str | int] = ["settle"]
        for hold, tokens in used:
            if tokens < hold.amount:
                buckets.append(hold.bucket)
                args += (hold.bucket.limit, hold.amount, tokens, hold.end, hold.at, hold.born)
        for bucket, tokens in owed.items():
            buckets.append(bucket)
            args += (bucket.limit, 0, tokens, 0, 0, 0)
        if not buckets:
            return
        try:
            await self._call(buckets, args)
        except BaseException:
            self._owed.update(owed)
            raise

    async def spend(self, spent: Sequence[tuple[Bucket, int]]) -> None:
        """See `Buckets.spend`."""
        await self.settle([(Hold(bucket, 0, 0, 0, 0), tokens) for bucket, tokens in spent])

    async def look(self, buckets: Sequence[Bucket]) -> tuple[Level, ...]:
        """See `Buckets.look`."""
        return (await self.take([Demand(bucket, 0) for bucket in buckets])).levels

    def figures(self) -> SharedFigures:
        return SharedFigures(self._failures, sum(self._owed.values()), self._last_error)

    async def close(self) -> None:
        """Say what is still owed, if anybody listens, and leave."""
        try:
            if self._owed:
                await self.settle(())
        except LimitsUnavailable as error:
            self._last_error = error.reason
        finally:
            await self._server.aclose()
            await self._server.connection_pool.disconnect()

    async def _call(self, buckets: Sequence[Bucket], args: Sequence[str | int]) -> object:
        if self._clock.monotonic() < self._away_until_s:
            raise LimitsUnavailable(self._last_error or "")
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._script([_PREFIX + bucket.name for bucket in buckets], args)
        except (ValkeyError, OSError) as error:
            await self._failed(error)
            raise LimitsUnavailable(self._last_error or "") from error

    async def _failed(self, error: Exception) -> None:
        """Count it; and where the server is gone, drop its connections and ask no more for one timeout's length, so
        that callers do not queue up for an answer that will not come."""
        self._failures += 1
        self._last_error = f"{type(error).__name__}: {error}"
        if isinstance(error, NoConnection | NoAnswer | OSError):
            self._away_until_s = self._clock.monotonic() + self._timeout_s
            await self._server.connection_pool.disconnect(inuse_connections=False)
