"""A real server on a real port, in a thread of the test process, so that a test can look inside it."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import anthropic
import httpx2
import uvicorn
import uvloop

from antiphon.app import App
from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Scope, UsageRecord
from antiphon.core.settings import Settings
from antiphon.gate.keys import create_key
from antiphon.http.protocol import uvicorn_config
from antiphon.observe.traces import Tracing
from antiphon.store import usage, workspaces
from antiphon.store.database import open_database

T = TypeVar("T")
SCOPE = Scope(DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE)


class Running:
    """A server that has started. `close` it; that is when its oracle is asked."""

    def __init__(self, settings: Settings, traces: Tracing | None = None) -> None:
        self.settings = settings
        self._traces = traces
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._clients: list[anthropic.Anthropic] = []
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.app: App
        self.key: str
        self._server: uvicorn.Server
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait(120)
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.app = App.build(self.settings, traces=self._traces)
        try:
            await self.app.start()
            self.key = await self._key()
            self._server = uvicorn.Server(uvicorn_config(self.app.http, closing_seconds=1))
            self._loop.call_soon(self._ready.set)
            await self._server.serve(sockets=[self._socket])
        finally:
            await self.app.stop()

    async def _key(self, *, admin: bool = False, workspace: str | None = None) -> str:
        parts = self.app.parts
        scope = SCOPE
        if workspace is not None:
            async with self.app.database.transaction() as connection:
                made = await workspaces.create(
                    DEFAULT_ORGANIZATION, connection, parts.ids, workspace, parts.clock.now_ms()
                )
            scope = Scope(DEFAULT_ORGANIZATION, made.id)
        made_key = await create_key(scope, self.app.database, parts.ids, parts.clock, name="test", admin=admin)
        await self.app.gate.load()
        return made_key.key

    def make_key(self, *, admin: bool = False, workspace: str | None = None) -> str:
        return self.inside(self._key(admin=admin, workspace=workspace))

    def inside(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the server's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def client(self, **options: Any) -> anthropic.Anthropic:
        """The official SDK, pointed here; closed with the server."""
        client = anthropic.Anthropic(**self._pointed_here(options))
        self._clients.append(client)
        return client

    def async_client(self, **options: Any) -> anthropic.AsyncAnthropic:
        return anthropic.AsyncAnthropic(**self._pointed_here(options))

    def _pointed_here(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"api_key": self.key, "base_url": self.base_url, "max_retries": 0} | options

    def idle(self) -> bool:
        """Whether everything that was taken has been given back."""
        healths = [model.engine.health() for model in self.app.parts.models.values()]
        return self.app.parts.entrance.admission.open_turns == 0 and all(
            h.seats_taken == 0 and h.waiting == 0 for h in healths
        )

    def settle(self, seconds: float = 30.0) -> None:
        """Wait until it is idle: the oracle of every test (faults, 7, I3)."""
        end = time.monotonic() + seconds
        while not self.idle():
            if time.monotonic() > end:
                raise AssertionError(f"not given back: {self.app.components()}")
            time.sleep(0.01)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """What a stop signal does: no new turns, and open streams get the time to drain (here a second)."""
        self.app.drain()
        self._server.should_exit = True

    def close(self) -> None:
        """Stop; everything is posted to the database then."""
        self.settle()
        for client in self._clients:
            client.close()
        self.stop()
        self._thread.join(30)
        if self._thread.is_alive():
            raise AssertionError("the server does not stop")
        if self._failure is not None:
            raise self._failure

    def records(self, scope: Scope = SCOPE) -> list[UsageRecord]:
        """All usage records, oldest first; the server is closed for it."""
        if self.alive:
            self.close()
        return asyncio.run(_records(self.settings, scope))


async def at_once(servers: Sequence[Running], request: Any, times: int) -> list[httpx2.Response]:
    """So many requests for an answer together, shared out among servers that know each other's keys."""
    headers = {"x-api-key": servers[0].key, "anthropic-version": "2023-06-01"}
    async with httpx2.AsyncClient(timeout=120, limits=httpx2.Limits(max_connections=times)) as client:
        asked = [servers[number % len(servers)].base_url for number in range(times)]
        return await asyncio.gather(
            *(client.post(f"{address}/v1/messages", json=request, headers=headers) for address in asked)
        )


async def _records(settings: Settings, scope: Scope) -> list[UsageRecord]:
    database = open_database(settings.database_url)
    try:
        async with database.reading() as connection:
            return sorted(await usage.latest(scope, connection, 10_000), key=lambda record: record.request_id)
    finally:
        await database.close()


def scripted_settings(folder: Path, script: str, **settings: Any) -> Settings:
    """Settings of a server that plays a script."""
    path = folder / "script.yaml"
    path.write_text(script)
    merged: dict[str, Any] = {"home": str(folder / "home"), "scripted": str(path), "port": 0} | settings
    return Settings(**merged)


def text_of(message: anthropic.types.Message) -> str:
    """The answer's text, all blocks of it."""
    return "".join(block.text for block in message.content if block.type == "text")
