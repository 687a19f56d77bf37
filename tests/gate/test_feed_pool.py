"""600 requests a minute for the feed of activities, of all keys of an organization together."""

from __future__ import annotations

import pytest

from antiphon.core.errors import RateLimited
from antiphon.core.records import Caller, Scope
from antiphon.gate.feed_pool import FeedPool
from antiphon.gate.limits.memory import MemoryBuckets

pytestmark = pytest.mark.anyio


class SetClock:
    """Stands where it is put."""

    def __init__(self) -> None:
        self.ms = 1_795_406_400_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


def caller(key: int, organization: str = "org_a") -> Caller:
    return Caller(Scope(organization, f"wrkspc_{key}"), f"apikey_{key}", admin=True)


async def test_the_keys_of_an_organization_share_600_a_minute() -> None:
    clock = SetClock()
    pool = FeedPool(MemoryBuckets(clock), clock)
    left = []
    for number in range(600):
        lines = dict(await pool.admit(caller(number % 3)))
        left.append(int(lines[b"anthropic-ratelimit-requests-remaining"]))
        assert lines[b"anthropic-ratelimit-requests-limit"] == b"600"
    assert left == list(range(599, -1, -1))
    with pytest.raises(RateLimited, match="600 requests per minute") as refused:
        await pool.admit(caller(7))
    assert refused.value.retry_after_s == 1
    assert dict(refused.value.headers)[b"anthropic-ratelimit-requests-remaining"] == b"0"
    assert await pool.admit(caller(7, "org_b"))
    clock.ms += 1000
    for _ in range(10):
        await pool.admit(caller(1))
    with pytest.raises(RateLimited):
        await pool.admit(caller(1))
