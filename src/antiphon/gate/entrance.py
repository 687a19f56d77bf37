"""What a turn is allowed, in the order in which it is known what it takes.

    entrance.admit(caller)          a place among the turns under way                → Pass
    await pass_.request(group, …)   one request of this minute's
    await pass_.prompt(usage, …)    the prompt's exact tokens, and the money that the answer can cost at most
    pass_.produced(tokens)          tokens as the engine makes them
    await pass_.settle(…)           what it used and cost in the end; the rest is given back
    await pass_.close()             the place

All of it is given back however the turn ends: `settle` and `close` may come at any time, and count once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from antiphon.core.records import Caller, Usage
from antiphon.gate.admission import Admission, Ticket
from antiphon.gate.limits.limiter import Grant, Limiter
from antiphon.gate.spend.spending import Reservation, Spending


class Pass:
    """One turn's permission."""

    def __init__(self, entrance: Entrance, caller: Caller, ticket: Ticket) -> None:
        self._entrance = entrance
        self._caller = caller
        self._ticket: Ticket | None = ticket
        self._grant: Grant | None = None
        self._reservation: Reservation | None = None
        self._settled = False
        self._kept = False

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The lines that tell how the limits stand (contract messages-and-inference 13)."""
        return self._grant.headers if self._grant is not None else []

    async def request(self, group: str, model: str) -> None:
        """Take one request of a group of the rate limits. `model` is the id that was asked for, for the refusal.

        Raises:
            RateLimited: there is none left.
            LimitsUnavailable: it cannot be told.
        """
        self._grant = await self._entrance.limiter.admit(self._caller.scope, group, model)

    async def prompt(self, usage: Usage, bound_nano: Callable[[], int]) -> None:
        """Take a prompt's tokens, and reserve what the answer can cost at most.

        Raises:
            RateLimited: the tokens do not fit in this minute, or the tier's cap is reached.
            InvalidRequest: a spend limit is reached.
            LimitsUnavailable, StoreUnavailable: it cannot be told.
        """
        if self._grant is not None:
            await self._grant.input(self._grant.counted(usage))
        self._reservation = await self._entrance.spending.reserve_at_most(self._caller.scope, bound_nano)

    def produced(self, tokens: int) -> bool:
        """Count tokens that were made. Returns whether `write` is due."""
        return self._grant is not None and self._grant.produced(tokens)

    async def write(self) -> None:
        """Take from the limits what was produced since the last time."""
        if self._grant is not None:
            await self._grant.write()

    def keep(self) -> None:
        """Somebody settles this whatever becomes of the turn: `close` is to give nothing but the place back."""
        self._kept = True

    async def settle(self, cost_nano: int, usage: Usage | None = None, *, counted: bool = True) -> None:
        """Say what the turn cost, and what it used if that is not what was taken. `counted=False`: it failed
        by our fault, and is no request of anybody's. Never fails; what is settled is settled once."""
        if self._settled:
            return
        self._settled = True
        try:
            if self._grant is not None:
                tokens = None if usage is None else self._grant.counted(usage)
                await self._grant.settle(tokens, counted=counted)
        finally:
            if self._reservation is not None:
                await self._reservation.settle(cost_nano)

    async def close(self) -> None:
        """Give the place back, and what was taken for a turn that never came to be."""
        if not self._settled and not self._kept:
            await asyncio.shield(self.settle(0, Usage(), counted=False))
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            ticket.__exit__(None, None, None)


class Entrance:
    """Lets turns in. `limiter.policy` and `spending.budgets` may be replaced at any time."""

    def __init__(self, admission: Admission, limiter: Limiter, spending: Spending) -> None:
        self.admission = admission
        self.limiter = limiter
        self.spending = spending

    def admit(self, caller: Caller) -> Pass:
        """Let a turn begin.

        Raises:
            Overloaded: the server is full, or is stopping.
        """
        return Pass(self, caller, self.admission.admit(caller))

    def group_of(self, model: str) -> str:
        """The group whose rate limits a request for this id falls under."""
        return self.limiter.policy.book.group_of(model)
