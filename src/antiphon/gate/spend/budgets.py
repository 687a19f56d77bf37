"""Budgets: whose, for which period, how much; and what is answered when one is used up (contract platform-and-tools
7.7, messages-and-inference 2.2).

Periods are those of the calendar in UTC: a day, a week from Monday, a month. Amounts are in nano-dollars.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from antiphon.core.errors import InvalidRequest, RateLimited, RequestError
from antiphon.core.records import Scope
from antiphon.gate.limits.tiers import Tier
from antiphon.store.limits import Period, SpendLimit

NANO_OF_DOLLAR: Final = 1_000_000_000
#: The most that a budget may be, and that one request may be bound by: 4 million dollars. Sums of such are compared
#: exactly also in a script whose only numbers are doubles.
HIGHEST_NANO: Final = 4_000_000 * NANO_OF_DOLLAR

_DAY_MS = 86_400_000
#: The epoch was a Thursday.
_DAYS_SINCE_MONDAY = 3


class Budget(msgspec.Struct, frozen=True):
    """`workspace` None is the organization's; an amount of None is counted and never refuses."""

    id: str
    workspace: str | None
    period: Period
    amount_nano: int | None
    of_tier: bool = False


class Account(msgspec.Struct, frozen=True):
    """A budget in one of its periods: from `from_ms` on and before `until_ms`. What is counted is counted by `name`,
    whatever the amount is at the moment."""

    name: str
    organization: str
    budget: Budget
    from_ms: int
    until_ms: int


class TierCapReached(RateLimited):
    """The tier's monthly cap: a 429 that no waiting of seconds helps (contract messages-and-inference 2.2)."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.details = {"error_code": "enforced_spend_limit_reached"}


class Budgets:
    """All budgets of one organization. They do not change; new ones are made when somebody sets a limit."""

    def __init__(self, organization: str, limits: Sequence[SpendLimit] = (), tier: Tier | None = None) -> None:
        """`tier` adds its monthly cap, where it has one."""
        self.organization = organization
        found = [Budget(limit.id, limit.workspace, limit.period, limit.amount_nano) for limit in limits]
        cap = None if tier is None else tier.monthly_spend_cap_usd
        if cap is not None:
            found.append(Budget("tier", None, "monthly", cap * NANO_OF_DOLLAR, of_tier=True))
        self._shared = tuple(budget for budget in found if budget.workspace is None)
        self._own: dict[str, tuple[Budget, ...]] = {}
        for budget in found:
            if budget.workspace is not None:
                self._own[budget.workspace] = (*self._own.get(budget.workspace, ()), budget)
        self._all = tuple(found)
        self._current: dict[str | None, tuple[int, int, tuple[Account, ...]]] = {}

    def accounts(self, scope: Scope, now_ms: int) -> tuple[Account, ...]:
        """Those that a request of this workspace loads now; mostly the same object, so that asking costs little."""
        own = self._own.get(scope.workspace)
        if own is None and not self._shared:
            return ()
        key = None if own is None else scope.workspace
        known = self._current.get(key)
        if known is None or not known[0] <= now_ms < known[1]:
            made = tuple(self._account(budget, now_ms) for budget in (*self._shared, *(own or ())))
            known = max(a.from_ms for a in made), min(a.until_ms for a in made), made
            self._current[key] = known
        return known[2]

    def all_accounts(self, now_ms: int) -> tuple[Account, ...]:
        """Every budget's account at this time."""
        return tuple(self._account(budget, now_ms) for budget in self._all)

    def _account(self, budget: Budget, now_ms: int) -> Account:
        from_ms, until_ms = span(budget.period, now_ms)
        # The braces keep all accounts of an organization on one node of a cluster. A limit that is removed and made
        # anew has another id: nobody has counted for it meanwhile, so its account is another one too.
        name = f"{{{self.organization}}}:{budget.id}:{from_ms // 1000}"
        return Account(name, self.organization, budget, from_ms, until_ms)


def span(period: Period, now_ms: int) -> tuple[int, int]:
    """The period that a moment lies in: its beginning, and the beginning of the next one; milliseconds."""
    day = now_ms // _DAY_MS
    if period == "daily":
        return day * _DAY_MS, (day + 1) * _DAY_MS
    if period == "weekly":
        monday = day - (day + _DAYS_SINCE_MONDAY) % 7
        return monday * _DAY_MS, (monday + 7) * _DAY_MS
    now = datetime.fromtimestamp(now_ms // 1000, tz=UTC)
    year, month = (now.year, now.month + 1) if now.month < 12 else (now.year + 1, 1)
    return _ms(now.year, now.month), _ms(year, month)


def refusal(accounts: Sequence[Account]) -> RequestError:
    """What to answer where these accounts have too little left: the one is named that stays so for longest, and of
    those that end together one that somebody set rather than the tier's."""
    account = max(accounts, key=lambda account: (account.until_ms, not account.budget.of_tier))
    again = datetime.fromtimestamp(account.until_ms // 1000, tz=UTC).strftime("%Y-%m-%d at %H:%M UTC")
    regain = f"You will regain access on {again}."
    if account.budget.of_tier:
        return TierCapReached(f"You have reached the monthly spend limit of your organization's usage tier. {regain}")
    whose = "API" if account.budget.workspace is None else "workspace API"
    return InvalidRequest(f"You have reached your specified {whose} usage limits. {regain}")


def _ms(year: int, month: int) -> int:
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * 1000
