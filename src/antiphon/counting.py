"""The life of a `count_tokens` request: a turn that ends with the plan (`turn.py`)."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec

from antiphon.core.records import Caller
from antiphon.parts import INLINE_BYTES, Parts
from antiphon.plan.schema.effort import TakesLonger
from antiphon.wire.parse import Parsed
from antiphon.wire.request import CountTokensRequest

#: The group of rate limits that counting has for itself (contract messages-and-inference 8).
_COUNTING = "token_count"


class Counted(msgspec.Struct, frozen=True):
    """A prompt's length in tokens, and the lines that tell how the limits stand."""

    tokens: int
    headers: list[tuple[bytes, bytes]]


async def count(parts: Parts, caller: Caller, parsed: Parsed[CountTokensRequest]) -> Counted:
    """The turn of `count_tokens`: it ends with the plan. Equals the input tokens of the same request, always.

    Raises:
        RequestError: the request cannot be counted, or there have been too many.
        Overloaded: the server is full.
    """
    allowed = parts.entrance.admit(caller)
    try:
        route = parts.route(caller, parsed.request)
        await allowed.request(_COUNTING, parsed.request.model)
        planner = parts.models[route.model.name].planner
        if len(parsed.raw) <= INLINE_BYTES:
            with suppress(TakesLonger):
                return Counted(planner.count(parsed.request, waits=False), allowed.headers)
        return Counted(await asyncio.to_thread(planner.count, parsed.request), allowed.headers)
    finally:
        await allowed.settle(0)
        await allowed.close()
