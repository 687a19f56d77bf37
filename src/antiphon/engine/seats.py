"""The queue before an engine: seats, places for cold prompts, and the memory both use.

A seat is one answer in the making. A *cold* prompt is one that has to be computed and whose first token has not come:
prompts are what an engine is slow at, so only a few are inside the library at once and the rest wait here, where they
are bounded and in order. A prompt that the engine remembers nearly all of is not cold. A
turn that holds a seat never waits again: its further phases go straight in, before every cold prompt that is still
outside.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from antiphon.core.clock import Clock
from antiphon.core.errors import Overloaded, invariant

#: Picks one of the free seats, e.g. the one whose cached prompt fits best.
Choose = Callable[[Sequence[int]], int]
#: Whether a prompt would be cold on a seat.
Cold = Callable[[int], bool]


def always(_: int) -> bool:
    """Nothing is known of what the seat remembers."""
    return True


class Lease:
    """One seat, held. `number` names it towards the engine's body; `waited` is in seconds."""

    def __init__(self, queue: SeatQueue, number: int, tokens: int, waited: float, *, cold: bool) -> None:
        self._queue = queue
        self._cold = cold
        self.number = number
        self.tokens = tokens
        self.waited = waited

    def warm(self) -> None:
        """The first token has come: let the next cold prompt in. Further calls do nothing."""
        if self._cold:
            self._cold = False
            self._queue.cold -= 1
            self._queue.grant()


class _Waiter:
    def __init__(self, tokens: int, choose: Choose, cold: Cold, since: float) -> None:
        self.tokens = tokens
        self.choose = choose
        self.cold = cold
        self.since = since
        self.granted: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()


class SeatQueue:
    """Hands out seats in order of arrival. Bounded: what does not fit is refused at once.

    Args:
        seats: answers at once.
        cold_prompts: prompts at once that have not given a token.
        pool_tokens: what all seats together may come to hold, or None where memory is no bound.
        bound: how many may wait.
        wait_seconds: how long one may wait.
    """

    def __init__(
        self,
        *,
        seats: int,
        cold_prompts: int,
        pool_tokens: int | None,
        bound: int,
        wait_seconds: float,
        clock: Clock,
    ) -> None:
        self._seats = seats
        self._cold_prompts = cold_prompts
        self._pool_tokens = pool_tokens
        self._bound = bound
        self._wait_seconds = wait_seconds
        self._clock = clock
        self._free = list(range(seats))
        self._held_tokens = 0
        self._waiting: deque[_Waiter] = deque()
        self._open = True
        self.cold = 0

    @property
    def taken(self) -> int:
        return self._seats - len(self._free)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def close(self) -> None:
        """Grant nothing until `open`: the engine is down. Those who wait go on waiting."""
        self._open = False

    def open(self) -> None:
        self._open = True
        self.grant()

    @asynccontextmanager
    async def lease(self, tokens: int, choose: Choose = min, cold: Cold = always) -> AsyncIterator[Lease]:
        """Hold a seat that may come to use `tokens` tokens of memory.

        Raises:
            Overloaded: the queue is full, or nothing was free in time.
        """
        lease = await self._take(tokens, choose, cold)
        try:
            yield lease
        finally:
            self._give_back(lease)

    def grant(self) -> None:
        """Give seats to those in front, as far as they reach."""
        while self._waiting and self._open:
            waiter = self._waiting[0]
            if waiter.granted.done():  # gave up while it stood in line
                self._waiting.popleft()
                continue
            if not self._fits(waiter):
                return
            self._waiting.popleft()
            waiter.granted.set_result(self._seat(waiter))

    async def _take(self, tokens: int, choose: Choose, cold: Cold) -> Lease:
        self.grant()
        waiter = _Waiter(tokens, choose, cold, self._clock.monotonic())
        if self._open and not self._waiting and self._fits(waiter):
            return self._seat(waiter)
        if len(self._waiting) >= self._bound:
            raise Overloaded
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._wait_seconds):
                return await waiter.granted
        except TimeoutError:
            self._abandon(waiter)
            raise Overloaded from None
        except asyncio.CancelledError:
            self._abandon(waiter)
            raise

    def _abandon(self, waiter: _Waiter) -> None:
        if waiter.granted.done() and not waiter.granted.cancelled():
            self._give_back(waiter.granted.result())
        elif waiter in self._waiting:
            self._waiting.remove(waiter)
            self.grant()

    def _fits(self, waiter: _Waiter) -> bool:
        if not self._free:
            return False
        if self.cold >= self._cold_prompts and waiter.cold(waiter.choose(self._free)):
            return False
        if self._pool_tokens is None or self._held_tokens == 0:
            return True
        return self._held_tokens + waiter.tokens <= self._pool_tokens

    def _seat(self, waiter: _Waiter) -> Lease:
        number = waiter.choose(self._free)
        cold = waiter.cold(number)
        self._free.remove(number)
        self._held_tokens += waiter.tokens
        self.cold += cold
        return Lease(self, number, waiter.tokens, self._clock.monotonic() - waiter.since, cold=cold)

    def _give_back(self, lease: Lease) -> None:
        invariant(lease.number not in self._free, "a seat is given back once")
        lease.warm()
        self._free.append(lease.number)
        self._held_tokens -= lease.tokens
        self.grant()
