"""The audit: who did what, when, from where, and what it changed (contract `platform-and-tools.md` 7.13).

Rows are added and never changed: the database itself refuses to (triggers of migration 0003), and it lets go of a row
only once it is `KEPT_MS` old.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from sqlalchemy import Row, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.store.pages import Order, Page, Walk, page_of
from antiphon.store.tables import activities

ActorType: TypeAlias = Literal[
    "user_actor", "api_actor", "admin_api_key_actor", "unauthenticated_user_actor", "system_actor"
]
_a = activities.c

#: How long the database holds on to an act, in milliseconds: 2,192 days, which is never less than six years.
KEPT_MS = 2192 * 24 * 3600 * 1000


class Actor(msgspec.Struct, frozen=True):
    """Who acts. `id` is a key's or a user's; None for somebody unknown, or for this machine's own command line."""

    type: ActorType
    id: str | None = None
    address: str | None = None
    user_agent: str | None = None


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """One act. `refused` says why it was not done. `old` and `new` are what it changed, and never hold a secret."""

    id: str
    organization: str
    created_ms: int
    type: str
    actor: Actor
    workspace: str | None = None
    subject: str | None = None
    refused: str | None = None
    old: Mapping[str, Any] | None = None
    new: Mapping[str, Any] | None = None


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which acts: nothing given is all of them. `from_ms` is included, `until_ms` is not."""

    types: Sequence[str] = ()
    without_types: Sequence[str] = ()
    actors: Sequence[str] = ()
    from_ms: int | None = None
    until_ms: int | None = None


EVERYTHING = Wanted()


async def record(organization: str, connection: AsyncConnection, activity: Activity) -> None:
    """Add one act. In the transaction that does it, so that there is none without the other."""
    actor = activity.actor
    await connection.execute(
        insert(activities).values(
            organization=organization,
            id=activity.id,
            created_ms=activity.created_ms,
            type=activity.type,
            actor_type=actor.type,
            actor_id=actor.id,
            address=actor.address,
            user_agent=actor.user_agent,
            workspace=activity.workspace,
            subject=activity.subject,
            refused=activity.refused,
            old=_written(activity.old),
            new=_written(activity.new),
        )
    )


async def newest(
    organization: str, connection: AsyncConnection, limit: int, wanted: Wanted = EVERYTHING
) -> tuple[Activity, ...]:
    """An organization's acts, newest first."""
    return (await page(organization, connection, Walk(limit), wanted)).items


async def page(organization: str, connection: AsyncConnection, walk: Walk, wanted: Wanted) -> Page[Activity]:
    """A page of an organization's acts, newest first.

    Raises:
        InvalidRequest: the walk begins at an id that there is not, or at two.
    """
    own = _a.organization == organization
    query = select(activities).where(own)
    if wanted.types:
        query = query.where(_a.type.in_(wanted.types))
    if wanted.without_types:
        query = query.where(_a.type.not_in(wanted.without_types))
    if wanted.actors:
        query = query.where(_a.actor_id.in_(wanted.actors))
    if wanted.from_ms is not None:
        query = query.where(_a.created_ms >= wanted.from_ms)
    if wanted.until_ms is not None:
        query = query.where(_a.created_ms < wanted.until_ms)
    return await page_of(connection, query, Order(_a.created_ms, _a.id, own), walk, _activity)


async def prune(connection: AsyncConnection, before_ms: int) -> int:
    """Remove what is older than the retention, of all organizations; returns how many that were.

    Raises:
        IntegrityError: something of it is younger than `KEPT_MS` by the database's own clock; nothing is removed then.
    """
    return (await connection.execute(delete(activities).where(_a.created_ms < before_ms))).rowcount


def _written(values: Mapping[str, Any] | None) -> str | None:
    return None if values is None else msgspec.json.encode(values, order="deterministic").decode()


def _activity(row: Row[Any]) -> Activity:
    return Activity(
        id=row.id,
        organization=row.organization,
        created_ms=row.created_ms,
        type=row.type,
        actor=Actor(row.actor_type, row.actor_id, row.address, row.user_agent),
        workspace=row.workspace,
        subject=row.subject,
        refused=row.refused,
        old=None if row.old is None else msgspec.json.decode(row.old),
        new=None if row.new is None else msgspec.json.decode(row.new),
    )
