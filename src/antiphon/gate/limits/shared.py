"""Buckets that several API processes share, kept on a Valkey (or Redis) server.

Every operation is one script, run by the server as a whole and by the server's own clock, so neither the processes'
clocks nor their number matter. When the server does not answer within `timeout_s` nobody is let in: a limiter that
lets everybody in when it cannot count is none. Nothing is tried twice, because a lost answer does not say whether the
script ran; tokens of an unanswered `take` refill within a minute. What was used but could not be written is owed, and
taken first once the server is back.

The server must not evict keys (`maxmemory-policy noeviction`): a bucket that is lost is a full one.
"""

from __future__ import annotations

import importlib.resources
from collections import Counter
from collections.abc import Sequence

import msgspec

from antiphon.core.clock import Clock
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
from antiphon.gate.valkey import SERVER_CLOCK, ServerScript

_PREFIX = "antiphon:limits:"


class SharedFigures(msgspec.Struct, frozen=True):
    """For the metrics and the log. `owed` are tokens used while the server was away and not yet taken."""

    failures: int
    owed: int
    last_error: str | None


class SharedBuckets:
    """The server's buckets. Close it at the end."""

    def __init__(self, url: str, clock: Clock, *, timeout_s: float = 0.5, server_clock: str = SERVER_CLOCK) -> None:
        """See `gate.valkey`.

        Raises:
            SettingsError: the address is malformed.
        """
        text = importlib.resources.files(__package__).joinpath("buckets.lua").read_text("utf-8")
        self._script = ServerScript(url, text, clock, timeout_s=timeout_s, server_clock=server_clock)
        self._owed: Counter[Bucket] = Counter()

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
        figures = self._script.figures()
        return SharedFigures(figures.failures, sum(self._owed.values()), figures.last_error)

    async def close(self) -> None:
        """Say what is still owed, if anybody listens, and leave."""
        try:
            if self._owed:
                await self.settle(())
        except LimitsUnavailable:
            pass  # nobody listens: the buckets refill by themselves
        finally:
            await self._script.close()

    async def _call(self, buckets: Sequence[Bucket], args: Sequence[str | int]) -> object:
        return await self._script([_PREFIX + bucket.name for bucket in buckets], args)
