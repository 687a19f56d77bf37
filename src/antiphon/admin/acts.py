"""One administrative act: its transaction, and its line in the audit.

    async with acts.act(actor, organization, "platform_workspace_created") as act:
        made = await workspaces.create(organization, act.connection, …)
        act.subject, act.new = made.id, {"name": made.name}

What is done and the line that says so are one transaction. A refusal (any `RequestError`) is rolled back, and its line
is written by itself: who tried is as telling as who did.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.clock import Clock
from antiphon.core.errors import RequestError
from antiphon.core.ids import Ids
from antiphon.store import activities
from antiphon.store.activities import Activity, Actor
from antiphon.store.database import Database

#: An error's text may repeat what was sent.
_LONGEST_REASON = 300


class Act:
    """An act under way: fill in what is known of it. Secrets stay out of `old` and `new`."""

    def __init__(self, connection: AsyncConnection, workspace: str | None, subject: str | None) -> None:
        self.connection = connection
        self.workspace = workspace
        self.subject = subject
        self.old: Mapping[str, Any] | None = None
        self.new: Mapping[str, Any] | None = None


class Acts:
    """Does acts and writes them down."""

    def __init__(self, database: Database, ids: Ids, clock: Clock) -> None:
        self.database = database
        self.ids = ids
        self.clock = clock

    @asynccontextmanager
    async def act(
        self, actor: Actor, organization: str, kind: str, *, workspace: str | None = None, subject: str | None = None
    ) -> AsyncIterator[Act]:
        """A transaction for one act of this kind (contract `platform-and-tools.md` 7.13 names them).

        Raises:
            StoreUnavailable: the database cannot take it. And whatever the act itself raises.
        """
        known = workspace, subject
        try:
            async with self.database.transaction() as connection:
                act = Act(connection, workspace, subject)
                try:
                    yield act
                finally:
                    known = act.workspace, act.subject
                done = self._activity(actor, organization, kind, act.workspace, act.subject)
                done = msgspec.structs.replace(done, old=act.old, new=act.new)
                await activities.record(organization, connection, done)
        except RequestError as error:
            await self.refused(actor, organization, kind, error, workspace=known[0], subject=known[1])
            raise

    async def refused(
        self,
        actor: Actor,
        organization: str,
        kind: str,
        error: RequestError,
        *,
        workspace: str | None = None,
        subject: str | None = None,
    ) -> None:
        """Write down an act that was not done."""
        tried = self._activity(actor, organization, kind, workspace, subject)
        tried = msgspec.structs.replace(tried, refused=error.message[:_LONGEST_REASON].replace("\0", " "))
        async with self.database.transaction() as connection:
            await activities.record(organization, connection, tried)

    def _activity(
        self, actor: Actor, organization: str, kind: str, workspace: str | None, subject: str | None
    ) -> Activity:
        return Activity(
            id=self.ids.make("activity"),
            organization=organization,
            created_ms=self.clock.now_ms(),
            type=kind,
            actor=actor,
            workspace=workspace,
            subject=subject,
        )
