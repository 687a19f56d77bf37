"""Accounts that several API processes share, kept on a Valkey (or Redis) server.

Every operation is one script, run by the server as a whole. When the server does not answer, nobody is let in whose
spending is limited. What could not be settled is owed, and settled first once the server is back; whether an earlier
try has run is seen by the reservation, which is settled once. A reservation whose process died is given up after
`lease_s`; until then it only makes a budget look fuller.

The server must not evict keys (`maxmemory-policy noeviction`). One that loses its keys is filled from the ledger again,
without what has not been posted yet.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence

import msgspec

from antiphon.core.clock import Clock
from antiphon.gate.limits.buckets import LimitsUnavailable
from antiphon.gate.spend.accounts import Refused, Reserved, Unknown
from antiphon.gate.spend.budgets import Account
from antiphon.gate.valkey import SERVER_CLOCK, ServerScript

_PREFIX = "antiphon:spend:"
#: How long an account is kept after its period, for requests that began in it.
_KEPT_MS = 2 * 86_400_000


class SharedSpendingFigures(msgspec.Struct, frozen=True):
    """For the metrics and the log. `owed` counts settlements that the server has not heard of."""

    failures: int
    owed: int
    last_error: str | None


class Settlement(msgspec.Struct, frozen=True):
    """What the server has to hear once. See `Accounts.settle`."""

    id: str
    held: tuple[Account, ...]
    others: tuple[Account, ...]
    bound_nano: int
    cost_nano: int


class SharedAccounts:
    """The server's accounts. Close it at the end."""

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        timeout_s: float = 0.5,
        lease_s: float = 3600.0,
        server_clock: str = SERVER_CLOCK,
    ) -> None:
        """`lease_s`: how long a reservation lasts that nobody settles, longer than any request. The rest as in
        `gate.valkey`.

        Raises:
            SettingsError: the address is malformed.
        """
        text = importlib.resources.files(__package__).joinpath("accounts.lua").read_text("utf-8")
        self._script = ServerScript(url, text, clock, timeout_s=timeout_s, server_clock=server_clock)
        self._lease_ms = int(lease_s * 1000)
        self._owed: list[Settlement] = []

    async def reserve(self, id: str, accounts: Sequence[Account], bound_nano: int) -> Reserved | Refused | Unknown:
        """See `Accounts.reserve`."""
        if self._owed:
            await self._pay()
        args: list[str | int] = ["reserve", id, bound_nano, self._lease_ms]
        args += ("" if a.budget.amount_nano is None else a.budget.amount_nano for a in accounts)
        try:
            reserved, *fits = msgspec.convert(await self._script(_keys(accounts), args), list[int])
        except BaseException:
            # Perhaps it was reserved: then it is given back.
            self.owe(Settlement(id, tuple(accounts), (), bound_nano, 0))
            raise
        if reserved:
            return Reserved()
        told = list(zip(accounts, fits, strict=True))
        unknown = tuple(account for account, fit in told if fit < 0)
        return Unknown(unknown) if unknown else Refused(tuple(account for account, fit in told if not fit))

    async def settle(
        self, id: str, held: Sequence[Account], bound_nano: int, cost_nano: int, others: Sequence[Account] = ()
    ) -> None:
        """See `Accounts.settle`."""
        settlement = Settlement(id, tuple(held), tuple(others), bound_nano, cost_nano)
        try:
            await self._settle(settlement, again=False)
        except BaseException:
            self.owe(settlement)
            raise

    async def open(self, accounts: Sequence[Account], now_ms: int) -> None:
        """See `Accounts.open`."""
        kept = [account.until_ms - now_ms + _KEPT_MS for account in accounts]
        await self._script(_keys(accounts), ["open", *kept])

    async def fill(self, spent: Sequence[tuple[Account, int]]) -> None:
        """See `Accounts.fill`."""
        await self._script(_keys([account for account, _ in spent]), ["fill", *(nano for _, nano in spent)])

    def owe(self, settlement: Settlement) -> None:
        """Have it settled before the next reservation, if it is not yet; a cost of 0 gives a reservation back."""
        self._owed.append(settlement)

    def figures(self) -> SharedSpendingFigures:
        figures = self._script.figures()
        return SharedSpendingFigures(figures.failures, len(self._owed), figures.last_error)

    async def close(self) -> None:
        """Settle what is still owed, if anybody listens, and leave."""
        try:
            await self._pay()
        except LimitsUnavailable:
            pass  # the ledger has it; the next start reads it there
        finally:
            await self._script.close()

    async def _pay(self) -> None:
        owed, self._owed = self._owed, []
        try:
            while owed:
                await self._settle(owed[0], again=True)
                owed.pop(0)
        finally:
            self._owed += owed

    async def _settle(self, settlement: Settlement, *, again: bool) -> None:
        accounts = (*settlement.held, *settlement.others)
        args: list[str | int] = ["settle", settlement.id, settlement.bound_nano, settlement.cost_nano, int(again)]
        await self._script(_keys(accounts), [*args, *(1 for _ in settlement.held), *(0 for _ in settlement.others)])


def _keys(accounts: Sequence[Account]) -> list[str]:
    return [_PREFIX + account.name + suffix for account in accounts for suffix in ("", ":held")]
