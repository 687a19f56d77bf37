"""The organization's routes behind the real HTTP application, on a real port, with two organizations in the database."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import anthropic
import httpx2
import uvicorn
from sqlalchemy import insert

from antiphon.admin.acts import Acts
from antiphon.core.clock import SystemClock
from antiphon.core.ids import Ids
from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Role, Scope
from antiphon.gate.identity import Gate
from antiphon.gate.keys import create_key, hash_of, new_key
from antiphon.gate.limits import tiers
from antiphon.http.app import HttpApp
from antiphon.http.cors import Cors
from antiphon.http.organization.routes import Organization
from antiphon.http.protocol import uvicorn_config
from antiphon.http.routes import Route
from antiphon.observe.metrics import Metrics
from antiphon.observe.traces import Tracing
from antiphon.routing.catalogue import SCRIPTED
from antiphon.routing.resolve import Router
from antiphon.store import activities, keys, users, workspaces
from antiphon.store.activities import Activity
from antiphon.store.database import Database, open_database
from antiphon.store.tables import organizations
from antiphon.store.users import User

T = TypeVar("T")
HOME = Scope(DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE)
OTHER = "org_other"


class MovableClock(SystemClock):
    """The machine's clock, which can be set ahead."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


class Office:
    """A server that answers `/v1/organizations`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready = threading.Event()
        self._clients: list[anthropic.Anthropic] = []
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.clock = MovableClock()
        self.ids = Ids(self.clock)
        self.database: Database
        self.gate: Gate
        self.routes: Sequence[Route]
        self.admin: str
        self.foreign_admin: str
        self.foreign: dict[str, str]
        self._failure: BaseException | None = None
        self._server: uvicorn.Server
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait(60)
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.database = open_database(f"sqlite+aiosqlite:///{self._folder / 'antiphon.db'}")
        await self.database.migrate()
        async with self.database.transaction() as connection:
            await workspaces.ensure_defaults(connection, self.clock.now_ms())
        self.gate = Gate(self.database, self.clock)
        acts = Acts(self.database, self.ids, self.clock)
        self.routes = Organization(
            acts, self.gate, book=tiers.load(), tier="machine", router=Router([SCRIPTED])
        ).routes()
        self.admin = await self._key(admin=True)
        await self._found_other()
        await self.gate.load()
        app = HttpApp(
            table=list(self.routes),
            open_paths=frozenset(),
            door=self.gate,
            cors=Cors([]),
            metrics=Metrics(),
            tracing=Tracing(None),
            clock=self.clock,
            ids=self.ids,
        )
        self._server = uvicorn.Server(uvicorn_config(app, closing_seconds=1))
        self._loop.call_soon(self._ready.set)
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            await self.database.close()

    async def _found_other(self) -> None:
        """Another organization, with one of everything."""
        async with self.database.transaction() as connection:
            await connection.execute(insert(organizations).values(id=OTHER, name="Other", created_ms=1))
            made = await workspaces.create(OTHER, connection, self.ids, "Theirs", self.clock.now_ms())
        scope = Scope(OTHER, made.id)
        self.foreign_admin = await self._key(scope, admin=True)
        bound = await create_key(scope, self.database, self.ids, self.clock, name="theirs")
        user = await self._user("user", OTHER, "theirs@example.org")
        self.foreign = {"workspace_id": made.id, "api_key_id": bound.record.id, "user_id": user.id}

    async def _key(self, scope: Scope = HOME, *, admin: bool = False, user: str | None = None) -> str:
        made = new_key(scope, self.ids, self.clock, name="test", admin=admin, user=user, created_by=user)
        async with self.database.transaction() as connection:
            await keys.create(scope, connection, made.record, hash_of(made.key.encode()))
        await self.gate.load()
        return made.key

    async def _user(self, role: Role, organization: str, email: str) -> User:
        user = User(self.ids.make("user"), organization, email, "Somebody", role, self.clock.now_ms())
        async with self.database.transaction() as connection:
            await users.add(organization, connection, user)
        return user

    def inside(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the server's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def key(self, scope: Scope = HOME, *, user: str | None = None) -> str:
        """A key of a workspace, or an unscoped one of a user."""
        return self.inside(self._key(scope, user=user))

    def user(self, role: Role = "user", email: str | None = None) -> User:
        """A user as the API cannot make one: of any role."""
        made = self.inside(self._user(role, DEFAULT_ORGANIZATION, email or f"{self.ids.make('x')}@example.org"))
        self.inside(self.gate.load())
        return made

    def client(self, key: str | None = None) -> anthropic.Anthropic:
        """The official SDK, with the admin key unless another is given."""
        client = anthropic.Anthropic(api_key=key or self.admin, base_url=self.base_url, max_retries=0)
        self._clients.append(client)
        return client

    def ask(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, content: bytes | None = None
    ) -> httpx2.Response:
        """A request that no SDK would make."""
        headers = {"x-api-key": key or self.admin}
        if content is not None:
            return httpx2.request(method, self.base_url + path, headers=headers, content=content)
        return httpx2.request(method, self.base_url + path, headers=headers, json=body)

    def acts(self, organization: str = DEFAULT_ORGANIZATION) -> list[Activity]:
        """All acts so far, newest first."""
        return self.inside(self._acts(organization))

    async def _acts(self, organization: str) -> list[Activity]:
        async with self.database.reading() as connection:
            return list(await activities.newest(organization, connection, 5000))

    def last_act(self) -> Activity:
        """The newest act."""
        return self.acts()[0]

    def close(self) -> None:
        """Stop."""
        for client in self._clients:
            client.close()
        self._server.should_exit = True
        self._thread.join(30)
        if self._thread.is_alive():
            raise AssertionError("the server does not stop")
        if self._failure is not None:
            raise self._failure


def told(reply: httpx2.Response, status: int) -> str:
    """The text of a refusal with this status."""
    assert reply.status_code == status, reply.text
    return str(reply.json()["error"]["message"])
