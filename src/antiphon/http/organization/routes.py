"""All routes of `/v1/organizations` that this package answers, put together."""

from __future__ import annotations

from collections.abc import Sequence

from antiphon.admin.acts import Acts
from antiphon.gate.identity import Gate
from antiphon.gate.limits.tiers import Book
from antiphon.gate.rights import demand
from antiphon.http.exchange import Receipt
from antiphon.http.organization.administration import Administration
from antiphon.http.organization.api_keys import ApiKeys
from antiphon.http.organization.invites import Invites
from antiphon.http.organization.me import Me
from antiphon.http.organization.members import Members
from antiphon.http.organization.rate_limits import RateLimits
from antiphon.http.organization.reports import Reports
from antiphon.http.organization.spend_limits import SpendLimits
from antiphon.http.organization.users import Users
from antiphon.http.organization.workspaces import Workspaces
from antiphon.http.routes import Route
from antiphon.routing.resolve import Router

#: What `inference_geo` knows (contract `platform-and-tools.md` 7.11).
GEOGRAPHIES = ("global", "us")
#: No body here is large: the most is a workspace's tags.
_BODY_BYTES = 256 * 1024
_BODY_SECONDS = 30.0


class Organization:
    """Who belongs to the organization, its workspaces and its keys."""

    def __init__(
        self,
        acts: Acts,
        gate: Gate,
        *,
        book: Book,
        tier: str,
        router: Router,
        geographies: Sequence[str] = GEOGRAPHIES,
    ) -> None:
        receipt = Receipt(_BODY_BYTES, _BODY_SECONDS)
        self.administration = Administration(acts.database, acts.ids, acts.clock, gate, acts, receipt)
        self._geographies = geographies
        self._book, self._tier, self._router = book, tier, router

    def routes(self) -> list[Route]:
        """Every path of the family."""
        shared = self.administration
        return [
            *Me(shared).routes(),
            *Users(shared).routes(),
            *Invites(shared).routes(),
            *Workspaces(shared, self._geographies).routes(),
            *Members(shared).routes(),
            *ApiKeys(shared).routes(),
            *RateLimits(shared, self._book, self._tier, self._router).routes(),
            *SpendLimits(shared, self._book.tier(self._tier)).routes(),
            *Reports(
                shared.database,
                shared.clock,
                read_usage=lambda exchange: demand(exchange.caller, "usage reports", "read"),
                read_costs=lambda exchange: demand(exchange.caller, "cost reports", "read"),
            ).routes(),
        ]
