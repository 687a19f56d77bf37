"""Requests are kept where a workspace has switched it on, as they were sent; of the others not a word is anywhere."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import msgspec
import pytest

from antiphon.core.records import DEFAULT_ORGANIZATION, Scope
from antiphon.ledger.requestlog import Bounds, Keeper
from antiphon.store import request_logs, workspaces
from antiphon.store.database import open_database
from antiphon.store.request_logs import RequestLog
from antiphon.store.workspaces import WorkspaceChange
from antiphon.wire.request import Conversation
from conftest import StartScripted
from running import Running

R = TypeVar("R", bound=Conversation)

#: Words of two workspaces that no other file holds.
KEPT, UNKEPT = "CANARY-KEPT-1c7e40", "CANARY-UNKEPT-9b02df"
SCRIPT = f"""
rules:
- match: {KEPT}
  text: The answer says {KEPT} too.
- match: {UNKEPT}
  text: The answer says {UNKEPT} too.
- match: slow
  text: one two three four five six seven eight
  delay_ms: 200
- text: Hello
"""


class Logging:
    """A server whose requests go through a log, with a workspace that keeps its and one that does not."""

    def __init__(self, running: Running, bounds: Bounds | None = None) -> None:
        app = running.app
        self.running = running
        self.keeper = Keeper(app.database, app.parts.clock, bounds)
        messages = app.http._routes._exact["/v1/messages"].endpoint.__self__  # type: ignore[attr-defined]
        messages._keeper = self.keeper
        self.keeps = running.make_key(workspace="Keeps")
        self.plain = running.make_key(workspace="Does not")
        self._task = running.inside(self._begin())

    async def _begin(self) -> asyncio.Task[None]:
        app = self.running.app
        async with app.database.transaction() as connection:
            found = await workspaces.find(DEFAULT_ORGANIZATION, connection, "Keeps")
            scope = Scope(found.organization, found.id)
            await workspaces.change(scope, connection, WorkspaceChange(logs_requests=True))
        await app.gate.load()
        return asyncio.get_running_loop().create_task(self.keeper.run())

    def ask(self, key: str, content: str, path: str = "/v1/messages", **change: Any) -> httpx2.Response:
        body = {"model": "claude-opus-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": content}]}
        url = f"{self.running.base_url}{path}"
        return httpx2.post(url, json=body | change, headers={"x-api-key": key}, timeout=60, trust_env=False)

    def settle(self) -> None:
        """Write all that is finished."""

        async def settled() -> None:
            self._task.cancel()
            await self.keeper.drain(30)

        self.running.settle()
        self.running.inside(settled())

    def kept(self, reply: httpx2.Response) -> RequestLog:
        async def read() -> RequestLog:
            async with self.running.app.database.reading() as connection:
                return await request_logs.find(DEFAULT_ORGANIZATION, connection, reply.headers["request-id"])

        return self.running.inside(read())

    def count(self) -> int:
        async def read() -> int:
            async with self.running.app.database.reading() as connection:
                return len(await request_logs.newest(DEFAULT_ORGANIZATION, connection, 1000))

        return self.running.inside(read())


@pytest.fixture
def logging(scripted: StartScripted) -> Logging:
    return Logging(scripted(SCRIPT))


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("streamed", [False, True])
def test_a_request_and_its_answer_are_kept_as_they_went_over_the_wire(streamed: bool, logging: Logging) -> None:
    reply = logging.ask(logging.keeps, f"Say {KEPT}", stream=streamed)
    assert reply.status_code == 200
    logging.settle()
    kept = logging.kept(reply)
    assert kept.answer == reply.content
    assert msgspec.json.decode(kept.request)["messages"][0]["content"] == f"Say {KEPT}"
    assert kept.request == reply.request.content
    assert kept.scope.workspace.startswith("wrkspc_01")


def test_refusals_and_counts_are_kept_too(logging: Logging) -> None:
    replies = [
        logging.ask(logging.keeps, "x", model="gpt-4"),
        logging.ask(logging.keeps, "x", max_tokens=-1),
        logging.ask(logging.keeps, "x", path="/v1/messages/count_tokens"),
    ]
    assert [reply.status_code for reply in replies] == [404, 400, 200]
    logging.settle()
    for reply in replies:
        assert logging.kept(reply).answer == reply.content


def test_an_answer_that_the_client_cuts_off_is_kept_as_far_as_it_came(logging: Logging) -> None:
    body = {"model": "claude-opus-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "slow"}]}
    url = f"{logging.running.base_url}/v1/messages"
    with (
        httpx2.Client(trust_env=False, timeout=60) as client,
        client.stream("POST", url, json=body | {"stream": True}, headers={"x-api-key": logging.keeps}) as reply,
    ):
        seen = next(reply.iter_raw())
    logging.settle()
    kept = logging.kept(reply)
    assert kept.answer.startswith(seen[:20])
    assert b"message_stop" not in kept.answer
    assert logging.keeper.figures().held_bytes == 0


def test_nothing_of_other_workspaces_is_anywhere(logging: Logging) -> None:
    home = logging.running.settings.home_path
    for streamed in (False, True):
        for key, canary in ((logging.keeps, KEPT), (logging.plain, UNKEPT), (logging.running.key, UNKEPT)):
            reply = logging.ask(key, f"Say {canary}", stream=streamed, system=canary)
            assert streamed or f"The answer says {canary}" in reply.text
            logging.ask(key, canary, model="no-such-model")
            logging.ask(key, canary, path="/v1/messages/count_tokens")
    logging.settle()
    assert logging.count() == 6
    alive = everything(home)
    logging.running.close()
    for files in (alive, everything(home)):
        assert any(name.startswith("antiphon.db") for name in files)
        with_kept = [name for name, held in files.items() if KEPT.encode() in held]
        assert with_kept
        assert all(name.startswith("antiphon.db") for name in with_kept)
        assert [name for name, held in files.items() if UNKEPT.encode() in held] == []


def test_switched_off_again_nothing_more_is_kept(logging: Logging) -> None:
    running = logging.running

    async def switch_off() -> None:
        async with running.app.database.transaction() as connection:
            found = await workspaces.find(DEFAULT_ORGANIZATION, connection, "Keeps")
            scope = Scope(found.organization, found.id)
            await workspaces.change(scope, connection, WorkspaceChange(logs_requests=False))
        await running.app.gate.load()

    first = logging.ask(logging.keeps, "before")
    running.inside(switch_off())
    logging.ask(logging.keeps, "after")
    logging.settle()
    assert logging.count() == 1
    assert b"before" in logging.kept(first).request


@pytest.mark.parametrize("bounds", [Bounds(entries=0), Bounds(bytes=10)])
def test_a_log_without_room_fails_no_request(bounds: Bounds, scripted: StartScripted) -> None:
    logging = Logging(scripted(SCRIPT), bounds)
    assert logging.ask(logging.keeps, f"Say {KEPT}").status_code == 200
    assert logging.ask(logging.keeps, f"Say {KEPT}", stream=True).status_code == 200
    logging.settle()
    assert logging.count() == 0
    assert logging.keeper.figures().dropped == 2


def test_a_database_that_is_broken_fails_no_request(scripted: StartScripted) -> None:
    logging = Logging(scripted(SCRIPT))

    async def broken() -> None:
        await logging.keeper._database.close()
        logging.keeper._database = open_database(
            f"sqlite+aiosqlite:///{logging.running.settings.home_path / 'empty.db'}"
        )

    logging.running.inside(broken())
    assert logging.ask(logging.keeps, f"Say {KEPT}").status_code == 200
    logging.settle()
    assert logging.keeper.figures().dropped == 1
    logging.running.inside(logging.keeper._database.close())
