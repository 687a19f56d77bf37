"""Limits as the database has them, for the requests of this process: read again whenever anything has changed there.

`Governing.read` is given to `Gate.follow`, so that a limit which another process has set counts within a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.records import DEFAULT_WORKSPACE
from antiphon.gate.limits.limiter import Limiter
from antiphon.gate.limits.policy import OwnLimits, Policy
from antiphon.gate.limits.tiers import Book, Kind
from antiphon.gate.spend.budgets import Budgets
from antiphon.gate.spend.spending import Spending
from antiphon.store import limits
from antiphon.store.limits import RateLimit, SpendLimit

_log = structlog.get_logger()


class Governing:
    """Keeps a limiter's policy and the budgets up to date."""

    def __init__(self, organization: str, limiter: Limiter, spending: Spending) -> None:
        self._organization = organization
        self._limiter = limiter
        self._spending = spending
        self._rates: tuple[RateLimit, ...] = ()
        self._spends: tuple[SpendLimit, ...] = ()
        self._read = False

    async def read(self, connection: AsyncConnection) -> None:
        """Read both tables, and replace what has changed. Requests under way keep their rules.

        Raises:
            StoreUnavailable: the database does not answer; what was known holds on.
        """
        rates = await limits.all_rate_limits(self._organization, connection)
        spends = await limits.all_spend_limits(self._organization, connection)
        policy = self._limiter.policy
        if not self._read or rates != self._rates:
            self._limiter.policy = policy_of(policy.book, policy.tier, rates)
        if not self._read or spends != self._spends:
            self._spending.budgets = Budgets(self._organization, spends, policy.book.tier(policy.tier))
        self._rates, self._spends, self._read = rates, spends, True


def policy_of(book: Book, tier: str, rows: Sequence[RateLimit]) -> Policy:
    """The policy that these rows make. One that the book of this release does not know is left out, and logged: it must
    not keep the others from being in force.

    Raises:
        SettingsError: there is no such tier.
    """
    organization: dict[str, dict[Kind, int | None]] = {}
    workspaces: dict[str, dict[str, dict[Kind, int | None]]] = {}
    for row in rows:
        if row.workspace == DEFAULT_WORKSPACE:  # which has no limits of its own
            continue
        kind = cast(Kind, row.kind)
        try:
            book.check(row.group, {kind: row.value})
        except ValueError as error:
            _log.warning("limits.left_out", workspace=row.workspace, group=row.group, kind=row.kind, reason=str(error))
            continue
        own = organization if row.workspace is None else workspaces.setdefault(row.workspace, {})
        own.setdefault(row.group, {})[kind] = row.value
    limits_of_workspaces: Mapping[str, OwnLimits] = workspaces
    return Policy(book, tier, organization, limits_of_workspaces)
