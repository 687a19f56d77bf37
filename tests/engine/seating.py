"""Who holds seats in tests of the queue before an engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from antiphon.core.clock import SystemClock
from antiphon.core.records import Scope
from antiphon.engine.contract import Priority
from antiphon.engine.seats import Lease, Seating, SeatQueue

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


class Told(Seating):
    """A prompt of which we say what it is."""

    def __init__(
        self,
        *,
        cold: bool = True,
        follows: Callable[[], bool] = lambda: False,
        seated: Callable[[int], object] = lambda _: None,
        left: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._cold = cold
        self._follows = follows
        self._seated = seated
        self._left = left

    def cold(self, number: int) -> bool:
        return self._cold

    def follows(self) -> bool:
        return self._follows()

    def seated(self, number: int) -> None:
        self._seated(number)

    def left(self, number: int) -> None:
        self._left(number)


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
        async with self._seats.lease(self.scope, self.tokens, Told(cold=self._cold), self.priority) as lease:
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
