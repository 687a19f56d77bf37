"""Who holds seats in tests of the queue before an engine."""

from __future__ import annotations

import asyncio
from typing import Any

from antiphon.core.clock import SystemClock
from antiphon.core.records import Scope
from antiphon.engine.contract import Priority
from antiphon.engine.seats import Lease, SeatQueue

ONE, TWO, THREE = (Scope("org", name) for name in ("one", "two", "three"))


def queue(**change: Any) -> SeatQueue:
    return SeatQueue(
        **(
            {
                "seats": 2,
                "cold_prompts": 2,
                "pool_tokens": None,
                "bound": 8,
                "wait_seconds": 5.0,
                "clock": SystemClock(),
            }
            | change
        )
    )


class Holder:
    """Takes a seat in a task of its own and holds it until told."""

    def __init__(
        self,
        seats: SeatQueue,
        tokens: int = 1,
        scope: Scope = ONE,
        *,
        cold: bool = True,
        priority: Priority = "interactive",
        order: list[Holder] | None = None,
    ) -> None:
        self._release = asyncio.Event()
        self.lease: Lease | None = None
        self.scope = scope
        self.tokens = tokens
        self._seats = seats
        self._cold = cold
        self.priority = priority
        self._order = order if order is not None else []
        self.task = asyncio.get_running_loop().create_task(self._hold())

    async def _hold(self) -> None:
        leased = self._seats.lease(self.scope, self.tokens, min, lambda _: self._cold, self.priority)
        async with leased as lease:
            self.lease = lease
            self._order.append(self)
            await self._release.wait()

    def seated(self) -> bool:
        return self.lease is not None

    async def release(self) -> None:
        self._release.set()
        await self.task


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
