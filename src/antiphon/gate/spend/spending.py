"""One request's way through the budgets: what it can cost at most is reserved before its seat, what it cost is settled.

reservation = await spending.reserve(scope, bound)
await reservation.settle(cost)                       once the record is on the disk; 0, or nothing, for a failure

Settle after the journal has the record: a budget that is set meanwhile is filled from the ledger, and finds the cost
there or is told of it, or both, but never neither.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

from antiphon.core.clock import Clock
from antiphon.core.errors import invariant
from antiphon.core.records import Scope
from antiphon.gate.limits.buckets import LimitsUnavailable
from antiphon.gate.spend.accounts import Accounts, Refused, Unknown
from antiphon.gate.spend.budgets import HIGHEST_NANO, Account, Budgets, refusal
from antiphon.store import spent
from antiphon.store.database import Database

#: What the ledger says was spent in each account's period, nano-dollars. Raises what the ledger raises.
Ledger: TypeAlias = Callable[[Sequence[Account]], Awaitable[Sequence[int]]]


class Reservation:
    """What one request may cost. Settle it, however it ends."""

    __slots__ = ("_at_ms", "_bound", "_held", "_id", "_open", "_scope", "_spending")

    def __init__(
        self, spending: Spending, scope: Scope, at_ms: int, bound: int, id: str = "", held: tuple[Account, ...] = ()
    ) -> None:
        self._spending = spending
        self._scope = scope
        self._at_ms = at_ms
        self._bound = bound
        self._id = id
        self._held = held
        self._open = True

    async def settle(self, cost_nano: int = 0) -> None:
        """Say what it cost, nano-dollars; the rest of what was reserved is given back. Never fails; counts once."""
        if not self._open:
            return
        self._open = False
        now = self._spending.budgets.accounts(self._scope, self._at_ms)
        others: tuple[Account, ...] = ()
        if now is not self._held:
            names = {account.name for account in self._held}
            others = tuple(account for account in now if account.name not in names)
        if self._held or (others and cost_nano):
            with suppress(LimitsUnavailable):
                await self._spending.book.settle(self._id, self._held, self._bound, cost_nano, others)


class Spending:
    """Lets requests in that can be paid for. `budgets` may be replaced at any time."""

    def __init__(self, budgets: Budgets, book: Accounts, ledger: Ledger, clock: Clock) -> None:
        """`book` is where the counters are kept, `ledger` where they begin."""
        self.budgets = budgets
        self.book = book
        self._ledger = ledger
        self._clock = clock
        self._filling = asyncio.Lock()
        # Reservations of several processes lie in one account.
        self._name = secrets.token_hex(6)
        self._number = 0

    async def reserve(self, scope: Scope, bound_nano: int) -> Reservation:
        """Reserve what a request can cost at most, in every budget of its workspace and organization.

        Raises:
            InvalidRequest: a limit that somebody set is reached.
            TierCapReached: the tier's cap is reached.
            LimitsUnavailable: it cannot be told. StoreUnavailable: nor what was spent before.
        """
        now_ms = self._clock.now_ms()
        accounts = self.budgets.accounts(scope, now_ms)
        if not accounts:
            return Reservation(self, scope, now_ms, bound_nano)
        invariant(0 <= bound_nano <= HIGHEST_NANO, "a request that costs more than any budget holds")
        self._number += 1
        id = f"{self._name}.{self._number}"
        answer = await self.book.reserve(id, accounts, bound_nano)
        if isinstance(answer, Unknown):
            # Many come at once when a period begins: the first asks the ledger, and the others find what it found.
            async with self._filling:
                answer = await self.book.reserve(id, accounts, bound_nano)
                if isinstance(answer, Unknown):
                    await self._fill(answer.accounts)
                    answer = await self.book.reserve(id, accounts, bound_nano)
        if isinstance(answer, Unknown):
            raise LimitsUnavailable("accounts that were filled are unknown")
        if isinstance(answer, Refused):
            raise refusal(answer.accounts)
        return Reservation(self, scope, now_ms, bound_nano, id, accounts)

    async def reserve_at_most(self, scope: Scope, bound: Callable[[], int]) -> Reservation:
        """As `reserve`; the bound is only worked out where somebody has set a budget.

        Raises:
            What `reserve` does.
        """
        now_ms = self._clock.now_ms()
        if not self.budgets.accounts(scope, now_ms):
            return Reservation(self, scope, now_ms, 0)
        return await self.reserve(scope, bound())

    async def recount(self) -> None:
        """Read from the ledger what was spent in all current periods; what is counted already is only ever raised. At
        the start, once what the journal had left is posted.

        Raises:
            LimitsUnavailable, StoreUnavailable: it cannot be told; every account that is needed is read when it is.
        """
        accounts = self.budgets.all_accounts(self._clock.now_ms())
        if accounts:
            async with self._filling:
                await self._fill(accounts)

    async def _fill(self, accounts: Sequence[Account]) -> None:
        await self.book.open(accounts, self._clock.now_ms())
        await self.book.fill(list(zip(accounts, await self._ledger(accounts), strict=True)))


def from_database(database: Database, *, posted: Callable[[], Awaitable[object]] | None = None) -> Ledger:
    """The ledger as the database has it. `posted` is waited for before it is read: until this process's own records of
    requests that have ended are in it."""

    async def read(accounts: Sequence[Account]) -> Sequence[int]:
        try:
            if posted is not None:
                await posted()
        except OSError as error:
            raise LimitsUnavailable(f"the journal cannot be read: {error.strerror}") from error
        async with database.reading() as connection:
            return [
                await spent.total(
                    account.organization,
                    connection,
                    account.from_ms,
                    account.until_ms,
                    workspace=account.budget.workspace,
                )
                for account in accounts
            ]

    return read
