"""`GET /v1/compliance/activities`: the audit, for administrators' keys (contract platform-and-tools 7.13).

Who reads it stands in it too: no page leaves before the line that says so is written, and neither does a refusal.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from antiphon.admin.acts import Acts
from antiphon.core.errors import PermissionDenied, RequestError
from antiphon.core.records import Caller
from antiphon.http.activity_query import Asked, read_query
from antiphon.http.activity_shape import shown
from antiphon.http.exchange import Exchange, Headers
from antiphon.http.routes import Permit, Route
from antiphon.store import activities
from antiphon.store.activities import Activity, Actor
from antiphon.wire.compliance import ActivityPage, uuid_of

#: Takes one request from the organization's pool for this route; gives the header lines that say what is left of it.
#: Raises RateLimited.
Admit = Callable[[Caller], Awaitable[Headers]]
#: Who asks, as the audit writes it down.
ActorOf = Callable[[Exchange], Actor]

_ACCESSED = "compliance_api_accessed"
_LONGEST_SHOWN_QUERY = 2000


async def unlimited(_: Caller) -> Headers:
    """Lets everybody in."""
    return []


class Compliance:
    """The feed of activities."""

    def __init__(self, acts: Acts, *, actor_of: ActorOf, permit: Permit, admit: Admit = unlimited) -> None:
        """`permit` is asked here and not by the route: a request that it refuses counts against the limit, and stands
        in the audit (contract 7.13)."""
        self._acts = acts
        self._actor_of = actor_of
        self._permit = permit
        self._admit = admit

    def routes(self) -> list[Route]:
        """What is answered here."""
        return [Route("/v1/compliance/activities", ("GET", "HEAD"), self.list)]

    async def list(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """A page of activities."""
        caller = exchange.caller
        if caller is None:
            raise PermissionDenied("This route needs a key")
        exchange.extra += await self._admit(caller)
        # Whatever kind of key it is: of this API the documented actor is this one.
        actor = msgspec.structs.replace(self._actor_of(exchange), type="api_actor")
        organization = caller.scope.organization
        try:
            self._permit(exchange)
            page = await self._page(organization, read_query(exchange.query))
        except RequestError as error:
            await self._acts.refused(actor, organization, _ACCESSED, error, subject=exchange.request_id)
            raise
        async with self._acts.act(actor, organization, _ACCESSED, subject=exchange.request_id) as act:
            asked = exchange.query.decode("latin-1")[:_LONGEST_SHOWN_QUERY]
            url = f"{exchange.path}?{asked}" if asked else exchange.path
            act.new = {"url": url, "request_method": exchange.method, "status_code": 200}
        await exchange.json(200, page)

    async def _page(self, organization: str, asked: Asked) -> ActivityPage:
        if asked.organizations and not {organization, uuid_of(organization)} & set(asked.organizations):
            return _page_of((), has_more=False)
        async with self._acts.database.reading() as connection:
            found = await activities.page(organization, connection, asked.walk, asked.wanted)
        return _page_of(found.items, has_more=found.more)


def _page_of(rows: Sequence[Activity], *, has_more: bool) -> ActivityPage:
    data = tuple(map(shown, rows))
    return ActivityPage(data, has_more, data[0].id if data else None, data[-1].id if data else None)
