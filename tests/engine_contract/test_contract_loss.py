"""A child that dies or hangs, whatever it was doing: its streams hear of it, everything comes back."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine

import pytest

from antiphon.core.errors import EngineFailed, Overloaded
from antiphon.engine.contract import Phase
from engine_contract import direct
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
)

pytestmark = pytest.mark.anyio

SHORT = Phase(max_tokens=24, sampling=GREEDY)
LASTING = Phase(max_tokens=300, sampling=GREEDY)
#: Nobody waits for the end of this prompt, in tokens.
LONG = 24 * direct.BATCH_TOKENS


class Scene:
    """An engine at work: one answer being given, prompts being read, and one request that waits for a seat."""

    def __init__(self, body: Body, desk: Desk) -> None:
        self.body = body
        self.desk = desk
        self.inside: list[asyncio.Task[Answer]] = []
        self.waiting: list[asyncio.Task[Answer]] = []

    async def set(self, blow: Blow) -> None:
        desk, begun, first = self.desk, asyncio.Event(), asyncio.Event()
        by_script = not self.body.has_child  # then the blow comes from the requests themselves
        answer = desk.prompt(DOOM[blow, "answer"] if by_script else ENDLESS)
        prompt = desk.prompt(DOOM[blow, "prompt"]) if by_script else desk.long(f"slow, {blow.name}", LONG)
        self.inside.append(asyncio.create_task(desk.ask(answer, LASTING, begun=begun.set)))
        await self._come(begun)
        prompts = min(self.body.cold_places(desk.limits), desk.limits.seats - 1)
        for _ in range(desk.limits.seats - 1 - prompts):  # no short prompt is kept waiting while a seat is free
            begun = asyncio.Event()
            self.inside.append(asyncio.create_task(desk.ask(answer, LASTING, begun=begun.set)))
            await self._come(begun)
        for _ in range(prompts):
            seated = asyncio.Event()
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


async def strike_at_work(body: Body, desk: Desk, blow: Blow) -> None:
    """One blow, from a quiet engine to a quiet engine."""
    before = desk.engine.health().restarts
    scene = Scene(body, desk)
    await scene.set(blow)
    pid = strike(body, desk, blow)
    # A hang by script is one answer's; a child that hangs takes all with it.
    lost = body.has_child or not blow.hang
    if body.has_child:
        await desk.until_lost()
    outcomes = await asyncio.gather(*scene.inside, return_exceptions=True)
    assert [outcome for outcome in outcomes if not isinstance(outcome, EngineFailed)] == []
    if lost:
        await desk.until(lambda: not desk.engine.health().ready)
        assert desk.engine.health().reason
        assert desk.engine.health().seats_taken == 0
    if pid is not None:
        desk.child.mend(blow)
    # Who waited keeps the place; who comes while it is down waits as well.
    late = asyncio.create_task(desk.ask(PARIS, SHORT, OTHER))
    for answer in await asyncio.gather(*scene.waiting, late):
        assert answer.data.startswith(PARIS_ANSWER)
        assert answer.finish.reused_tokens in (None, 0)
    await made_good(body, desk, before + lost, pid)


def strike(body: Body, desk: Desk, blow: Blow) -> int | None:
    """Returns whom it has hit."""
    pid = desk.child.pid if body.has_child else None
    if pid is not None:
        os.kill(pid, blow.signal)
    return pid


async def made_good(body: Body, desk: Desk, restarts: int, old: int | None) -> None:
    await desk.idle()
    health = desk.engine.health()
    assert (health.ready, health.reason, health.restarts) == (True, "", restarts)
    if body.has_child and not body.elsewhere:
        assert desk.child.pid != old


async def back(body: Body, desk: Desk) -> None:
    await desk.until(lambda: desk.engine.health().ready, body.restart_seconds)
    answer = await desk.ask(PARIS, SHORT)
    assert answer.data.startswith(PARIS_ANSWER)
    assert answer.finish.reused_tokens in (None, 0)


async def hang_idle(body: Body, desk: Desk) -> None:
    """It has nothing to do, and is found out all the same."""
    before = desk.engine.health().restarts
    ahead = desk.clock.seconds
    pid = strike(body, desk, STOP)
    await desk.until_lost()
    if not body.elsewhere:
        assert desk.clock.seconds - ahead >= desk.limits.stall_seconds  # and not before its time
    assert desk.engine.health().reason
    desk.child.mend(STOP)
    await back(body, desk)
    await made_good(body, desk, before + 1, pid)


async def die_for_long(body: Body, desk: Desk) -> None:
    """It dies, and cannot be started again for a time: after some tries nobody is made to wait for it."""
    before = desk.engine.health().restarts
    desk.child.bar()
    pid = strike(body, desk, KILL)
    await desk.until(lambda: not desk.engine.health().ready)
    refused: list[Overloaded] = []

    async def is_refused_at_once() -> bool:
        asked = asyncio.create_task(desk.ask(PARIS, SHORT))
        await asyncio.sleep(0)  # its first step, up to where it would wait
        at_once = asked.done()
        asked.cancel()
        (outcome,) = await asyncio.gather(asked, return_exceptions=True)
        assert isinstance(outcome, Overloaded if at_once else asyncio.CancelledError)
        if isinstance(outcome, Overloaded):
            refused.append(outcome)
        return at_once

    assert not await is_refused_at_once()  # it may be back in a moment
    async with asyncio.timeout(body.restart_seconds):
        while not await is_refused_at_once():
            await asyncio.sleep(0.05)
    assert refused[0].retry_after_s
    health = desk.engine.health()
    assert (health.ready, health.waiting, health.restarts) == (False, 0, before)
    assert health.reason
    desk.child.mend(KILL)
    await back(body, desk)
    await made_good(body, desk, before + 1, pid)


async def in_turn(*acts: tuple[str, Coroutine[None, None, None]]) -> None:
    for name, act in acts:
        try:
            await act
        except BaseException as error:
            error.add_note(name)
            raise


async def test_a_loss_ends_its_streams_and_is_made_good(body: Body, shared: Desk, shared_tight: Desk) -> None:
    """With requests in all states, and idle; at once, with two engines, as most of the time is waiting."""
    async with asyncio.timeout(4 * body.restart_seconds), asyncio.TaskGroup() as group:
        group.create_task(
            in_turn(
                ("at work, killed", strike_at_work(body, shared, KILL)),
                ("at work, stopped", strike_at_work(body, shared, STOP)),
            )
        )
        if body.has_child:  # nothing befalls a script that is not played
            group.create_task(
                in_turn(
                    ("idle, stopped", hang_idle(body, shared_tight)),
                    ("idle, killed, and not to be started", die_for_long(body, shared_tight)),
                )
            )
