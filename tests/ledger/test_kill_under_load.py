"""A server that is killed under load, again and again, on one data folder: what clients saw complete is recorded once.

`make endure-kill` kills it 50 times; the suite fewer.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anthropic
import httpx2
import pytest
from sqlalchemy import func, select

from antiphon.store.database import open_database
from antiphon.store.tables import usage_attempts, usage_records
from command import Server, made_key, wait_until

KILLS = int(os.environ.get("ANTIPHON_TEST_KILLS", "8"))
CLIENTS = 8
#: Answers of several steps, so that a kill meets them at every stage; a few fail by themselves.
SCRIPT = """
seats: 4
rules:
  - {match: breaks, text: 'a b c d e f', delay_ms: 2, fault: {kind: stop, after: 3}}
  - {text: 'a b c d e f g h', delay_ms: 3}
"""


class Load:
    """Clients that ask one thing after the other, wherever the server is now. Each request carries a tag of its own."""

    def __init__(self, key: str) -> None:
        self.sent: set[str] = set()
        #: Tag and request id of what was seen complete, noted as its last event, or its whole body, was read.
        self.complete: list[tuple[str, str]] = []
        self.streams = 0
        #: Tags and request ids of answers that began, complete or not.
        self.begun: dict[str, str] = {}
        self.broken = 0
        self._key = key
        self._server: Server | None = None
        self._over = threading.Event()
        self._failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def meet(self, server: Server | None) -> None:
        self._server = server

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)
        assert self._failures == []
        assert not any(thread.is_alive() for thread in self._threads)

    def _work(self, number: int) -> None:
        try:
            self._ask_on(number)
        except BaseException as failure:  # noqa: BLE001 - told to the test's own thread
            self._failures.append(failure)

    def _ask_on(self, number: int) -> None:
        asked, met, client = 0, None, None
        while not self._over.is_set():
            server = self._server
            if server is None:
                time.sleep(0.01)
                continue
            if client is None or server is not met:
                met, client = server, server.client(self._key, timeout=10)
            asked += 1
            tag = f"client-{number}-{asked}"
            self.sent.add(tag)
            try:
                if number % 2:
                    self._stream(client, tag, "breaks" if asked % 7 == 0 else "Hello")
                else:
                    self._plain(client, tag, "breaks" if asked % 7 == 0 else "Hello")
            except (anthropic.APIError, httpx2.HTTPError):
                self.broken += 1
                time.sleep(0.05)

    def _plain(self, client: anthropic.Anthropic, tag: str, content: str) -> None:
        message = client.messages.create(
            model="claude-opus-5-5",
            max_tokens=50,
            metadata={"user_id": tag},
            messages=[{"role": "user", "content": content}],
        )
        assert message._request_id is not None
        self.begun[tag] = message._request_id
        self.complete.append((tag, message._request_id))

    def _stream(self, client: anthropic.Anthropic, tag: str, content: str) -> None:
        with client.messages.create(
            model="claude-opus-5-5", max_tokens=50, metadata={"user_id": tag}, messages=[{"role": "user", "content": content}],
            stream=True,
        ) as stream:  # fmt: skip
            request_id = stream.response.headers["request-id"]
            self.begun[tag] = request_id
            for event in stream:
                if event.type == "message_stop":
                    self.complete.append((tag, request_id))
                    self.streams += 1


@contextmanager
def serving(home: Path, script: Path) -> Iterator[Server]:
    server = Server(home, "--scripted", script, env={"ANTIPHON_LOG_LEVEL": "warning"})
    try:
        yield server
    finally:
        server.kill()


async def recorded(home: Path) -> list[tuple[str, str]]:
    """Tag and request id of every record; each has one attempt."""
    database = open_database(f"sqlite+aiosqlite:///{home / 'antiphon.db'}")
    try:
        async with database.reading() as connection:
            rows = await connection.execute(select(usage_records.c.request_id, usage_records.c.user_id))
            found = [(str(row.user_id), str(row.request_id)) for row in rows]
            attempts = (await connection.execute(select(func.count()).select_from(usage_attempts))).scalar_one()
    finally:
        await database.close()
    assert attempts == len(found)
    return found


@pytest.mark.timeout(60 + 30 * KILLS)
def test_whatever_is_killed_when_each_complete_answer_has_one_record(tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    home, script = tmp_path / "home", tmp_path / "script.yaml"
    script.write_text(SCRIPT)
    load = Load(made_key(home))
    in_traffic = 0
    try:
        for turn in range(KILLS):
            with serving(home, script) as server:
                load.meet(server)
                if turn % 8 == 5:  # as it starts, or posts what its predecessor left
                    time.sleep(chance.uniform(0.2, 2.0))
                else:
                    server.wait_ready()
                    seen = len(load.complete)
                    wait_until(lambda before=seen: len(load.complete) > before, "an answer")
                    time.sleep(chance.uniform(0.0, 0.7))
                    in_traffic += 1
                server.process.kill()
                server.process.wait()
                load.meet(None)
    finally:
        load.end()

    with serving(home, script) as server:
        server.wait_ready()
        assert server.end() == 0
    records = asyncio.run(recorded(home))
    print(
        f"seed {seed}: {KILLS} kills, {in_traffic} of them in traffic; {len(load.sent)} requests sent, "
        f"{len(load.complete)} seen complete ({load.streams} streams), {load.broken} broken; {len(records)} records"
    )
    assert len(load.complete) >= in_traffic
    assert 0 < load.streams < len(load.complete)
    by_id, by_tag = Counter(request_id for _, request_id in records), Counter(tag for tag, _ in records)
    assert [request_id for request_id, times in by_id.items() if times > 1] == []
    assert [tag for tag, times in by_tag.items() if times > 1] == []
    assert set(by_tag) <= load.sent
    # None is missing, and none stands under another's name.
    assert set(load.complete) - set(records) == set()
    assert [each for each in records if load.begun.get(each[0], each[1]) != each[1]] == []
