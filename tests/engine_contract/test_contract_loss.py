"""A child that dies or hangs, whatever it was doing: its streams hear of it, everything comes back."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from antiphon.core.errors import EngineFailed
from antiphon.engine.contract import Phase
from engine_contract.bodies import (
    DOOM,
    ENDLESS,
    GREEDY,
    KILL,
    OTHER,
    PARIS,
    PARIS_ANSWER,
    STOP,
    Answer,
    Blow,
    Body,
    Desk,
    Limits,
)

pytestmark = pytest.mark.anyio

#: Short, and yet long enough for a machine that is busy.
STALL_SECONDS = 6.0
#: A child without work is asked for a sign of life, which takes so much longer.
PING_SECONDS = 5.0
SHORT = Phase(max_tokens=24, sampling=GREEDY)
LASTING = Phase(max_tokens=300, sampling=GREEDY)


class Scene:
    """An engine at work: one answer being given, one prompt being read, and one request that waits for a seat."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.inside: list[asyncio.Task[Answer]] = []
        self.waiting: list[asyncio.Task[Answer]] = []

    async def set(self, blow: Blow, *, by_script: bool) -> None:
        """`by_script`: the blow comes from the requests themselves."""
        desk, begun, seated, first = self.desk, asyncio.Event(), asyncio.Event(), asyncio.Event()
        answer = desk.prompt(DOOM[blow, "answer"] if by_script else ENDLESS)
        prompt = desk.prompt(DOOM[blow, "prompt"]) if by_script else desk.long(f"slow, {blow.name}")
        self.inside.append(asyncio.create_task(desk.ask(answer, LASTING, begun=begun.set)))
        await self._come(begun)
        self.inside.append(asyncio.create_task(desk.ask(prompt, SHORT, seated=seated.set, begun=first.set)))
        await self._come(seated)
        self.waiting.append(asyncio.create_task(desk.ask(PARIS, SHORT)))
        await desk.until(lambda: desk.engine.health().waiting == 1)
        assert not first.is_set()
        assert not self.inside[0].done()

    async def _come(self, event: asyncio.Event) -> None:
        task = self.inside[-1]
        await self.desk.until(lambda: event.is_set() or task.done())
        if not event.is_set():
            raise AssertionError(f"over before it was struck: {task}")


async def lose_and_return(body: Body, desk: Desk, blow: Blow, *, busy: bool) -> None:
    """One blow, from a quiet engine to a quiet engine."""
    before = desk.engine.health().restarts
    pid = desk.child.pid if body.has_child else None
    scene = Scene(desk)
    if busy:
        await scene.set(blow, by_script=pid is None)
    if pid is not None:
        os.kill(pid, blow.signal)
    # A hang by script is one answer's; a child that hangs takes all with it.
    lost = body.has_child or not blow.hang
    async with asyncio.timeout(STALL_SECONDS + PING_SECONDS + body.restart_seconds):
        outcomes = await asyncio.gather(*scene.inside, return_exceptions=True)
        assert [outcome for outcome in outcomes if not isinstance(outcome, EngineFailed)] == []
        if lost:
            await desk.until(lambda: not desk.engine.health().ready, STALL_SECONDS + PING_SECONDS + 10)
            assert desk.engine.health().reason
            assert desk.engine.health().seats_taken == 0
        if pid is not None:
            desk.child.mend(blow)
        # Who waited keeps the place; who comes while it is down waits as well.
        late = asyncio.create_task(desk.ask(PARIS, SHORT, OTHER))
        for answer in await asyncio.gather(*scene.waiting, late):
            assert answer.data.startswith(PARIS_ANSWER)
            assert answer.finish.reused_tokens in (None, 0)
    assert (desk.engine.health().ready, desk.engine.health().reason) == (True, "")
    assert desk.engine.health().restarts == before + lost
    if body.has_child and not body.elsewhere:
        assert desk.child.pid != pid
    await desk.idle()


@pytest.mark.parametrize("blow", [KILL, STOP], ids=["killed", "stopped"])
async def test_a_loss_ends_its_streams_and_is_made_good(body: Body, model_file: Path | None, blow: Blow) -> None:
    """Idle, and with requests in all states; at once, each with an engine of its own, as most of the time is waiting."""

    async def run(*, busy: bool) -> None:
        async with body.open(model_file, Limits(seats=2, stall_seconds=STALL_SECONDS)) as desk:
            try:
                await lose_and_return(body, desk, blow, busy=busy)
            except BaseException as error:
                error.add_note(f"{'at work' if busy else 'idle'}, {blow.name}")
                raise

    async with asyncio.TaskGroup() as group:
        group.create_task(run(busy=True))
        if body.has_child:  # nothing befalls a script that is not played
            group.create_task(run(busy=False))
