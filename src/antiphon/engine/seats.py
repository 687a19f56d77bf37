"""The queue before an engine: seats, places for cold prompts, and the memory both use.

A seat is one answer in the making. A *cold* prompt is one that has to be computed and whose first token has not come:
prompts are what an engine is slow at, so only a few are inside the library at once and the rest wait here, where they
are bounded and in order. A prompt that the engine remembers nearly all of is not cold. A
turn that holds a seat never waits again: its further phases go straight in, before every cold prompt that is still
outside.

Workspaces take turns by the tokens that they ask for, and within one it is first come, first served; interactive work
goes before batches. The rules and their bounds: docs/design/0012.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import chain, islice

from antiphon.core.clock import Clock
from antiphon.core.errors import Overloaded, invariant
from antiphon.core.records import Scope
from antiphon.engine.contract import Priority
from antiphon.engine.fair import FairLine, Waits

#: After so many interactive seats that were given while a batch waited, the next one is a batch's.
BATCH_TURN = 16
#: So many may go past one whose turn it is and who does not fit; then all wait until it does.
LET_PAST = 8
#: So many workspaces are looked at for one that fits instead.
_LOOK = 8


class Seating:
    """What one prompt is to a seat, and what comes of having it. Here, of an engine that remembers nothing."""

    def best(self, free: Sequence[int]) -> int:
        """Which of the free seats it takes."""
        return min(free)

    def cold(self, number: int) -> bool:
        """Whether it has to be computed there."""
        return True

    def follows(self) -> bool:
        """Whether it had better wait: another one that is being computed begins as it does."""
        return False

    def seated(self, number: int) -> None:
        """It has this seat now."""

    def left(self, number: int) -> None:
        """It has given the seat back."""


class Lease:
    """One seat, held. `number` names it towards the engine's body; `waited` is in seconds."""

    def __init__(self, queue: SeatQueue, number: int, waiter: _Waiter, waited: float, *, cold: bool) -> None:
        self._queue = queue
        self._cold = cold
        self.number = number
        self.seating = waiter.seating
        self.tokens = waiter.tokens
        self.waited = waited

    def warm(self) -> None:
        """The first token has come: let the next cold prompt in. Further calls do nothing."""
        if self._cold:
            self._cold = False
            self._queue.cold -= 1
            self._queue.grant()


#: Of an engine that remembers nothing.
NOTHING_KNOWN = Seating()


class _Waiter(Waits):
    """`work` is what it may come to hold: known before, and nobody can use more than it paid for."""

    def __init__(self, scope: Scope, tokens: int, seating: Seating, since: float) -> None:
        super().__init__(scope, tokens)
        self.tokens = tokens
        self.seating = seating
        self.since = since
        self.let_past = 0
        self.granted: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()


class SeatQueue:
    """Hands out seats in fair order. Bounded: what is too much is refused at once.

    Args:
        seats: answers at once.
        cold_prompts: prompts at once that have not given a token.
        pool_tokens: what all seats together may come to hold, or None where memory is no bound.
        bound: how many may wait, interactive ones and batches each.
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
        self._interactive: FairLine[_Waiter] = FairLine()
        self._batches: FairLine[_Waiter] = FairLine()
        self._since_batch = 0
        self._open = True
        self.cold = 0

    @property
    def taken(self) -> int:
        return self._seats - len(self._free)

    @property
    def waiting(self) -> int:
        return len(self._interactive) + len(self._batches)

    def close(self) -> None:
        """Grant nothing until `open`: the engine is down. Those who wait go on waiting."""
        self._open = False

    def open(self) -> None:
        self._open = True
        self.grant()

    @asynccontextmanager
    async def lease(
        self,
        scope: Scope,
        tokens: int,
        seating: Seating = NOTHING_KNOWN,
        priority: Priority = "interactive",
    ) -> AsyncIterator[Lease]:
        """Hold a seat that may come to use `tokens` tokens of memory. Who follows another waits until what they share
        has been computed.

        Raises:
            Overloaded: the queue is full, nothing was free in time, or another workspace has more right to the place.
        """
        lease = await self._take(_Waiter(scope, tokens, seating, self._clock.monotonic()), priority)
        try:
            yield lease
        finally:
            self._give_back(lease)

    def grant(self) -> None:
        """Give seats to those whose turn it is, as far as they reach."""
        while self._open and self._free and self.waiting and (found := self._next()) is not None:
            line, waiter = found
            if waiter.granted.done():  # gave up while it stood in line
                line.remove(waiter)
                continue
            if line is self._batches or not self._batches:
                self._since_batch = 0
            else:
                self._since_batch += 1
            line.take(waiter)
            waiter.granted.set_result(self._seat(waiter))

    async def _take(self, waiter: _Waiter, priority: Priority) -> Lease:
        line = self._interactive if priority == "interactive" else self._batches
        at_once = self._open and not self.waiting and self._fits(waiter)
        line.add(waiter)
        if at_once:
            line.take(waiter)
            return self._seat(waiter)
        self.grant()
        if waiter.granted.done():
            return waiter.granted.result()
        if len(line) > self._bound:
            leaver = line.excess(waiter)
            line.remove(leaver)
            if leaver is waiter:
                raise Overloaded
            if not leaver.granted.done():
                leaver.granted.set_exception(Overloaded())
        try:
            async with asyncio.timeout(self._wait_seconds):
                return await waiter.granted
        except TimeoutError:
            self._abandon(line, waiter)
            raise Overloaded from None
        except asyncio.CancelledError:
            self._abandon(line, waiter)
            raise

    def _abandon(self, line: FairLine[_Waiter], waiter: _Waiter) -> None:
        if line.remove(waiter):
            self.grant()
        elif not waiter.granted.cancelled() and waiter.granted.exception() is None:
            self._give_back(waiter.granted.result())

    def _next(self) -> tuple[FairLine[_Waiter], _Waiter] | None:
        """Who gets a seat now: whose turn it is, or, where that one does not fit, the next who does and may go past."""
        first: _Waiter | None = None
        for line, waiter in islice(self._heads(), _LOOK):
            if waiter.granted.done():
                return line, waiter
            if self._fits(waiter):
                if first is not None:
                    first.let_past += 1
                return line, waiter
            if first is None:
                first = waiter
                if first.let_past >= LET_PAST:
                    return None
        return None

    def _heads(self) -> Iterator[tuple[FairLine[_Waiter], _Waiter]]:
        interactive = ((self._interactive, waiter) for waiter in self._interactive.heads())
        batches = ((self._batches, waiter) for waiter in self._batches.heads())
        if self._since_batch >= BATCH_TURN:
            return chain(islice(batches, 1), interactive)
        # No batch goes past an interactive one that does not fit: it would take what that one waits for.
        return interactive if self._interactive else batches

    def _fits(self, waiter: _Waiter) -> bool:
        seating = waiter.seating
        if not self._free or seating.follows():
            return False
        if self.cold >= self._cold_prompts and seating.cold(seating.best(self._free)):
            return False
        if self._pool_tokens is None or self._held_tokens == 0:
            return True
        return self._held_tokens + waiter.tokens <= self._pool_tokens

    def _seat(self, waiter: _Waiter) -> Lease:
        number = waiter.seating.best(self._free)
        cold = waiter.seating.cold(number)
        waiter.seating.seated(number)
        self._free.remove(number)
        self._held_tokens += waiter.tokens
        self.cold += cold
        return Lease(self, number, waiter, self._clock.monotonic() - waiter.since, cold=cold)

    def _give_back(self, lease: Lease) -> None:
        invariant(lease.number not in self._free, "a seat is given back once")
        lease.seating.left(lease.number)
        lease.warm()
        self._free.append(lease.number)
        self._held_tokens -= lease.tokens
        self.grant()
        if len(self._free) == self._seats:
            self._interactive.forget()
            self._batches.forget()
