"""The split of a prompt's tokens by what of it was found in the cache (contract messages-and-inference 7.4): with A
what was read, B the last mark of an hour behind it (or A) and C the last mark (or A), A is read, B - A written for an
hour, C - B for five minutes, and the rest is input."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from antiphon.core.records import Usage
from antiphon.plan.caching.positions import SECONDS, Lifetime


class Breakpoint(msgspec.Struct, frozen=True, gc=False):
    """A mark that is long enough to be cached: its position's place, and the tokens of the prefix that ends there."""

    place: int
    tokens: int
    lifetime: Lifetime


class Hit(msgspec.Struct, frozen=True, gc=False):
    """What was found: the place where it ends, its tokens, and how long it lives on from now, in seconds."""

    place: int
    tokens: int
    seconds: float


def bill(total: int, breakpoints: Sequence[Breakpoint], hit: Hit | None) -> Usage:
    """The input side of a request's usage; its four figures always add up to `total`, the prompt's tokens."""
    read = 0 if hit is None else hit.tokens
    new = written(breakpoints, hit)
    hour = max([read, *[mark.tokens for mark in new if mark.lifetime == "1h"]])
    last = max([hour, *[mark.tokens for mark in new]])
    return Usage(
        input_tokens=total - last,
        cache_write_5m_tokens=last - hour,
        cache_write_1h_tokens=hour - read,
        cache_read_tokens=read,
    )


def written(breakpoints: Sequence[Breakpoint], hit: Hit | None) -> list[Breakpoint]:
    """The breakpoints that become entries: those behind what was read."""
    return [mark for mark in breakpoints if hit is None or mark.place > hit.place]


def kept_seconds(breakpoints: Sequence[Breakpoint], hit: Hit | None) -> float:
    """For how long something of this prompt is now promised to be remembered."""
    return max(
        0.0 if hit is None else hit.seconds,
        max((float(SECONDS[mark.lifetime]) for mark in written(breakpoints, hit)), default=0.0),
    )
