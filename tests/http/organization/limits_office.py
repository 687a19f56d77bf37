"""The routes of limits, added to an office whatever it has of its own."""

from __future__ import annotations

from antiphon.admin.acts import Acts
from antiphon.core.records import DEFAULT_ORGANIZATION, Scope
from antiphon.gate.limits import tiers
from antiphon.http.exchange import Receipt
from antiphon.http.organization.administration import Administration
from antiphon.http.organization.rate_limits import RateLimits
from antiphon.http.organization.spend_limits import SpendLimits
from antiphon.http.routes import Routes
from antiphon.routing import catalogue
from antiphon.routing.resolve import Router
from antiphon.store import workspaces
from office import Office


def with_limits(office: Office, tier: str) -> Office:
    """The same office, whose organization has this tier."""
    acts = Acts(office.database, office.ids, office.clock)
    shared = Administration(office.database, office.ids, office.clock, office.gate, acts, Receipt(256 * 1024, 30.0))
    router = Router([catalogue.load().get("qwen2.5-coder-1.5b-instruct")])
    book = tiers.load()
    added = [*RateLimits(shared, book, tier, router).routes(), *SpendLimits(shared, book.tier(tier)).routes()]
    paths = {route.path for route in added}
    others = [route for route in office.routes if route.path not in paths]
    office._server.config.loaded_app._routes = Routes([*others, *added])
    return office


def workspace(office: Office, name: str) -> str:
    """A new workspace's id."""

    async def make() -> str:
        async with office.database.transaction() as connection:
            made = await workspaces.create(DEFAULT_ORGANIZATION, connection, office.ids, name, office.clock.now_ms())
        return made.id

    return office.inside(make())


def archive(office: Office, workspace: str) -> None:
    """End a workspace."""

    async def end() -> None:
        async with office.database.transaction() as connection:
            await workspaces.archive(Scope(DEFAULT_ORGANIZATION, workspace), connection, office.clock.now_ms())

    office.inside(end())
