"""Makes what lets requests in: rate limits and budgets, in this process or on a server that several share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from antiphon.core.clock import Clock
from antiphon.core.errors import SettingsError
from antiphon.core.records import DEFAULT_ORGANIZATION
from antiphon.core.settings import Settings
from antiphon.gate.admission import Admission
from antiphon.gate.entrance import Entrance
from antiphon.gate.governing import Governing
from antiphon.gate.limits import tiers
from antiphon.gate.limits.buckets import Buckets
from antiphon.gate.limits.limiter import Limiter
from antiphon.gate.limits.memory import MemoryBuckets
from antiphon.gate.limits.policy import Policy
from antiphon.gate.spend.accounts import Accounts
from antiphon.gate.spend.budgets import Budgets
from antiphon.gate.spend.memory import MemoryAccounts
from antiphon.gate.spend.spending import Spending, from_database
from antiphon.store.database import Database

#: How long output is collected before it is taken from the limits, seconds: in process, and on a server elsewhere.
_WRITE_NEAR_SECONDS, _WRITE_FAR_SECONDS = 0.05, 0.25


class Governance:
    """The entrance, what keeps its rules up to date, and what it holds open."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        clock: Clock,
        *,
        turns: int,
        posted: Callable[[], Awaitable[object]],
    ) -> None:
        """`turns`: how many may be under way at once. `posted`: until this process's records are in the database.

        Raises:
            SettingsError: there is no such tier, or the address of the limits' server is malformed.
        """
        book = tiers.load()
        policy = Policy(book, settings.tier)
        buckets, accounts, self._shared = _counters(settings.limits_store, clock)
        far = bool(settings.limits_store)
        limiter = Limiter(policy, buckets, clock, write_every_s=_WRITE_FAR_SECONDS if far else _WRITE_NEAR_SECONDS)
        budgets = Budgets(DEFAULT_ORGANIZATION, (), book.tier(settings.tier))
        self.entrance = Entrance(
            Admission(turns),
            limiter,
            Spending(budgets, accounts, from_database(database, posted=posted), clock),
        )
        self.governing = Governing(DEFAULT_ORGANIZATION, limiter, self.entrance.spending)

    def figures(self) -> tuple[int, int]:
        """How often the limits' server did not answer, and how much it has not heard of yet; nothing in process."""
        figures = [each.figures() for each in self._shared]
        return sum(each.failures for each in figures), sum(each.owed for each in figures)

    async def close(self) -> None:
        """Let go of the limits' server."""
        for each in self._shared:
            await each.close()


class _Figures(Protocol):
    @property
    def failures(self) -> int: ...
    @property
    def owed(self) -> int: ...


class _Shared(Protocol):
    def figures(self) -> _Figures: ...
    async def close(self) -> None: ...


def _counters(address: str, clock: Clock) -> tuple[Buckets, Accounts, tuple[_Shared, ...]]:
    if not address:
        return MemoryBuckets(clock), MemoryAccounts(), ()
    try:
        from antiphon.gate.limits.shared import SharedBuckets  # noqa: PLC0415 - an extra, only where it is asked for
        from antiphon.gate.spend.shared import SharedAccounts  # noqa: PLC0415
    except ImportError:
        raise SettingsError("The setting `limits_store` needs `pip install antiphon[valkey]`") from None
    buckets, accounts = SharedBuckets(address, clock), SharedAccounts(address, clock)
    return buckets, accounts, (buckets, accounts)
