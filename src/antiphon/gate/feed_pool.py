"""The rate limit of the activity feed: 600 requests per minute of an organization, all its keys together, whatever the
tier (contract platform-and-tools 7.13). In the buckets that the other limits are in, so servers that share those share
this one."""

from __future__ import annotations

from antiphon.core.clock import Clock
from antiphon.core.errors import RateLimited
from antiphon.core.records import Caller
from antiphon.gate.limits.buckets import Bucket, Buckets, Demand, Refused
from antiphon.gate.limits.headers import Lines, lines_of, retry_after_s

REQUESTS_PER_MINUTE = 600


class FeedPool:
    """Lets requests for the feed in."""

    def __init__(self, buckets: Buckets, clock: Clock) -> None:
        self._buckets = buckets
        self._clock = clock

    async def admit(self, caller: Caller) -> Lines:
        """Take one request; gives the header lines that tell how many are left.

        Raises:
            RateLimited: there are none.
            LimitsUnavailable: it cannot be told.
        """
        organization = caller.scope.organization
        bucket = Bucket.of(organization, None, "compliance", "requests_per_minute", REQUESTS_PER_MINUTE)
        answer = await self._buckets.take([Demand(bucket, 1)])
        lines = lines_of(answer.levels, self._clock.now_ms())
        if isinstance(answer, Refused):
            seconds = retry_after_s(answer)
            raise RateLimited(
                f"This request would exceed your organization's rate limit of {REQUESTS_PER_MINUTE} requests per minute"
                f" for this API (org: {organization}). Please try again in {seconds} seconds.",
                retry_after_s=seconds,
                headers=lines,
            )
        return lines
