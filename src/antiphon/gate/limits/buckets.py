"""Token buckets: what may be taken, what is left, and when the rest comes back.

A bucket of limit L holds at most L tokens and refills continuously, L in a minute. What is missing from it is a queue
of tokens that were taken and are given back one after the other, at the rate L: the *deficit* is the queue's length,
*served* how many have left it since the bucket was *born*. A hold remembers where its tokens stand in that queue, and
settling it gives back only those that are sure to stand there still: those behind what has been served, and those
that cannot have been refilled in the time since. (What is given back leaves the queue at its head, as if it were
served; so of several late failures the earlier holds may get back less than was theirs, never more.)

So no order of taking, settling and waiting ever lets more through in any span of time than the bucket holds plus what
refills meanwhile. A bucket that simply added what is given back would let twice its size through at once, when an old
hold that has long been refilled is settled.

All is counted in integers: a token is 60,000 units, so that a bucket of limit L refills L units per millisecond.
A millisecond is the tick. When a bucket's limit changes, its deficit is scaled, so that the time until it is full
stays what it was; what was held before is then no longer given back.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final, Protocol

import msgspec

from antiphon.core.errors import Overloaded
from antiphon.gate.limits.tiers import Kind

#: Units of one token: the milliseconds of a minute.
UNITS: Final = 60_000


class LimitsUnavailable(Overloaded):
    """Where the buckets are kept does not answer: nobody is let in, because nobody can count. Safe to retry.

    `reason` is for the log; the client gets the plain message.
    """

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


class Bucket(msgspec.Struct, frozen=True, gc=False):
    """One limit in force. Buckets of one `name` are the same, whatever limit they are asked with."""

    name: str
    kind: Kind
    limit: int
    of_workspace: bool

    @classmethod
    def of(cls, organization: str, workspace: str | None, group: str, kind: Kind, limit: int) -> Bucket:
        """The braces keep all buckets of an organization on one node of a cluster."""
        return cls(f"{{{organization}}}:{workspace or ''}:{group}:{kind}", kind, limit, workspace is not None)


class Demand(msgspec.Struct, frozen=True, gc=False):
    """What is wanted of a bucket: `amount` tokens are taken, if at least `needs` are there (or `amount`, if that is
    more). Amount 0 and needs 1 is "let me in if something is left"; 0 and 0 only looks."""

    bucket: Bucket
    amount: int
    needs: int = 0


class Hold(msgspec.Struct, frozen=True, gc=False):
    """Tokens that were taken. Settle it once, or never if exactly `amount` was used."""

    bucket: Bucket
    amount: int
    end: int
    """Where in the bucket's queue the last of them stands, in units since the bucket was born."""
    at: int
    """When they were taken, milliseconds on the buckets' own clock."""
    born: int
    """Which life of the bucket that is."""


class Level(msgspec.Struct, frozen=True, gc=False):
    """How a bucket stands. `remaining` is in whole tokens, below zero where more was used than it held; `full_ms`
    the time until it is full again."""

    bucket: Bucket
    remaining: int
    full_ms: int


class Taken(msgspec.Struct, frozen=True, gc=False):
    """All that was wanted. `holds` of what has an amount, `levels` in the order of the demands."""

    holds: tuple[Hold, ...]
    levels: tuple[Level, ...]


class Refused(msgspec.Struct, frozen=True, gc=False):
    """Nothing was taken. `bucket` is the one to wait for longest; in `wait_ms`, if nobody takes anything meanwhile,
    all demands fit, and not a millisecond earlier. None: one of them is larger than its whole bucket."""

    bucket: Bucket
    wait_ms: int | None
    levels: tuple[Level, ...]


class Buckets(Protocol):
    """Where the buckets are kept. All demands of one call are of the same organization and of different buckets."""

    async def take(self, demands: Sequence[Demand]) -> Taken | Refused:
        """Take all or nothing.

        Raises:
            LimitsUnavailable: it cannot be told whether they fit.
        """
        ...

    async def settle(self, used: Sequence[tuple[Hold, int]]) -> None:
        """Say how many tokens a hold really used: what it held beyond is given back, what was used beyond is taken,
        below zero if need be. Never refused.

        Raises:
            LimitsUnavailable: nothing is given back; what was used beyond is taken later.
        """
        ...

    async def spend(self, spent: Sequence[tuple[Bucket, int]]) -> None:
        """Take what has been used already, below zero if need be. Never refused.

        Raises:
            LimitsUnavailable: it is taken later.
        """
        ...

    async def look(self, buckets: Sequence[Bucket]) -> tuple[Level, ...]:
        """How they stand, taking nothing.

        Raises:
            LimitsUnavailable: nobody knows.
        """
        ...


def level_of(bucket: Bucket, deficit: int) -> Level:
    """What a deficit, in units, means."""
    limit = bucket.limit
    if not deficit:
        return Level(bucket, limit, 0)
    return Level(bucket, (limit * UNITS - deficit) // UNITS, -(-deficit // limit) if limit else 0)


def wait_of(demand: Demand, deficit: int) -> int | None:
    """Milliseconds until a demand fits; None: it is larger than the whole bucket."""
    limit, wanted = demand.bucket.limit, max(demand.amount, demand.needs)
    if wanted == 0:
        return 0
    if wanted > limit:
        return None
    return max(0, -(-(deficit - (limit - wanted) * UNITS) // limit))


def refusal(demands: Sequence[Demand], deficits: Sequence[int]) -> Refused:
    """What to answer to demands that do not all fit, given the buckets' deficits in units."""
    waits = [wait_of(demand, deficit) for demand, deficit in zip(demands, deficits, strict=True)]
    worst = max(range(len(waits)), key=lambda at: inf if (wait := waits[at]) is None else wait)
    levels = tuple(level_of(demand.bucket, deficit) for demand, deficit in zip(demands, deficits, strict=True))
    return Refused(demands[worst].bucket, waits[worst], levels)
