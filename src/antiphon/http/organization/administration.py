"""What the routes of this family share: who may do what, and that every act and every refused one is written down.

An act is checked in this order: the caller's right, the body, and then, in the act's own transaction, everything else.
The body is read before the transaction begins, so that a slow sender holds no lock of the database.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec

from antiphon.admin.acts import Act, Acts
from antiphon.core.clock import Clock
from antiphon.core.errors import RequestError
from antiphon.core.ids import Ids
from antiphon.core.records import Caller
from antiphon.gate.identity import Gate
from antiphon.gate.rights import Resource, demand
from antiphon.http.exchange import Exchange, Receipt
from antiphon.http.organization.query import sound_id
from antiphon.http.routes import Endpoint, Route
from antiphon.store.activities import Actor
from antiphon.store.database import Database, StoreUnavailable
from antiphon.wire.organization.reading import read

F = TypeVar("F")

_READING = ("GET", "HEAD")
_LONGEST_AGENT = 200


class Deed(msgspec.Struct, frozen=True):
    """An act that is asked for: its kind (contract `platform-and-tools.md` 7.13), the right that it needs, and on what,
    as far as the path says."""

    kind: str
    resource: Resource
    subject: str | None = None
    workspace: str | None = None


class Administration:
    """Reads, and does acts."""

    def __init__(self, database: Database, ids: Ids, clock: Clock, gate: Gate, acts: Acts, receipt: Receipt) -> None:
        self.database = database
        self.ids = ids
        self.clock = clock
        self.gate = gate
        self.acts = acts
        self.receipt = receipt

    async def allowed(self, exchange: Exchange, deed: Deed) -> Caller:
        """Who asks, if that is somebody who may; an act that needs no body.

        Raises:
            PermissionDenied: the caller may not; that is written down.
        """
        try:
            return demand(exchange.caller, deed.resource, "write")
        except RequestError as error:
            await self.refused(exchange, deed, error)
            raise

    async def asked(self, exchange: Exchange, deed: Deed, form: type[F]) -> F:
        """The body of an act, from somebody who may do it.

        Raises:
            PermissionDenied: the caller may not. InvalidRequest: the body is not of this form. And all that
            `Exchange.body` raises. Each is written down.
        """
        await self.allowed(exchange, deed)
        try:
            return read(await exchange.json_body(), form)
        except RequestError as error:
            await self.refused(exchange, deed, error)
            raise

    async def refused(self, exchange: Exchange, deed: Deed, error: RequestError) -> None:
        """Write down an act that is not done."""
        await self.acts.refused(
            actor_of(exchange),
            organization_of(exchange),
            deed.kind,
            error,
            workspace=deed.workspace,
            subject=deed.subject,
        )

    @asynccontextmanager
    async def doing(self, exchange: Exchange, deed: Deed) -> AsyncIterator[Act]:
        """The act's transaction. When it is done, this process's own gate knows of it at once.

        Raises:
            StoreUnavailable: the database cannot take it. And whatever the act itself raises.
        """
        organization = organization_of(exchange)
        async with self.acts.act(
            actor_of(exchange), organization, deed.kind, workspace=deed.workspace, subject=deed.subject
        ) as act:
            yield act
        # What is done is done: if the database has just gone away, the gate catches up by itself.
        with contextlib.suppress(StoreUnavailable):
            await self.gate.load()

    def route(
        self,
        path: str,
        resource: Resource,
        *,
        get: Endpoint | None = None,
        post: Endpoint | None = None,
        delete: Endpoint | None = None,
    ) -> Route:
        """A path and what answers each of its methods. Whether a caller may read is told here; whether it may write is
        asked by the act itself, because a refusal of that is written down."""
        answers = {"GET": get, "HEAD": get, "POST": post, "DELETE": delete}
        endpoints = {method: endpoint for method, endpoint in answers.items() if endpoint is not None}

        async def endpoint(exchange: Exchange, parameters: Mapping[str, str]) -> None:
            clean = {name: sound_id(value) for name, value in parameters.items()}
            await endpoints[exchange.method](exchange, clean)

        def permit(exchange: Exchange) -> None:
            if exchange.method in _READING:
                demand(exchange.caller, resource, "read")

        return Route(path, tuple(endpoints), endpoint, self.receipt if post is not None else None, permit)


def organization_of(exchange: Exchange) -> str:
    """The caller's organization."""
    return caller_of(exchange).scope.organization


def caller_of(exchange: Exchange) -> Caller:
    """Who asks. Every route of this family needs a key, so somebody does."""
    if exchange.caller is None:
        raise TypeError("a route that needs a key has a caller")
    return exchange.caller


def actor_of(exchange: Exchange) -> Actor:
    """Who acts, from where and with what, for the audit."""
    caller = caller_of(exchange)
    agent = exchange.header(b"user-agent")
    return Actor(
        "admin_api_key_actor" if caller.admin else "api_actor",
        caller.key_id,
        exchange.client,
        None if agent is None else agent.decode("latin-1").replace("\0", " ")[:_LONGEST_AGENT],
    )
