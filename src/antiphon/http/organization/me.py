"""`GET /v1/organizations/me` (contract `platform-and-tools.md` 7.2)."""

from __future__ import annotations

from collections.abc import Mapping

from antiphon.http.exchange import Exchange
from antiphon.http.organization.administration import Administration, organization_of
from antiphon.http.routes import Route
from antiphon.store import workspaces
from antiphon.wire.organization.people import Organization


class Me:
    """The organization that a key belongs to."""

    def __init__(self, administration: Administration) -> None:
        self._administration = administration

    def routes(self) -> list[Route]:
        """The paths of this resource."""
        return [self._administration.route("/v1/organizations/me", "organization", get=self.get)]

    async def get(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """Answer with id and name."""
        organization = organization_of(exchange)
        async with self._administration.database.reading() as connection:
            name = await workspaces.organization_name(organization, connection)
        await exchange.json(200, Organization(organization, name))
